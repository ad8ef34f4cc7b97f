DROP TABLE audit;
DROP TABLE changes;
DROP TABLE change_clock;
