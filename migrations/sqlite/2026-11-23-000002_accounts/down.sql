DROP TABLE overrides;
DROP TABLE users;
