-- How far the walks along the list of labels have come, by account.
CREATE TABLE discoveries (
    account         TEXT    PRIMARY KEY,
    position        INTEGER,              -- all that was created until then has been seen
    voids_sought_at INTEGER               -- when the last whole look for voids began
) STRICT, WITHOUT ROWID;

-- Removed by hand, and so not to be discovered again. Who registers it by hand or by configuration takes that back.
ALTER TABLE labels ADD COLUMN dismissed INTEGER NOT NULL DEFAULT 0
    CHECK (dismissed IN (0, 1) AND (dismissed = 0 OR state = 'removed'));
