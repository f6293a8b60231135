//! Learned rates change the time of polls, within the rows that allow it and also after a restart.

use trackpost::domain::label::{AccountName, LabelKey};
use trackpost::domain::polling::cadence::RowName;
use trackpost::domain::tracking::StatusCode;

use crate::harness::parcel::{event, tracking};
use crate::harness::{Harness, ORDERS, about, hours};

const PARCELS: usize = 20;

fn labels() -> Vec<String> {
    (1..=PARCELS).map(|n| format!("se-{n}")).collect()
}

/// Each parcel has a scan every eleven hours and is polled every hour.
async fn poll_hourly(harness: &mut Harness, scans: u32) {
    let labels = labels();
    for scan in 0..scans {
        let events: Vec<String> = (0..=scan).rev().map(|n| event(n, "IT", "AR")).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        for label in &labels {
            harness.says(label, &tracking("IT", &events));
        }
        for _ in 0..11 {
            for label in &labels {
                harness.poll_again(label).await;
            }
            harness.pass(hours(1));
        }
    }
}

async fn after_learning(configuration: &str) -> Harness {
    let mut harness = Harness::with(&format!("{ORDERS}{configuration}")).await;
    harness.register(&labels().iter().map(String::as_str).collect::<Vec<_>>()).await;
    poll_hourly(&mut harness, 9).await;
    harness.restart().await;
    harness
}

/// Returns the wait after a change in hours.
async fn wait_after_change(harness: &mut Harness) -> f64 {
    harness.says("se-1", &tracking("IT", &[&event(99, "IT", "AR"), &event(0, "IT", "AR")]));
    harness.poll_again("se-1").await;
    harness.wait_of("se-1").await / 3_600.0
}

#[tokio::test]
async fn learned_rates_defer_polls_of_parcels_that_change_every_eleven_hours() {
    let mut harness = after_learning("").await;
    let (rates, saved_at) = harness.store().learned_rates().await.unwrap();
    assert_eq!(saved_at, Some(harness.now()));
    let state = RowName::Status(StatusCode::InTransit);
    let (kind, tally) = rates.best(Some("ups"), None, state).unwrap();
    assert_eq!(&*kind.carrier, "", "fewer than 200 changes use the rates of all carriers");
    assert!(tally.changes() > 100.0, "{}", tally.changes());
    let wait = wait_after_change(&mut harness).await;
    assert!(wait > 4.5, "{wait} h instead of the 3 of the table");
}

#[tokio::test]
async fn a_configured_cadence_row_is_not_changed_by_learned_rates() {
    let mut harness = after_learning("[cadence.IT]\nintervals = [\"3h\", \"4h\"]\n").await;
    let wait = wait_after_change(&mut harness).await;
    assert!(about(wait, 3.0, 0.08), "{wait} h");
}

#[tokio::test]
async fn time_without_polls_changes_no_rates() {
    let mut harness = Harness::new().await;
    let key = LabelKey { account: AccountName::new("main"), id: "se-1".parse().unwrap() };
    harness.says("se-1", &tracking("IT", &[&event(0, "IT", "AR")]));
    for _ in 0..2 {
        harness.register(&["se-1"]).await;
        harness.poll().await;
        harness.store().remove_by_hand(&key, harness.now()).await.unwrap();
        harness.pass(hours(40));
    }
    harness.restart().await;
    assert_eq!(harness.store().learned_rates().await.unwrap().0.iter().count(), 0);
}
