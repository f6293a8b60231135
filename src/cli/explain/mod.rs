//! `trackpost explain`: why a label's next poll is when it is, and what its last polls said.

mod why;

use std::path::Path;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::args::OfLabel;
use super::outlook::Outlooks;
use super::output::{self, instant, or_dash, roughly, shown};
use super::{Failure, open_store, resolve};
use crate::clock;
use crate::config::duration;
use crate::domain::account::{AccountState, Standing};
use crate::domain::cadence::{Cadence, Look, Next};
use crate::domain::outlook::Outlook;
use crate::domain::poll::Glance;
use crate::domain::rhythm::Learnt;
use crate::store::views::labels::{LabelDetail, LabelView};
use crate::store::{Store, StoreError};

/// As `--json` has it.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    label_id: &'a str,
    account: &'a str,
    state: &'a str,
    next_poll_at: Option<String>,
    row: Option<&'a str>,
    interval: Option<String>,
    stretch: f64,
    reasons: Vec<String>,
    recent: Vec<Recent<'a>>,
}

#[derive(Debug, Serialize)]
struct Recent<'a> {
    at: Option<String>,
    outcome: &'a str,
    status: Option<u16>,
    detail: Option<&'a str>,
    changes: usize,
}

/// All that is looked at.
struct Facts<'a> {
    label: &'a LabelView,
    detail: &'a LabelDetail,
    account: &'a AccountState,
    /// What the cadence says once more, as of the last look; `None` if it is not the cadence's.
    next: Option<&'a Next>,
    /// When the next poll is to be expected.
    expected: Option<Timestamp>,
    /// How the account stands with its quota; `None` if it isn't configured.
    outlook: Option<&'a Outlook>,
    /// Until when the labels of its carrier wait.
    held_until: Option<Timestamp>,
    now: Timestamp,
}

pub async fn run(path: &Path, what: &OfLabel) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store(path).await?;
    let (label, key) = resolve::label(&store, &loaded.config, &what.id, what.account.as_deref()).await?;
    let Some((view, detail)) = store.label_detail(label.row).await? else {
        return Err(Failure::new(format!("{} is not registered any more", key.id)));
    };
    let now = clock::now();
    let account = store.account_state(&key.account, now).await?;
    let outlooks = Outlooks::of(&store, &loaded.config, now).await?;
    let outlook = outlooks.get(&view.account);
    let held = store.quota_used(&key.account, now).await?.held;
    let held = held.into_iter().find(|(carrier, _)| Some(carrier) == detail.carrier_code.as_ref());
    let held_until = held.map(|(_, until)| until);
    let next = planned(&loaded.config.cadence, &store, label.row, &view, &detail).await?;
    let expected = outlooks.foretell(view.clone()).next_poll_at.map(|at| at.max(held_until.unwrap_or(at)));
    let facts = Facts {
        label: &view,
        detail: &detail,
        account: &account,
        next: next.as_ref(),
        expected,
        outlook,
        held_until,
        now,
    };
    let explanation = Explanation {
        label_id: &view.label_id,
        account: &view.account,
        state: &view.state,
        next_poll_at: expected.map(instant),
        row: detail.cadence_row.as_deref(),
        interval: detail.interval.map(duration::format),
        stretch: outlook.map_or(1.0, |outlook| (outlook.stretch * 1000.0).round() / 1000.0),
        reasons: reasons(&facts),
        recent: detail.recent_polls.iter().map(Recent::of).collect(),
    };
    if what.listing.json {
        output::json_lines(&[explanation])?;
    } else {
        print(&facts, &explanation);
    }
    Ok(ExitCode::SUCCESS)
}

/// The next look as the cadence planned it at the last one, with what is known of the carriers by now.
async fn planned(
    cadence: &Cadence,
    store: &Store,
    row: i64,
    label: &LabelView,
    detail: &LabelDetail,
) -> Result<Option<Next>, StoreError> {
    let Some(polled_at) = label.last_polled_at.filter(|_| detail.cadence_row.is_some()) else {
        return Ok(None);
    };
    let Some(snapshot) = store.due_labels(&[row], Timestamp::MAX).await?.pop() else { return Ok(None) };
    let (rhythms, _) = store.rhythms().await?;
    let learnt = Learnt {
        rhythms: Some(&rhythms),
        carrier: detail.carrier_code.as_deref(),
        service: snapshot.service(),
    };
    let first = detail.first_answer_at == Some(polled_at);
    let situation = snapshot.standing.situation(&snapshot.key, snapshot.registered_at, first);
    match cadence.next(&situation, learnt, polled_at, 0.0) {
        Look::Again(next) => Ok(Some(next)),
        Look::Never | Look::GiveUp => Ok(None),
    }
}

impl<'a> Recent<'a> {
    fn of(glance: &'a Glance) -> Self {
        Self {
            at: Timestamp::from_millisecond(glance.at).ok().map(instant),
            outcome: &glance.outcome,
            status: glance.status,
            detail: glance.detail.as_deref(),
            changes: glance.changes,
        }
    }
}

fn print(facts: &Facts<'_>, explanation: &Explanation<'_>) {
    let next = match facts.expected {
        Some(at) if at > facts.now => {
            format!("{} (in {})", instant(at), roughly(at.duration_since(facts.now)))
        }
        Some(at) => format!("{} (due)", instant(at)),
        None => "never".to_owned(),
    };
    output::block(&[
        ("label", Some(format!("{} ({})", facts.label.label_id, facts.label.account))),
        ("state", Some(facts.label.state.clone())),
        ("next poll", Some(next)),
        ("row", explanation.row.map(str::to_owned)),
        ("interval", explanation.interval.clone()),
        ("stretch", Some(format!("{:.2}", explanation.stretch)).filter(|_| explanation.stretch.is_finite())),
    ]);
    for reason in &explanation.reasons {
        output::line(format!("- {}", output::plain(reason)));
    }
    if explanation.recent.is_empty() {
        return;
    }
    output::line("");
    let rows: Vec<_> = explanation
        .recent
        .iter()
        .map(|poll| {
            [
                or_dash(poll.at.as_deref()),
                poll.outcome.to_owned(),
                poll.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
                poll.changes.to_string(),
                poll.detail.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    output::table(["POLLED AT", "SAID", "STATUS", "MESSAGES", "DETAIL"], &rows);
}

/// Why, in sentences; the most telling first.
fn reasons(facts: &Facts<'_>) -> Vec<String> {
    let mut reasons = vec![of_state(facts)];
    let Some((planned, next)) = facts.label.next_poll_at.zip(facts.expected) else { return reasons };
    reasons.extend(facts.next.map(why::in_words).unwrap_or_default());
    reasons.extend(of_account(facts));
    let overdue = facts.now.duration_since(next);
    if overdue >= SignedDuration::from_mins(1) {
        let since = roughly(overdue);
        reasons
            .push(format!("it is due for {since} already: other labels have their turn, or no daemon runs"));
    } else if overdue >= SignedDuration::ZERO {
        reasons.push("it is due: it is polled as soon as the quota allows".to_owned());
    } else if next > planned {
        reasons.push(format!("planned was {}: it is expected later by what is said above", instant(planned)));
    }
    reasons
}

fn of_state(facts: &Facts<'_>) -> String {
    let (label, detail) = (facts.label, facts.detail);
    let status = label.status_code.as_deref().unwrap_or("none");
    match label.state.as_str() {
        "removed" => "removed: nobody asks for it any more; its history stays".to_owned(),
        "expired" => {
            let quiet = facts.now.duration_since(label.last_changed_at.unwrap_or(label.registered_at));
            format!("expired: nothing changed for {}, so it was given up", roughly(quiet))
        }
        "finished" => {
            let further = if label.next_poll_at.is_some() { "one further look" } else { "no further look" };
            format!("finished with status {status} at {}: {further} is planned", shown(detail.finished_at))
        }
        _ if detail.refusals > 0 => format!(
            "refused by the API, {} in a row since {}: asked again after 1h, 6h, 24h …, and unavailable after 5 \
             over at least 72h",
            detail.refusals,
            shown(detail.refused_since)
        ),
        "unavailable" => "unavailable: the API refused it too often, over too long".to_owned(),
        _ if detail.failures > 0 => format!(
            "failed, {} in a row since {}: backs off from 1m to 1h",
            detail.failures,
            shown(detail.failing_since)
        ),
        _ if detail.first_answer_at.is_none() => {
            "never answered yet: a new label is looked at as soon as the quota allows".to_owned()
        }
        _ => step(facts),
    }
}

/// Which step of which row, and how long it has been quiet.
fn step(facts: &Facts<'_>) -> String {
    let (label, detail) = (facts.label, facts.detail);
    let quiet = facts.now.duration_since(label.last_changed_at.unwrap_or(label.registered_at));
    let so = match (&detail.cadence_row, detail.interval) {
        (Some(row), Some(interval)) => {
            format!(
                "row {row}: looked at after {} (±8 %, and to the row's hours)",
                duration::format(interval)
            )
        }
        _ => "as soon as the quota allows".to_owned(),
    };
    let answers = match label.unchanged {
        0 => "the last answer brought a change".to_owned(),
        1 => "one unchanged answer".to_owned(),
        many => format!("{many} unchanged answers in a row"),
    };
    let status = label.status_code.as_deref().unwrap_or("none");
    let out = if detail.out_for_delivery { ", out for delivery" } else { "" };
    format!("status {status}{out}, {answers}, quiet for {}: {so}", roughly(quiet))
}

fn of_account(facts: &Facts<'_>) -> Vec<String> {
    let (name, account) = (&facts.label.account, facts.account);
    let mut reasons = Vec::new();
    if account.standing != Standing::Ok {
        let said = account.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        reasons.push(format!(
            "account {name} is {} since {}{said}: none of its labels is polled but one probe, the next at {}",
            account.standing.as_str(),
            shown(Some(account.since)),
            shown(account.probe_at)
        ));
    }
    if let Some(until) = account.throttled_until.filter(|until| *until > facts.now) {
        reasons.push(format!("account {name} was throttled: it waits until {}", shown(Some(until))));
    }
    if let Some((until, carrier)) = facts.held_until.zip(facts.detail.carrier_code.as_deref()) {
        reasons
            .push(format!("carrier {carrier} is asked too often: its labels wait until {}", instant(until)));
    }
    match facts.outlook {
        Some(outlook) => reasons.extend(of_quota(name, outlook)),
        None => {
            reasons.push(format!("account {name} is not in the configuration: none of its labels is polled"))
        }
    }
    reasons
}

fn of_quota(name: &str, outlook: &Outlook) -> Vec<String> {
    let mut reasons = Vec::new();
    let limit = outlook.limits.requests_per_minute;
    if outlook.share < 1.0 {
        let percent = outlook.share * 100.0;
        reasons.push(format!(
            "429 came again though account {name} kept within its limit, so somebody else uses it too: it takes \
             {percent:.0} % of {limit} requests a minute for now, and slowly more"
        ));
    }
    let (budget, used) = (outlook.limits.requests_per_month, outlook.used_this_month);
    if let Some(until) = outlook.used_up_until {
        let until = instant(until);
        reasons.push(format!(
            "account {name} has used up its {budget} requests of this month: no call until {until}"
        ));
        return reasons;
    }
    if budget > 0 {
        let until = instant(outlook.month_ends_at);
        reasons.push(format!(
            "account {name} has used {used} of {budget} requests of the month that ends {until}"
        ));
    }
    let (asked, allowed) = (outlook.demand * 60.0, outlook.allowed * 60.0);
    let allowed = if allowed.fract() < 0.005 { format!("{allowed:.0}") } else { format!("{allowed:.2}") };
    let stretched = match outlook.stretch {
        stretch if stretch > 1.0 => format!(": all their waits are stretched {stretch:.2} times"),
        _ => String::new(),
    };
    reasons.push(format!(
        "the labels of account {name} ask for {asked:.2} requests a minute of {allowed} allowed{stretched}"
    ));
    reasons
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::outlook::Limits;
    use crate::domain::share::Share;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn label(state: &str) -> LabelView {
        LabelView {
            row: 1,
            label_id: "se-1".to_owned(),
            account: "main".to_owned(),
            state: state.to_owned(),
            status_code: Some("IT".to_owned()),
            tracking_number: None,
            registered_at: at("2026-11-20T00:00:00Z"),
            last_polled_at: Some(at("2026-11-22T09:00:00Z")),
            last_changed_at: Some(at("2026-11-22T05:00:00Z")),
            next_poll_at: Some(at("2026-11-22T13:00:00Z")),
            pace: Some(Duration::from_secs(4 * 3600)),
            unchanged: 1,
            failures: 0,
            metadata: RawValue::NULL.to_owned(),
            source: "config".to_owned(),
        }
    }

    fn detail() -> LabelDetail {
        LabelDetail {
            carrier_code: None,
            status_description: None,
            estimate: None,
            out_for_delivery: false,
            first_answer_at: Some(at("2026-11-20T00:01:00Z")),
            finished_at: None,
            cadence_row: Some("IT".to_owned()),
            interval: Some(Duration::from_secs(4 * 3600)),
            failures: 0,
            failing_since: None,
            refusals: 0,
            refused_since: None,
            asked_by: vec!["config"],
            last_seq: 3,
            recent_polls: Vec::new(),
        }
    }

    fn said(label: &LabelView, detail: &LabelDetail, account: &AccountState) -> Vec<String> {
        said_of(label, detail, account, 0, 1.5)
    }

    fn said_of(
        label: &LabelView,
        detail: &LabelDetail,
        account: &AccountState,
        used_this_month: u64,
        asked: f64,
    ) -> Vec<String> {
        let now = at("2026-11-22T10:00:00Z");
        let requests_per_month = if used_this_month > 0 { 1_000 } else { 0 };
        let limits = Limits { requests_per_minute: 160, requests_per_month };
        let share = Share::default();
        let outlook = Outlook::new(limits, asked / 60.0, &share, used_this_month, account, now);
        let expected = label.next_poll_at.map(|due_at| outlook.expected_at(due_at, label.pace));
        let outlook = Some(&outlook);
        reasons(&Facts { label, detail, account, next: None, expected, outlook, held_until: None, now })
    }

    #[test]
    fn a_quota_that_binds_is_said_with_its_factor() {
        let account = AccountState::new(at("2026-11-20T00:00:00Z"));
        let stretched = said_of(&label("active"), &detail(), &account, 0, 240.0);
        assert_eq!(
            stretched[1..],
            [
                "the labels of account main ask for 240.00 requests a minute of 160 allowed: all their waits are \
                 stretched 1.50 times",
                "planned was 2026-11-22T13:00:00.000Z: it is expected later by what is said above",
            ]
        );
        let used_up = said_of(&label("active"), &detail(), &account, 1_000, 1.5);
        assert_eq!(
            used_up[1],
            "account main has used up its 1000 requests of this month: no call until 2026-12-01T00:00:00.000Z"
        );
    }

    #[test]
    fn row_step_and_quota() {
        let account = AccountState::new(at("2026-11-20T00:00:00Z"));
        assert_eq!(
            said(&label("active"), &detail(), &account),
            [
                "status IT, one unchanged answer, quiet for 5h: row IT: looked at after 4h (±8 %, and to the row's hours)",
                "the labels of account main ask for 1.50 requests a minute of 160 allowed",
            ]
        );
    }

    #[test]
    fn what_is_not_polled_says_so_in_one_sentence() {
        let account = AccountState::new(at("2026-11-20T00:00:00Z"));
        for (state, beginning) in
            [("removed", "removed: "), ("expired", "expired: "), ("finished", "finished with")]
        {
            let label = LabelView { next_poll_at: None, ..label(state) };
            let said = said(&label, &detail(), &account);
            assert_eq!(said.len(), 1);
            assert!(said[0].starts_with(beginning), "{said:?}");
        }
    }

    #[test]
    fn trouble_of_the_label_and_of_the_account() {
        let account = AccountState {
            standing: Standing::Unauthorized,
            probe_at: Some(at("2026-11-22T10:01:00Z")),
            throttled_until: Some(at("2026-11-22T10:00:30Z")),
            ..AccountState::new(at("2026-11-22T09:00:00Z"))
        };
        let failing =
            LabelDetail { failures: 3, failing_since: Some(at("2026-11-22T09:00:00Z")), ..detail() };
        let said = said(&label("active"), &failing, &account);
        assert!(said[0].starts_with("failed, 3 in a row since 2026-11-22T09:00:00Z"), "{said:?}");
        assert!(said[1].starts_with("account main is unauthorized since 2026-11-22T09:00:00Z"), "{said:?}");
        assert!(said[2].ends_with("waits until 2026-11-22T10:00:30Z"), "{said:?}");
    }
}
