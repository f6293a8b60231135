//! The real binary, and a real kill -9 (contract 9.2).

use std::collections::BTreeSet;

use trackpost::sandbox::ledger::Follows;
use trackpost::sandbox::{Answer, Carrier, JourneyKind, SandboxOptions};

use crate::harness::child::{Site, until};
use crate::harness::connect;

const PARCELS: usize = 24;

/// Parcels that travel days in seconds and are all delivered in the end.
async fn busy_site() -> Site {
    let site = Site::new(SandboxOptions { time_factor: 86_400.0, ..Default::default() }).await;
    let ids: Vec<String> = (0..PARCELS).map(|n| format!("se-{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let journey =
            [JourneyKind::Delivered, JourneyKind::ExceptionThenDelivered, JourneyKind::Revised][n % 3];
        let carrier = [Carrier::Ups, Carrier::Fedex, Carrier::Usps][n / 3 % 3];
        site.sandbox.create_on(&id.parse().unwrap(), journey, carrier);
    }
    site.write("trackpost.toml", &site.configuration(&format!("{ids:?}"), ""));
    site
}

/// Returns the number of parcels that the receiver knows to be delivered.
fn delivered(site: &Site) -> usize {
    let callbacks = site.receiver.callbacks().into_iter().filter(|callback| {
        callback.kind.as_deref() == Some("tracking.delivered") && callback.answered == Some(200)
    });
    callbacks.filter_map(|callback| callback.label_id).collect::<BTreeSet<_>>().len()
}

/// Waits until all parcels are delivered, stops the daemon, and compares the receiver with the database.
async fn check_nothing_lost(site: &Site, daemon: crate::harness::child::Daemon) {
    let arrived = until(|| delivered(site) == PARCELS).await;
    assert!(arrived.is_ok(), "{} of {PARCELS} arrived:\n{}", delivered(site), daemon.log());
    daemon.stop().await;
    site.run_until_delivered().await;
    site.inspect();

    site.check_received(&[("orders", Follows::Events)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_repeatedly_it_continues_and_loses_nothing() {
    let site = busy_site().await;
    let mut daemon = site.start();
    for callbacks in [1, 20, 45, 80, 120] {
        site.received(|counts| counts.received >= callbacks).await;
        daemon.kill();
        daemon = site.start();
    }
    check_nothing_lost(&site, daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_kill_every_message_arrives_exactly_once() {
    let site = busy_site().await;
    // The result is the same with a failing receiver.
    let count = std::sync::atomic::AtomicUsize::new(0);
    site.receiver.answer_by(move |_| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (nth % 10 == 3).then(|| Answer::status(500))
    });
    let text =
        site.configuration(&format!("{:?}", (0..PARCELS).map(|n| format!("se-{n}")).collect::<Vec<_>>()), "");
    site.write(
        "trackpost.toml",
        &text.replace(
            "events = [\"*\"]",
            "events = [\"*\"]\nretry = [\"100ms\", \"200ms\", \"300ms\", \"400ms\", \"500ms\", \"1s\"]",
        ),
    );
    let daemon = site.start();
    check_nothing_lost(&site, daemon).await;
    assert_eq!(site.receiver.counts().repeated, 0);
}

impl Site {
    /// Runs a daemon until all deliveries are delivered, also without due polls.
    async fn run_until_delivered(&self) {
        let daemon = self.start();
        let mut connection = connect(&self.database()).await;
        for _ in 0..6_000 {
            let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE state = 'pending'")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            if pending == 0 {
                return daemon.stop().await;
            }
            trackpost::clock::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("deliveries stay pending:\n{}", daemon.log());
    }
}
