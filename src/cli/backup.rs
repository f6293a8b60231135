//! `trackpost backup FILE`: a consistent copy of the live database.

use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, args, existing_database, output, readable};
use crate::clock;
use crate::store::backup::Backup;

/// So often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(3);

pub async fn run(config: &Path, what: &args::Backup) -> Result<ExitCode, Failure> {
    let database = existing_database(&readable(config)?.config.store.path)?;
    let backup = Backup::begin(&database, &what.file).await?;
    let (partial, expected) = (backup.partial().to_owned(), backup.expected_bytes());
    let mut writing = pin!(backup.write());
    let mut interrupted = pin!(crate::daemon::told_to_stop()?);
    let written = loop {
        tokio::select! {
            written = &mut writing => break written?,
            () = &mut interrupted => return Err(Failure::new("the backup was interrupted; nothing was kept")),
            () = clock::sleep(PROGRESS) => {
                let bytes = partial.metadata().map_or(0, |file| file.len());
                let end = if std::io::stderr().is_terminal() { "\u{1b}[K\r" } else { "\n" };
                output::progress(format!("{} of about {} copied{end}", size(bytes), size(expected)));
            }
        }
    };
    output::line(format!("{}: {}, checked", what.file.display(), size(written.bytes)));
    Ok(ExitCode::SUCCESS)
}

fn size(bytes: u64) -> String {
    let mut unit = ("B", 1);
    for (name, factor) in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)] {
        if bytes >= factor {
            unit = (name, factor);
        }
    }
    let tenths = u128::from(bytes) * 10 / u128::from(unit.1);
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, shown) in [(0, "0.0 B"), (1536, "1.5 KiB"), (u64::MAX, "17179869183.9 GiB")] {
            assert_eq!(size(bytes), shown);
        }
    }
}
