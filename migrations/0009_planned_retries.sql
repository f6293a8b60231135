-- When the schedule has the next attempt made. It may be made sooner, as when the subscriber comes back: that is no step
-- of the schedule, and should it fail, the plan stands.
ALTER TABLE deliveries ADD COLUMN planned_at INTEGER CHECK (planned_at IS NULL OR (state = 'pending' AND tried > 0));

UPDATE deliveries SET planned_at = next_attempt_at
WHERE state = 'pending' AND tried > 0 AND next_attempt_at IS NOT NULL;
