-- Events on their way to the receiver of webhooks, and what became of them: `webhook_events`.
--
-- Any instance may tell of a threshold, and one of them does: the first to insert wins, all others find the row there. Any
-- instance may send what is due: it moves `due_at` on to when its claim ends and counts the attempt, in one statement. Whoever
-- dies while it sends leaves a row that is due again then. A row is settled by the attempt that `attempts` names, or not at all.

CREATE TABLE webhook_events (
    id text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C",
    limit_name text COLLATE "C",
    threshold bigint,
    window_end bigint,
    body text NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempts bigint NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    give_up_at bigint NOT NULL,
    kept_until bigint NOT NULL,
    settled_at bigint,
    answer bigint,
    error text
);
COMMENT ON TABLE webhook_events IS 'Events for the receiver of webhooks, and what became of them.';
COMMENT ON COLUMN webhook_events.id IS 'The `webhook-id`: the same however often it is sent.';
COMMENT ON COLUMN webhook_events.kind IS 'As `quota.threshold`.';
COMMENT ON COLUMN webhook_events.subject IS 'As in `usage`; null, with the next three, where the event is of no limit.';
COMMENT ON COLUMN webhook_events.limit_name IS 'The name of the limit.';
COMMENT ON COLUMN webhook_events.threshold IS 'Which part of it was used, in percent.';
COMMENT ON COLUMN webhook_events.window_end IS 'When the window ends in which it was, in microseconds.';
COMMENT ON COLUMN webhook_events.body IS 'The JSON that is signed and sent.';
COMMENT ON COLUMN webhook_events.state IS '`pending`, `delivered` or `given_up`.';
COMMENT ON COLUMN webhook_events.attempts IS 'How often it was sent, with the attempt that is under way.';
COMMENT ON COLUMN webhook_events.created_at IS 'When it was written, in microseconds.';
COMMENT ON COLUMN webhook_events.due_at IS 'When it may be sent next, in microseconds; while somebody sends it, when their claim ends.';
COMMENT ON COLUMN webhook_events.give_up_at IS 'When it is tried for the last time, in microseconds.';
COMMENT ON COLUMN webhook_events.kept_until IS 'When the row may be removed once it is settled, in microseconds: after its window, or it could be told again.';
COMMENT ON COLUMN webhook_events.settled_at IS 'When it was delivered or given up, in microseconds; null before.';
COMMENT ON COLUMN webhook_events.answer IS 'The status of the last answer; null where there was none.';
COMMENT ON COLUMN webhook_events.error IS 'Why the last attempt had no answer; null where it had one.';
CREATE UNIQUE INDEX webhook_events_once ON webhook_events (subject, limit_name, threshold, window_end);
CREATE INDEX webhook_events_due ON webhook_events (due_at) WHERE state = 'pending';
CREATE INDEX webhook_events_old ON webhook_events (kept_until) WHERE state <> 'pending';
CREATE INDEX webhook_events_newest ON webhook_events (created_at, id);
CREATE INDEX webhook_events_by_state ON webhook_events (state, created_at, id);
COMMENT ON INDEX webhook_events_once IS 'A threshold is told of once a window, by whichever instance.';
COMMENT ON INDEX webhook_events_due IS 'What is to be sent.';
COMMENT ON INDEX webhook_events_old IS 'What is to be removed.';
COMMENT ON INDEX webhook_events_newest IS 'The log.';
COMMENT ON INDEX webhook_events_by_state IS 'The log of one state.';
