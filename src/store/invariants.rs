//! Checker of the invariants of the whole database.
//!
//! The schema rejects most invalid rows. This module checks conditions across rows and tables. Tests run it after every
//! scenario, also after crashes; an operator may run it on a copy. It only reads, and it does not know the formats of
//! requests and callbacks.

use super::{Store, StoreError};
use crate::domain::delivery::outcome::DueReason;

/// Runs a query over the whole database and adds a sentence for each row that it returns.
macro_rules! each {
    ($store:expr, $violations:expr, $query:literal, |$row:ident| $sentence:expr) => {
        for $row in sqlx::query!($query).fetch_all(&$store.readers).await? {
            $violations.push($sentence);
        }
    };
}

impl Store {
    /// Returns a sentence for each violation, with the name of the row; empty if there are none.
    pub async fn violations(&self) -> Result<Vec<String>, StoreError> {
        let mut violations = Vec::new();
        self.check_file(&mut violations).await?;
        self.check_labels(&mut violations).await?;
        self.check_history(&mut violations).await?;
        self.check_revisions(&mut violations).await?;
        self.check_messages(&mut violations).await?;
        self.check_lanes(&mut violations).await?;
        self.check_attempts(&mut violations).await?;
        self.check_freshness(&mut violations).await?;
        Ok(violations)
    }

    async fn check_file(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        let lines: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.readers).await?;
        violations
            .extend(lines.into_iter().filter(|line| line != "ok").map(|line| format!("the file: {line}")));
        let orphans: Vec<(String, i64)> =
            sqlx::query_as(r#"SELECT "table", count(*) FROM pragma_foreign_key_check GROUP BY 1"#)
                .fetch_all(&self.readers)
                .await?;
        violations.extend(
            orphans.iter().map(|(table, rows)| format!("{rows} rows of {table} refer to a missing row")),
        );
        Ok(())
    }

    async fn check_labels(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            "SELECT label_id, status_code FROM labels
             WHERE state = 'finished' AND coalesce(status_code, '') NOT IN ('DE', 'SP') AND delivered_beneath_at IS NULL",
            |label| format!("{} is finished, but its status is {:?}", label.label_id, label.status_code)
        );
        each!(
            self,
            violations,
            r#"SELECT l.label_id, l.missing_events, count(e.event_id) AS "missing!: i64"
               FROM labels l LEFT JOIN tracking_events e
                 ON e.label_key = l.label_key AND e.missing_polls > 0 AND e.retracted_at IS NULL
               GROUP BY l.label_key HAVING count(e.event_id) <> l.missing_events"#,
            |label| format!(
                "{} counts {} missing events, but {} are missing",
                label.label_id, label.missing_events, label.missing
            )
        );
        Ok(())
    }

    async fn check_history(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            r#"SELECT l.label_id, e.event_id, e.revision, count(r.change_key) AS "kept!: i64"
               FROM tracking_events e JOIN labels l USING (label_key)
               LEFT JOIN event_changes r
                    ON r.label_key = e.label_key AND r.event_id = e.event_id AND r.kind = 'revised'
               GROUP BY e.label_key, e.event_id HAVING e.revision <> count(r.change_key) + 1"#,
            |event| format!(
                "{} of {} has revision {}, but {} earlier revisions are recorded",
                event.event_id, event.label_id, event.revision, event.kept
            )
        );
        each!(
            self,
            violations,
            r#"SELECT l.label_id AS "label_id!", count(*) AS "events!: i64", max(e.position) AS "last!: i64"
               FROM tracking_events e JOIN labels l USING (label_key)
               GROUP BY e.label_key HAVING max(e.position) <> count(*) OR min(e.position) <> 1"#,
            |label| format!(
                "{} has {} events, but the last one has position {}",
                label.label_id, label.events, label.last
            )
        );
        Ok(())
    }

    /// Checks that all records of a revision of an event are equal: its messages, the history, and the previous content kept with
    /// the next revision.
    async fn check_revisions(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            r#"WITH sent AS (
                   SELECT m.label_key, sent.value AS event
                   FROM messages m, json_each(coalesce(m.body -> '$.data.events', json_array(m.body -> '$.data.event'))) sent
                   WHERE m.label_key IS NOT NULL AND sent.type = 'object'),
               shown (label_key, event_id, revision, late, content) AS (
                   SELECT label_key, event ->> 'event_id', event ->> 'revision', event ->> 'late', event FROM sent
                   UNION ALL
                   SELECT label_key, event ->> 'event_id', (event ->> 'revision') - 1, event ->> 'late', event -> 'previous'
                   FROM sent WHERE event ->> 'previous' IS NOT NULL
                   UNION ALL
                   SELECT label_key, event_id, revision, late, raw FROM tracking_events
                   UNION ALL
                   SELECT c.label_key, c.event_id,
                          row_number() OVER (PARTITION BY c.label_key, c.event_id ORDER BY c.change_key), e.late, c.before
                   FROM event_changes c JOIN tracking_events e USING (label_key, event_id) WHERE c.kind = 'revised')
               SELECT l.label_id AS "label_id!", s.event_id AS "event_id!: String", s.revision AS "revision!: i64"
               FROM shown s JOIN labels l USING (label_key)
               GROUP BY s.label_key, s.event_id, s.revision
               HAVING count(DISTINCT s.late) > 1 OR count(DISTINCT json_remove(s.content, '$.event_id',
                   '$.revision', '$.late', '$.returned', '$.changed', '$.previous')) > 1"#,
            |event| format!(
                "{} of {} has two different contents in revision {}",
                event.event_id, event.label_id, event.revision
            )
        );
        Ok(())
    }

    async fn check_messages(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            r#"SELECT l.label_id, l.last_seq, coalesce(max(m.seq), 0) AS "last!: i64"
               FROM labels l LEFT JOIN messages m USING (label_key)
               GROUP BY l.label_key HAVING coalesce(max(m.seq), 0) <> l.last_seq"#,
            |label| format!(
                "the last message of {} has seq {}, but the label has {}",
                label.label_id, label.last, label.last_seq
            )
        );
        each!(
            self,
            violations,
            "SELECT message_id FROM messages WHERE NOT json_valid(body) OR json_type(body) <> 'object'",
            |message| format!("the body of {} is not a JSON object", message.message_id)
        );
        each!(
            self,
            violations,
            "SELECT m.message_id FROM messages m WHERE m.message_key < coalesce(
                (SELECT min(h.message_key) FROM message_hours h WHERE h.hour >= m.created_at / 3600000), m.message_key + 1)",
            |message| format!("{} is not found by the hour of its creation", message.message_id)
        );
        each!(
            self,
            violations,
            "SELECT m.message_id, d.subscriber FROM deliveries d JOIN messages m USING (message_key)
             WHERE d.lane IS NOT coalesce(m.label_key, -m.subject_key)
                OR d.position IS NOT CASE WHEN d.lane IS NOT NULL THEN coalesce(m.seq, m.message_key) END",
            |delivery| format!(
                "the delivery of {} to {} is in another lane than its message",
                delivery.message_id, delivery.subscriber
            )
        );
        Ok(())
    }

    async fn check_lanes(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        let pending = sqlx::query!(
            r#"SELECT m.message_id, d.subscriber, d.reason AS "reason!" FROM deliveries d JOIN messages m USING (message_key)
               WHERE d.state = 'pending'"#
        )
        .fetch_all(&self.readers)
        .await?;
        for delivery in pending {
            if DueReason::from_json(&delivery.reason).is_none() {
                violations.push(format!(
                    "{} to {} has an unknown reason for its due time: {}",
                    delivery.message_id, delivery.subscriber, delivery.reason
                ));
            }
        }
        each!(
            self,
            violations,
            "SELECT m.message_id, m.label_id, d.subscriber, d.position
             FROM deliveries d JOIN messages m USING (message_key)
             WHERE d.state <> 'pending' AND EXISTS (SELECT 1 FROM deliveries earlier
                WHERE earlier.subscriber = d.subscriber AND earlier.lane = d.lane
                  AND earlier.position < d.position AND earlier.state = 'pending' AND earlier.queued_again_at IS NULL)",
            |delivery| format!(
                "{} (position {} of {}) to {} ended before an earlier one",
                delivery.message_id,
                delivery.position.unwrap_or_default(),
                delivery.label_id.as_deref().unwrap_or("no label"),
                delivery.subscriber
            )
        );
        Ok(())
    }

    /// Checks the numbers of attempts. Attempts of ended deliveries are pruned after a while. Attempts of pending
    /// deliveries are kept, except attempts before a replay.
    async fn check_attempts(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            r#"SELECT m.message_id, d.subscriber, d.attempts, count(a.attempt) AS "recorded!: i64",
                      coalesce(max(a.attempt), 0) AS "last!: i64"
               FROM deliveries d JOIN messages m USING (message_key) LEFT JOIN attempts a USING (delivery_key)
               GROUP BY d.delivery_key
               HAVING count(a.attempt) > d.attempts OR coalesce(max(a.attempt), d.attempts) <> d.attempts
                   OR (d.state = 'pending' AND d.queued_again_at IS NULL AND count(a.attempt) <> d.attempts)"#,
            |delivery| format!(
                "{} to {} counts {} attempts, but {} are recorded, the last one as number {}",
                delivery.message_id, delivery.subscriber, delivery.attempts, delivery.recorded, delivery.last
            )
        );
        each!(
            self,
            violations,
            "SELECT m.message_id, d.subscriber, d.attempts, d.failures
             FROM deliveries d JOIN messages m USING (message_key) WHERE d.failures > d.attempts",
            |delivery| format!(
                "{} to {} counts {} attempts, but {} steps of its schedule",
                delivery.message_id, delivery.subscriber, delivery.attempts, delivery.failures
            )
        );
        each!(
            self,
            violations,
            r#"SELECT m.message_id, d.subscriber, d.attempts, a.outcome AS "outcome?: String"
               FROM deliveries d JOIN messages m USING (message_key)
               LEFT JOIN attempts a ON a.delivery_key = d.delivery_key AND a.attempt = d.attempts
               WHERE d.state = 'delivered' AND (d.attempts = 0 OR coalesce(a.outcome, 'accepted') <> 'accepted')"#,
            |delivery| format!(
                "{} to {} is delivered, but its last attempt ({}) ended as {:?}",
                delivery.message_id, delivery.subscriber, delivery.attempts, delivery.outcome
            )
        );
        Ok(())
    }

    /// Checks that every new event is counted twice: once for the delay that trackpost added, and once for the delay
    /// since the scan, or with an implausible time.
    async fn check_freshness(&self, violations: &mut Vec<String>) -> Result<(), StoreError> {
        each!(
            self,
            violations,
            r#"SELECT account, carrier,
                      sum(CASE WHEN kind = 'since_last_poll' THEN events ELSE 0 END) AS "since_last_poll!: i64",
                      sum(CASE WHEN kind IN ('since_scan', 'implausible_time') THEN events ELSE 0 END) AS "by_scan!: i64"
               FROM freshness GROUP BY account, carrier, delivered, day HAVING "since_last_poll!: i64" <> "by_scan!: i64""#,
            |count| format!(
                "the freshness counts {} events of {} in {} since the last poll, but {} since their scan",
                count.since_last_poll, count.carrier, count.account, count.by_scan
            )
        );
        Ok(())
    }
}
