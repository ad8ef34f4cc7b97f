-- When an API key was last used, as the instance writes it once a minute, and which key takes its place. A version that does
-- not know these columns leaves them alone. The table is made anew, as a column that is added later has no place for its comment.

-- Keys that callers hold. All of them are kept in memory by every instance.
CREATE TABLE api_keys_with_more (
    id TEXT NOT NULL PRIMARY KEY, -- The public part: qd_<id>_<secret>.
    name TEXT NOT NULL, -- What its maker calls it.
    role TEXT NOT NULL, -- `user`, `service` or `admin`.
    user_id TEXT, -- The user that the key speaks for; null for none.
    secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32), -- SHA-256 of the secret part.
    created_at INTEGER NOT NULL, -- When it was made, in microseconds.
    expires_at INTEGER, -- When it ends by itself, in microseconds; null for never.
    revoked_at INTEGER, -- When it was revoked, in microseconds; null while it is good.
    last_used_at INTEGER, -- When it was last used, in microseconds, to the second and a minute late at most; null for never.
    successor TEXT -- The id of the key that it was rotated to; null for none.
) STRICT, WITHOUT ROWID;
INSERT INTO api_keys_with_more (id, name, role, user_id, secret_sha256, created_at, expires_at, revoked_at)
    SELECT id, name, role, user_id, secret_sha256, created_at, expires_at, revoked_at FROM api_keys;
DROP TABLE api_keys;
ALTER TABLE api_keys_with_more RENAME TO api_keys;
