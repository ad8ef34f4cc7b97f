-- The books: who may use how much, and who used what. All times are microseconds since 1970-01-01 UTC.
-- The twin for SQLite is migrations/sqlite/0001_books; src/db/schema.rs serves both.

CREATE TABLE users (
    user_id    TEXT PRIMARY KEY,
    tier       TEXT,
    updated_at BIGINT NOT NULL
);
COMMENT ON TABLE users IS 'Users whose tier an administrator has set';
COMMENT ON COLUMN users.user_id IS 'The opaque id of the user';
COMMENT ON COLUMN users.tier IS 'The name of the tier; null where the token decides';
COMMENT ON COLUMN users.updated_at IS 'When it was last set';

CREATE TABLE overrides (
    user_id           TEXT PRIMARY KEY,
    requests_per_hour BIGINT,
    requests_per_day  BIGINT,
    expires_at        BIGINT,
    reason            TEXT,
    updated_at        BIGINT NOT NULL
);
COMMENT ON TABLE overrides IS 'Limits that stand in for those of a tier';
COMMENT ON COLUMN overrides.user_id IS 'Whose limits';
COMMENT ON COLUMN overrides.requests_per_hour IS 'The hourly limit; null leaves the tier''s own';
COMMENT ON COLUMN overrides.requests_per_day IS 'The daily limit; null leaves the tier''s own';
COMMENT ON COLUMN overrides.expires_at IS 'When it ends by itself; null holds until removed';
COMMENT ON COLUMN overrides.reason IS 'What the administrator wrote';
COMMENT ON COLUMN overrides.updated_at IS 'When it was last set';

CREATE TABLE api_keys (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    user_id       TEXT,
    secret_sha256 BYTEA NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    revoked_at    BIGINT
);
COMMENT ON TABLE api_keys IS 'API keys; the secret itself is nowhere';
COMMENT ON COLUMN api_keys.id IS 'The public part of the key';
COMMENT ON COLUMN api_keys.name IS 'What the administrator calls it';
COMMENT ON COLUMN api_keys.role IS 'user, service or admin';
COMMENT ON COLUMN api_keys.user_id IS 'Whom a key of role user speaks for';
COMMENT ON COLUMN api_keys.secret_sha256 IS 'SHA-256 of the secret part';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends by itself; null never';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; null while it holds';

CREATE TABLE usage (
    subject  TEXT NOT NULL,
    hour     BIGINT NOT NULL,
    tier     TEXT NOT NULL,
    requests BIGINT NOT NULL,
    cost     BIGINT NOT NULL,
    denied   BIGINT NOT NULL,
    PRIMARY KEY (subject, hour, tier)
);
CREATE INDEX usage_by_hour ON usage (hour);
COMMENT ON TABLE usage IS 'What was used: one row a subject, hour and tier';
COMMENT ON COLUMN usage.subject IS 'user:<id> or ip:<address or prefix>';
COMMENT ON COLUMN usage.hour IS 'The start of the UTC hour of the decisions';
COMMENT ON COLUMN usage.tier IS 'The tier that decided';
COMMENT ON COLUMN usage.requests IS 'Allowed items';
COMMENT ON COLUMN usage.cost IS 'What they were charged';
COMMENT ON COLUMN usage.denied IS 'Denied checks';

CREATE TABLE counters (
    subject  TEXT PRIMARY KEY,
    state    BYTEA NOT NULL,
    whole_at BIGINT NOT NULL
);
CREATE INDEX counters_by_whole_at ON counters (whole_at);
COMMENT ON TABLE counters IS 'Running windows of embedded counters, for the next start';
COMMENT ON COLUMN counters.subject IS 'user:<id> or ip:<address or prefix>';
COMMENT ON COLUMN counters.state IS 'The slots, as src/db/state.rs packs them';
COMMENT ON COLUMN counters.whole_at IS 'From then on the row says nothing';

CREATE TABLE flush_cursor (
    instance   TEXT PRIMARY KEY,
    sequence   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
COMMENT ON TABLE flush_cursor IS 'The last batch of usage that each process wrote';
COMMENT ON COLUMN flush_cursor.instance IS 'A name that each process makes at its start';
COMMENT ON COLUMN flush_cursor.sequence IS 'The number of its last batch';
COMMENT ON COLUMN flush_cursor.updated_at IS 'When that was written';

CREATE TABLE changes (
    version BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    TEXT NOT NULL,
    user_id TEXT,
    at      BIGINT NOT NULL
);
COMMENT ON TABLE changes IS 'What changed, in order, for the other instances to follow';
COMMENT ON COLUMN changes.version IS 'Higher is later; committed in this order';
COMMENT ON COLUMN changes.kind IS 'user or key';
COMMENT ON COLUMN changes.user_id IS 'Whose entry changed';
COMMENT ON COLUMN changes.at IS 'When';

CREATE TABLE audit (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    address    TEXT,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    old_value  TEXT,
    new_value  TEXT
);
COMMENT ON TABLE audit IS 'Who changed what; rows are only ever added';
COMMENT ON COLUMN audit.id IS 'Higher is later';
COMMENT ON COLUMN audit.at IS 'When';
COMMENT ON COLUMN audit.actor IS 'The credential that asked for it';
COMMENT ON COLUMN audit.address IS 'From which address';
COMMENT ON COLUMN audit.action IS 'What was done';
COMMENT ON COLUMN audit.target IS 'To whom or what';
COMMENT ON COLUMN audit.old_value IS 'JSON of what was there before';
COMMENT ON COLUMN audit.new_value IS 'JSON of what is there now';
