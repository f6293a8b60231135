//! A backup of the live database (contract 1), and a start from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use trackpost::sandbox::{Carrier, JourneyKind, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::connect;

/// Fast parcels, so that the daemon writes constantly.
async fn busy_site() -> Site {
    let site = Site::new(SandboxOptions { time_factor: 86_400.0, ..Default::default() }).await;
    let ids: Vec<String> = (0..20).map(|n| format!("se-{n}")).collect();
    for id in &ids {
        site.sandbox.create_on(&id.parse().unwrap(), JourneyKind::Delivered, Carrier::Ups);
    }
    site.write("trackpost.toml", &site.configuration(&format!("{ids:?}"), ""));
    site
}

#[tokio::test]
async fn a_backup_of_a_busy_database_is_complete_and_private() {
    let site = busy_site().await;
    let daemon = site.start();
    site.received(|counts| counts.received >= 10).await;
    let backup = site.directory().join("copy.db");
    let name = backup.to_str().unwrap();
    let (done, printed, error) = site.try_command(&["backup", name]).await;
    assert!(done && printed.contains("copy.db: ") && printed.contains("checked"), "{printed}{error}");
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!site.directory().join("copy.db.partial").exists());

    let before = fs::read(&backup).unwrap();
    let (done, _, error) = site.try_command(&["backup", name]).await;
    assert!(!done && error.contains("copy.db already exists") && error.contains("hint:"), "{error}");
    assert_eq!(fs::read(&backup).unwrap(), before);

    // The copy contains everything that the receiver had when it began.
    let mut connection = connect(&backup).await;
    let messages: i64 =
        sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&mut connection).await.unwrap();
    assert!(messages >= 10, "{messages}");
    drop(connection);
    daemon.stop().await;

    // A restore as in deploy/README.md.
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", site.database().display()));
    }
    fs::copy(&backup, site.database()).unwrap();
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    assert!(!daemon.log().contains("a new, empty database"), "{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let site = busy_site().await;
    let (done, _, error) = site.try_command(&["backup", "copy.db"]).await;
    assert!(!done && error.contains("does not exist yet"), "{error}");
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    let (done, _, error) = site.try_command(&["backup", "nowhere/copy.db"]).await;
    assert!(!done && error.contains("nowhere/copy.db"), "{error}");
    daemon.stop().await;
    // A backup overwrites the remains of a killed one, and finds a damaged page because it reads all pages.
    fs::write(site.directory().join("copy.db.partial"), "half of one").unwrap();
    let mut bytes = fs::read(site.database()).unwrap();
    // These pages are not read when the database is opened.
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 8192].fill(0x5a);
    fs::write(site.database(), &bytes).unwrap();
    let (done, _, error) = site.try_command(&["backup", "copy.db"]).await;
    assert!(!done && error.contains("damaged"), "{error}");
    let left = fs::read_dir(site.directory()).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("copy"))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}
