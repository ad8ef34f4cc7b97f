DROP TABLE flush_cursor;
DROP TABLE counters;
DROP TABLE usage;
