-- The rows of `usage` by hour first: a flush adds to the newest hours and a report reads them, so both stay on few pages
-- however much history there is. A subject's own history has an index. The columns of the key are the same, so
-- that a version that does not know this order goes on as before.

-- What each subject used, by UTC hour and by the tier that decided. Flushes add to it.
CREATE TABLE usage_in_order (
    subject TEXT NOT NULL, -- `user:<id>` or `ip:<address or prefix>`. `user:` and `ip:` alone hold what was too much to keep apart.
    hour INTEGER NOT NULL, -- The start of the hour, in microseconds. Midnight, where a whole day had to be put together.
    tier TEXT NOT NULL, -- The tier that decided.
    requests INTEGER NOT NULL CHECK (requests BETWEEN 0 AND 9007199254740991), -- Allowed items.
    cost INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 9007199254740991), -- What they were charged.
    denied INTEGER NOT NULL CHECK (denied BETWEEN 0 AND 9007199254740991), -- Denied checks.
    PRIMARY KEY (hour, subject, tier)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_in_order (subject, hour, tier, requests, cost, denied)
    SELECT subject, hour, tier, requests, cost, denied FROM usage ORDER BY hour, subject, tier;
DROP TABLE usage;
ALTER TABLE usage_in_order RENAME TO usage;
CREATE INDEX usage_by_subject ON usage (subject, hour);
