//! The discoverer: the worker that finds the new labels of one account.
//!
//! Each page of the list takes three short steps: acquire a permit, send the request, write the result. No transaction
//! is open across HTTP. A long walk pauses between two pages, so that it takes at most one request in four, and resumes
//! at the same page. Voided labels are found while they are among the newest, and later by a walk over voided labels
//! only.
//!
//! Crash point: after the request and before the write, the page is requested again. The position moves with the labels
//! in one transaction, and labels that are registered already stay.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock::{self, StepClock};
use crate::crash::CrashPoint;
use crate::domain::polling::discovery::{
    LIST_REFUSAL_GRACE, ListPage, ListRequest, PageResult, Walker, account_signal,
};
use crate::domain::time::{earlier, later};
use crate::domain::tracking::reading::Reading;
use crate::store::StoreError;
use crate::store::discovery::{Discovered, DiscoveryChanges};
use crate::workers::account_access::{AccountAccess, AllowedRequest, Permit, RequestKind};
use crate::workers::courier::CurrentSubscribers;
use crate::workers::heartbeat::Heartbeat;

/// Wait before the next try if the time of the next free permit is unknown.
const PERMIT_RETRY: SignedDuration = SignedDuration::from_millis(500);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Walks the list of labels of one account.
pub struct Discoverer {
    access: Arc<AccountAccess>,
    /// URL of the list.
    url: String,
    /// Subscribers, for messages about the account.
    subscribers: CurrentSubscribers,
    heartbeat: Heartbeat,
    walker: Walker,
}

impl Discoverer {
    /// Reads the position of an earlier process; `None` for an account without discovery.
    pub async fn new(
        access: Arc<AccountAccess>,
        subscribers: CurrentSubscribers,
        heartbeat: Heartbeat,
    ) -> Result<Option<Self>, StoreError> {
        let url = access.account.labels_url().filter(|_| access.account.discover.enabled);
        let Some(url) = url else { return Ok(None) };
        let progress = access.store.discovery_progress(&access.account.name).await?;
        let walker = Walker::new(access.account.discover, progress);
        Ok(Some(Self { access, url, subscribers, heartbeat, walker }))
    }

    /// Walks until `shutdown`, then waits for the request in flight.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        loop {
            let wake = self.step(clock::now()).await?;
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                () = clock::sleep_until(wake) => {}
                () = clock::sleep(HEARTBEAT_INTERVAL) => {}
            }
        }
    }

    /// Does one bounded piece of work: a page of the list, if one is due and a request is allowed. Returns when there
    /// is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.heartbeat.beat(now);
        let request = match self.walker.next_request(now) {
            Ok(request) => request,
            Err(at) => return Ok(at),
        };
        let permit = match self.acquire_permit(now).await? {
            Ok(permit) => permit,
            Err(free_at) => return Ok(free_at.unwrap_or_else(|| later(now, PERMIT_RETRY))),
        };
        let allowed = permit.allowed;
        let running = StepClock::since(now);
        let answer = self.request_page(request, now).await;
        drop(permit);
        let at = running.now();
        self.report_answer(answer.as_ref().err(), allowed, at).await?;
        match answer {
            Ok(page) => self.store_page(page, at).await?,
            Err(reading) => self.postpone(&reading, at),
        }
        self.heartbeat.beat(at);
        Ok(self.walker.paused_until().unwrap_or(at))
    }

    /// Acquires a permit. If the account is not ok and no label is due, this request is the probe.
    async fn acquire_permit(&self, now: Timestamp) -> Result<Result<Permit, Option<Timestamp>>, StoreError> {
        let access = &self.access;
        let is_probe = access.probing() && !access.any_due(now);
        access.acquire(if is_probe { RequestKind::Poll } else { RequestKind::Other }, now).await
    }

    async fn request_page(&self, request: ListRequest, now: Timestamp) -> Result<ListPage, Reading> {
        let answer = self.access.client.list(&self.access.account, &self.url, request, now);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                // The request may take longer than the heartbeat interval.
                () = clock::sleep(HEARTBEAT_INTERVAL) => self.heartbeat.beat(clock::now()),
            }
        }
    }

    /// Records the request and the effect of its answer on the account.
    async fn report_answer(
        &self,
        failure: Option<&Reading>,
        allowed: AllowedRequest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let recently_answered = self.access.answered_since(earlier(now, LIST_REFUSAL_GRACE));
        let signal = account_signal(failure, allowed.probe, recently_answered);
        let observed = signal.and_then(|signal| self.access.observe(None, &signal, allowed, now));
        self.access.record_usage(now).await?;
        let Some(observed) = observed else { return Ok(()) };
        let record = self.access.account_record(observed, &Arc::clone(&self.subscribers.borrow()), now);
        self.access.store.record_account(record).await
    }

    async fn store_page(&mut self, page: ListPage, now: Timestamp) -> Result<(), StoreError> {
        let account = &self.access.account;
        let (listed, invalid_ids) = (page.labels.len(), page.invalid_ids);
        let before = self.walker.progress();
        let page = self.walker.take(page, self.access.allowed(now), now);
        let PageResult { tracked, voided, filter_ignored, endless, .. } = page;
        let progress = self.walker.progress();
        // Crash point: the same page is requested again.
        CrashPoint::PageRead.reached();
        if progress != before || !tracked.is_empty() || !voided.is_empty() {
            let found = Discovered { account: account.name.clone(), tracked, voided, progress };
            let changes = self.access.store.write_discovered(&found, now).await?;
            if changes.added + changes.withdrawn > 0 {
                let DiscoveryChanges { added, withdrawn } = changes;
                info!(account = %account.name, added, withdrawn,
                    "labels discovered: {added} added, {withdrawn} withdrawn");
            }
        }
        debug!(account = %account.name, listed, "label list: page read");
        if invalid_ids > 0 {
            warn!(account = %account.name, labels = invalid_ids, "label list: labels without a valid id are ignored");
        }
        if filter_ignored {
            warn!(account = %account.name, "label list: the API ignores the filter for voided labels; a label that is voided late is still polled");
        }
        if endless {
            warn!(account = %account.name, "label list: it has no end; labels after this page are not registered");
        }
        Ok(())
    }

    fn postpone(&mut self, reading: &Reading, now: Timestamp) {
        let Some(wait) = self.walker.fail(reading, now) else { return };
        let (account, detail) = (&self.access.account.name, reading.detail().unwrap_or_default());
        warn!(account = %account, outcome = reading.as_str(), detail, retry_s = wait.as_secs(), "label list: request failed");
    }
}
