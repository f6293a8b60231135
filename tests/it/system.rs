//! Order of system messages about one account or subscriber (contract 5.3).

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::parcel::in_transit;
use crate::harness::{API_KEY, Harness, ORDERS, seconds};

/// Returns type and answer of the system messages to a subscriber.
fn system_callbacks(harness: &Harness, subscriber: &str) -> Vec<(String, u16)> {
    let all = harness.callbacks(subscriber).into_iter();
    let system_callbacks = all.map(|callback| {
        assert_eq!((callback.seq, callback.label_id), (None, None), "it has no label");
        (callback.kind.unwrap(), callback.answered.unwrap())
    });
    system_callbacks.filter(|(kind, _)| kind.starts_with("system.")).collect()
}

fn pairs<'a>(of: &'a [(&'a str, u16)]) -> Vec<(String, u16)> {
    of.iter().map(|(kind, status)| ((*kind).to_owned(), *status)).collect()
}

#[tokio::test]
async fn recovered_is_never_sent_before_failing() {
    const FAILING: &str = "system.subscriber.failing";
    let watching = ORDERS.replace("orders", "watching").replace("[\"*\"]", "[\"system.*\"]");
    let orders = ORDERS.replace("[\"*\"]", "[\"tracking.*\"]");
    let mut harness = Harness::with(&(watching + &orders)).await;
    harness.receiver.answer_by(|_| Some(Answer::status(500)));
    let labels = ["se-1", "se-2", "se-3", "se-4", "se-5"];
    harness.register(&labels).await;
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    harness.deliver().await;
    assert_eq!(system_callbacks(&harness, "watching"), pairs(&[(FAILING, 500)]));
    // `orders` is ok again, but `watching` still refuses the message about it.
    harness.receiver.answer_by(|callback| (callback.path == "/watching").then(|| Answer::status(500)));
    harness.pass(seconds(6));
    harness.deliver().await;
    harness.deliver().await;
    assert_eq!(system_callbacks(&harness, "watching"), pairs(&[(FAILING, 500), (FAILING, 500)]));
    harness.receiver.answer_by(|_| None);
    harness.pass(seconds(400));
    harness.deliver().await;
    let received = system_callbacks(&harness, "watching");
    assert_eq!(received[2..], pairs(&[(FAILING, 200), ("system.subscriber.recovered", 200)]));
}

#[tokio::test]
async fn an_account_recovers_after_its_key_was_refused() {
    const REFUSED: &str = "system.account.unauthorized";
    let mut harness = Harness::with(&ORDERS.replace("[\"*\"]", "[\"system.account.*\"]")).await;
    harness.receiver.answer_always(Answer::status(500));
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.sandbox.set_api_keys(vec!["another".to_owned()]);
    harness.poll_and_deliver().await;
    harness.pass(seconds(6));
    harness.deliver().await;
    harness.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    harness.pass(seconds(60));
    harness.poll_and_deliver().await;
    assert_eq!(
        system_callbacks(&harness, "orders"),
        pairs(&[(REFUSED, 500), (REFUSED, 500)]),
        "the later message waits"
    );
    harness.receiver.answer_always(Answer::status(200));
    harness.pass(seconds(400));
    harness.deliver().await;
    assert_eq!(
        system_callbacks(&harness, "orders")[2..],
        pairs(&[(REFUSED, 200), ("system.account.recovered", 200)])
    );
}

#[tokio::test]
async fn a_replay_skips_old_pings_unless_their_state_is_selected() {
    let site = Site::new(SandboxOptions::default()).await;
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    assert!(site.try_command(&["subscribers", "ping", "orders"]).await.0);
    daemon.stop().await;
    let replay = ["replay", "--subscriber", "orders", "--dry-run"];
    let (_, printed, _) = site.run_command(&replay);
    assert!(printed.starts_with("no stored message matches"), "{printed}");
    let (_, printed, _) = site.run_command(&[&replay[..], &["--state", "delivered"]].concat());
    assert!(printed.starts_with("1 message would be sent again"), "{printed}");
}
