//! The receiver's books: which messages were accepted, how often, and in which order.
//!
//! Kept as deliveries come in, so that it holds for a long run, too. Every path of the receiver is a subscriber of its
//! own: the same message on two paths is no duplicate.

use std::collections::{HashMap, HashSet};

use super::receiver::{Delivery, Verified};

/// The sums so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came in, whatever became of them.
    pub received: usize,
    /// Answered 2xx, and not badly signed.
    pub accepted: usize,
    /// Different messages among the accepted.
    pub unique: usize,
    /// Accepted although the same message had been accepted before.
    pub duplicates: usize,
    /// First acceptances with a `trackpost-seq` lower than one accepted before for the label.
    pub out_of_order: usize,
    pub bad_signatures: usize,
}

/// A message that came after a later one of its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderViolation {
    pub path: String,
    pub label_id: String,
    pub message_id: String,
    pub seq: u64,
    /// The highest accepted before it.
    pub after: u64,
}

/// What the receiver has to say in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub counts: Counts,
    /// The different message ids, in the order of their first acceptance.
    pub unique: Vec<String>,
    /// Ids accepted again, once per time.
    pub duplicates: Vec<String>,
    pub order_violations: Vec<OrderViolation>,
}

impl Verdict {
    /// Each message once, in order, and well signed.
    pub fn is_clean(&self) -> bool {
        let counts = self.counts;
        counts.duplicates + counts.out_of_order + counts.bad_signatures == 0
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: HashSet<(String, String)>,
    highest: HashMap<(String, String), u64>,
    verdict: Verdict,
}

impl Tally {
    /// A request has come in.
    pub(super) fn received(&mut self, verified: &Verified) {
        self.verdict.counts.received += 1;
        if matches!(verified, Verified::Bad(_)) {
            self.verdict.counts.bad_signatures += 1;
        }
    }

    /// It is about to be answered with this status.
    pub(super) fn answered(&mut self, delivery: &Delivery, status: u16) {
        if !(200..300).contains(&status) || matches!(delivery.verified, Verified::Bad(_)) {
            return;
        }
        self.verdict.counts.accepted += 1;
        let Some(id) = delivery.message_id.clone() else { return };
        if !self.accepted.insert((delivery.path.clone(), id.clone())) {
            self.verdict.counts.duplicates += 1;
            self.verdict.duplicates.push(id);
            return;
        }
        self.verdict.counts.unique += 1;
        self.verdict.unique.push(id.clone());
        if let (Some(label_id), Some(seq)) = (delivery.label_id.clone(), delivery.seq) {
            self.in_order(delivery.path.clone(), label_id, id, seq);
        }
    }

    fn in_order(&mut self, path: String, label_id: String, message_id: String, seq: u64) {
        let highest = self.highest.entry((path.clone(), label_id.clone())).or_insert(seq);
        if seq < *highest {
            self.verdict.counts.out_of_order += 1;
            let after = *highest;
            self.verdict.order_violations.push(OrderViolation { path, label_id, message_id, seq, after });
        }
        *highest = seq.max(*highest);
    }

    pub(super) fn counts(&self) -> Counts {
        self.verdict.counts
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }
}
