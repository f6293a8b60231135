//! Damage of the write-ahead log (`-wal`), found before SQLite reads it.
//!
//! SQLite uses the log up to the first frame with a wrong checksum and ignores the rest without an error. That is right
//! for a transaction that was being written when the machine failed. It is damage if later transactions follow, because
//! a transaction begins only after the one before is on the disk (`synchronous = FULL`).

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::StoreError;
use super::file::beside;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The lowest bit of the magic number: checksums read the log in big-endian words.
const MAGIC: u32 = 0x377f_0682;

/// Commits that the damage makes unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCommits {
    /// The damaged frame, from 1; 0: the header.
    pub frame: u64,
    pub commits: u64,
}

/// Writes the part of a damaged log before the damage to the database and empties the log, so that the next start does
/// not report the same damage.
pub async fn empty_log(path: &Path) -> Result<(), StoreError> {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Returns the commits that SQLite will ignore because the log of the database at `path` is damaged before them, if
/// any. No other process may write.
pub fn lost_commits(path: &Path) -> io::Result<Option<LostCommits>> {
    let file = match File::open(beside(path, "-wal")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER];
    if file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let page = word(&header, 8) as usize;
    if word(&header, 0) & !1 != MAGIC || !(512..=65_536).contains(&page) || !page.is_power_of_two() {
        return Ok(None);
    }
    let salt = &header[16..24];
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    let mut damaged = (sum != (word(&header, 24), word(&header, 28))).then_some(0);
    let mut frame = vec![0; FRAME_HEADER + page];
    let mut commits = 0;
    for number in 1.. {
        if file.read_exact(&mut frame).is_err() {
            break;
        }
        let is_of_this_log = &frame[8..16] == salt;
        if damaged.is_none() {
            sum = checksum(sum, &frame[..8], big_endian);
            sum = checksum(sum, &frame[FRAME_HEADER..], big_endian);
            if !is_of_this_log || sum != (word(&frame, 16), word(&frame, 20)) {
                damaged = Some(number);
            }
        }
        // The size of the database is set in the last frame of a transaction.
        commits += u64::from(damaged.is_some() && is_of_this_log && word(&frame, 4) > 0);
    }
    // The last transaction may have been cut off by a power loss.
    Ok(damaged.filter(|_| commits > 1).map(|frame| LostCommits { frame, commits }))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// SQLite's checksum of the log, continued over `bytes`.
fn checksum((mut a, mut b): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.as_chunks::<8>().0 {
        let [first, second] = [&pair[..4], &pair[4..]].map(|half| read(half.try_into().expect("four bytes")));
        a = a.wrapping_add(first).wrapping_add(b);
        b = b.wrapping_add(second).wrapping_add(a);
    }
    (a, b)
}
