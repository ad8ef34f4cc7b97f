-- What instances flush: `usage` (history), `counters` (running windows) and `flush_cursor` (which flushes have landed).
--
-- One flush is one transaction that raises the cursor of the instance to its number n and adds its rows. An instance that does not
-- learn whether its commit went through sends the same flush again: the cursor then stands at n, and nothing is added twice.
-- Amounts stop at 2^53 - 1, the largest integer that JSON and Lua hold exactly.

-- What each subject used, by UTC hour and by the tier that decided. Flushes add to it.
CREATE TABLE usage (
    subject TEXT NOT NULL, -- `user:<id>` or `ip:<address or prefix>`. `user:` and `ip:` alone hold what was too much to keep apart.
    hour INTEGER NOT NULL, -- The start of the hour, in microseconds. Midnight, where a whole day had to be put together.
    tier TEXT NOT NULL, -- The tier that decided.
    requests INTEGER NOT NULL CHECK (requests BETWEEN 0 AND 9007199254740991), -- Allowed items.
    cost INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 9007199254740991), -- What they were charged.
    denied INTEGER NOT NULL CHECK (denied BETWEEN 0 AND 9007199254740991), -- Denied checks.
    PRIMARY KEY (subject, hour, tier)
) STRICT, WITHOUT ROWID;
-- Reports and the removal of old rows ask by hour; history asks by the primary key.
CREATE INDEX usage_by_hour ON usage (hour);

-- The running windows of each subject, from which an instance without Redis starts again.
CREATE TABLE counters (
    subject TEXT NOT NULL PRIMARY KEY, -- `user:<id>` or `ip:<address or prefix>`.
    state BLOB NOT NULL, -- The packed slots; the first byte is the version of the packing.
    whole_at INTEGER NOT NULL -- When the last of the slots is whole again and the row says nothing more, in microseconds.
) STRICT, WITHOUT ROWID;

-- The newest flush of each run of an instance that has landed.
CREATE TABLE flush_cursor (
    instance TEXT NOT NULL PRIMARY KEY, -- The random name of one run of one instance.
    sequence INTEGER NOT NULL, -- The number of the flush, from 1.
    applied_at INTEGER NOT NULL -- When it landed, in microseconds.
) STRICT, WITHOUT ROWID;
