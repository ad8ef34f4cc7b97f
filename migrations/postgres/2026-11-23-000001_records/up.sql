-- What was changed, and by whom: `change_clock`, `changes`, `audit`.
--
-- Every transaction that changes an account, an override or a key begins with
--     UPDATE change_clock SET version = version + 1 RETURNING version
-- The row it locks is held until the commit, so versions (and audit ids) become visible in their own order. An instance
-- that has seen version n and asks for what is above n can't miss a change that took a lower number and committed later.
-- Times are microseconds since 1970-01-01T00:00:00Z, here and in all tables.

CREATE TABLE change_clock (
    id bigint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL
);
COMMENT ON TABLE change_clock IS 'One row: the number of the newest change. Its row lock puts writers in order.';
COMMENT ON COLUMN change_clock.id IS 'Always 1.';
COMMENT ON COLUMN change_clock.version IS 'Rises by one with each change.';
INSERT INTO change_clock (id, version) VALUES (1, 0);

CREATE TABLE changes (
    version bigint PRIMARY KEY,
    kind text NOT NULL,
    user_id text COLLATE "C",
    at bigint NOT NULL
);
COMMENT ON TABLE changes IS 'What each version changed, for instances that hold it in memory. The oldest rows are removed.';
COMMENT ON COLUMN changes.version IS 'The value of change_clock after the change.';
COMMENT ON COLUMN changes.kind IS '`user` or `keys`. A reader that does not know a kind reloads everything.';
COMMENT ON COLUMN changes.user_id IS 'Whose tier or override changed; null for other kinds.';
COMMENT ON COLUMN changes.at IS 'When, in microseconds.';

CREATE TABLE audit (
    id bigint PRIMARY KEY,
    at bigint NOT NULL,
    actor text NOT NULL,
    address text,
    action text NOT NULL,
    target text NOT NULL,
    before text,
    after text
);
COMMENT ON TABLE audit IS 'Who changed what, when and from where. Written in the transaction of the change; never updated.';
COMMENT ON COLUMN audit.id IS 'The value of change_clock after the change, so ids follow the order of the commits.';
COMMENT ON COLUMN audit.at IS 'When, in microseconds.';
COMMENT ON COLUMN audit.actor IS 'The credential that asked.';
COMMENT ON COLUMN audit.address IS 'The IP address that asked; null where the service acted by itself.';
COMMENT ON COLUMN audit.action IS 'What was done, as `override.put`.';
COMMENT ON COLUMN audit.target IS 'To what, as `user:42`.';
COMMENT ON COLUMN audit.before IS 'JSON of how it was; null where there was nothing.';
COMMENT ON COLUMN audit.after IS 'JSON of how it is; null where it was removed.';
