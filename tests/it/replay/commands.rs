//! The commands `replay` and `deliveries retry`: their output and their deliveries.

use trackpost::sandbox::{Answer, ReceivedCallback, SandboxOptions};

use super::PENDING;
use crate::harness::child::{Site, until};
use crate::harness::parcel::{event, tracking};
use crate::harness::{SECRET, connect};

/// A site whose daemon has sent the messages of one delivered parcel to `orders` and was stopped.
async fn site_with_deliveries() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox
        .script("se-1", Answer::json(200, tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")])));
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 1).await;
    let arrived = until(|| {
        let last = site.receiver.callbacks();
        last.iter().any(|callback| callback.kind.as_deref() == Some("tracking.updated"))
    });
    arrived.await.unwrap();
    daemon.stop().await;
    site
}

#[tokio::test]
async fn a_dry_run_prints_the_replay_and_the_replay_does_it() {
    let site = site_with_deliveries().await;
    let before = site.receiver.callbacks();
    let count = before.len();
    let (code, out, error) = site.run_command(&["replay", "--subscriber", "orders", "--dry-run"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("{count} messages would be sent again to orders")), "{out}");
    assert!(
        out.contains("nothing was queued") && out.contains("first:") && out.contains(" of se-1"),
        "{out}"
    );
    let (_, out, _) = site.run_command(&["replay", "--subscriber", "orders", "--until", "1h"]);
    assert!(out.contains("nothing to send again"), "{out}");
    let (_, out, _) =
        site.run_command(&["replay", "--subscriber", "orders", "--state", "dead", "--label", "se-1"]);
    assert!(out.contains("nothing to send again"), "{out}");
    let mut connection = connect(&site.database()).await;
    let pending: i64 = sqlx::query_scalar(PENDING).fetch_one(&mut connection).await.unwrap();
    assert_eq!(pending, 0);

    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    let (code, out, _) =
        site.run_command(&["replay", "--subscriber", "orders", "--since", "1h", "--rate", "1000"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with(&format!("{count} messages queued for orders ({count} delivered before)")),
        "{out}"
    );
    site.received(|counts| counts.repeated == count).await;
    let (code, out, _) =
        site.run_command(&["deliveries", "retry", "dlv_1", before[1].message_id.as_deref().unwrap()]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(out.matches("is queued again").count(), 2, "{out}");
    site.received(|counts| counts.repeated == count + 2).await;
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn a_new_subscriber_gets_stored_messages_by_replay() {
    let site = site_with_deliveries().await;
    let late = |name: &str, rest: &str| {
        let url = site.receiver_url();
        format!("[subscribers.{name}]\nurl = \"{url}{name}\"\nsecret = \"{SECRET}\"\n{rest}\n")
    };
    let more = late("shop", "") + &late("few", "format = \"standard\"\nevents = [\"tracking.delivered\"]");
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", &more));
    for name in ["shop", "few"] {
        let (code, out, error) = site.run_command(&["replay", "--subscriber", name]);
        assert_eq!(code, Some(0), "{error}");
        assert!(out.starts_with(&format!("1 message queued for {name} (1 never queued for it)")), "{out}");
        let (_, out, _) = site.run_command(&["replay", "--subscriber", name]);
        assert!(
            out.contains("nothing to send again") && out.contains("queued already"),
            "pending deliveries are not queued twice: {out}"
        );
    }
    let count = site.receiver.callbacks().len();
    let daemon = site.start();
    site.received(|counts| counts.received == count + 2).await;
    daemon.stop().await;
    let all = site.receiver.callbacks();
    let of = |path: &str| all.iter().filter(|callback| callback.path == path).collect::<Vec<_>>();
    let updated = |callback: &ReceivedCallback| callback.kind.as_deref() == Some("tracking.updated");
    let arrived = of("/orders").into_iter().find(|callback| updated(callback)).unwrap();
    assert_eq!(of("/shop")[0].message_id, arrived.message_id);
    assert_eq!(of("/few")[0].kind.as_deref(), Some("tracking.delivered"));
    site.inspect();
}

#[tokio::test]
async fn invalid_arguments_are_reported() {
    let site = site_with_deliveries().await;
    for (arguments, expected) in [
        (&["replay", "--subscriber", "ordrs"][..], "unknown subscriber ordrs\nhint: did you mean orders?"),
        (&["replay", "--subscriber", "orders", "--label", "se-9"], "se-9 is not registered"),
        (&["deliveries", "retry", "dlv_999"], "unknown delivery or message dlv_999"),
        (&["deliveries", "retry", "msg_x"], "unknown delivery or message msg_x"),
    ] {
        let (code, out, error) = site.run_command(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    for (arguments, expected) in [
        (&["replay"][..], "--subscriber <NAME>"),
        (
            &["replay", "--subscriber", "orders", "--since", "1h", "--until", "2h"],
            "--since must be before --until",
        ),
        (&["replay", "--subscriber", "orders", "--state", "lost"], "possible values"),
        (
            &["replay", "--subscriber", "orders", "--since", "the day before"],
            "'the day before' for '--since <WHEN>'",
        ),
        (&["replay", "--subscriber", "orders", "--until", "soon"], "'soon' for '--until <WHEN>'"),
        (&["deliveries", "list", "--since", "nope"], "'nope' for '--since <WHEN>'"),
    ] {
        let (code, _, error) = site.run_command(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    let off = site.configuration("[]", "").replace("events = [\"*\"]", "events = [\"*\"]\nenabled = false");
    site.write("trackpost.toml", &off);
    let (code, _, error) = site.run_command(&["deliveries", "retry", "dlv_1"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("orders is disabled"), "{error}");
}
