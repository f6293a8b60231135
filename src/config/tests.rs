//! The configuration as a whole: what the defaults say, what is refused, what is never shown.

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::time;

use super::layers::DEFAULTS;
use super::*;
use crate::domain::cadence::{Hours, Row, RowName};
use crate::domain::label::{LabelId, Source};
use crate::domain::message::MessageType;
use crate::domain::secret::Hidden;
use crate::domain::subscriber::Format;
use crate::domain::tracking::StatusCode;

const RSA_KEY: &str = include_str!("../../tests/keys/a.pem");
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A directory with a configuration file, and whatever else a test puts there.
struct Place {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Place {
    fn new(config: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), environment: Vec::new() };
        place.file("trackpost.toml", config)
    }

    fn file(self, name: &str, content: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Loaded, Faults> {
        Config::load(&self.path("trackpost.toml"), &self.environment.iter().cloned().collect())
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn faults(&self) -> Vec<Fault> {
        self.load().map(|_| Vec::new()).unwrap_or_else(|faults| faults.faults)
    }

    /// All faults, a line each.
    fn report(&self) -> String {
        self.load().map(|_| String::new()).unwrap_or_else(|faults| faults.to_string())
    }
}

/// An account and a subscriber, sound.
fn sound() -> String {
    format!(
        "[accounts.main]\napi_key = \"k3y\"\n[subscribers.orders]\nurl = \"https://example.com/h\"\nsecret = \"{WHSEC}\"\n"
    )
}

fn hours(numbers: &[u64]) -> Vec<Duration> {
    numbers.iter().map(|hours| Duration::from_secs(hours * 3600)).collect()
}

#[test]
fn the_defaults_are_the_balanced_table() {
    let loaded = Config::builtin(&Environment::default()).unwrap();
    let config = loaded.config;
    assert_eq!(config.store.path, PathBuf::from("trackpost.db"));
    assert_eq!(config.store.keep_finished, Duration::from_secs(180 * 86_400));
    assert_eq!(config.http.listen, Some("127.0.0.1:8787".parse().unwrap()));
    assert_eq!(config.http.token, None);
    assert_eq!(config.log, LogConfig { level: "info".to_owned(), format: LogFormat::Auto });
    assert!(config.accounts.is_empty() && config.subscribers.is_empty() && loaded.labels.is_empty());
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

/// Lines that start with `#` and no space are examples: without it they are live.
fn uncommented() -> String {
    let live = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULTS.lines().map(|line| live(line) + "\n").collect()
}

#[test]
fn the_examples_that_ship_are_a_sound_configuration_and_show_the_defaults() {
    let place = Place::new(&uncommented())
        .file("credentials/shipstation-api-key", "k3y\n")
        .file("credentials/orders-secret", &format!("{WHSEC}\n"))
        .file("labels.d/a.txt", "se-1\n")
        .file("credentials/rsa-key", RSA_KEY)
        .env("ORDERS_TOKEN", "t0ken")
        .env("ORDERS_HMAC", "hm4c");
    let directory = place.path("credentials").display().to_string();
    let place = place.env("CREDENTIALS_DIRECTORY", &directory);
    let loaded = place.loaded();
    assert_eq!((loaded.label_faults, loaded.warnings), (vec![], vec![]));
    let labels: Vec<_> = loaded.labels.iter().map(|label| (label.key.id.as_str(), label.source)).collect();
    assert_eq!(
        labels,
        [("se-324658", Source::Config), ("se-324659", Source::Config), ("se-1", Source::File)]
    );
    assert_eq!(loaded.labels[1].metadata["order"], "A-1001");
    assert_eq!(loaded.watched, [place.path("labels.d"), place.path("labels.d/a.txt")]);

    let shown = loaded.config;
    let headers = &shown.subscribers[&SubscriberName::new("orders")].headers;
    assert_eq!(headers[0].0, "X-Api-Token");
    assert_eq!(headers[0].1.expose(), "t0ken");
    assert_eq!(shown.rsa_keys.len(), 1);
    let bare = Place::new(
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
    assert_eq!(bare.registration.first_poll, shown.registration.first_poll);
}

#[test]
fn all_faults_come_at_once_with_place_key_value_and_hint() {
    let place = Place::new(
        "[store]\npath = 7\nkeep_finisched = \"1d\"\nkeep_attempts = \"20ms\"\n\
         [http]\nlisten = \"localhost\"\n\
         [log]\nlevel = \"inof\"\nformat = \"jsno\"\n\
         [accounts.main]\nrequests_per_minute = 0\nrequests_per_month = -1\nmax_in_flight = \"8\"\ntracking_path = \"/x\"\n\
         base_url = \"ftp://user:pa55@example.com\"\n\
         [registration]\nfirst_poll = \"later\"\n\
         [cadence.IT]\nintervals = []\nhours = \"07-21\"\n[cadence.EX]\nslow_after = { \"4x\" = \"12h\" }\n[cadence.DE]\n\
         [subscribers.a]\nurl = \"http://8.8.8.8/x?token=abc\"\nsecret = \"whsec_AAAA\"\nformat = \"shipstaton\"\n\
         events = [\"tracking.delivred\"]\naccounts = [\"mian\"]\nretry = []\nenabled = \"yes\"\n\
         headers = { Webhook-Id = \"1\", \"a b\" = \"2\", x-ok = \"\\u0001\" }\n",
    );
    let faults = place.faults();
    let file = place.path("trackpost.toml").display().to_string();
    assert!(faults.iter().all(|fault| fault.place == file && fault.hint.is_some()), "{faults:#?}");
    let url = faults.iter().find(|fault| fault.key == "accounts.main.base_url").unwrap();
    assert_eq!(url.value.as_deref(), Some("ftp://…@example.com"));
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "store.keep_finisched",
            "store.path",
            "store.keep_attempts",
            "http.listen",
            "log.level",
            "log.format",
            "accounts.main.base_url",
            "accounts.main.tracking_path",
            "accounts.main.api_key",
            "accounts.main.requests_per_month",
            "accounts.main.requests_per_minute",
            "accounts.main.max_in_flight",
            "registration.first_poll",
            "cadence.DE",
            "cadence.EX.intervals",
            "cadence.EX.slow_after.4x",
            "cadence.IT.intervals",
            "cadence.IT.hours",
            "subscribers.a.url",
            "subscribers.a.secret",
            "subscribers.a.events[0]",
            "subscribers.a.format",
            "subscribers.a.accounts[0]",
            "subscribers.a.headers.Webhook-Id",
            "subscribers.a.headers.\"a b\"",
            "subscribers.a.headers.x-ok",
            "subscribers.a.retry",
            "subscribers.a.enabled",
        ]
    );
    let report = place.report();
    for line in [
        "store.keep_finisched: is no key that is known here (hint: did you mean \"keep_finished\"?",
        "store.path = 7: should be a text, but is a number",
        "store.keep_attempts = 20ms: is shorter than 100ms",
        "log.level = inof: is no level (hint: did you mean \"info\"?",
        "requests_per_minute = 0: is out of range (hint: 1 to 60000)",
        "max_in_flight = 8: should be a whole number, but is a text",
        "hint: did you mean \"tracking.delivered\"?",
        "accounts[0] = mian: is no account of this configuration (hint: did you mean \"main\"?)",
        "subscribers.a.url = http://8.8.8.8/x: is plain http to a public address",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    for secret in ["pa55", "abc", "AAAA"] {
        assert!(!report.contains(secret), "{secret}\n{report}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let secret = "v3ry-s3cret";
    for config in [
        format!("[accounts.main]\napi_kye = \"{secret}\""),
        format!("[accounts]\nmain = \"{secret}\""),
        format!("accounts = \"{secret}\""),
        format!("[accounts.main]\napi_key = [\"{secret}\"]"),
        format!("[accounts.main]\napi_key = \"{secret}\\u0001\""),
        format!("[accounts.main]\napi_key = {{ value = \"{secret}\" }}"),
        format!("[accounts.main]\napi_key = \"{secret}"),
        format!("[http]\nlisten = \"0.0.0.0:1\"\ntoken = [\"{secret}\"]"),
        format!("[http]\ntokn = \"{secret}\""),
        format!("[subscribers.a]\nurl = \"https://{secret}@:x/\"\nsecrets = \"{secret}\""),
        format!("[subscribers.a]\nsecrets = [\"{secret}\", \"whsec_{secret}\"]"),
        format!("[subscribers.a]\nsecrets = [\"{secret}\"]\nsecret = \"{secret}\""),
        format!(
            "[subscribers.a]\nheaders = {{ Host = \"{secret}\", \"\" = \"{secret}\", a = \"{secret}\\n.\" }}"
        ),
        format!("[subscribers.a]\nheaders = [\"{secret}\"]"),
    ] {
        let report = Place::new(&config).report();
        assert!(!report.is_empty(), "{config}");
        assert!(!report.contains("s3cret"), "{config}\n{report}");
    }
    let place = Place::new(&format!(
        "[http]\ntoken = \"{secret}\"\n[accounts.main]\napi_key = \"{secret}\"\n[subscribers.a]\nsecret = \"{WHSEC}\"\n\
         url = \"https://u:{secret}@example.com/?t={secret}\"\nheaders = {{ a = {{ env = \"A\" }} }}"
    ))
    .env("A", secret);
    let debug =
        format!("{:?} {:?}", place.loaded(), place.environment.iter().cloned().collect::<Environment>());
    assert!(!debug.contains("s3cret") && !debug.contains("MfKQ"), "{debug}");
}

#[test]
fn secrets_are_fetched_from_where_they_are() {
    let place =
        Place::new("[accounts.a]\napi_key = { file = \"keys/a\" }\n[accounts.b]\napi_key = { env = \"B\" }")
            .file("keys/a", "k3y\r\n")
            .env("B", "k\u{1}y");
    assert!(place.report().contains("accounts.b.api_key: holds characters"), "{}", place.report());
    let place = place.env("B", "12345");
    let accounts = place.loaded().config.accounts;
    assert_eq!(accounts[&AccountName::new("a")].api_key.expose(), "k3y");
    assert_eq!(accounts[&AccountName::new("b")].api_key.expose(), "12345");

    let report = Place::new(
        "[accounts.a]\napi_key = { file = \"none\" }\n[accounts.b]\napi_key = { env = \"NONE\" }\n\
         [accounts.c]\napi_key = { credential = \"c\" }\n[accounts.d]\napi_key = { credential = \"../c\" }\n\
         [accounts.e]\napi_key = { file = \"a\", env = \"b\" }\n[accounts.f]\napi_key = \"\"",
    )
    .report();
    for line in [
        "none cannot be read: No such file",
        "variable NONE is not set",
        "CREDENTIALS_DIRECTORY is not set (hint: systemd sets it by LoadCredential=c:/path)",
        "\"../c\" is no name of a credential",
        "exactly one of file, env, credential",
        "accounts.f.api_key: is empty",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn the_environment_goes_over_the_file() {
    let place = Place::new(&sound())
        .env("TRACKPOST__HTTP__LISTEN", "")
        .env("TRACKPOST__HTTP__TOKEN", "12345")
        .env("TRACKPOST__ACCOUNTS__MAIN__REQUESTS_PER_MINUTE", "20")
        .env("TRACKPOST__SUBSCRIBERS__ORDERS__ENABLED", "false")
        .env("TRACKPOST__SUBSCRIBERS__ORDERS__EVENTS", "[\"tracking.*\", \"system.*\"]")
        .env("TRACKPOST__CADENCE__SETTLE", "[\"6h\", \"1h\"]")
        .env("RUST_LOG", "debug")
        .env("STATE_DIRECTORY", "/var/lib/trackpost:/other");
    let config = place.loaded().config;
    assert_eq!(config.http.listen, None);
    assert_eq!(config.http.token.map(|token| token.expose().clone()).as_deref(), Some("12345"));
    assert_eq!(config.accounts[&AccountName::new("main")].requests_per_minute, 20);
    let orders = &config.subscribers[&SubscriberName::new("orders")];
    assert!(!orders.enabled && orders.events.len() == 2);
    assert_eq!(config.cadence.settle, hours(&[1, 6]));
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.store.path, PathBuf::from("/var/lib/trackpost/trackpost.db"));

    let place = Place::new(&sound())
        .env("TRACKPOST__STORE__PAHT", "x")
        .env("TRACKPOST__ACCOUNTS__MAIN__TIMEOUT", "30")
        .env("TRACKPOST__ACCOUNTS__MAIN__MAX_IN_FLIGHT", "many");
    let places: Vec<String> = place.faults().into_iter().map(|fault| fault.place).collect();
    assert_eq!(
        places,
        [
            "TRACKPOST__STORE__PAHT",
            "TRACKPOST__ACCOUNTS__MAIN__MAX_IN_FLIGHT",
            "TRACKPOST__ACCOUNTS__MAIN__TIMEOUT"
        ]
    );
}

#[test]
fn an_open_listener_needs_a_token() {
    for (listen, token, sound) in [
        ("0.0.0.0:8787", "", false),
        ("0.0.0.0:8787", "t", true),
        ("192.168.1.1:1", "", false),
        ("[::1]:1", "", true),
        ("127.9.9.9:1", "", true),
        ("", "", true),
    ] {
        let report = Place::new(&format!("[http]\nlisten = \"{listen}\"\ntoken = \"{token}\"")).report();
        assert_eq!(report.is_empty(), sound, "{listen} {token} {report}");
    }
}

#[test]
fn subscribers_and_accounts_as_configured() {
    let place = Place::new(&format!(
        "[accounts.main]\napi_key = \"k\"\nbase_url = \"http://127.0.0.1:9/api/\"\ntracking_path = \"/v1/labels/{{label_id}}/track\"\n\
         [subscribers.a]\nurl = \"http://8.8.8.8/x?t=1\"\nallow_insecure = true\nformat = \"standard\"\nsecrets = [\"{WHSEC}\", \"{WHSEC}\"]\n\
         [subscribers.b]\nurl = \"http://hooks.internal/\"\nsecret = \"{WHSEC}\"\naccounts = [\"main\"]\n\
         [subscribers.c]\nurl = \"http://10.0.0.1/\"\nsecret = \"{WHSEC}\"\n"
    ));
    let config = place.loaded().config;
    let main = &config.accounts[&AccountName::new("main")];
    let label: LabelId = "se-1".parse().unwrap();
    assert_eq!(main.tracking_url(&label), "http://127.0.0.1:9/api/v1/labels/se-1/track");
    let a = &config.subscribers[&SubscriberName::new("a")];
    assert_eq!((a.shown_url.as_str(), a.format, a.secrets.len()), ("http://8.8.8.8/x", Format::Standard, 2));
    assert!(a.wants(MessageType::Updated, None) && !a.wants(MessageType::EventAdded, None));
    assert_eq!(config, place.loaded().config, "what is read twice is equal");

    let report = Place::new(
        "[subscribers.a]\nurl = \"https://a/\"\n[subscribers.b]\nurl = \"https://b/\"\nsecrets = []",
    )
    .report();
    assert!(report.contains("subscribers.a.secret: is missing"), "{report}");
    assert!(report.contains("subscribers.b.secrets: is empty"), "{report}");
}

/// A subscriber with `more` in its table, a certificate and its key in files.
fn connected(more: &str) -> Place {
    let pair = rcgen::generate_simple_self_signed(vec!["trackpost".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    Place::new(&format!("{}{more}\n", sound()))
        .file("a.pem", &pair.cert.pem())
        .file("a.key", &pair.signing_key.serialize_pem())
        .file("other.key", &other.serialize_pem())
        .file("noise.pem", "no certificate\n")
        .file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
}

#[test]
fn certificates_and_keys_are_looked_into() {
    let sound = "ca_file = \"a.pem\"\nclient_certificate = \"a.pem\"\nclient_key = ";
    for key in ["\"a.key\"", "{ file = \"a.key\" }"] {
        let config = connected(&format!("{sound}{key}")).loaded().config;
        let orders = &config.subscribers[&SubscriberName::new("orders")];
        assert_eq!(orders.roots.len(), 1);
        let identity = orders.identity.as_ref().unwrap();
        assert_eq!(identity.chain, orders.roots);
        assert!(format!("{config:?}").contains("key: (hidden)"));
    }
    for (more, key, problem) in [
        ("ca_file = \"none.pem\"", "ca_file", "none.pem cannot be read: No such file"),
        ("ca_file = \"noise.pem\"", "ca_file", "is no file of certificates in PEM"),
        ("ca_file = \"a.key\"", "ca_file", "is no file of certificates in PEM"),
        ("ca_file = \"broken.pem\"", "ca_file", "holds a certificate that cannot be read"),
        ("client_certificate = \"a.pem\"", "client_key", "is missing"),
        ("client_key = \"a.key\"", "client_certificate", "is missing"),
        ("client_certificate = \"a.pem\"\nclient_key = \"a.pem\"", "client_key", "is no private key in PEM"),
        ("client_certificate = \"a.pem\"\nclient_key = \"other.key\"", "client_key", "does not belong to"),
        (
            "client_certificate = \"a.pem\"\nclient_key = \"-----BEGIN s3cret\"",
            "client_key",
            "holds a key where the path of a file should be",
        ),
    ] {
        let place = connected(more);
        let (report, faults) = (place.report(), place.faults());
        assert_eq!(faults.len(), 1, "{more}: {report}");
        assert_eq!(faults[0].key, format!("subscribers.orders.{key}"), "{more}");
        assert!(report.contains(problem) && !report.contains("s3cret"), "{more}: {report}");
    }
}

#[test]
fn a_proxy_is_a_url_or_the_environments() {
    let proxies = |place: Place| {
        let config = place.loaded().config;
        assert!(!format!("{config:?}").contains("s3cret"));
        let proxies = config.subscribers[&SubscriberName::new("orders")].proxies.clone();
        let of = |proxy: Option<Hidden<String>>| proxy.map(|url| url.expose().clone()).unwrap_or_default();
        [of(proxies.http), of(proxies.https), proxies.except]
    };
    let environment = |place: Place| {
        place.env("https_proxy", "http://me:s3cret@b:1").env("ALL_PROXY", "c:3").env("NO_PROXY", "x.example")
    };
    assert_eq!(proxies(environment(connected(""))), ["", "", ""], "none unless it is asked for");
    assert_eq!(proxies(environment(connected("proxy = \"\""))), ["", "", ""]);
    let of_environment = environment(connected("proxy = \"environment\""));
    assert_eq!(proxies(of_environment), ["http://c:3", "http://me:s3cret@b:1", "x.example"]);
    assert_eq!(proxies(connected("proxy = \"environment\"")), ["", "", ""]);
    let url = "http://me:s3cret@proxy:3128";
    assert_eq!(proxies(connected(&format!("proxy = \"{url}\""))), [url, url, ""]);
    let secret = connected("proxy = { env = \"PROXY\" }").env("PROXY", url);
    assert_eq!(proxies(secret), [url, url, ""]);

    for (proxy, problem) in [
        ("socks5://me:s3cret@a:1", "is no http or https URL"),
        ("me:s3cret@a", "is no"),
        ("http://me:s3cret@169.254.1.1:1", "169.254.1.1 is a link-local address"),
    ] {
        let report = connected(&format!("proxy = \"{proxy}\"")).report();
        assert!(report.contains(problem) && !report.contains("s3cret"), "{report}");
    }
    let report = connected("proxy = \"environment\"")
        .env("HTTP_PROXY", "http://me:s3cret@[::ffff:169.254.1.1]")
        .report();
    assert!(report.contains("HTTP_PROXY has an address") && !report.contains("s3cret"), "{report}");
}

/// A subscriber with `more` in its table, below `signing`, with the keys of `tests/keys` in files.
fn signing(signing: &str, more: &str) -> Place {
    Place::new(&format!("[signing]\n{signing}\n{}{more}\n", sound()))
        .file("a.pem", RSA_KEY)
        .file("a.pkcs1.pem", include_str!("../../tests/keys/a.pkcs1.pem"))
        .file("b.pem", include_str!("../../tests/keys/b.pem"))
        .file("short.pem", include_str!("../../tests/keys/short.pem"))
        .file("long.pem", include_str!("../../tests/keys/long.pem"))
        .file("curve.pem", include_str!("../../tests/keys/curve.pem"))
        .file("locked.pem", include_str!("../../tests/keys/locked.pem"))
}

#[test]
fn the_first_rsa_key_signs_for_those_who_ask_for_it() {
    let keys = |signing: Place| {
        let config = signing.loaded().config;
        let signs = config.subscribers[&SubscriberName::new("orders")].rsa_key.clone();
        (config.rsa_keys, signs)
    };
    let (all, signs) = keys(signing("rsa_key = { file = \"a.pem\" }", ""));
    assert_eq!((all.len(), signs), (1, None));
    let one = all[0].clone();
    for key in ["rsa_key = { file = \"a.pkcs1.pem\" }".to_owned(), format!("rsa_key = \"\"\"{RSA_KEY}\"\"\"")]
    {
        let (all, signs) = keys(signing(&key, "rsa_signature = true"));
        assert_eq!((all.as_slice(), signs.as_ref()), (&[one.clone()][..], Some(&one)));
    }
    let (all, signs) =
        keys(signing("rsa_keys = [{ file = \"b.pem\" }, { file = \"a.pem\" }]", "rsa_signature = true"));
    assert_eq!((&all[1], signs.as_ref()), (&one, Some(&all[0])));
    assert_ne!(all[0], one);
}

#[test]
fn an_rsa_key_that_will_not_do_is_a_fault() {
    let file = |name: &str| format!("rsa_key = {{ file = \"{name}\" }}");
    let make = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    for (key, problem, hint) in [
        (file("short.pem"), "is an RSA key of less than 2048 bits", make),
        (file("long.pem"), "is an RSA key of more than 4096 bits", make),
        (file("curve.pem"), "is no RSA key", make),
        (file("locked.pem"), "is an encrypted private key", "openssl pkey -in"),
        (file("trackpost.toml"), "is no private key in PEM", "{ file ="),
        ("rsa_key = \"a.pem\"".to_owned(), "is no private key in PEM", "{ file = \"rsa.pem\" }"),
        (file("none.pem"), "none.pem cannot be read: No such file", ""),
        ("rsa_key = { env = \"NONE\" }".to_owned(), "the environment variable NONE is not set", ""),
    ] {
        let faults = signing(&key, "rsa_signature = true").faults();
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        assert_eq!(faults[0].key.split_once("rsa_key").map(|(before, _)| before), Some("signing."), "{key}");
        let fault = faults[0].to_string();
        assert!(fault.contains(problem) && fault.contains(hint), "{key}: {fault}");
        assert!(!fault.contains("PRIVATE KEY"), "{fault}");
    }
    let twice = signing("rsa_keys = [{ file = \"a.pem\" }, { file = \"a.pkcs1.pem\" }]", "").report();
    assert!(twice.contains("signing.rsa_keys[1]: is there twice"), "{twice}");
    let both = signing("rsa_key = { file = \"a.pem\" }\nrsa_keys = []", "").report();
    assert!(both.contains("signing.rsa_keys: stands beside rsa_key"), "{both}");
    for none in ["", "rsa_keys = []"] {
        let report = signing(none, "rsa_signature = true").report();
        assert!(report.contains("subscribers.orders.rsa_signature = true: needs a key"), "{report}");
    }
}

#[test]
fn a_plain_hmac_takes_any_name_that_is_free() {
    let own = "headers = { X-Own = \"1\" }\n";
    let with = |header: &str| signing("", &format!("{own}hmac_header = {header}"));
    let config = with("{ name = \"X-Signature\", prefix = \"\", secret = \"hm4c-s3cret\" }").loaded().config;
    assert!(!format!("{config:?}").contains("s3cret"));
    let header = config.subscribers[&SubscriberName::new("orders")].hmac_header.clone().unwrap();
    assert_eq!((header.name.as_str(), header.prefix.as_str()), ("X-Signature", ""));
    for (header, key, problem) in [
        ("{ name = \"webhook-signature\", secret = \"s3cret\" }", "name", "is a header that trackpost sets"),
        ("{ name = \"Connection\", secret = \"s3cret\" }", "name", "is a header that trackpost sets"),
        ("{ name = \"X-ShipEngine-Timestamp\", secret = \"s3cret\" }", "name", "is a header that trackpost"),
        ("{ name = \"x-own\", secret = \"s3cret\" }", "name", "is one of the subscriber's own headers"),
        ("{ name = \"a b\", secret = \"s3cret\" }", "name", "is no name of a header"),
        ("{ secret = \"s3cret\" }", "name", "is missing"),
        ("{ name = \"x\" }", "secret", "is missing"),
        ("{ name = \"x\", secret = \"\" }", "secret", "is empty"),
        ("{ name = \"x\", secret = \"s3cret\", prefix = \" v\" }", "prefix", "no header may hold"),
        ("{ name = \"x\", secrte = \"s3cret\", secret = \"s3cret\" }", "secrte", "did you mean \"secret\""),
    ] {
        let (faults, report) = (with(header).faults(), with(header).report());
        assert_eq!(faults.len(), 1, "{report}");
        assert_eq!(faults[0].key, format!("subscribers.orders.hmac_header.{key}"));
        assert!(report.contains(problem) && !report.contains("s3cret"), "{report}");
    }
}

#[test]
fn beside_the_daemon_no_secret_is_needed() {
    let away = "{ credential = \"away\" }";
    let place = signing(
        &format!("rsa_keys = [{away}, {away}]"),
        &format!(
            "rsa_signature = true\nhmac_header = {{ name = \"x\", secret = {away} }}\nproxy = {away}\n\
             client_certificate = \"away.pem\"\nclient_key = {away}\n"
        ),
    );
    let loaded = Config::load_beside(&place.path("trackpost.toml"), &Environment::default());
    assert!(loaded.is_ok(), "{loaded:?}");
    assert!(place.load().is_err());
}

#[test]
fn an_account_has_a_proxy_of_its_own_or_none() {
    let account = |more: &str| {
        let text = sound().replace("api_key", &format!("{more}\napi_key"));
        let place = Place::new(&text).env("HTTPS_PROXY", "http://me:s3cret@b:1");
        let config = place.loaded().config;
        assert!(!format!("{config:?}").contains("s3cret"));
        config.accounts[&AccountName::new("main")].proxies.https.as_ref().map(|url| url.expose().clone())
    };
    assert_eq!(account(""), None);
    assert_eq!(account("proxy = \"\""), None);
    assert_eq!(account("proxy = \"environment\"").as_deref(), Some("http://me:s3cret@b:1"));
    assert_eq!(account("proxy = \"http://c:2\"").as_deref(), Some("http://c:2"));
}

#[test]
fn a_wrong_row_is_no_fault_of_the_configuration() {
    let place = Place::new(
        "[store]\npath = 7\n[accounts.main]\napi_key = \"k\"\n[registration]\nlabels = [\"nope\"]",
    );
    let faults = place.load().unwrap_err();
    assert_eq!((faults.faults.len(), faults.label_faults.len(), faults.label_fault_count), (1, 1, 1));
    let report = faults.to_string();
    assert!(
        report.starts_with("the configuration has a fault\n") && report.contains("\nleft out: "),
        "{report}"
    );
}

#[test]
fn discovery_needs_a_list_beside_the_tracking() {
    let place = |path: &str, enabled: bool| {
        Place::new(&format!(
            "[accounts.a]\napi_key = \"k\"\ntracking_path = \"{path}\"\n[accounts.a.discover]\nenabled = {enabled}\ninterval = \"1m\"\n"
        ))
    };
    let account =
        place("/v1/labels/{label_id}/track", true).loaded().config.accounts.into_values().next().unwrap();
    assert_eq!(account.labels_url().as_deref(), Some("https://api.shipstation.com/v1/labels"));
    assert_eq!((account.discover.enabled, account.discover.interval.as_secs()), (true, 60));
    assert_eq!(account.discover.lookback.as_secs(), 14 * 86_400);
    let report = place("/track?label={label_id}", true).report();
    assert!(report.contains("accounts.a.discover.enabled = true: needs the list of labels"), "{report}");
    assert!(!place("/track?label={label_id}", false).loaded().config.accounts.is_empty());
}

#[test]
fn an_address_that_is_never_sent_to_is_warned_of() {
    let place =
        Place::new(&sound().replace("https://example.com/h", "http://u:s3cret@169.254.169.254/?t=s3cret"));
    let warnings: Vec<String> = place.loaded().warnings.iter().map(Fault::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("cloud metadata address") && !warnings[0].contains("s3cret"),
        "{warnings:?}"
    );
}

#[test]
fn labels_of_every_kind_of_file() {
    let place = Place::new(&format!(
        "{}[registration]\nlabels = [\"se-1\", \"SE-2\", {{ id = \"se-3\", acount = \"x\" }}, {{ id = \"se-3\", metadata = {{ n = 1, t = [true] }} }}]\n\
         files = [\"labels.d/*\", \"more/none*.txt\", \"extra.csv\"]\n",
        sound()
    ))
    .file("labels.d/a.txt", "# mine\n\nse-10 # first\r\nnonsense\n")
    .file("labels.d/b.jsonl", "\"se-20\"\n{\"id\":\"se-21\",\"account\":\"main\",\"metadata\":{\"order\":1}}\n{\"id\":\n")
    .file("labels.d/c.md", "se-30\n")
    .file("labels.d/.hidden.txt", "se-31\n")
    .file("extra.csv", "label_id,account,order\nse-40,main,A\nse-41,mian,B\nse-42\nse-10,,C\n");
    let loaded = place.loaded();
    let ids: Vec<&str> = loaded.labels.iter().map(|label| label.key.id.as_str()).collect();
    assert_eq!(ids, ["se-1", "se-3", "se-10", "se-20", "se-21", "se-40"]);
    assert_eq!(loaded.labels[2].metadata["order"], "C", "the later wins");
    assert_eq!(loaded.label_fault_count, 6);
    let faults: Vec<String> = loaded.label_faults.iter().map(Fault::to_string).collect();
    let expected = [
        "trackpost.toml: registration.labels, row 2 = SE-2: is no label id",
        "trackpost.toml: registration.labels, row 3: has the unknown key \"acount\" (hint: did you mean \"account\"?",
        "labels.d/a.txt: row 4 = nonsense: is no label id",
        "labels.d/b.jsonl: row 3: is no JSON",
        "extra.csv: row 3 = mian: is no account of this configuration (label se-41) (hint: did you mean \"main\"?)",
        "extra.csv: row 4: has 1 cells where the header has 3",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{expected}\n{fault}");
    }
    let warnings: String = loaded.warnings.iter().map(|warning| warning.to_string() + "\n").collect();
    for expected in
        ["c.md: is left out", "more/none*.txt: fits no file", "extra.csv: row 5 = se-10: was there before"]
    {
        assert!(warnings.contains(expected), "{expected}\n{warnings}");
    }
    assert!(loaded.watched.contains(&place.path("more")));
    assert!(loaded.watched.contains(&place.path("extra.csv")));
}

#[test]
fn what_makes_a_label_file_unreadable_is_a_fault() {
    let place = Place::new("[registration]\nfiles = [\"none.txt\", \"a.csv\", \"*/b.txt\", \"d\"]")
        .file("a.csv", "id,order\nse-1,A\n")
        .file("d/b.txt", "");
    let report = place.report();
    for line in [
        "registration.files[0] = none.txt: cannot be read: No such file",
        "a.csv: has no column label_id",
        "registration.files[2] = */b.txt: has * or ? before the last part",
        "registration.files[3] = d: is no file",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn with_several_accounts_each_label_names_its_own() {
    let loaded = Place::new(
        "[accounts.a]\napi_key = \"k\"\n[accounts.b]\napi_key = \"k\"\n\
         [registration]\nlabels = [\"se-1\", { id = \"se-1\", account = \"a\" }, { id = \"se-1\", account = \"b\" }]",
    )
    .loaded();
    assert_eq!(loaded.labels.len(), 2);
    assert!(loaded.label_faults[0].to_string().contains("row 1 = se-1: names no account"));
}

#[test]
fn a_label_file_of_two_hundred_thousand_rows_loads() {
    let rows: String = (0..200_000).map(|n| format!("se-{n}\n")).collect();
    let place =
        Place::new(&format!("{}[registration]\nfiles = [\"many.txt\"]", sound())).file("many.txt", &rows);
    let loaded = place.loaded();
    assert_eq!((loaded.labels.len(), loaded.label_fault_count), (200_000, 0));
}
