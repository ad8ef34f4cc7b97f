-- When an API key was last used, as instances write it once a minute, and which key takes its place. A version that does not
-- know these columns leaves them alone.
ALTER TABLE api_keys ADD COLUMN last_used_at bigint, ADD COLUMN successor text COLLATE "C";
COMMENT ON COLUMN api_keys.last_used_at IS 'When it was last used, in microseconds, to the second and a minute late at most; null for never.';
COMMENT ON COLUMN api_keys.successor IS 'The id of the key that it was rotated to; null for none.';
