//! A running daemon's database is removed, moved, replaced, full, damaged or locked (contract 2.4, 9.4).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use trackpost::clock::Stopwatch;

use crate::harness::child::{Daemon, Site, until};
use crate::harness::disk::{database, fails, side_file, site};
use crate::harness::{connect, free_address};

async fn runs(site: &Site, before: &str) -> Daemon {
    let daemon = site.start_after(before);
    daemon.logged("started: ", 1).await;
    daemon
}

#[tokio::test]
async fn a_daemon_whose_database_is_lost_logs_it_and_exits() {
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 6] = [
        ("was removed or moved", |path| {
            for suffix in ["", "-wal", "-shm", ".lock"] {
                fs::remove_file(side_file(path, suffix)).unwrap();
            }
        }),
        ("was removed or moved", |path| fs::rename(path, side_file(path, ".moved")).unwrap()),
        ("was replaced", |path| {
            fs::copy(path, side_file(path, ".copy")).unwrap();
            fs::rename(side_file(path, ".copy"), path).unwrap();
        }),
        ("was emptied", |path| fs::write(path, []).unwrap()),
        ("lost its -wal file", |path| fs::remove_file(side_file(path, "-wal")).unwrap()),
        ("was removed or moved", |path| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let site = site(3).await;
        let daemon = runs(&site, ":").await;
        site.received(|counts| counts.received >= 1).await;
        lose(&database(&site));
        let log = fails(daemon).await;
        let expected =
            format!("error: the database {} {what} while trackpost runs on it", database(&site).display());
        assert!(log.contains(&expected), "{expected} is missing in:\n{log}");
        assert!(log.contains("hint: nothing is polled or delivered: put the database back"), "{log}");
    }
}

#[tokio::test]
async fn an_idle_daemon_detects_a_lost_database_within_ten_seconds() {
    let site = site(0).await;
    let daemon = runs(&site, ":").await;
    fs::remove_file(database(&site)).unwrap();
    let watch = Stopwatch::start();
    fails(daemon).await;
    assert!(watch.elapsed().as_secs() < 10, "{:?}", watch.elapsed());
}

#[tokio::test]
async fn every_delivery_is_recorded_in_the_moved_file() {
    let site = site(20).await;
    let daemon = runs(&site, ":").await;
    site.received(|counts| counts.received >= 10).await;
    let moved = site.directory().join("moved.db");
    fs::rename(database(&site), &moved).unwrap();
    fails(daemon).await;
    assert_eq!(fs::metadata(side_file(&database(&site), "-wal")).map_or(0, |wal| wal.len()), 0);

    let mut connection = connect(&moved).await;
    let recorded: Vec<String> =
        sqlx::query_scalar("SELECT message_id FROM messages").fetch_all(&mut connection).await.unwrap();
    let recorded: BTreeSet<String> = recorded.into_iter().collect();
    let accepted = site.receiver.accepted();
    let unknown: Vec<&String> = accepted.unique().iter().filter(|id| !recorded.contains(*id)).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[tokio::test]
async fn another_name_of_the_database_does_not_admit_a_second_daemon() {
    let site = site(1).await;
    let mut first = runs(&site, ":").await;
    let text = fs::read_to_string(site.directory().join("trackpost.toml")).unwrap();
    symlink(database(&site), site.directory().join("symbolic.db")).unwrap();
    fs::hard_link(database(&site), site.directory().join("hard.db")).unwrap();
    fs::remove_file(side_file(&database(&site), ".lock")).unwrap();
    for name in ["data/trackpost.db", "symbolic.db", "hard.db"] {
        site.write("trackpost.toml", &text.replace("data/trackpost.db", name));
        let log = fails(site.start()).await;
        let expected = format!("{} is in use by another trackpost", site.directory().join(name).display());
        assert!(log.contains(&expected), "{log}");
    }
    // A command that used the other name would write into a journal that the daemon does not read.
    let (code, _, printed) = site.run_command(&["labels", "list"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("hard.db open under another name"), "{printed}");
    first.kill();
    runs(&site, ":").await.stop().await;
}

#[tokio::test]
async fn the_database_and_its_side_files_are_private() {
    let site = site(1).await;
    let daemon = runs(&site, "umask 0").await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = side_file(&database(&site), suffix).metadata().unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "trackpost.db{suffix}");
    }
    assert!(!daemon.log().contains("others can read"), "{}", daemon.log());
    daemon.stop().await;
    fs::set_permissions(database(&site), PermissionsExt::from_mode(0o644)).unwrap();
    let daemon = runs(&site, ":").await;
    assert!(
        daemon.log().contains("other users can read the database; to change this: chmod 600"),
        "{}",
        daemon.log()
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_new_or_emptied_database_is_logged() {
    let site = site(0).await;
    let expected = format!("a new, empty database was created: {}", database(&site).display());
    for (is_new, prepare) in [(true, false), (false, false), (true, true)] {
        if prepare {
            fs::write(database(&site), []).unwrap();
        }
        let daemon = runs(&site, ":").await;
        assert_eq!(daemon.log().contains(&expected), is_new, "{}", daemon.log());
        daemon.stop().await;
    }
}

/// A limit of the file size simulates a full disk: SQLite gets a write error.
#[tokio::test]
async fn a_full_disk_is_logged_with_the_path() {
    let site = site(40).await;
    let daemon = runs(&site, "trap '' XFSZ; ulimit -f 1000").await;
    let log = fails(daemon).await;
    let expected = format!("the database {} failed: the disk reports an error", database(&site).display());
    assert!(log.contains(&expected), "{log}");
    assert!(log.contains("hint: check the disk"), "{log}");
    runs(&site, ":").await.stop().await;
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_unchanged() {
    let site = site(0).await;
    runs(&site, ":").await.stop().await;
    let mut bytes = fs::read(database(&site)).unwrap();
    bytes[8192..16384].fill(0x5a);
    fs::write(database(&site), &bytes).unwrap();
    let log = fails(site.start()).await;
    assert!(log.contains(&database(&site).display().to_string()) && log.contains("it is damaged"), "{log}");
    assert!(log.contains("restore a backup"), "{log}");
    assert_eq!(fs::read(database(&site)).unwrap(), bytes);
}

#[tokio::test]
async fn a_command_without_write_access_prints_a_remedy() {
    let site = site(0).await;
    runs(&site, ":").await.stop().await;
    fs::set_permissions(site.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(database(&site), PermissionsExt::from_mode(0o400)).unwrap();
    let trackpost = env!("CARGO_BIN_EXE_trackpost");
    // Root may write everywhere, so the test switches to another user.
    let user = "[ $(id -u) != 0 ] || exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$0\" \"$@\"; \
                exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", user, trackpost, "labels", "list"])
        .env("TRACKPOST_CONFIG", site.directory().join("trackpost.toml"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains(&database(&site).display().to_string()), "{printed}");
    assert!(
        printed.contains("commands that read need write access too: run as the service's user or with sudo"),
        "{printed}"
    );
}

#[tokio::test]
async fn health_reports_a_lost_database() {
    let site = site(0).await;
    let text = fs::read_to_string(site.directory().join("trackpost.toml")).unwrap();
    let port = free_address().port();
    site.write("trackpost.toml", &text.replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\"")));
    let daemon = runs(&site, ":").await;
    fs::remove_file(database(&site)).unwrap();
    let mut answers = Vec::new();
    let ended = until(|| {
        answers.extend(crate::status::get(port, "host: localhost\r\n"));
        daemon.log().contains("trackpost cannot continue")
    });
    assert!(ended.await.is_ok());
    let failing = answers.iter().find(|(status, _)| *status == 503);
    let failing = failing.unwrap_or_else(|| panic!("{answers:?}")).1.to_string();
    assert!(failing.contains("was removed or moved"), "{failing}");
    fails(daemon).await;
}
