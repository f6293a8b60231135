//! A webhook receiver that verifies and records callbacks.
//!
//! Written only from the documentation for receivers, as a subscriber would write it. It checks the signature over the
//! raw body, sends the configured answer, and records its side of the [`super::ledger`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{self, Request};
use axum::http::Response;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::domain::messages::signature::SigningSecret;

use super::Clock;
use super::answer::Answer;
use super::callback::{ReceivedCallback, Verified};
use super::journal::Journal;
use super::ledger::{Accepted, Counts};
use super::script::AnswerScript;
use super::server::{delay, serve};

/// Maximum size of a body in bytes; a longer one is answered with 413.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Options of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// A signature is good if it is valid for one of these secrets; empty: signatures are not checked.
    pub secrets: Vec<SigningSecret>,
    /// The answer to a callback without a bad signature.
    pub answer: Answer,
    /// Number of callbacks kept with their bodies; the ledger counts all.
    pub keep: usize,
    /// Receives every answered callback.
    pub watch: Option<mpsc::UnboundedSender<ReceivedCallback>>,
    /// Whether signatures are verified at their own timestamp, for senders with a wrong clock.
    pub any_time: bool,
    pub clock: Clock,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            answer: Answer::status(200),
            keep: usize::MAX,
            watch: None,
            any_time: false,
            clock: Clock::default(),
        }
    }
}

/// Chooses the answer to a callback; `None` continues with the usual choice.
type Rule = Arc<dyn Fn(&ReceivedCallback) -> Option<Answer> + Send + Sync>;

struct ReceiverShared {
    secrets: Vec<SigningSecret>,
    clock: Clock,
    any_time: bool,
    watch: Option<mpsc::UnboundedSender<ReceivedCallback>>,
    closing: watch::Sender<bool>,
    counts: watch::Sender<Counts>,
    state: Mutex<ReceiverState>,
}

struct ReceiverState {
    answer: Answer,
    script: AnswerScript,
    rule: Option<Rule>,
    journal: Journal<ReceivedCallback>,
    accepted: Accepted,
}

impl ReceiverShared {
    fn lock(&self) -> MutexGuard<'_, ReceiverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver that is bound to its port; [`Receiver::serve`] serves it.
pub struct Receiver {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<ReceiverShared>,
}

impl Receiver {
    pub async fn bind(listen: SocketAddr, options: ReceiverOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(ReceiverShared {
            secrets: options.secrets,
            clock: options.clock,
            any_time: options.any_time,
            watch: options.watch,
            closing: watch::Sender::new(false),
            counts: watch::Sender::new(Counts::default()),
            state: Mutex::new(ReceiverState {
                answer: options.answer,
                script: AnswerScript::default(),
                rule: None,
                journal: Journal::new(options.keep),
                accepted: Accepted::default(),
            }),
        });
        Ok(Self { listener, addr, shared })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every path is accepted. Each path is a separate subscriber: one message on two paths is not a repetition.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    pub fn handle(&self) -> ReceiverHandle {
        ReceiverHandle(self.shared.clone())
    }

    /// Serves until `shutdown`. Running answers are sent within two seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let router = Router::new().fallback(receive).with_state(self.shared.clone());
        serve(self.listener, router, self.shared.closing.clone(), shutdown).await
    }
}

/// Reads and controls a running receiver; clones control the same one.
#[derive(Clone)]
pub struct ReceiverHandle(Arc<ReceiverShared>);

impl fmt::Debug for ReceiverHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiverHandle").field(&self.counts()).finish()
    }
}

impl ReceiverHandle {
    /// Returns the received callbacks, oldest first.
    pub fn callbacks(&self) -> Vec<ReceivedCallback> {
        self.0.lock().journal.iter().cloned().collect()
    }

    pub fn counts(&self) -> Counts {
        self.0.lock().accepted.counts()
    }

    /// A copy of the receiver's side of the ledger.
    pub fn accepted(&self) -> Accepted {
        self.0.lock().accepted.clone()
    }

    /// Reads the receiver's side of the ledger in place.
    pub fn with_accepted<T>(&self, read: impl FnOnce(&Accepted) -> T) -> T {
        read(&self.0.lock().accepted)
    }

    /// Answers the next requests with these, one each, with good or bad signature; then continues as before.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut state = self.0.lock();
        answers.into_iter().for_each(|answer| state.script.push_once(answer));
    }

    /// Sets the default answer.
    pub fn answer_always(&self, answer: Answer) {
        self.0.lock().answer = answer;
    }

    /// Applies `rule` first, to every request.
    pub fn answer_by(&self, rule: impl Fn(&ReceivedCallback) -> Option<Answer> + Send + Sync + 'static) {
        self.0.lock().rule = Some(Arc::new(rule));
    }

    /// Waits until the counts are `enough`. The caller sets a timeout.
    pub async fn wait_until(&self, mut enough: impl FnMut(&Counts) -> bool) {
        // The handle keeps the sender alive.
        let _ = self.0.counts.subscribe().wait_for(|counts| enough(counts)).await;
    }
}

async fn receive(
    extract::State(shared): extract::State<Arc<ReceiverShared>>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Answer::status(413).header("connection", "close").into_response();
    };
    let now = if shared.any_time { None } else { Some(shared.clock.now()) };
    let callback = ReceivedCallback::read(parts, body, &shared.secrets, shared.clock.now(), now);
    let (number, answer) = arrive(&shared, &callback);
    delay(&answer, &shared.closing).await;
    record_answer(&shared, number, callback, answer.status.as_u16());
    answer.into_response()
}

/// Records the callback and chooses its answer: by the rule, the next of the script, 401 for a bad signature, or the
/// default.
fn arrive(shared: &ReceiverShared, callback: &ReceivedCallback) -> (u64, Answer) {
    let mut state = shared.lock();
    state.accepted.received(callback);
    let number = state.journal.push(callback.clone());
    let rule = state.rule.clone();
    drop(state);
    let steered = rule.and_then(|rule| rule(callback));
    let mut state = shared.lock();
    let refused = || matches!(callback.verified, Verified::Bad(_)).then(|| Answer::status(401));
    let answer =
        steered.or_else(|| state.script.next()).or_else(refused).unwrap_or_else(|| state.answer.clone());
    let counts = state.accepted.counts();
    drop(state);
    shared.counts.send_replace(counts);
    (number, answer)
}

/// Records the answer when it is sent. If the sender has disconnected before, the callback does not count as accepted.
fn record_answer(shared: &ReceiverShared, number: u64, mut callback: ReceivedCallback, status: u16) {
    let mut state = shared.lock();
    state.accepted.record_answer(&callback, status);
    callback.answered = Some(status);
    if let Some(kept) = state.journal.get_mut(number) {
        kept.answered = Some(status);
    }
    let counts = state.accepted.counts();
    drop(state);
    if let Some(watch) = &shared.watch {
        // The channel may be closed.
        let _ = watch.send(callback);
    }
    shared.counts.send_replace(counts);
}

#[cfg(test)]
mod tests;
