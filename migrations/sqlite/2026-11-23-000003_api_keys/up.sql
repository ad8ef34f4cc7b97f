-- API keys: `api_keys`.
--
-- Keyed by the public part of the key. The secret part is never here, only its hash: 32 random bytes need no salt and no
-- slow hash. A revoked key keeps its row, so that the audit trail can name it.

-- Keys that callers hold. All of them are kept in memory by every instance.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY, -- The public part: qd_<id>_<secret>.
    name TEXT NOT NULL, -- What its maker calls it.
    role TEXT NOT NULL, -- `user`, `service` or `admin`.
    user_id TEXT, -- The user that the key speaks for; null for none.
    secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32), -- SHA-256 of the secret part.
    created_at INTEGER NOT NULL, -- When it was made, in microseconds.
    expires_at INTEGER, -- When it ends by itself, in microseconds; null for never.
    revoked_at INTEGER -- When it was revoked, in microseconds; null while it is good.
) STRICT, WITHOUT ROWID;
