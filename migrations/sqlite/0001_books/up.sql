-- The books: who may use how much, and who used what. All times are microseconds since 1970-01-01 UTC.
-- The twin for PostgreSQL, with a comment on every column, is migrations/postgres/0001_books.

-- Users whose tier an administrator has set.
CREATE TABLE users (
    user_id    TEXT PRIMARY KEY NOT NULL,
    tier       TEXT,                        -- null where the token decides
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;

-- Limits that stand in for those of a tier.
CREATE TABLE overrides (
    user_id           TEXT PRIMARY KEY NOT NULL,
    requests_per_hour BIGINT,               -- null leaves the tier's own
    requests_per_day  BIGINT,               -- null leaves the tier's own
    expires_at        BIGINT,               -- null holds until removed
    reason            TEXT,
    updated_at        BIGINT NOT NULL
) WITHOUT ROWID;

-- API keys; the secret itself is nowhere.
CREATE TABLE api_keys (
    id            TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,            -- user, service or admin
    user_id       TEXT,                     -- whom a key of role user speaks for
    secret_sha256 BLOB NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    revoked_at    BIGINT
) WITHOUT ROWID;

-- What was used: one row a subject, hour and tier.
CREATE TABLE usage (
    subject  TEXT NOT NULL,                 -- user:<id> or ip:<address or prefix>
    hour     BIGINT NOT NULL,               -- the start of the UTC hour of the decisions
    tier     TEXT NOT NULL,                 -- the tier that decided
    requests BIGINT NOT NULL,               -- allowed items
    cost     BIGINT NOT NULL,               -- what they were charged
    denied   BIGINT NOT NULL,               -- denied checks
    PRIMARY KEY (subject, hour, tier)
) WITHOUT ROWID;
CREATE INDEX usage_by_hour ON usage (hour);

-- Running windows of embedded counters, for the next start.
CREATE TABLE counters (
    subject  TEXT PRIMARY KEY NOT NULL,
    state    BLOB NOT NULL,                 -- the slots, as src/db/state.rs packs them
    whole_at BIGINT NOT NULL                -- from then on the row says nothing
) WITHOUT ROWID;
CREATE INDEX counters_by_whole_at ON counters (whole_at);

-- The last batch of usage that each process wrote.
CREATE TABLE flush_cursor (
    instance   TEXT PRIMARY KEY NOT NULL,
    sequence   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;

-- What changed, in order, for the other instances to follow.
CREATE TABLE changes (
    version INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    kind    TEXT NOT NULL,                  -- user or key
    user_id TEXT,
    at      BIGINT NOT NULL
);

-- Who changed what; rows are only ever added.
CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at        BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    address   TEXT,
    action    TEXT NOT NULL,
    target    TEXT NOT NULL,
    old_value TEXT,
    new_value TEXT
);
