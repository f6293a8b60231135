//! The trouble of the demo: 429 and 500 from the API, an operator who asks again, 500 from the receiver.

use std::time::Duration;

use super::super::Failure;
use super::stage::Stage;
use crate::clock;
use crate::domain::label::{LabelId, LabelKey, LabelState};
use crate::sandbox::{Answer, Fault, FaultKind};
use crate::store::progress::LabelProgress;

/// When each act begins, as a share of the travel.
const THROTTLED: f64 = 0.25;
const FAILING: f64 = 0.40;
const REFUSING: f64 = 0.60;

/// How long the API answers 429, unless nobody asks or many do; each answer says to wait a second.
const BURST: Duration = Duration::from_millis(400);
const BURST_AT_MOST: Duration = Duration::from_secs(3);
const BURST_ANSWERS: u64 = 4;
/// How many labels get a 500.
const FAILED_LABELS: usize = 2;
/// How long the operator takes to notice.
const OPERATOR: Duration = Duration::from_millis(1_200);
/// How many callbacks in a row are refused: too few for the subscriber to count as down.
const REFUSED_CALLBACKS: usize = 4;

#[derive(Clone, Debug)]
enum Act {
    Calm,
    Throttling { since: Duration },
    Throttled,
    Failing { labels: Vec<LabelId>, since: Duration },
    AskedAgain,
    Refusing,
    Over,
}

/// Makes trouble when its time has come.
#[derive(Debug)]
pub struct Trouble {
    act: Act,
}

impl Trouble {
    pub fn new() -> Self {
        Self { act: Act::Calm }
    }

    /// Goes on with the acts, `passed` after the parcels set out and with so many callbacks `refused`. Returns the line that tells of a new one.
    pub async fn step(
        &mut self,
        stage: &Stage,
        progress: &[LabelProgress],
        refused: usize,
        passed: Duration,
    ) -> Result<Option<String>, Failure> {
        let share = passed.as_secs_f64() / stage.plan.travel.as_secs_f64();
        let (act, told) = match &self.act {
            Act::Calm if share >= THROTTLED => {
                stage.sandbox.set_faults(vec![Fault::new(FaultKind::Fail(429), 1.0)]);
                (
                    Act::Throttling { since: passed },
                    "the API answers 429: the account waits for Retry-After".to_owned(),
                )
            }
            Act::Throttling { since } => {
                let answered = stage.sandbox.counters().answered(429);
                let lasted = passed.saturating_sub(*since);
                // A pause between two polls must not swallow the whole burst.
                let seen = answered >= BURST_ANSWERS || (answered > 0 && lasted >= BURST);
                if !seen && lasted < BURST_AT_MOST {
                    return Ok(None);
                }
                stage.sandbox.set_faults(Vec::new());
                (Act::Throttled, format!("the API accepts requests again ({answered} × 429)"))
            }
            Act::Throttled if share >= FAILING => {
                let labels = victims(progress);
                for label in &labels {
                    let server_error = Answer::status(500).header("content-type", "text/plain");
                    stage.sandbox.script_once(label.as_str(), server_error);
                }
                let told = format!("the API answers 500 about {}", listed(&labels));
                (Act::Failing { labels, since: passed }, told)
            }
            Act::Failing { labels, since } => {
                let failed = |label: &LabelId| {
                    progress.iter().any(|now| now.label_id == label.as_str() && now.failures > 0)
                };
                if !labels.iter().all(failed) || passed.saturating_sub(*since) < OPERATOR {
                    return Ok(None);
                }
                for label in labels {
                    let key = LabelKey { account: stage.account.clone(), id: label.clone() };
                    stage.store.poll_now(&key, clock::now()).await?;
                }
                let ids: Vec<&str> = labels.iter().map(LabelId::as_str).collect();
                let told = format!("an operator polls at once: trackpost labels poll {}", ids.join(" "));
                (Act::AskedAgain, told)
            }
            Act::AskedAgain if share >= REFUSING => {
                stage.receiver.answer_next((0..REFUSED_CALLBACKS).map(|_| Answer::status(500)));
                let told = "the receiver answers 500: the callbacks are repeated";
                (Act::Refusing, told.to_owned())
            }
            Act::Refusing if refused >= REFUSED_CALLBACKS => {
                (Act::Over, format!("the receiver accepts again ({refused} × 500)"))
            }
            _ => return Ok(None),
        };
        self.act = act;
        Ok(Some(told))
    }

    /// Whether all acts have begun; in the last one there may be too few callbacks left to be refused.
    pub fn is_over(&self) -> bool {
        matches!(self.act, Act::Refusing | Act::Over)
    }
}

/// Those on their way that have the longest way to go.
fn victims(progress: &[LabelProgress]) -> Vec<LabelId> {
    let on_their_way =
        progress.iter().filter(|label| label.state == LabelState::Active && label.failures == 0);
    on_their_way.filter_map(|label| label.label_id.parse().ok()).take(FAILED_LABELS).collect()
}

fn listed(labels: &[LabelId]) -> String {
    labels.iter().map(LabelId::as_str).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parcels_in_transit_get_faults() {
        let label =
            |id: &str, state| LabelProgress { label_id: id.to_owned(), state, goes_on: true, failures: 0 };
        let progress = [
            label("se-1", LabelState::Finished),
            label("se-2", LabelState::Active),
            LabelProgress { failures: 1, ..label("se-3", LabelState::Active) },
            label("se-4", LabelState::Active),
            label("se-5", LabelState::Active),
        ];
        assert_eq!(listed(&victims(&progress)), "se-2 and se-4");
    }
}
