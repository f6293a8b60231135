//! Allowed and refused addresses of callbacks (contract 7.7).

use trackpost::domain::account::Account;
use trackpost::domain::tracking::reading::Reading;
use trackpost::shipstation::{self, Client};

use crate::harness::parcel::in_transit;
use crate::harness::peer::closed_port;
use crate::harness::{Harness, ORDERS};

/// A harness after one attempt of a callback to `url`. `more`: additional configuration of the subscriber.
async fn posting_to(url: &str, more: &str) -> Harness {
    let orders = ORDERS.replace("HOOK/orders", url).replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut harness = Harness::with(&format!("{orders}timeout = \"2s\"\n{more}\n")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    harness
}

#[tokio::test]
async fn metadata_and_link_local_addresses_are_refused_at_every_attempt() {
    for (url, expected) in [
        (
            "http://169.254.169.254/latest/meta-data/",
            "169.254.169.254 is a cloud metadata address, which is never allowed (rule: link-local)",
        ),
        (
            "http://[::ffff:169.254.169.254]/",
            "::ffff:169.254.169.254 is 169.254.169.254, a cloud metadata address, which is never allowed (rule: link-local)",
        ),
        ("https://[fe80::1]/", "fe80::1 is a link-local address, which is never allowed (rule: link-local)"),
        (
            "http://0.0.0.0:1/",
            "0.0.0.0 is an unspecified address, which is never allowed (rule: unspecified)",
        ),
    ] {
        let mut harness = posting_to(url, "allow_insecure = true").await;
        assert_eq!(harness.attempts().await, [("address".to_owned(), expected.to_owned())], "{url}");
        harness.pass(crate::harness::hours(1));
        harness.deliver_once("orders").await;
        let refused = harness.attempts().await.iter().filter(|(outcome, _)| outcome == "address").count();
        assert_eq!(refused, 2, "{url}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_allowed() {
    let (closed, _reserved) = closed_port();
    let harness = posting_to(&format!("http://localhost:{}/", closed.port()), "").await;
    assert_eq!(harness.attempts().await[0].0, "refused", "the connection was attempted");
}

/// The API key goes with each request.
#[tokio::test]
async fn the_api_is_not_polled_over_plain_http_at_a_public_address() {
    let harness = Harness::new().await;
    let poll = async |base_url: &str, allow_insecure| {
        let timeout = std::time::Duration::from_millis(300);
        let base_url = base_url.to_owned();
        let account = Account { base_url, allow_insecure, timeout, ..harness.account.clone() };
        let client = Client::new(&shipstation::tls().unwrap(), &account).unwrap();
        client.read(&account, &"se-1".parse().unwrap(), None, harness.now()).await
    };
    // Config refuses such an address; a name may resolve to one.
    let public = "http://203.0.113.1:1";
    let reading = poll(public, false).await;
    let detail = reading.detail().unwrap();
    assert!(matches!(reading, Reading::WrongEndpoint { status: None, .. }), "{reading:?}");
    assert!(detail.contains("plain http needs allow_insecure = true"), "{detail}");
    let reading = poll(public, true).await;
    assert!(!matches!(reading, Reading::WrongEndpoint { .. }), "{reading:?}");
    let reading = poll(&harness.account.base_url, false).await;
    assert!(!matches!(reading, Reading::WrongEndpoint { .. }), "{reading:?}");
}
