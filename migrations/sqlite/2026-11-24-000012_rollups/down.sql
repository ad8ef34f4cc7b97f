DROP TABLE rollup_hours;
DROP TABLE rollup_tiers;
DROP TABLE rollup_subjects;
DROP TABLE usage_late;
DROP TABLE rollup_marks;
