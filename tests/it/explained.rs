//! `deliveries show` prints the history of a delivery: attempts, stages reached, the next attempt and its reason.

use serde_json::Value;
use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::{Site, until};
use crate::harness::parcel::in_transit;

/// Returns the deliveries of the label to `subscriber` by `seq`, from `show --json`.
fn shown(site: &Site, subscriber: &str) -> Vec<Value> {
    let (code, out, error) =
        site.run_command(&["deliveries", "list", "--subscriber", subscriber, "--label", "se-1", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let show = |line: &str| -> Value {
        let listed: Value = serde_json::from_str(line).unwrap();
        let id = listed["delivery_id"].as_str().unwrap().to_owned();
        let (code, out, error) = site.run_command(&["deliveries", "show", &id, "--json"]);
        assert_eq!(code, Some(0), "{error}");
        let shown: Value = serde_json::from_str(&out).unwrap();
        for (field, value) in listed.as_object().unwrap() {
            assert!(shown.get(field).is_some(), "{field}: {value} is missing in {shown}");
        }
        shown
    };
    out.lines().map(show).collect()
}

fn text(site: &Site, delivery: &Value) -> String {
    let (code, out, error) =
        site.run_command(&["deliveries", "show", delivery["delivery_id"].as_str().unwrap()]);
    assert_eq!(code, Some(0), "{error}");
    out
}

#[tokio::test]
async fn show_prints_every_attempt_and_the_next_one() {
    let site = Site::new(SandboxOptions::default()).await;
    let down = "[subscribers.down]\nurl = \"http://127.0.0.1:9/\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
                format = \"standard\"\nevents = [\"tracking.updated\"]\n";
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", down));
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    // Not the next callback, which may be the system message about `down`.
    site.receiver.answer_by(|callback| {
        let first = callback.kind.as_deref() == Some("tracking.event.added") && callback.attempt == Some(1);
        first.then(|| Answer::status(500).header("retry-after", "3600"))
    });
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    let attempted = || {
        let (orders, down) = (shown(&site, "orders"), shown(&site, "down"));
        [orders, down].iter().all(|of| of.first().is_some_and(|first| first["attempts"] == 1))
    };
    until(attempted).await.unwrap();

    let orders = shown(&site, "orders");
    assert_eq!(orders.len(), 3);
    let (first, last) = (&orders[0], &orders[2]);
    assert_eq!(first["next"]["reason_codes"], serde_json::json!(["retry_after"]));
    assert_eq!(first["next"]["at"], first["next_attempt_at"]);
    assert_eq!(first["log"][0]["reached"], "answered");
    assert_eq!(first["log"][0]["retry_after_effect"], "honoured");
    let printed = text(&site, first);
    for line in [
        "retry after: 1h: honoured",
        "ended:       with an answer",
        "Retry-After of the receiver: this message waits until",
    ] {
        assert!(printed.contains(line), "{line} is missing in:\n{printed}");
    }
    assert_eq!(last["next"]["reason_codes"], serde_json::json!(["behind"]));
    assert_eq!(last["next"]["at"], Value::Null);
    assert_eq!(last["next"]["behind"]["message_id"], first["message_id"]);
    assert_eq!(last["next"]["behind"]["before"], 2);
    let printed = text(&site, last);
    let waits = format!("- waits for {} (", first["delivery_id"].as_str().unwrap());
    assert!(
        printed.contains(&waits) && printed.contains("the first of 2), which is next attempted at"),
        "{printed}"
    );
    assert!(printed.contains(" not scheduled"), "{printed}");

    let unreached = &shown(&site, "down")[0];
    assert_eq!(unreached["log"][0]["reached"], "connecting");
    let codes = unreached["next"]["reason_codes"].as_array().unwrap();
    assert!(codes.contains(&"probed".into()), "{unreached}");
    assert!(text(&site, unreached).contains("down is failing since"), "{unreached}");

    // A retry by hand is due at once, and the others follow.
    let id = first["delivery_id"].as_str().unwrap();
    assert_eq!(site.run_command(&["deliveries", "retry", id]).0, Some(0));
    let done = || shown(&site, "orders").iter().all(|delivery| delivery["state"] == "delivered");
    until(done).await.unwrap();
    daemon.stop().await;
    let first = &shown(&site, "orders")[0];
    assert_eq!(first["next"]["reason_codes"], serde_json::json!(["delivered"]));
    assert_eq!(first["log"][0]["retry_after_effect"], "overruled");
    assert_eq!(first["log"][1]["reached"], "answered");

    // A retry by hand while the subscriber is paused and no daemon runs.
    assert_eq!(site.run_command(&["subscribers", "pause", "orders"]).0, Some(0));
    let (code, printed, note) = site.run_command(&["deliveries", "retry", id]);
    assert!(code == Some(0) && printed.contains("queued again; orders is paused since"), "{printed}");
    assert!(note.contains("no daemon runs on this database"), "{note}");
    let (_, printed, _) =
        site.run_command(&["deliveries", "retry", unreached["delivery_id"].as_str().unwrap()]);
    assert!(printed.contains("; down is failing since"), "{printed}");
    let first = &shown(&site, "orders")[0];
    assert_eq!(first["next"]["reason_codes"], serde_json::json!(["paused"]));
    assert!(first["queued_again_at"].is_string());
    let (code, _, failed) = site.run_command(&["deliveries", "list", "--subscriber", "ordrs"]);
    assert!(
        code == Some(1) && failed.contains("unknown subscriber ordrs") && failed.contains("orders"),
        "{failed}"
    );
    let printed = text(&site, first);
    assert!(printed.contains("(by hand) until trackpost subscribers resume orders"), "{printed}");
    assert_eq!(site.run_command(&["subscribers", "resume", "orders"]).0, Some(0));
    let first = &shown(&site, "orders")[0];
    assert_eq!(first["next"]["reason_codes"], serde_json::json!(["due", "queued_again", "draining"]));

    let off = site.configuration("[]", "").replace("events = [\"*\"]", "events = [\"*\"]\nenabled = false");
    site.write("trackpost.toml", &off);
    assert_eq!(shown(&site, "orders")[0]["next"]["reason_codes"], serde_json::json!(["disabled"]));
    assert_eq!(shown(&site, "down")[0]["next"]["reason_codes"], serde_json::json!(["no_subscriber"]));
    site.inspect();
}
