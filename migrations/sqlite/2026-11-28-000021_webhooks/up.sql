-- Events on their way to the receiver of webhooks, and what became of them: `webhook_events`.
--
-- Any instance may tell of a threshold, and one of them does: the first to insert wins, all others find the row there. Any
-- instance may send what is due: it moves `due_at` on to when its claim ends and counts the attempt, in one statement. Whoever
-- dies while it sends leaves a row that is due again then. A row is settled by the attempt that `attempts` names, or not at all.

-- Events for the receiver of webhooks, and what became of them.
CREATE TABLE webhook_events (
    id TEXT NOT NULL PRIMARY KEY, -- The `webhook-id`: the same however often it is sent.
    kind TEXT NOT NULL, -- As `quota.threshold`.
    subject TEXT, -- As in `usage`; null, with the next three, where the event is of no limit.
    limit_name TEXT, -- The name of the limit.
    threshold INTEGER, -- Which part of it was used, in percent.
    window_end INTEGER, -- When the window ends in which it was, in microseconds.
    body TEXT NOT NULL, -- The JSON that is signed and sent.
    state TEXT NOT NULL, -- `pending`, `delivered` or `given_up`.
    attempts INTEGER NOT NULL, -- How often it was sent, with the attempt that is under way.
    created_at INTEGER NOT NULL, -- When it was written, in microseconds.
    due_at INTEGER NOT NULL, -- When it may be sent next, in microseconds; while somebody sends it, when their claim ends.
    give_up_at INTEGER NOT NULL, -- When it is tried for the last time, in microseconds.
    kept_until INTEGER NOT NULL, -- When the row may be removed once it is settled, in microseconds: after its window, or it could be told again.
    settled_at INTEGER, -- When it was delivered or given up, in microseconds; null before.
    answer INTEGER, -- The status of the last answer; null where there was none.
    error TEXT -- Why the last attempt had no answer; null where it had one.
) STRICT, WITHOUT ROWID;
-- A threshold is told of once a window, by whichever instance.
CREATE UNIQUE INDEX webhook_events_once ON webhook_events (subject, limit_name, threshold, window_end);
-- What is to be sent.
CREATE INDEX webhook_events_due ON webhook_events (due_at) WHERE state = 'pending';
-- What is to be removed.
CREATE INDEX webhook_events_old ON webhook_events (kept_until) WHERE state <> 'pending';
-- The log, and that of one state.
CREATE INDEX webhook_events_newest ON webhook_events (created_at, id);
CREATE INDEX webhook_events_by_state ON webhook_events (state, created_at, id);
