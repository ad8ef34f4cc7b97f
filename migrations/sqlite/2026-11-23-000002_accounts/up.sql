-- What administrators set for a user: `users` (the tier) and `overrides` (numbers in place of the tier's).
--
-- Keyed by user id alone. A user without a row in either has the tier of their token, else `free`, and its own numbers.
-- The two are independent: removing an override leaves the tier, and a user of the default tier may have an override.

-- The tier of each user whom an administrator placed in one.
CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY, -- The opaque id that the gateway and the tokens use.
    tier TEXT NOT NULL, -- The name of the tier.
    updated_at INTEGER NOT NULL -- When the tier was set, in microseconds.
) STRICT, WITHOUT ROWID;

-- Numbers that stand in for those of a user's tier. One that has ended stays until it is replaced or removed.
CREATE TABLE overrides (
    user_id TEXT NOT NULL PRIMARY KEY, -- Whose.
    requests_per_hour INTEGER CHECK (requests_per_hour >= 0), -- Instead of the limit `hour`; null leaves the tier's own.
    requests_per_day INTEGER CHECK (requests_per_day >= 0), -- Instead of the limit `day`; null leaves the tier's own.
    expires_at INTEGER, -- When it ends by itself, in microseconds; null holds until removed.
    reason TEXT, -- What the administrator noted.
    updated_at INTEGER NOT NULL -- When it was set, in microseconds.
) STRICT, WITHOUT ROWID;
