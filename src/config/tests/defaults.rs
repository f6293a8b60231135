//! The defaults without a configuration, and their text in the example file.

use super::*;
use crate::domain::account::Discover;
use crate::domain::messages::subscriber::EventPattern;
use crate::domain::polling::poll::FirstPoll;
use crate::domain::proxies::Proxies;

#[test]
fn the_defaults_are_the_balanced_table() {
    let loaded = Config::builtin(&Environment::default()).unwrap();
    let config = loaded.config;
    assert_eq!(config.store.path, PathBuf::from("trackpost.db"));
    assert_eq!(config.store.keep_finished, Duration::from_secs(180 * 86_400));
    assert_eq!(config.http.listen, Some("127.0.0.1:8787".parse().unwrap()));
    assert_eq!((config.http.token, config.http.hosts), (None, vec![]));
    assert_eq!(config.log, LogConfig { level: "info".to_owned(), format: LogFormat::Auto });
    assert!(config.accounts.is_empty() && config.subscribers.is_empty() && loaded.sources.inline.is_empty());
    assert_eq!(loaded.warnings.len(), 2, "no account, no subscriber");

    let cadence = config.cadence;
    assert_eq!(cadence.give_up_after, Duration::from_secs(60 * 86_400));
    assert!(cadence.settle.is_empty());
    let early = Row {
        intervals: hours(&[2, 3, 4, 6, 8]),
        slow_after: vec![(hours(&[120])[0], hours(&[24])[0])],
        hours: None,
        learn: true,
    };
    let days = |quiet: u64, every: u64| (Duration::from_secs(quiet * 86_400), hours(&[every])[0]);
    let moving = Row {
        intervals: hours(&[3, 4, 6]),
        slow_after: vec![days(4, 12), days(10, 24)],
        hours: None,
        learn: true,
    };
    let minutes = |minutes: u64| vec![Duration::from_secs(minutes * 60)];
    let expected = [
        (RowName::Status(StatusCode::Unknown), early.clone()),
        (RowName::Status(StatusCode::NotYetInSystem), early),
        (RowName::Status(StatusCode::Accepted), moving.clone()),
        (RowName::Status(StatusCode::InTransit), moving),
        (
            RowName::Status(StatusCode::DeliveryAttempt),
            Row { intervals: hours(&[3]), slow_after: vec![], hours: None, learn: true },
        ),
        (
            RowName::Status(StatusCode::Exception),
            Row { intervals: hours(&[3, 4, 6, 8]), slow_after: vec![], hours: None, learn: true },
        ),
        (
            RowName::OutForDelivery,
            Row {
                intervals: minutes(20),
                slow_after: vec![(hours(&[16])[0], hours(&[2])[0]), (hours(&[24])[0], hours(&[6])[0])],
                hours: Some(Hours { start: time(7, 0, 0, 0), end: time(21, 0, 0, 0) }),
                learn: true,
            },
        ),
        (
            RowName::EstimateDay,
            Row {
                intervals: minutes(45),
                slow_after: vec![],
                hours: Some(Hours { start: time(6, 30, 0, 0), end: time(11, 0, 0, 0) }),
                learn: true,
            },
        ),
    ];
    assert_eq!(cadence.rows, expected.into_iter().collect());
}

#[test]
fn accounts_and_subscribers_have_the_documented_defaults() {
    let config = Setup::new(&sound()).loaded().config;
    let seconds = Duration::from_secs;
    let account = &config.accounts[&AccountName::new("main")];
    assert_eq!(account.base_url, "https://api.shipstation.com");
    assert_eq!(account.tracking_path, "/v2/labels/{label_id}/track");
    assert_eq!((account.requests_per_minute, account.requests_per_month, account.max_in_flight), (160, 0, 8));
    assert_eq!((account.timeout, account.allow_insecure), (seconds(30), false));
    assert_eq!(account.proxies, Proxies::default());
    let discover = Discover { enabled: false, interval: seconds(300), lookback: seconds(14 * 86_400) };
    assert_eq!(account.discover, discover);

    let orders = &config.subscribers[&SubscriberName::new("orders")];
    assert_eq!((orders.url.expose().as_str(), orders.secrets.len()), ("https://example.com/h", 1));
    assert_eq!(orders.format, Format::Shipstation);
    assert_eq!(orders.events, [EventPattern::parse("tracking.updated").unwrap()]);
    assert!(orders.accounts.is_empty() && orders.headers.is_empty() && orders.hmac_header.is_none());
    assert_eq!((orders.timeout, orders.max_in_flight), (seconds(15), 8));
    let minutes = [5, 30, 2 * 60, 5 * 60, 10 * 60, 14 * 60, 20 * 60, 24 * 60].map(|m| seconds(m * 60));
    assert_eq!(orders.retry, [&[seconds(5)][..], &minutes].concat());
    assert!(orders.rsa_key.is_none() && orders.roots.is_empty() && orders.identity.is_none());
    assert_eq!(orders.proxies, Proxies::default());
    assert!(orders.enabled && !orders.allow_insecure);
    assert_eq!(config.first_poll, FirstPoll::Deliver);
}

#[test]
fn the_shipped_examples_are_valid_and_show_the_defaults() {
    let setup = Setup::new(&uncommented())
        .file("credentials/shipstation-api-key", "k3y\n")
        .file("credentials/orders-secret", &format!("{WHSEC}\n"))
        .file("labels.d/a.txt", "se-1\n")
        .file("credentials/rsa-key", RSA_KEY)
        .env("ORDERS_TOKEN", "t0ken")
        .env("ORDERS_HMAC", "hm4c");
    let directory = setup.path("credentials").display().to_string();
    let setup = setup.env("CREDENTIALS_DIRECTORY", &directory);
    let loaded = setup.loaded();
    assert_eq!((loaded.label_faults.kept, loaded.warnings), (vec![], vec![]));
    let (reading, found) = setup.labels();
    assert!(reading.left_out.is_empty() && reading.faults.kept.is_empty() && reading.warnings.is_empty());
    let labels: Vec<_> = found.iter().map(|label| (label.key.id.as_str(), label.source)).collect();
    assert_eq!(
        labels,
        [("se-324658", Source::Config), ("se-324659", Source::Config), ("se-1", Source::File)]
    );
    assert_eq!(found[1].metadata["order"], "A-1001");

    let shown = loaded.config;
    let headers = &shown.subscribers[&SubscriberName::new("orders")].headers;
    assert_eq!(headers[0].0, "X-Api-Token");
    assert_eq!(headers[0].1.expose(), "t0ken");
    assert_eq!(shown.rsa_keys.len(), 1);
    let bare = Setup::new(
        "accounts.main.api_key = \"k3y\"\n[subscribers.orders]\nurl = \"https://example.com/hooks/tracking\"\n",
    )
    .env("TRACKPOST__SUBSCRIBERS__ORDERS__SECRET", WHSEC)
    .env("TRACKPOST__SUBSCRIBERS__ORDERS__HEADERS", "{ X-Api-Token = \"t0ken\" }")
    .env(
        "TRACKPOST__SUBSCRIBERS__ORDERS__HMAC_HEADER",
        "{ name = \"X-Hub-Signature-256\", secret = \"hm4c\" }",
    );
    let bare = bare.loaded().config;
    assert_eq!(bare.accounts, shown.accounts);
    assert_eq!(bare.subscribers, shown.subscribers);
    assert_eq!(bare.cadence, shown.cadence);
    assert_eq!(bare.first_poll, shown.first_poll);
}
