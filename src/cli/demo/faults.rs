//! Faults of the demo: 429 and 500 from the API, a manual poll, 500 from the receiver.

use std::time::Duration;

use super::super::Failure;
use super::start::DemoHandles;
use crate::clock;
use crate::domain::label::{LabelId, LabelKey, LabelState};
use crate::sandbox::{Answer, FaultKind, InjectedFault};
use crate::store::progress::LabelProgress;

/// Start of each fault, as a share of the travel time.
const THROTTLED: f64 = 0.25;
const FAILING: f64 = 0.40;
const REFUSING: f64 = 0.60;

/// The 429s end after `BURST_ANSWERS` answers, or after `MIN_BURST` with at least one answer, at the latest after
/// `MAX_BURST`. Each answer has a `Retry-After` of one second.
const MIN_BURST: Duration = Duration::from_millis(400);
const MAX_BURST: Duration = Duration::from_secs(3);
const BURST_ANSWERS: u64 = 4;
/// Number of labels that get a 500.
const FAILED_LABELS: usize = 2;
/// Time until the operator polls.
const OPERATOR_DELAY: Duration = Duration::from_millis(1_200);
/// Number of consecutive refused callbacks: too few for the subscriber to count as down.
const REFUSED_CALLBACKS: usize = 4;

/// Injects the faults in order.
#[derive(Debug, Default)]
pub enum FaultSequence {
    #[default]
    NotBegun,
    Throttling {
        since: Duration,
    },
    Throttled,
    Failing {
        labels: Vec<LabelId>,
        since: Duration,
    },
    PolledAgain,
    Refusing,
    Over,
}

impl FaultSequence {
    /// Starts the next fault if it is due, `passed` after the start of the parcels and after `refused` refused
    /// callbacks. Returns the line about a new fault.
    pub async fn step(
        &mut self,
        handles: &DemoHandles,
        progress: &[LabelProgress],
        refused: usize,
        passed: Duration,
    ) -> Result<Option<String>, Failure> {
        let share = passed.as_secs_f64() / handles.plan.travel.as_secs_f64();
        let (step, line) = match &*self {
            Self::NotBegun if share >= THROTTLED => {
                handles.sandbox.set_faults(vec![InjectedFault::new(FaultKind::Fail(429), 1.0)]);
                (
                    Self::Throttling { since: passed },
                    "the API answers 429: the account waits for Retry-After".to_owned(),
                )
            }
            Self::Throttling { since } => {
                let answered = handles.sandbox.counters().answered(429);
                let lasted = passed.saturating_sub(*since);
                // At least one 429 is needed, so a pause between two polls extends the burst.
                let seen = answered >= BURST_ANSWERS || (answered > 0 && lasted >= MIN_BURST);
                if !seen && lasted < MAX_BURST {
                    return Ok(None);
                }
                handles.sandbox.set_faults(Vec::new());
                (Self::Throttled, format!("the API answers 200 again, after {answered} × 429"))
            }
            Self::Throttled if share >= FAILING => {
                let labels = labels_to_fail(progress);
                for label in &labels {
                    let server_error = Answer::status(500).header("content-type", "text/plain");
                    handles.sandbox.script_once(label.as_str(), server_error);
                }
                let line = format!("the API answers 500 for {}", joined(&labels));
                (Self::Failing { labels, since: passed }, line)
            }
            Self::Failing { labels, since } => {
                let failed = |label: &LabelId| {
                    progress.iter().any(|now| now.label_id == label.as_str() && now.failures > 0)
                };
                if !labels.iter().all(failed) || passed.saturating_sub(*since) < OPERATOR_DELAY {
                    return Ok(None);
                }
                for label in labels {
                    let key = LabelKey { account: handles.account.clone(), id: label.clone() };
                    handles.store.poll_now(&key, clock::now()).await?;
                }
                let ids: Vec<&str> = labels.iter().map(LabelId::as_str).collect();
                let line = format!("operator command: trackpost labels poll {}", ids.join(" "));
                (Self::PolledAgain, line)
            }
            Self::PolledAgain if share >= REFUSING => {
                handles.receiver.answer_next((0..REFUSED_CALLBACKS).map(|_| Answer::status(500)));
                let line = "the receiver answers 500: trackpost retries the deliveries";
                (Self::Refusing, line.to_owned())
            }
            Self::Refusing if refused >= REFUSED_CALLBACKS => {
                (Self::Over, format!("the receiver answers 200 again, after {refused} × 500"))
            }
            _ => return Ok(None),
        };
        *self = step;
        Ok(Some(line))
    }

    /// Whether all faults have begun. For the last one there may be too few callbacks left.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Refusing | Self::Over)
    }
}

/// Returns the first active labels without failures.
fn labels_to_fail(progress: &[LabelProgress]) -> Vec<LabelId> {
    let active = progress.iter().filter(|label| label.state == LabelState::Active && label.failures == 0);
    active.filter_map(|label| label.label_id.parse().ok()).take(FAILED_LABELS).collect()
}

fn joined(labels: &[LabelId]) -> String {
    labels.iter().map(LabelId::as_str).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parcels_in_transit_get_faults() {
        let label =
            |id: &str, state| LabelProgress { label_id: id.to_owned(), state, is_polled: true, failures: 0 };
        let progress = [
            label("se-1", LabelState::Finished),
            label("se-2", LabelState::Active),
            LabelProgress { failures: 1, ..label("se-3", LabelState::Active) },
            label("se-4", LabelState::Active),
            label("se-5", LabelState::Active),
        ];
        assert_eq!(joined(&labels_to_fail(&progress)), "se-2 and se-4");
    }
}
