-- The database of trackpost. Instants are integers: milliseconds since 1970, UTC.
-- One file until 0.1.0 is released; from then on migrations are never edited.

PRAGMA application_id = 1416646731; -- "TpPK": identifies a trackpost database

-- One row: number of transactions that changed registrations of labels.
CREATE TABLE registry (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL CHECK (version >= 0)
) STRICT;

INSERT INTO registry VALUES (1, 0);

-- Label files that were read or left out. Paths are absolute, symbolic links not resolved.
CREATE TABLE label_files (
    file_key INTEGER PRIMARY KEY,
    path     TEXT    NOT NULL UNIQUE,
    -- Why and since when it is left out; null: it is not left out.
    problem  TEXT,
    hint     TEXT,
    since    INTEGER,
    CONSTRAINT left_out_files_have_a_time      CHECK ((problem IS NULL) = (since IS NULL)),
    CONSTRAINT only_left_out_files_have_a_hint CHECK (hint IS NULL OR problem IS NOT NULL)
) STRICT;

CREATE TABLE labels (
    label_key          INTEGER PRIMARY KEY,
    account            TEXT    NOT NULL,
    label_id           TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('active', 'finished', 'expired', 'unavailable', 'removed')),
    -- Origins of its registration: configuration and label files, by hand, discovery. None: removed.
    by_config          INTEGER NOT NULL DEFAULT 0 CHECK (by_config IN (0, 1)),
    by_hand            INTEGER NOT NULL DEFAULT 0 CHECK (by_hand IN (0, 1)),
    by_discovery       INTEGER NOT NULL DEFAULT 0 CHECK (by_discovery IN (0, 1)),
    -- Removed by hand: discovery does not register it again.
    removed_by_hand    INTEGER NOT NULL DEFAULT 0
                       CHECK (removed_by_hand IN (0, 1) AND (removed_by_hand = 0 OR state = 'removed')),
    source             TEXT    NOT NULL CHECK (source IN ('config', 'file', 'cli', 'discovered')),
    metadata           TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(metadata) = 'object'),
    -- The label file that lists it; null: none.
    file_key           INTEGER REFERENCES label_files (file_key),
    -- `registry.version` of the last change of its registration; a poll sent under an older version is not recorded.
    version            INTEGER NOT NULL DEFAULT 1,
    -- When it was removed because no label file lists it any more, and its state and schedule if it returns within a day.
    left_files_at      INTEGER,
    state_before_removal TEXT  CHECK (state_before_removal IN ('active', 'finished', 'expired', 'unavailable')),
    next_poll_before_removal INTEGER,
    registered_at      INTEGER NOT NULL,
    first_answer_at    INTEGER,
    -- The last good answer since it was last registered.
    last_answer_at     INTEGER CHECK (last_answer_at IS NULL OR first_answer_at IS NOT NULL),
    last_polled_at     INTEGER,
    last_changed_at    INTEGER,
    finished_at        INTEGER,
    next_poll_at       INTEGER,
    -- Wait from the last poll to the next, and the interval by which lateness is measured; 0: due as soon as the quota
    -- allows.
    wait_ms            INTEGER NOT NULL DEFAULT 0 CHECK (wait_ms >= 0),
    pace_ms            INTEGER NOT NULL DEFAULT 0 CHECK (pace_ms >= 0 AND (pace_ms = 0) = (wait_ms = 0)),
    -- Reason for next_poll_at, as JSON with figures; null: as soon as the quota allows.
    reason             TEXT,
    unchanged          INTEGER NOT NULL DEFAULT 0 CHECK (unchanged >= 0),
    failures           INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since      INTEGER,
    refusals           INTEGER NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    refused_since      INTEGER,
    -- Facts of the last good answer that decide about later polls.
    tracking_number    TEXT,
    carrier_code       TEXT,
    status_code        TEXT,
    status_description TEXT,
    status_detail_code TEXT,
    estimate           TEXT,
    out_for_delivery   INTEGER NOT NULL DEFAULT 0 CHECK (out_for_delivery IN (0, 1)),
    utc_offset_minutes INTEGER,
    answer_digest      BLOB,
    missing_events     INTEGER NOT NULL DEFAULT 0 CHECK (missing_events >= 0),
    last_seq           INTEGER NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    newest_scan_at     INTEGER,
    -- A delivery scan was seen below a newer scan, the status is not delivered, and the parcel did not move since.
    delivered_beneath_at INTEGER,
    stalled_sent       INTEGER NOT NULL DEFAULT 0 CHECK (stalled_sent IN (0, 1)),
    late_sent          INTEGER NOT NULL DEFAULT 0 CHECK (late_sent IN (0, 1)),
    -- The last polls that changed something or failed, newest last.
    recent_polls       TEXT    NOT NULL DEFAULT '[]',
    UNIQUE (label_id, account),
    CONSTRAINT active_labels_have_a_next_poll   CHECK (state <> 'active' OR next_poll_at IS NOT NULL),
    CONSTRAINT removed_labels_have_no_next_poll CHECK (state <> 'removed' OR next_poll_at IS NULL),
    CONSTRAINT removed_labels_have_no_origin    CHECK ((state = 'removed') = (by_config + by_hand + by_discovery = 0)),
    CONSTRAINT only_file_labels_have_a_file     CHECK (file_key IS NULL OR (source = 'file' AND by_config = 1)),
    CONSTRAINT only_removed_labels_left_files   CHECK ((left_files_at IS NULL) = (state_before_removal IS NULL)
                                                      AND (left_files_at IS NULL OR state = 'removed')
                                                      AND (next_poll_before_removal IS NULL OR left_files_at IS NOT NULL)),
    CONSTRAINT only_waits_have_a_reason         CHECK (reason IS NULL OR wait_ms > 0),
    CONSTRAINT finished_labels_have_a_time      CHECK (state <> 'finished' OR finished_at IS NOT NULL),
    CONSTRAINT failing_labels_have_a_start      CHECK ((failures > 0) = (failing_since IS NOT NULL)),
    CONSTRAINT refused_labels_have_a_start      CHECK ((refusals > 0) = (refused_since IS NOT NULL))
) STRICT;

-- Finds the changes of the registry since a version.
CREATE INDEX labels_changed ON labels (version);

CREATE INDEX labels_idle ON labels (coalesce(finished_at, last_polled_at, registered_at)) WHERE next_poll_at IS NULL;

-- Covering index of the search and of the counts of labels. One text per label: a search compares it once.
CREATE INDEX labels_search ON labels (account, state, (label_id || char(10) || coalesce(tracking_number, '') || char(10) || metadata));

CREATE INDEX labels_failing ON labels (account) WHERE failures > 0;

CREATE TABLE tracking_events (
    event_key     INTEGER PRIMARY KEY,
    label_key     INTEGER NOT NULL REFERENCES labels (label_key) ON DELETE CASCADE,
    event_id      TEXT    NOT NULL,
    position      INTEGER NOT NULL CHECK (position >= 1),      -- in order of recording, oldest first
    revision      INTEGER NOT NULL CHECK (revision >= 1),
    late          INTEGER NOT NULL CHECK (late IN (0, 1)),
    first_seen_at INTEGER NOT NULL,
    missing_polls INTEGER NOT NULL DEFAULT 0 CHECK (missing_polls >= 0),
    retracted_at  INTEGER,
    -- The oldest scan dropped off the end of the carrier's list; this is not a retraction.
    fell_off      INTEGER NOT NULL DEFAULT 0 CHECK (fell_off IN (0, 1) AND (fell_off = 0 OR (missing_polls = 0 AND retracted_at IS NULL))),
    flapped       INTEGER NOT NULL DEFAULT 0 CHECK (flapped IN (0, 1)),
    fingerprints  BLOB    NOT NULL CHECK (length(fingerprints) > 0 AND length(fingerprints) % 16 = 0),
    raw           TEXT    NOT NULL,
    UNIQUE (label_key, position),
    UNIQUE (label_key, event_id)
) STRICT;

CREATE TABLE event_changes (
    change_key INTEGER PRIMARY KEY,
    label_key  INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('revised', 'retracted', 'returned')),
    fields     TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(fields) = 'array'),
    before     TEXT    CHECK (json_type(before) = 'object'),
    FOREIGN KEY (label_key, event_id) REFERENCES tracking_events (label_key, event_id) ON DELETE CASCADE,
    CONSTRAINT only_revisions_have_previous_content CHECK ((kind = 'revised') = (before IS NOT NULL))
) STRICT;

CREATE INDEX event_changes_of ON event_changes (label_key, event_id);

CREATE TABLE subjects (
    subject_key INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN ('account', 'subscriber')),
    name        TEXT    NOT NULL,
    UNIQUE (kind, name)
) STRICT;

CREATE TABLE messages (
    message_key  INTEGER PRIMARY KEY,          -- ascending, never used twice
    message_id   TEXT    NOT NULL UNIQUE,
    account      TEXT,
    label_key    INTEGER REFERENCES labels (label_key) ON DELETE CASCADE,
    label_id     TEXT,
    seq          INTEGER CHECK (seq >= 1),
    type         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    resource_url TEXT,
    body         TEXT    NOT NULL,
    subject_key INTEGER REFERENCES subjects (subject_key)
    CHECK (subject_key IS NULL OR label_key IS NULL),
    UNIQUE (label_key, seq),
    CONSTRAINT only_label_messages_have_a_seq CHECK ((label_key IS NULL) = (seq IS NULL) AND (label_key IS NULL) = (label_id IS NULL))
) STRICT;

-- One row: the highest keys of messages and deliveries when rows of these tables were last deleted.
CREATE TABLE last_keys (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    message_key  INTEGER NOT NULL CHECK (message_key >= 0),
    delivery_key INTEGER NOT NULL CHECK (delivery_key >= 0)
) STRICT;

INSERT INTO last_keys VALUES (1, 0, 0);

-- Lower bound of the keys of messages created in this hour (since 1970) or later: start of a search by time.
CREATE TABLE message_hours (
    hour        INTEGER PRIMARY KEY,
    message_key INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
    delivery_key    INTEGER PRIMARY KEY,   -- ascending, never used twice
    message_key     INTEGER NOT NULL REFERENCES messages (message_key) ON DELETE CASCADE,
    subscriber      TEXT    NOT NULL,
    format          TEXT    NOT NULL CHECK (format IN ('shipstation', 'shipengine', 'standard')),
    lane            INTEGER,   -- the label key, or the negative subject key; null: a ping
    position        INTEGER,   -- in the lane: the seq, or the message key
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    created_at      INTEGER NOT NULL,
    delivered_at    INTEGER,
    next_attempt_at INTEGER,
    reason          TEXT,      -- reason for next_attempt_at, as JSON (`DueReason`)
    last_outcome    TEXT,
    queued_again_at INTEGER,
    failures        INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),   -- steps of the retry schedule used
    failing_since   INTEGER CHECK ((failures > 0) = (failing_since IS NOT NULL)),
    planned_at      INTEGER CHECK (planned_at IS NULL OR (state = 'pending' AND failures > 0)),
    retry_after_until INTEGER, -- end of this delivery's own Retry-After
    UNIQUE (message_key, subscriber),
    CONSTRAINT only_deliveries_in_a_lane_have_a_position CHECK ((lane IS NULL) = (position IS NULL)),
    CONSTRAINT only_delivered_have_a_time             CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT only_pending_have_a_next_attempt       CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT only_pending_have_a_reason             CHECK ((state = 'pending') = (reason IS NOT NULL))
) STRICT;

-- Pending deliveries by lane. It covers the choice of heads of lanes, so that the rows of a backlog are not read.
CREATE INDEX deliveries_pending ON deliveries (subscriber, lane, position, next_attempt_at, attempts, state) WHERE state = 'pending';

CREATE TABLE attempts (
    delivery_key   INTEGER NOT NULL REFERENCES deliveries (delivery_key) ON DELETE CASCADE,
    attempt        INTEGER NOT NULL CHECK (attempt >= 1),
    started_at     INTEGER NOT NULL,
    duration_ms    INTEGER NOT NULL CHECK (duration_ms >= 0),
    outcome        TEXT    NOT NULL,
    status         INTEGER,
    detail         TEXT,
    answer         TEXT,
    retry_after_ms INTEGER,
    -- As decided after the attempt: the end of `Retry-After`, and the time of the next attempt.
    retry_after_until INTEGER,
    retry_at       INTEGER,
    PRIMARY KEY (delivery_key, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscribers (
    subscriber      TEXT    PRIMARY KEY,
    state           TEXT    NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'failing', 'paused')),
    since           INTEGER,
    reason          TEXT    CHECK (reason IN ('no_connection', 'failures', 'gone', 'by_hand')),
    detail          TEXT,
    -- When it began to fail, as announced; identifies the episode, also during a pause.
    episode_at      INTEGER,
    probes          INTEGER NOT NULL DEFAULT 0 CHECK (probes >= 0),
    probe_at        INTEGER,
    failures        INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),  -- consecutive
    failures_of     INTEGER,                                           -- the delivery they belong to; null: several
    gone_at         INTEGER,                                           -- the first of consecutive 410s
    slow_start_limit INTEGER CHECK (slow_start_limit >= 1),            -- concurrent attempts after an outage; null: unlimited
    url_digest      TEXT,
    held_until      INTEGER,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_failure    TEXT,
    absent_since INTEGER,
    CONSTRAINT only_failing_have_a_probe CHECK ((state = 'failing') = (probe_at IS NOT NULL)),
    CONSTRAINT failing_have_an_episode   CHECK (state <> 'failing' OR episode_at IS NOT NULL),
    CONSTRAINT ok_has_no_episode         CHECK (state <> 'ok' OR (episode_at IS NULL AND reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    account         TEXT    PRIMARY KEY,
    status          TEXT    NOT NULL CHECK (status IN ('ok', 'unauthorized', 'misconfigured', 'down')),
    since           INTEGER NOT NULL,
    probes          INTEGER NOT NULL DEFAULT 0 CHECK (probes >= 0),
    probe_at        INTEGER,
    throttled_until INTEGER,
    detail          TEXT,
    CONSTRAINT only_a_failing_account_has_a_probe CHECK ((status = 'ok') = (probe_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    account  TEXT    NOT NULL,
    second   INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests > 0),
    PRIMARY KEY (account, second)
) STRICT, WITHOUT ROWID;

-- Wall time and time since boot, in milliseconds, when requests were last counted. `requests.second` is in this clock.
CREATE TABLE clock (
    clock_key INTEGER PRIMARY KEY CHECK (clock_key = 1),
    wall      INTEGER NOT NULL,
    uptime    INTEGER NOT NULL CHECK (uptime >= 0),
    -- Digest of the machine's id and name: uptimes of two machines cannot be compared.
    machine   BLOB    CHECK (length(machine) = 32),
    -- Spans of wall time that did not pass: start and end of each.
    gaps      TEXT    NOT NULL CHECK (json_type(gaps) = 'array')
) STRICT;

CREATE TABLE months (
    account  TEXT    NOT NULL,
    month    INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests > 0),
    PRIMARY KEY (account, month)
) STRICT, WITHOUT ROWID;

CREATE TABLE quotas (
    account         TEXT    PRIMARY KEY,
    -- Requests that may have been sent and are not yet counted: after an unclean end they count as sent.
    reserved        INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    -- Fraction of the quota that is used when others use it too, in thousandths, and since when; null: all of it.
    adaptive_limit  INTEGER CHECK (adaptive_limit BETWEEN 0 AND 1000),
    limited_since   INTEGER,
    throttled_at    INTEGER,                                 -- the last 429
    -- Mean lateness of recent polls as a fraction of their intervals, in thousandths.
    lateness        INTEGER NOT NULL DEFAULT 0 CHECK (lateness >= 0),
    -- Factor by which all waits are stretched, in thousandths.
    stretch         INTEGER NOT NULL DEFAULT 1000 CHECK (stretch >= 1000),
    -- Demand of the labels in billionths of a request per second.
    demand_nanohertz INTEGER NOT NULL DEFAULT 0 CHECK (demand_nanohertz >= 0),
    -- Due labels, and those of them without a planned poll: new, or made due by hand.
    due             INTEGER NOT NULL DEFAULT 0 CHECK (due >= 0),
    first_polls     INTEGER NOT NULL DEFAULT 0 CHECK (first_polls >= 0),
    last_success_at INTEGER,                                 -- the last answer that accepted the key
    CONSTRAINT only_a_smaller_limit_has_a_start CHECK ((adaptive_limit IS NULL) = (limited_since IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE carriers (
    account    TEXT    NOT NULL,
    carrier    TEXT    NOT NULL,
    held_until INTEGER NOT NULL,
    PRIMARY KEY (account, carrier)
) STRICT, WITHOUT ROWID;

CREATE TABLE discoveries (
    account         TEXT    PRIMARY KEY,
    position        INTEGER,              -- all labels created until then were read
    confirmed       INTEGER NOT NULL,     -- 1: a listed label confirmed the position; 0: it comes from our clock alone
    voids_searched_at INTEGER             -- start of the last complete search for voided labels
) STRICT, WITHOUT ROWID;

CREATE TABLE freshness (
    account   TEXT    NOT NULL,
    carrier   TEXT    NOT NULL,                                -- '': unknown
    kind      TEXT    NOT NULL CHECK (kind IN ('since_last_poll', 'since_scan', 'implausible_time', 'late_poll')),
    delivered INTEGER NOT NULL CHECK (delivered IN (0, 1)),    -- a scan with status DE or SP
    day       INTEGER NOT NULL CHECK (day % 86400000 = 0),     -- its start, UTC; 0: the sum of all older days
    bucket    INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 8), -- up to 5m 10m 15m 30m 1h 2h 6h 24h, longer
    events    INTEGER NOT NULL CHECK (events > 0),
    PRIMARY KEY (account, carrier, kind, delivered, day, bucket),
    CONSTRAINT implausible_times_have_one_bucket CHECK (kind <> 'implausible_time' OR bucket = 0),
    CONSTRAINT late_polls_count_no_scans         CHECK (kind <> 'late_poll' OR delivered = 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE learned_rates (
    carrier  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    counts   TEXT    NOT NULL CHECK (json_type(counts) = 'object'),
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (carrier, state)
) STRICT, WITHOUT ROWID;
