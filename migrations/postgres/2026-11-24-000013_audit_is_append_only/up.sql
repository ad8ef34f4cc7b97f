-- The database itself keeps the audit trail: what stands in it is neither changed nor removed.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END
$$;
COMMENT ON FUNCTION audit_is_append_only IS 'Refuses what would change or remove entries of the audit trail.';
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
COMMENT ON TRIGGER audit_is_append_only ON audit IS 'Entries are added and never changed.';
