-- What was changed, and by whom: `change_clock`, `changes`, `audit`.
--
-- Every transaction that changes an account, an override or a key begins with
--     UPDATE change_clock SET version = version + 1 RETURNING version
-- It takes the write lock before anything is read, so a transaction never has to be upgraded from reading to writing,
-- which SQLite answers with SQLITE_BUSY at once instead of waiting. The same statement puts writers in order on PostgreSQL.
-- Times are microseconds since 1970-01-01T00:00:00Z, here and in all tables.

-- One row: the number of the newest change.
CREATE TABLE change_clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), -- Always 1.
    version INTEGER NOT NULL -- Rises by one with each change.
) STRICT;
INSERT INTO change_clock (id, version) VALUES (1, 0);

-- What each version changed, for instances that hold it in memory. The oldest rows are removed.
CREATE TABLE changes (
    version INTEGER NOT NULL PRIMARY KEY, -- The value of change_clock after the change.
    kind TEXT NOT NULL, -- `user` or `keys`. A reader that does not know a kind reloads everything.
    user_id TEXT, -- Whose tier or override changed; null for other kinds.
    at INTEGER NOT NULL -- When, in microseconds.
) STRICT;

-- Who changed what, when and from where. Written in the transaction of the change; never updated.
CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY, -- The value of change_clock after the change, so ids follow the order of the commits.
    at INTEGER NOT NULL, -- When, in microseconds.
    actor TEXT NOT NULL, -- The credential that asked.
    address TEXT, -- The IP address that asked; null where the service acted by itself.
    action TEXT NOT NULL, -- What was done, as `override.put`.
    target TEXT NOT NULL, -- To what, as `user:42`.
    before TEXT, -- JSON of how it was; null where there was nothing.
    after TEXT -- JSON of how it is; null where it was removed.
) STRICT;
