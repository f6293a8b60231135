//! Disks that fail: a full or read-only disk at any write, a torn or damaged log, damaged pages (contract 9.4).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trackpost::clock;
use trackpost::sandbox::ledger::Follows;
use trackpost::store::damage_check::DamageCheckPosition;
use trackpost::store::wal::{LostCommits, lost_commits};
use trackpost::store::{self, StoreError};

use crate::harness::child::{Site, until};
use crate::harness::connect;
use crate::harness::disk::{database, fails, side_file, site};

const PARCELS: usize = 40;

fn wal_of(path: &Path) -> PathBuf {
    side_file(path, "-wal")
}

/// Runs until every parcel is delivered, and compares the receiver with the database.
async fn everything_arrives(site: &Site) {
    let daemon = site.start();
    let delivered = || {
        let callbacks = site.receiver.callbacks();
        let labels = callbacks.into_iter().filter(|callback| {
            callback.kind.as_deref() == Some("tracking.delivered") && callback.answered == Some(200)
        });
        labels.filter_map(|callback| callback.label_id).collect::<std::collections::BTreeSet<_>>().len()
    };
    let arrived = until(|| delivered() == PARCELS).await;
    assert!(arrived.is_ok(), "{} of {PARCELS} arrived:\n{}", delivered(), daemon.log());
    let mut connection = connect(&database(site)).await;
    loop {
        let pending = sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE state = 'pending'");
        let pending: i64 = pending.fetch_one(&mut connection).await.unwrap();
        if pending == 0 {
            break;
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
    drop(connection);
    daemon.stop().await;
    fs::copy(database(site), site.database()).unwrap();
    site.inspect();
    site.check_received(&[("orders", Follows::Events)]).await;
}

/// Writes fail at an offset of the file, as with a full disk: while the schema, a poll, a batch or a checkpoint is
/// written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_anywhere_is_logged_and_loses_nothing() {
    for blocks in [100, 200, 300, 400, 500] {
        let site = site(PARCELS).await;
        let log = fails(site.start_after(&format!("trap '' XFSZ; ulimit -f {blocks}"))).await;
        assert!(log.contains(&database(&site).display().to_string()), "{blocks}: {log}");
        assert!(log.contains("the disk reports an error") && log.contains("hint: "), "{blocks}: {log}");
        everything_arrives(&site).await;
    }
}

/// A small file system, if this machine allows to mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(path.to_owned()))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The daemon may not have ended after a failed assertion.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_and_a_read_only_disk_are_logged_and_lose_nothing() {
    let site = site(PARCELS).await;
    let Some(disk) = Disk::mount(&site.directory().join("data"), "size=300k") else { return };
    let log = fails(site.start()).await;
    assert!(log.contains("the disk is full") || log.contains("the disk reports an error"), "{log}");
    assert!(log.contains("hint: "), "{log}");
    disk.remount("size=64m,ro");
    let log = fails(site.start()).await;
    assert!(log.contains(&database(&site).display().to_string()), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    disk.remount("size=64m,rw");
    everything_arrives(&site).await;
}

/// Runs a daemon for a while and kills it. Returns the site and a copy of its database with a log of many commits.
async fn killed() -> (Site, PathBuf) {
    let site = site(PARCELS).await;
    let mut daemon = site.start();
    site.received(|counts| counts.received >= 60).await;
    daemon.kill();
    let copy = site.directory().join("copy.db");
    fs::copy(database(&site), &copy).unwrap();
    fs::copy(wal_of(&database(&site)), wal_of(&copy)).unwrap();
    (site, copy)
}

/// Opens a copy with this log. Returns the number of deliveries, and the rules that the database violates.
async fn opened(copy: &Path, log: &[u8]) -> Result<(usize, Vec<String>), StoreError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trackpost.db");
    fs::copy(copy, &path).unwrap();
    fs::write(wal_of(&path), log).unwrap();
    let (store, writer) = store::open(&path).await?;
    let writer = tokio::spawn(writer.run());
    let result = (store.expected_deliveries().await?.len(), store.violations().await?);
    store.close().await;
    writer.await.unwrap();
    Ok(result)
}

const HEADER: usize = 32;
const FRAME: usize = 24 + 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_or_damaged_log_keeps_every_commit_before_the_damage() {
    let (_site, copy) = killed().await;
    let log = fs::read(wal_of(&copy)).unwrap();
    let frames = (log.len() - HEADER) / FRAME;
    let whole = opened(&copy, &log).await.unwrap().0;
    assert!(frames > 100 && whole > 50, "{frames} frames, {whole} deliveries");
    assert_eq!(lost_commits(&copy).unwrap(), None);
    let mut before = 0;
    // The schema is in the first frames.
    for frame in (0..=5).map(|fifth| frames - frames / 2 + frames / 2 * fifth / 5) {
        let end = HEADER + frame * FRAME;
        let (deliveries, broken) = opened(&copy, &log[..end]).await.unwrap();
        assert_eq!(broken, Vec::<String>::new(), "cut after {frame} of {frames} frames");
        assert!((before..=whole).contains(&deliveries), "{deliveries} after {before}");
        before = deliveries;
        for inside in [1, 24, 500, 1_000].into_iter().filter(|inside| end + inside < log.len()) {
            let cut = opened(&copy, &log[..end + inside]).await.unwrap();
            assert_eq!(cut, (deliveries, Vec::new()), "cut {inside} bytes after {frame} frames");
            let mut flipped = log.clone();
            flipped[end + inside] ^= 0x10;
            assert_eq!(
                opened(&copy, &flipped).await.unwrap(),
                cut,
                "a bit {inside} bytes after {frame} frames"
            );
            fs::write(wal_of(&copy), &flipped).unwrap();
            let lost = lost_commits(&copy).unwrap();
            let after = log[end..].chunks(FRAME).filter(|frame| frame[4..8] != [0; 4]).count() as u64;
            let expected = LostCommits { frame: frame as u64 + 1, commits: after };
            assert_eq!(lost, Some(expected).filter(|_| after > 1));
            fs::write(wal_of(&copy), &log[..end + inside]).unwrap();
            assert_eq!(lost_commits(&copy).unwrap(), None, "a torn end is not damage");
        }
    }
    assert_eq!(before, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_logged_and_the_lost_part_is_repeated() {
    let (site, copy) = killed().await;
    let mut log = fs::read(wal_of(&copy)).unwrap();
    let middle = log.len() * 2 / 3;
    log[middle] ^= 1;
    fs::write(wal_of(&database(&site)), &log).unwrap();
    let daemon = site.start();
    daemon.logged("-wal file is damaged", 1).await;
    daemon.logged("Check the disk", 1).await;
    let arrived = until(|| site.receiver.counts().repeated > 0).await;
    assert!(arrived.is_ok(), "lost deliveries are repeated under their ids:\n{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_found_at_the_start_or_by_the_daily_check() {
    let (_site, copy) = killed().await;
    let log = fs::read(wal_of(&copy)).unwrap();
    opened(&copy, &log).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trackpost.db");
    // A clean copy without a log.
    fs::copy(&copy, &path).unwrap();
    fs::write(wal_of(&path), &log).unwrap();
    let (store, writer) = store::open(&path).await.unwrap();
    let writer = tokio::spawn(writer.run());
    store.close().await;
    writer.await.unwrap();
    drop(store);
    let clean = fs::read(&path).unwrap();
    let pages = clean.len() / 1024;
    let (mut refused, mut unharmed) = (0, 0);
    for page in (0..pages).step_by(pages / 40) {
        let mut damaged = clean.clone();
        damaged[page * 1024..(page + 1) * 1024].fill(0x5a);
        fs::write(&path, &damaged).unwrap();
        match store::open(&path).await {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&path.display().to_string()), "{text}");
                assert!(error.hint().is_some_and(|hint| hint.contains("restore a backup")), "{text}");
                refused += 1;
            }
            // A free page.
            Ok((store, writer)) => {
                drop(writer);
                assert_eq!(store.violations().await.unwrap(), Vec::<String>::new(), "page {page}");
                unharmed += 1;
            }
        }
    }
    assert!(refused > 30 && unharmed < 10, "{refused} refused, {unharmed} unharmed");

    // While it runs: the daily check reads every row in steps.
    fs::write(&path, &clean).unwrap();
    let (store, writer) = store::open(&path).await.unwrap();
    let (mut position, mut steps) = (Some(DamageCheckPosition::default()), 0);
    while let Some(next) = position {
        position = store.check_for_damage(next, 7).await.unwrap();
        steps += 1;
    }
    assert!(steps > 40, "{steps}");
    drop((store, writer));
    let (store, writer) = store::open(&path).await.unwrap();
    let mut damaged = clean.clone();
    damaged[pages / 3 * 1024..pages * 2 / 3 * 1024].fill(0x5a);
    fs::write(&path, &damaged).unwrap();
    let mut position = DamageCheckPosition::default();
    let error = loop {
        match store.check_for_damage(position, 500).await {
            Ok(Some(next)) => position = next,
            Ok(None) => panic!("the damage is not found"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("restore a backup")), "{error}");
    drop(writer);
}
