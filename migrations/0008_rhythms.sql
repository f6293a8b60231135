-- What was learnt of how long carriers take from one change to the next, by carrier (and service, after a "/"; '': all)
-- and state: seconds watched and changes seen, by age, hour and weekday. Nothing of a single label is in it.
CREATE TABLE rhythms (
    carrier  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    tally    TEXT    NOT NULL CHECK (json_type(tally) = 'object'),
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (carrier, state)
) STRICT, WITHOUT ROWID;
