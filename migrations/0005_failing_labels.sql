-- After an outage the failures of all labels are forgiven: they are few, and found without a look at the others.
CREATE INDEX labels_failing ON labels (account) WHERE failures > 0;
