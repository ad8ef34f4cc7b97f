-- What instances flush: `usage` (history), `counters` (running windows) and `flush_cursor` (which flushes have landed).
--
-- One flush is one transaction that raises the cursor of the instance to its number n and adds its rows. An instance that does not
-- learn whether its commit went through sends the same flush again: the cursor then stands at n, and nothing is added twice.
-- Amounts stop at 2^53 - 1, the largest integer that JSON and Lua hold exactly.

CREATE TABLE usage (
    subject text COLLATE "C" NOT NULL,
    hour bigint NOT NULL,
    tier text COLLATE "C" NOT NULL,
    requests bigint NOT NULL CHECK (requests BETWEEN 0 AND 9007199254740991),
    cost bigint NOT NULL CHECK (cost BETWEEN 0 AND 9007199254740991),
    denied bigint NOT NULL CHECK (denied BETWEEN 0 AND 9007199254740991),
    PRIMARY KEY (subject, hour, tier)
);
-- Reports and the removal of old rows ask by hour; history asks by the primary key.
CREATE INDEX usage_by_hour ON usage (hour);
COMMENT ON TABLE usage IS 'What each subject used, by UTC hour and by the tier that decided. Flushes add to it.';
COMMENT ON COLUMN usage.subject IS '`user:<id>` or `ip:<address or prefix>`. `user:` and `ip:` alone hold what was too much to keep apart.';
COMMENT ON COLUMN usage.hour IS 'The start of the hour, in microseconds. Midnight, where a whole day had to be put together.';
COMMENT ON COLUMN usage.tier IS 'The tier that decided.';
COMMENT ON COLUMN usage.requests IS 'Allowed items.';
COMMENT ON COLUMN usage.cost IS 'What they were charged.';
COMMENT ON COLUMN usage.denied IS 'Denied checks.';

CREATE TABLE counters (
    subject text COLLATE "C" PRIMARY KEY,
    state bytea NOT NULL,
    whole_at bigint NOT NULL
)
-- Each flush rewrites the rows of busy subjects. Room in the page and no index on what changes keep that within the page.
WITH (fillfactor = 70);
COMMENT ON TABLE counters IS 'The running windows of each subject, from which an instance without Redis starts again.';
COMMENT ON COLUMN counters.subject IS '`user:<id>` or `ip:<address or prefix>`.';
COMMENT ON COLUMN counters.state IS 'The packed slots; the first byte is the version of the packing.';
COMMENT ON COLUMN counters.whole_at IS 'When the last of the slots is whole again and the row says nothing more, in microseconds.';

CREATE TABLE flush_cursor (
    instance text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    applied_at bigint NOT NULL
);
COMMENT ON TABLE flush_cursor IS 'The newest flush of each run of an instance that has landed.';
COMMENT ON COLUMN flush_cursor.instance IS 'The random name of one run of one instance.';
COMMENT ON COLUMN flush_cursor.sequence IS 'The number of the flush, from 1.';
COMMENT ON COLUMN flush_cursor.applied_at IS 'When it landed, in microseconds.';
