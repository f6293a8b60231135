-- When a delivery was last queued again, by hand or by a replay; null for what only took its course. Such a one may
-- come after later ones of its label, and the log of its earlier attempts may have been pruned.
ALTER TABLE deliveries ADD COLUMN queued_again_at INTEGER;
