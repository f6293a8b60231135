//! Waits for one thing without leaving alone what is under way.
//!
//! Futures in a `FuturesUnordered` stand still while their owner awaits something else, and what they hold stands still
//! with them: a loop that waits for a connection to the database while its own polls hold all of them waits for ever.

use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// Awaits `work` while `under_way` goes on; gives what `work` came to, and what ended meanwhile.
pub async fn beside<T, F: Future>(
    under_way: &mut FuturesUnordered<F>,
    work: impl Future<Output = T>,
) -> (T, Vec<F::Output>) {
    let mut work = pin!(work);
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, ended),
            Some(one) = under_way.next(), if !under_way.is_empty() => ended.push(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_under_way_lets_go_of_what_the_work_needs() {
        let only = Semaphore::new(1);
        let mut under_way = FuturesUnordered::new();
        under_way.push(async {
            let _held = only.acquire().await;
            tokio::task::yield_now().await;
            7
        });
        // It holds the only permit now, and stands still.
        assert!(under_way.next().now_or_never().is_none());
        let (permitted, ended) = beside(&mut under_way, only.acquire()).await;
        assert!(permitted.is_ok());
        assert_eq!(ended, [7]);
    }
}
