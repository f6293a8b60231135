//! `trackpost backup FILE`: a consistent copy of the live database.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanBytes;

use super::progress::{Progress, Unit};
use super::{Failure, args, existing_database, output, readable};
use crate::clock;
use crate::store::backup::Backup;

/// Interval at which the size of the copy is read.
const READ_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(config: &Path, args: &args::Backup) -> Result<ExitCode, Failure> {
    let database = existing_database(&readable(config)?.config.store.path)?;
    let backup = Backup::begin(&database, &args.file).await?;
    let partial = backup.partial().to_owned();
    let mut progress = Progress::new("backup", Unit::Bytes, Some(backup.expected_bytes()));
    let mut writing = pin!(backup.write());
    let mut interrupted = pin!(crate::daemon::stop_signal()?);
    let bytes = loop {
        tokio::select! {
            written = &mut writing => break written?,
            () = &mut interrupted => return Err(Failure::new("the backup was interrupted; nothing was kept")),
            () = clock::sleep(READ_INTERVAL) => progress.set(partial.metadata().map_or(0, |file| file.len())),
        }
    };
    drop(progress);
    output::line(format!("{}: {}, checked", args.file.display(), HumanBytes(bytes)));
    Ok(ExitCode::SUCCESS)
}
