-- The rows of `usage` by hour first: a flush adds to the newest hours and a report reads them, so both stay on few pages
-- however much history there is. A subject's own history has an index. The columns of the key are the same, so
-- that a version that does not know this order goes on as before.
ALTER TABLE usage DROP CONSTRAINT usage_pkey, ADD PRIMARY KEY (hour, subject, tier);
DROP INDEX usage_by_hour;
CREATE INDEX usage_by_subject ON usage (subject, hour);
COMMENT ON INDEX usage_by_subject IS 'One subject''s history.';
