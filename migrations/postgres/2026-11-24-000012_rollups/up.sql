-- Sums over `usage`, so that a report over 30 days does not add up millions of rows: `rollup_subjects`, `rollup_tiers`,
-- `rollup_hours`; `rollup_marks` says how far they go, and `usage_late` holds what was flushed behind that.
--
-- A report is the sums to the mark `built`, plus `usage` from there on, plus `usage_late` before it. Every flush reads the mark `covers`
-- and holds it until it commits; who extends the sums raises `covers` first. So a row that is not in `usage` when the sums
-- are made is in `usage_late`, whatever the clocks of the instances say. A version that knows none of this flushes into
-- `usage` alone: what it flushes late is in the sums from the next midnight on, when they are made anew.

CREATE TABLE rollup_marks (
    name text COLLATE "C" NOT NULL,
    hour bigint NOT NULL,
    PRIMARY KEY (name)
);
COMMENT ON TABLE rollup_marks IS 'How far the sums go.';
COMMENT ON COLUMN rollup_marks.name IS '`covers` or `built`.';
COMMENT ON COLUMN rollup_marks.hour IS 'The first hour that is not within, in microseconds.';
INSERT INTO rollup_marks (name, hour) VALUES ('covers', 0), ('built', 0);

CREATE TABLE usage_late (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text COLLATE "C" NOT NULL,
    hour bigint NOT NULL,
    tier text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    cost bigint NOT NULL,
    denied bigint NOT NULL
);
COMMENT ON TABLE usage_late IS 'What was added to `usage` for hours below the mark `covers`. Removed once the sums have it.';
COMMENT ON COLUMN usage_late.id IS 'Rises by itself.';
COMMENT ON COLUMN usage_late.subject IS 'As in `usage`.';
COMMENT ON COLUMN usage_late.hour IS 'As in `usage`.';
COMMENT ON COLUMN usage_late.tier IS 'As in `usage`.';
COMMENT ON COLUMN usage_late.requests IS 'Allowed items.';
COMMENT ON COLUMN usage_late.cost IS 'What they were charged.';
COMMENT ON COLUMN usage_late.denied IS 'Denied checks.';

CREATE TABLE rollup_subjects (
    span text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    cost bigint NOT NULL,
    denied bigint NOT NULL,
    PRIMARY KEY (span, subject, tier)
);
COMMENT ON TABLE rollup_subjects IS 'What each subject used in a span, by tier and together.';
COMMENT ON COLUMN rollup_subjects.span IS '`day` or `30d`: from midnight UTC of the day of the mark `built`, or from 29 days before, to that mark.';
COMMENT ON COLUMN rollup_subjects.kind IS '`user` or `ip`; empty for what could not be kept apart.';
COMMENT ON COLUMN rollup_subjects.subject IS 'As in `usage`.';
COMMENT ON COLUMN rollup_subjects.tier IS 'As in `usage`; empty for all tiers together.';
COMMENT ON COLUMN rollup_subjects.requests IS 'Allowed items.';
COMMENT ON COLUMN rollup_subjects.cost IS 'What they were charged.';
COMMENT ON COLUMN rollup_subjects.denied IS 'Denied checks.';
CREATE INDEX rollup_subjects_by_cost ON rollup_subjects (span, kind, cost) WHERE tier = '';
CREATE INDEX rollup_subjects_by_requests ON rollup_subjects (span, kind, requests) WHERE tier = '';
CREATE INDEX rollup_subjects_by_denied ON rollup_subjects (span, kind, denied) WHERE tier = '';
COMMENT ON INDEX rollup_subjects_by_cost IS 'Who used most, by cost.';
COMMENT ON INDEX rollup_subjects_by_requests IS 'Who used most, by requests.';
COMMENT ON INDEX rollup_subjects_by_denied IS 'Who used most, by denied.';

CREATE TABLE rollup_tiers (
    span text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    cost bigint NOT NULL,
    denied bigint NOT NULL,
    subjects bigint NOT NULL,
    PRIMARY KEY (span, tier)
);
COMMENT ON TABLE rollup_tiers IS 'The sums of `rollup_subjects`.';
COMMENT ON COLUMN rollup_tiers.span IS 'As in `rollup_subjects`.';
COMMENT ON COLUMN rollup_tiers.tier IS 'As in `rollup_subjects`.';
COMMENT ON COLUMN rollup_tiers.requests IS 'Allowed items.';
COMMENT ON COLUMN rollup_tiers.cost IS 'What they were charged.';
COMMENT ON COLUMN rollup_tiers.denied IS 'Denied checks.';
COMMENT ON COLUMN rollup_tiers.subjects IS 'How many subjects there were; for all tiers together, how many users.';

CREATE TABLE rollup_hours (
    hour bigint NOT NULL,
    tier text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    cost bigint NOT NULL,
    denied bigint NOT NULL,
    PRIMARY KEY (hour, tier)
);
COMMENT ON TABLE rollup_hours IS 'What all subjects used together in each hour below the mark `built`.';
COMMENT ON COLUMN rollup_hours.hour IS 'As in `usage`.';
COMMENT ON COLUMN rollup_hours.tier IS 'As in `usage`.';
COMMENT ON COLUMN rollup_hours.requests IS 'Allowed items.';
COMMENT ON COLUMN rollup_hours.cost IS 'What they were charged.';
COMMENT ON COLUMN rollup_hours.denied IS 'Denied checks.';
