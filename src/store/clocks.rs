//! The clock of the last run, by which the next one recognises a jump between two runs (contract 9.5).
//!
//! Counted requests and waits that must last for their real time are stored by the wall clock. After a jump of the wall
//! clock they are moved by the jump, so that their age stays right.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sqlx::SqliteConnection;

use super::{Store, StoreError, at, json, ms};
use crate::domain::clock::{ClockRecord, Gaps, Mark, seconds_of};

impl Store {
    /// Returns the record of the last run; `None` in a new database.
    pub async fn last_run(&self) -> Result<Option<ClockRecord>, StoreError> {
        let row = sqlx::query!("SELECT wall, uptime, machine, gaps FROM clock")
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| {
            let gaps: Vec<(i64, i64)> = serde_json::from_str(&row.gaps).unwrap_or_default();
            let gaps = gaps.into_iter().map(|(from, to)| (at(from), at(to))).collect();
            ClockRecord { mark: mark(row.wall, row.uptime, row.machine), gaps: Arc::new(Gaps::new(gaps)) }
        }))
    }

    /// Begins a run after a `jump` of the clock: everything that must last for its real time is moved with it.
    pub async fn begin_run(&self, now: ClockRecord, jump: SignedDuration) -> Result<(), StoreError> {
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    write(tx, &now).await?;
                    if jump.is_zero() {
                        return Ok(());
                    }
                    move_requests(tx, jump).await?;
                    let jump = i64::try_from(jump.as_millis()).unwrap_or_default();
                    sqlx::query!("UPDATE accounts SET throttled_until = throttled_until + ?", jump)
                        .execute(&mut *tx)
                        .await?;
                    sqlx::query!("UPDATE quotas SET throttled_at = throttled_at + ?", jump)
                        .execute(&mut *tx)
                        .await?;
                    sqlx::query!("UPDATE carriers SET held_until = held_until + ?", jump)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}

fn mark(wall: i64, uptime: i64, machine: Option<Vec<u8>>) -> Mark {
    let machine = machine.and_then(|digest| digest.try_into().ok());
    Mark { wall: at(wall), uptime: Duration::from_millis(uptime.unsigned_abs()), machine }
}

/// Moves the counted requests by the jump of the clock since the last call, in an open transaction.
pub(super) async fn align(tx: &mut SqliteConnection, now: &ClockRecord) -> Result<(), sqlx::Error> {
    let last = sqlx::query!("SELECT wall, uptime, machine FROM clock").fetch_optional(&mut *tx).await?;
    let jump = last.map(|last| mark(last.wall, last.uptime, last.machine).jump_until(now.mark));
    if let Some(jump) = jump.filter(|jump| !jump.is_zero()) {
        move_requests(tx, jump).await?;
    }
    write(tx, now).await
}

async fn move_requests(tx: &mut SqliteConnection, jump: SignedDuration) -> Result<(), sqlx::Error> {
    let seconds = seconds_of(jump);
    // The sign keeps the keys of the two statements apart.
    sqlx::query!("UPDATE requests SET second = -(second + ?)", seconds).execute(&mut *tx).await?;
    sqlx::query!("UPDATE requests SET second = -second").execute(&mut *tx).await?;
    Ok(())
}

async fn write(tx: &mut SqliteConnection, now: &ClockRecord) -> Result<(), sqlx::Error> {
    let wall = ms(now.mark.wall);
    let uptime = i64::try_from(now.mark.uptime.as_millis()).unwrap_or(i64::MAX);
    let machine = now.mark.machine.map(|digest| digest.to_vec());
    let gaps: Vec<(i64, i64)> = now.gaps.iter().map(|(from, to)| (ms(*from), ms(*to))).collect();
    let gaps = json(&gaps);
    sqlx::query!(
        "INSERT INTO clock (clock_key, wall, uptime, machine, gaps) VALUES (1, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET wall = excluded.wall, uptime = excluded.uptime, machine = excluded.machine,
            gaps = excluded.gaps",
        wall,
        uptime,
        machine,
        gaps
    )
    .execute(tx)
    .await?;
    Ok(())
}
