-- Lanes also for what is about no label, and a retry schedule that begins anew when a message is queued again.

-- Whom messages of the system are about. To each receiver those about one subject keep their order.
CREATE TABLE subjects (
    subject_key INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN ('account', 'subscriber')),
    name        TEXT    NOT NULL,
    UNIQUE (kind, name)
) STRICT;

INSERT INTO subjects (kind, name)
SELECT 'account', account FROM messages WHERE type LIKE 'system.account.%' AND account IS NOT NULL
UNION
SELECT 'subscriber', body ->> '$.data.subscriber' FROM messages
WHERE type LIKE 'system.subscriber.%' AND body ->> '$.data.subscriber' IS NOT NULL;

ALTER TABLE messages ADD COLUMN subject_key INTEGER REFERENCES subjects (subject_key)
    CHECK (subject_key IS NULL OR label_key IS NULL);

UPDATE messages SET subject_key = (
    SELECT s.subject_key FROM subjects s
    WHERE (s.kind, s.name) = ('account', messages.account)
       OR (s.kind, s.name) = ('subscriber', messages.body ->> '$.data.subscriber'))
WHERE type LIKE 'system.%';

-- The lane is that of the label, by its seq, or that of the subject (below zero), by the message's row.
ALTER TABLE deliveries RENAME COLUMN label_key TO lane;
ALTER TABLE deliveries RENAME COLUMN seq TO place;

UPDATE deliveries SET lane = -m.subject_key, place = m.message_key
FROM messages m WHERE m.message_key = deliveries.message_key AND m.subject_key IS NOT NULL;

UPDATE deliveries SET next_attempt_at = NULL
WHERE lane < 0 AND state = 'pending' AND EXISTS (
    SELECT 1 FROM deliveries earlier
    WHERE earlier.subscriber = deliveries.subscriber AND earlier.lane = deliveries.lane
      AND earlier.state = 'pending' AND earlier.place < deliveries.place);

-- Failures that count for the schedule, and when the first of them was. What a failing subscriber does not take, and
-- what was tried before it was queued again, does not count.
ALTER TABLE deliveries ADD COLUMN tried INTEGER NOT NULL DEFAULT 0 CHECK (tried >= 0);
ALTER TABLE deliveries ADD COLUMN tried_since INTEGER CHECK ((tried > 0) = (tried_since IS NOT NULL));
-- The receiver asked to leave this message alone until then.
ALTER TABLE deliveries ADD COLUMN asked_until INTEGER;

UPDATE deliveries SET
    asked_until = (SELECT a.started_at + a.duration_ms + min(a.retry_after_ms, 86400000) FROM attempts a
                   WHERE a.delivery_key = deliveries.delivery_key AND a.attempt = deliveries.attempts)
WHERE state = 'pending' AND attempts > 0;

UPDATE deliveries SET tried = counted.failures, tried_since = created_at
FROM (SELECT d.delivery_key AS row, d.attempts - coalesce(s.spared ->> ('$."' || d.delivery_key || '"'), 0) AS failures
      FROM deliveries d LEFT JOIN subscribers s USING (subscriber)
      WHERE d.state = 'pending' AND d.queued_again_at IS NULL) AS counted
WHERE deliveries.delivery_key = counted.row AND counted.failures > 0;

ALTER TABLE subscribers DROP COLUMN spared;

-- Since when the configuration does not name it, or turns it off; null while it is served.
ALTER TABLE subscribers ADD COLUMN absent_since INTEGER;
