//! A failed start: exit 1 with the reason, before anything is sent (contract 2.4).

use trackpost::sandbox::SandboxOptions;
use trackpost::store;

use crate::harness::child::{Site, until};
use crate::harness::{connect, loopback};

/// Starts a daemon, and expects exit 1 and no request. Returns stderr.
async fn refused(site: &Site) -> String {
    let mut daemon = site.start();
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert_eq!(site.sandbox.counters().requests, 0, "no request was sent");
    assert_eq!(site.receiver.counts().received, 0, "no callback was sent");
    daemon.log()
}

async fn site() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    site
}

#[tokio::test]
async fn all_faults_of_the_configuration_are_printed_at_once() {
    let site = site().await;
    let text = site
        .configuration("[\"se-1\"]", "[subscribers.second]\nurl = \"ftp://x\"\nsecret = \"whsec_short\"\n");
    let text = text
        .replace("requests_per_minute = 60000", "requests_per_minute = 0")
        .replace("[http]", "[http]\nlisten_on = 1")
        .replace("events = [\"*\"]", "events = [\"tracking.delivred\"]");
    site.write("trackpost.toml", &text);
    let printed = refused(&site).await;
    for fault in [
        "requests_per_minute",
        "listen_on",
        "subscribers.second.url",
        "subscribers.second.secret",
        "delivred",
    ] {
        assert!(printed.contains(fault), "{fault} is missing in:\n{printed}");
    }
    assert!(!printed.contains("whsec_short"), "a secret is printed:\n{printed}");
    assert!(!site.database().exists());
}

#[tokio::test]
async fn an_unreadable_secret_is_a_fault() {
    let site = site().await;
    let text = std::fs::read_to_string(site.directory().join("trackpost.toml")).unwrap();
    let key = format!("api_key = \"{}\"", crate::harness::API_KEY);
    site.write("trackpost.toml", &text.replace(&key, "api_key = { file = \"nowhere.key\" }"));
    let printed = refused(&site).await;
    assert!(printed.contains("nowhere.key") && printed.contains("accounts.main.api_key"), "{printed}");
}

#[tokio::test]
async fn an_unusable_rsa_key_is_a_fault() {
    let site = site().await;
    site.write("short.pem", include_str!("../keys/short.pem"));
    let signing = "rsa_signature = true\n[signing]\nrsa_key = { file = \"short.pem\" }\n[cadence.UN]";
    let text = site.configuration("[\"se-1\"]", "").replace("[cadence.UN]", signing);
    site.write("trackpost.toml", &text);
    let printed = refused(&site).await;
    assert!(printed.contains("signing.rsa_key: is an RSA key of less than 2048 bits"), "{printed}");
    assert!(
        printed.contains("openssl genpkey -algorithm RSA") && !printed.contains("PRIVATE KEY"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_missing_configuration_is_named() {
    let site = site().await;
    std::fs::remove_file(site.directory().join("trackpost.toml")).unwrap();
    let printed = refused(&site).await;
    assert!(printed.contains("trackpost.toml"), "{printed}");
}

#[tokio::test]
async fn a_second_daemon_on_the_same_database_is_refused() {
    let site = site().await;
    site.write("trackpost.toml", &site.configuration("[]", ""));
    let first = site.start();
    first.logged("started: ", 1).await;
    let printed = refused(&site).await;
    assert!(
        printed.contains(&format!(
            "{} is in use by another trackpost (pid {})",
            site.database().display(),
            first.id()
        )),
        "{printed}"
    );
    assert!(printed.contains("hint:"), "{printed}");
    first.stop().await;
    let third = site.start();
    third.logged("started: ", 1).await;
    third.stop().await;
}

#[tokio::test]
async fn the_lock_ends_with_its_process() {
    let site = site().await;
    let mut first = site.start();
    first.logged("started: ", 1).await;
    first.kill();
    let second = site.start();
    second.logged("started: ", 1).await;
    second.stop().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_unchanged() {
    let site = site().await;
    let (store, writer) = store::open(&site.database()).await.unwrap();
    store.close().await;
    drop((store, writer));
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of tomorrow', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut connect(&site.database()).await).await.unwrap();
    let printed = refused(&site).await;
    assert!(printed.contains("newer trackpost") && printed.contains("9999"), "{printed}");
    assert!(printed.contains("hint:"), "{printed}");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_unchanged() {
    let site = site().await;
    let text = "these are somebody's notes, ".repeat(200);
    std::fs::write(site.database(), &text).unwrap();
    let printed = refused(&site).await;
    assert!(printed.contains("trackpost.db") && printed.contains("not an SQLite database"), "{printed}");
    assert_eq!(std::fs::read_to_string(site.database()).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_unchanged() {
    use sqlx::ConnectOptions as _;
    let site = site().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.database()).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE bookmarks (url TEXT)").execute(&mut connection).await.unwrap();
    let printed = refused(&site).await;
    assert!(printed.contains("of another program"), "{printed}");
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await.unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let site = site().await;
    let holder = std::net::TcpListener::bind(loopback()).unwrap();
    let taken = holder.local_addr().unwrap();
    let text =
        site.configuration("[\"se-1\"]", "").replace("listen = \"\"", &format!("listen = \"{taken}\""));
    site.write("trackpost.toml", &text);
    let printed = refused(&site).await;
    assert!(printed.contains(&taken.to_string()) && printed.contains("hint:"), "{printed}");
    assert_eq!(printed.matches("Address already in use").count(), 1, "{printed}");
    drop(holder);
}

#[tokio::test]
async fn a_wrong_label_row_does_not_stop_the_start() {
    let site = site().await;
    site.write("labels.d/mine.txt", "se-2\nSE-BAD\nse-3\n");
    let daemon = site.start();
    daemon.logged("SE-BAD", 1).await;
    assert!(until(|| site.sandbox.requests_of("se-3") > 0).await.is_ok());
    daemon.stop().await;
    assert!(site.sandbox.requests_of("se-1") > 0 && site.sandbox.requests_of("se-2") > 0);
    assert_eq!(site.sandbox.requests_of("SE-BAD"), 0);
    site.inspect();
}
