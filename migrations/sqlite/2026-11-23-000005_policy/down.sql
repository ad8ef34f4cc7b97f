DROP TABLE reset_schedules;
DROP TABLE endpoint_costs;
DROP TABLE tiers;
