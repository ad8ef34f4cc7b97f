ALTER TABLE usage DROP CONSTRAINT usage_pkey, ADD PRIMARY KEY (subject, hour, tier);
DROP INDEX usage_by_subject;
CREATE INDEX usage_by_hour ON usage (hour);
