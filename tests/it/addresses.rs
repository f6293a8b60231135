//! Where callbacks go and where they don't (contract 7.7).

use crate::house::parcel::in_transit;
use crate::house::{House, ORDERS};

/// A house whose one callback goes to `url`, tried once; `more` is configuration of the subscriber.
async fn posting_to(url: &str, more: &str) -> House {
    let orders = ORDERS.replace("HOOK/orders", url).replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut house = House::with(&format!("{orders}timeout = \"2s\"\n{more}\n")).await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll().await;
    house.deliver_once("orders").await;
    house
}

#[tokio::test]
async fn metadata_and_link_local_addresses_are_refused_at_every_attempt() {
    for (url, expected) in [
        (
            "http://169.254.169.254/latest/meta-data/",
            "169.254.169.254 is a cloud metadata address: never sent to (rule: link-local)",
        ),
        (
            "http://[::ffff:169.254.169.254]/",
            "::ffff:169.254.169.254 is 169.254.169.254, a cloud metadata address: never sent to (rule: link-local)",
        ),
        ("https://[fe80::1]/", "fe80::1 is a link-local address: never sent to (rule: link-local)"),
        ("http://0.0.0.0:1/", "0.0.0.0 is not the address of a host: never sent to (rule: unspecified)"),
    ] {
        let mut house = posting_to(url, "allow_insecure = true").await;
        assert_eq!(house.attempts().await, [("address".to_owned(), expected.to_owned())], "{url}");
        house.pass(crate::house::hours(1));
        house.deliver_once("orders").await;
        let refused = house.attempts().await.iter().filter(|(outcome, _)| outcome == "address").count();
        assert_eq!(refused, 2, "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_receiver_is_sent_to() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let house = posting_to(&format!("http://localhost:{port}/"), "").await;
    assert_eq!(house.attempts().await[0].0, "refused", "asked, though nobody listens");
}
