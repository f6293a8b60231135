-- How an account's quota is shared out among its labels, and what was used of it.

-- The wait that was planned before next_poll_at, and what it is rounded to; 0: none, it is due as soon as may be (never
-- answered, or asked for by hand). Labels of one pace and carrier are served by turns.
ALTER TABLE labels ADD COLUMN wait_ms INTEGER NOT NULL DEFAULT 0 CHECK (wait_ms >= 0);
ALTER TABLE labels ADD COLUMN pace_ms INTEGER NOT NULL DEFAULT 0 CHECK (pace_ms >= 0 AND (pace_ms = 0) = (wait_ms = 0));

-- Whose labels wait together when their carrier is asked for too often; '': not known yet.
ALTER TABLE labels ADD COLUMN carrier TEXT GENERATED ALWAYS AS (coalesce(carrier_code, '')) VIRTUAL;

UPDATE labels SET wait_ms = interval_ms, pace_ms = interval_ms WHERE next_poll_at IS NOT NULL AND interval_ms > 0;

DROP INDEX labels_new;
DROP INDEX labels_polled;
CREATE INDEX labels_pace ON labels (account, carrier, pace_ms, next_poll_at) WHERE next_poll_at IS NOT NULL;

-- Which paces there are, how many labels go at each, and what they ask for together: the sum of 1/wait, in billionths of
-- a request per second. Kept by triggers, so it is exact whatever writes to labels.
CREATE TABLE paces (
    account   TEXT    NOT NULL,
    carrier   TEXT    NOT NULL,
    pace_ms   INTEGER NOT NULL,
    labels    INTEGER NOT NULL CHECK (labels >= 0),
    nanohertz INTEGER NOT NULL CHECK (nanohertz >= 0),
    PRIMARY KEY (account, carrier, pace_ms)
) STRICT, WITHOUT ROWID;

INSERT INTO paces
SELECT account, carrier, pace_ms, count(*),
       sum(CASE WHEN wait_ms > 0 THEN 1000000000000 / wait_ms ELSE 0 END)
FROM labels WHERE next_poll_at IS NOT NULL GROUP BY 1, 2, 3;

CREATE TRIGGER paces_gain AFTER INSERT ON labels WHEN NEW.next_poll_at IS NOT NULL
BEGIN
    INSERT INTO paces
    VALUES (NEW.account, NEW.carrier, NEW.pace_ms, 1,
            CASE WHEN NEW.wait_ms > 0 THEN 1000000000000 / NEW.wait_ms ELSE 0 END)
    ON CONFLICT DO UPDATE SET labels = labels + 1, nanohertz = nanohertz + excluded.nanohertz;
END;

CREATE TRIGGER paces_lose AFTER DELETE ON labels WHEN OLD.next_poll_at IS NOT NULL
BEGIN
    UPDATE paces SET labels = labels - 1,
        nanohertz = nanohertz - CASE WHEN OLD.wait_ms > 0 THEN 1000000000000 / OLD.wait_ms ELSE 0 END
    WHERE account = OLD.account AND carrier = OLD.carrier AND pace_ms = OLD.pace_ms;
END;

CREATE TRIGGER paces_move AFTER UPDATE OF account, carrier_code, next_poll_at, wait_ms, pace_ms ON labels
WHEN OLD.account <> NEW.account OR OLD.carrier <> NEW.carrier OR OLD.wait_ms <> NEW.wait_ms
    OR OLD.pace_ms <> NEW.pace_ms OR (OLD.next_poll_at IS NULL) <> (NEW.next_poll_at IS NULL)
BEGIN
    UPDATE paces SET labels = labels - 1,
        nanohertz = nanohertz - CASE WHEN OLD.wait_ms > 0 THEN 1000000000000 / OLD.wait_ms ELSE 0 END
    WHERE OLD.next_poll_at IS NOT NULL
        AND account = OLD.account AND carrier = OLD.carrier AND pace_ms = OLD.pace_ms;
    INSERT INTO paces
    SELECT NEW.account, NEW.carrier, NEW.pace_ms, 1,
           CASE WHEN NEW.wait_ms > 0 THEN 1000000000000 / NEW.wait_ms ELSE 0 END
    WHERE NEW.next_poll_at IS NOT NULL
    ON CONFLICT DO UPDATE SET labels = labels + 1, nanohertz = nanohertz + excluded.nanohertz;
END;

-- Requests of the last hour, by the second in which they ended.
CREATE TABLE requests (
    account  TEXT    NOT NULL,
    second   INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests > 0),
    PRIMARY KEY (account, second)
) STRICT, WITHOUT ROWID;

-- Requests of each calendar month, UTC, by the instant it began.
CREATE TABLE months (
    account  TEXT    NOT NULL,
    month    INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests > 0),
    PRIMARY KEY (account, month)
) STRICT, WITHOUT ROWID;

-- What is known of an account's quota.
CREATE TABLE quotas (
    account      TEXT    PRIMARY KEY,
    -- Requests that may be on their way and are not counted yet: should we die, they count as sent.
    under_way    INTEGER NOT NULL DEFAULT 0 CHECK (under_way >= 0),
    -- How much of the limit is used since somebody else turned out to use it too; null: all of it.
    share        INTEGER CHECK (share BETWEEN 0 AND 1000),   -- thousandths
    shared_at    INTEGER,
    throttled_at INTEGER,                                    -- the last 429
    -- How late labels are served, as a share of their wait: a mean of the last, in thousandths.
    lateness     INTEGER NOT NULL DEFAULT 0 CHECK (lateness >= 0),
    CONSTRAINT a_share_has_a_beginning CHECK ((share IS NULL) = (shared_at IS NULL))
) STRICT, WITHOUT ROWID;

-- Carriers that said 429 through an account: their labels wait, the others go on.
CREATE TABLE carriers (
    account    TEXT    NOT NULL,
    carrier    TEXT    NOT NULL,
    held_until INTEGER NOT NULL,
    PRIMARY KEY (account, carrier)
) STRICT, WITHOUT ROWID;
