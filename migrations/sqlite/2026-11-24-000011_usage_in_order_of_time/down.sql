CREATE TABLE usage_by_subject_first (
    subject TEXT NOT NULL,
    hour INTEGER NOT NULL,
    tier TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests BETWEEN 0 AND 9007199254740991),
    cost INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 9007199254740991),
    denied INTEGER NOT NULL CHECK (denied BETWEEN 0 AND 9007199254740991),
    PRIMARY KEY (subject, hour, tier)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_by_subject_first SELECT subject, hour, tier, requests, cost, denied FROM usage;
DROP TABLE usage;
ALTER TABLE usage_by_subject_first RENAME TO usage;
CREATE INDEX usage_by_hour ON usage (hour);
