//! The signals that end a verb which serves until it is told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Hears SIGINT and SIGTERM from now on; what is returned waits for the first of them.
pub fn told_to_stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
