-- What administrators set for a user: `users` (the tier) and `overrides` (numbers in place of the tier's).
--
-- Keyed by user id alone. A user without a row in either has the tier of their token, else `free`, and its own numbers.
-- The two are independent: removing an override leaves the tier, and a user of the default tier may have an override.

CREATE TABLE users (
    user_id text COLLATE "C" PRIMARY KEY,
    tier text NOT NULL,
    updated_at bigint NOT NULL
);
COMMENT ON TABLE users IS 'The tier of each user whom an administrator placed in one.';
COMMENT ON COLUMN users.user_id IS 'The opaque id that the gateway and the tokens use.';
COMMENT ON COLUMN users.tier IS 'The name of the tier.';
COMMENT ON COLUMN users.updated_at IS 'When the tier was set, in microseconds.';

CREATE TABLE overrides (
    user_id text COLLATE "C" PRIMARY KEY,
    requests_per_hour bigint CHECK (requests_per_hour >= 0),
    requests_per_day bigint CHECK (requests_per_day >= 0),
    expires_at bigint,
    reason text,
    updated_at bigint NOT NULL
);
COMMENT ON TABLE overrides IS 'Numbers that stand in for those of a user''s tier. One that has ended stays until it is replaced or removed.';
COMMENT ON COLUMN overrides.user_id IS 'Whose.';
COMMENT ON COLUMN overrides.requests_per_hour IS 'Instead of the limit `hour`; null leaves the tier''s own.';
COMMENT ON COLUMN overrides.requests_per_day IS 'Instead of the limit `day`; null leaves the tier''s own.';
COMMENT ON COLUMN overrides.expires_at IS 'When it ends by itself, in microseconds; null holds until removed.';
COMMENT ON COLUMN overrides.reason IS 'What the administrator noted.';
COMMENT ON COLUMN overrides.updated_at IS 'When it was set, in microseconds.';
