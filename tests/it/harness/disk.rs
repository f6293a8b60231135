//! Sites whose database has a directory of its own, and daemons that fail.

use std::fs;
use std::path::{Path, PathBuf};

use trackpost::sandbox::{Carrier, JourneyKind, SandboxOptions};

use super::child::{Daemon, Site};

/// Returns a site with parcels that change constantly, or without parcels. The directory of the database can be moved.
pub async fn site(parcels: usize) -> Site {
    let site = Site::new(SandboxOptions { time_factor: 86_400.0, ..Default::default() }).await;
    let ids: Vec<String> = (0..parcels).map(|n| format!("se-{n}")).collect();
    for id in &ids {
        site.sandbox.create_on(&id.parse().unwrap(), JourneyKind::Delivered, Carrier::Ups);
    }
    fs::create_dir(site.directory().join("data")).unwrap();
    let text = site.configuration(&format!("{ids:?}"), "");
    site.write("trackpost.toml", &text.replace("/trackpost.db", "/data/trackpost.db"));
    site
}

pub fn database(site: &Site) -> PathBuf {
    site.directory().join("data/trackpost.db")
}

/// Returns the side file of a database: `-wal`, `-shm`, `.lock`.
pub fn side_file(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// Waits for exit 1. Returns the log.
pub async fn fails(mut daemon: Daemon) -> String {
    let status = daemon.ended().await;
    let log = daemon.log();
    assert_eq!(status.code(), Some(1), "{log}");
    log
}
