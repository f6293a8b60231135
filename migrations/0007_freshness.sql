-- How fresh what we tell is: how soon news was noticed, and how far looks fall behind their plan.

-- The last good answer; null: none since the label is watched. What a later one adds was not there to see yet.
ALTER TABLE labels ADD COLUMN last_answer_at INTEGER CHECK (last_answer_at IS NULL OR first_answer_at IS NOT NULL);

-- By how much all waits of the account stretch, in thousandths.
ALTER TABLE quotas ADD COLUMN stretch INTEGER NOT NULL DEFAULT 1000 CHECK (stretch >= 1000);

-- Counted by the day, UTC, by the instant it began; days that are over for long are one, 0. So sums only grow, and the
-- table does not.
CREATE TABLE freshness (
    account   TEXT    NOT NULL,
    carrier   TEXT    NOT NULL,                                -- '': not known
    kind      TEXT    NOT NULL CHECK (kind IN ('own', 'seen', 'unclear', 'behind')),
    delivered INTEGER NOT NULL CHECK (delivered IN (0, 1)),    -- a scan that says DE or SP
    day       INTEGER NOT NULL CHECK (day % 86400000 = 0),
    bucket    INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 8), -- within 5m 10m 15m 30m 1h 2h 6h 24h, longer
    events    INTEGER NOT NULL CHECK (events > 0),
    PRIMARY KEY (account, carrier, kind, delivered, day, bucket),
    CONSTRAINT what_has_no_measure_has_one_bucket CHECK (kind <> 'unclear' OR bucket = 0),
    CONSTRAINT polls_are_no_scans                 CHECK (kind <> 'behind' OR delivered = 0)
) STRICT, WITHOUT ROWID;
