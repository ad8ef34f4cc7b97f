DROP TRIGGER audit_is_not_changed;
DROP TRIGGER audit_is_not_removed;
