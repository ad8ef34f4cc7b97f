DROP INDEX overrides_by_end;
