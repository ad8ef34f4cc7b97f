-- What operators set for all: `tiers`, `endpoint_costs`; and `reset_schedules`, where a user's windows begin.
--
-- A tier here stands in the place of one of its name in the policy file or the settings. Definitions are JSON as the API
-- writes them: what a newer binary has put in and this one can't read is passed over, and told in the log.

CREATE TABLE tiers (
    name text COLLATE "C" PRIMARY KEY,
    definition text NOT NULL,
    updated_at bigint NOT NULL
);
COMMENT ON TABLE tiers IS 'The tiers that were set by the API.';
COMMENT ON COLUMN tiers.name IS 'Unique among tiers.';
COMMENT ON COLUMN tiers.definition IS 'The tier as JSON, with its name.';
COMMENT ON COLUMN tiers.updated_at IS 'When it was set, in microseconds.';

CREATE TABLE endpoint_costs (
    id bigint PRIMARY KEY CHECK (id = 1),
    costs text NOT NULL,
    updated_at bigint NOT NULL
);
COMMENT ON TABLE endpoint_costs IS 'One row at most: all endpoint costs together, since the longest path decides among all.';
COMMENT ON COLUMN endpoint_costs.id IS 'Always 1.';
COMMENT ON COLUMN endpoint_costs.costs IS 'A JSON array of path, methods and cost.';
COMMENT ON COLUMN endpoint_costs.updated_at IS 'When they were set, in microseconds.';

CREATE TABLE reset_schedules (
    user_id text COLLATE "C" PRIMARY KEY,
    schedule text NOT NULL,
    updated_at bigint NOT NULL
);
COMMENT ON TABLE reset_schedules IS 'Where the windows of users begin, instead of where their tiers'' do.';
COMMENT ON COLUMN reset_schedules.user_id IS 'Whose.';
COMMENT ON COLUMN reset_schedules.schedule IS 'JSON: when the windows `day` and `month` begin.';
COMMENT ON COLUMN reset_schedules.updated_at IS 'When it was set, in microseconds.';
