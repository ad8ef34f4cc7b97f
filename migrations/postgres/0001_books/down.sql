-- The first migration: going back leaves nothing.
DROP TABLE audit;
DROP TABLE changes;
DROP TABLE flush_cursor;
DROP TABLE counters;
DROP TABLE usage;
DROP TABLE api_keys;
DROP TABLE overrides;
DROP TABLE users;
