-- Overrides are listed by when they end, those that never do last: 9223372036854775807 stands for never, as it does in
-- the listing's own query. Nothing but an index: a version that does not know it goes on as before.
CREATE INDEX overrides_by_end ON overrides (COALESCE(expires_at, 9223372036854775807), user_id);
COMMENT ON INDEX overrides_by_end IS 'Overrides by when they end, then by user.';
