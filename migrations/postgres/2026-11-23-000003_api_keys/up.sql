-- API keys: `api_keys`.
--
-- Keyed by the public part of the key. The secret part is never here, only its hash: 32 random bytes need no salt and no
-- slow hash. A revoked key keeps its row, so that the audit trail can name it.

CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    user_id text,
    secret_sha256 bytea NOT NULL CHECK (length(secret_sha256) = 32),
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint
);
COMMENT ON TABLE api_keys IS 'Keys that callers hold. All of them are kept in memory by every instance.';
COMMENT ON COLUMN api_keys.id IS 'The public part: qd_<id>_<secret>.';
COMMENT ON COLUMN api_keys.name IS 'What its maker calls it.';
COMMENT ON COLUMN api_keys.role IS '`user`, `service` or `admin`.';
COMMENT ON COLUMN api_keys.user_id IS 'The user that the key speaks for; null for none.';
COMMENT ON COLUMN api_keys.secret_sha256 IS 'SHA-256 of the secret part.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made, in microseconds.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends by itself, in microseconds; null for never.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked, in microseconds; null while it is good.';
