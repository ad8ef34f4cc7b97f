-- What operators set for all: `tiers`, `endpoint_costs`; and `reset_schedules`, where a user's windows begin.
--
-- A tier here stands in the place of one of its name in the policy file or the settings. Definitions are JSON as the API
-- writes them: what a newer binary has put in and this one can't read is passed over, and told in the log.

CREATE TABLE tiers (
    name TEXT NOT NULL PRIMARY KEY, -- Unique among tiers.
    definition TEXT NOT NULL, -- The tier as JSON, with its name.
    updated_at INTEGER NOT NULL -- When it was set, in microseconds.
) STRICT, WITHOUT ROWID;

-- One row at most: all endpoint costs together, since the longest path decides among all.
CREATE TABLE endpoint_costs (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), -- Always 1.
    costs TEXT NOT NULL, -- A JSON array of path, methods and cost.
    updated_at INTEGER NOT NULL -- When they were set, in microseconds.
) STRICT;

CREATE TABLE reset_schedules (
    user_id TEXT NOT NULL PRIMARY KEY, -- Whose.
    schedule TEXT NOT NULL, -- JSON: when the windows `day` and `month` begin.
    updated_at INTEGER NOT NULL -- When it was set, in microseconds.
) STRICT, WITHOUT ROWID;
