-- Sums over `usage`, so that a report over 30 days does not add up millions of rows: `rollup_subjects`, `rollup_tiers`,
-- `rollup_hours`; `rollup_marks` says how far they go, and `usage_late` holds what was flushed behind that.
--
-- A report is the sums to the mark `built`, plus `usage` from there on, plus `usage_late` before it. Every flush reads the mark `covers`
-- and holds it until it commits; who extends the sums raises `covers` first. So a row that is not in `usage` when the sums
-- are made is in `usage_late`, whatever the clocks of the instances say. A version that knows none of this flushes into
-- `usage` alone: what it flushes late is in the sums from the next midnight on, when they are made anew.

-- How far the sums go.
CREATE TABLE rollup_marks (
    name TEXT NOT NULL, -- `covers` or `built`.
    hour INTEGER NOT NULL, -- The first hour that is not within, in microseconds.
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;
INSERT INTO rollup_marks (name, hour) VALUES ('covers', 0), ('built', 0);

-- What was added to `usage` for hours below the mark `covers`. Removed once the sums have it.
CREATE TABLE usage_late (
    id INTEGER NOT NULL PRIMARY KEY, -- Rises by itself.
    subject TEXT NOT NULL, -- As in `usage`.
    hour INTEGER NOT NULL, -- As in `usage`.
    tier TEXT NOT NULL, -- As in `usage`.
    requests INTEGER NOT NULL, -- Allowed items.
    cost INTEGER NOT NULL, -- What they were charged.
    denied INTEGER NOT NULL -- Denied checks.
) STRICT;

-- What each subject used in a span, by tier and together.
CREATE TABLE rollup_subjects (
    span TEXT NOT NULL, -- `day` or `30d`: from midnight UTC of the day of the mark `built`, or from 29 days before, to that mark.
    kind TEXT NOT NULL, -- `user` or `ip`; empty for what could not be kept apart.
    subject TEXT NOT NULL, -- As in `usage`.
    tier TEXT NOT NULL, -- As in `usage`; empty for all tiers together.
    requests INTEGER NOT NULL, -- Allowed items.
    cost INTEGER NOT NULL, -- What they were charged.
    denied INTEGER NOT NULL, -- Denied checks.
    PRIMARY KEY (span, subject, tier)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_subjects_by_cost ON rollup_subjects (span, kind, cost) WHERE tier = '';
CREATE INDEX rollup_subjects_by_requests ON rollup_subjects (span, kind, requests) WHERE tier = '';
CREATE INDEX rollup_subjects_by_denied ON rollup_subjects (span, kind, denied) WHERE tier = '';

-- The sums of `rollup_subjects`.
CREATE TABLE rollup_tiers (
    span TEXT NOT NULL, -- As in `rollup_subjects`.
    tier TEXT NOT NULL, -- As in `rollup_subjects`.
    requests INTEGER NOT NULL, -- Allowed items.
    cost INTEGER NOT NULL, -- What they were charged.
    denied INTEGER NOT NULL, -- Denied checks.
    subjects INTEGER NOT NULL, -- How many subjects there were; for all tiers together, how many users.
    PRIMARY KEY (span, tier)
) STRICT, WITHOUT ROWID;

-- What all subjects used together in each hour below the mark `built`.
CREATE TABLE rollup_hours (
    hour INTEGER NOT NULL, -- As in `usage`.
    tier TEXT NOT NULL, -- As in `usage`.
    requests INTEGER NOT NULL, -- Allowed items.
    cost INTEGER NOT NULL, -- What they were charged.
    denied INTEGER NOT NULL, -- Denied checks.
    PRIMARY KEY (hour, tier)
) STRICT, WITHOUT ROWID;
