//! A webhook receiver that verifies, remembers and judges what it is sent.
//!
//! Written from the receiving side's documents alone, as any subscriber would be: it checks the signature over the raw
//! body, answers what it was told to, and afterwards says whether every message came once and in order.

mod delivery;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::domain::messages::signature::SigningSecret;

use super::Clock;
use super::answer::Answer;
use super::journal::Journal;
use super::script::Script;
use super::server::{delay, serve};
use super::tally::{Counts, Tally, Verdict};

pub use delivery::{Delivery, Verified};

/// The longest body that is read, in bytes; a longer one is answered 413.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// How a receiver behaves from the start.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// A callback is well signed if it is with one of them; empty: nothing is checked.
    pub secrets: Vec<SigningSecret>,
    /// The answer to what is not badly signed.
    pub answer: Answer,
    /// How many deliveries are remembered with their bodies; the verdict knows all.
    pub keep: usize,
    /// Is told of every delivery once it is answered.
    pub watch: Option<mpsc::UnboundedSender<Delivery>>,
    pub clock: Clock,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            answer: Answer::status(200),
            keep: usize::MAX,
            watch: None,
            clock: Clock::default(),
        }
    }
}

/// Decides an answer by the delivery; `None` leaves it to the rest.
type Steering = Arc<dyn Fn(&Delivery) -> Option<Answer> + Send + Sync>;

struct Shared {
    secrets: Vec<SigningSecret>,
    clock: Clock,
    watch: Option<mpsc::UnboundedSender<Delivery>>,
    closing: watch::Sender<bool>,
    counts: watch::Sender<Counts>,
    books: Mutex<Books>,
}

struct Books {
    answer: Answer,
    script: Script,
    steering: Option<Steering>,
    journal: Journal<Delivery>,
    tally: Tally,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver that listens, and serves as soon as [`Receiver::serve`] is awaited.
pub struct Receiver {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    pub async fn bind(listen: SocketAddr, options: ReceiverOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            secrets: options.secrets,
            clock: options.clock,
            watch: options.watch,
            closing: watch::Sender::new(false),
            counts: watch::Sender::new(Counts::default()),
            books: Mutex::new(Books {
                answer: options.answer,
                script: Script::default(),
                steering: None,
                journal: Journal::new(options.keep),
                tally: Tally::default(),
            }),
        });
        Ok(Self { listener, addr, shared })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every path is taken; a path of its own per subscriber keeps their books apart.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    pub fn handle(&self) -> ReceiverHandle {
        ReceiverHandle(self.shared.clone())
    }

    /// Serves until `shutdown`. Answers on their way go out, within two seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let router = Router::new().fallback(receive).with_state(self.shared.clone());
        serve(self.listener, router, self.shared.closing.clone(), shutdown).await
    }
}

/// Reads and steers a running receiver; clones speak of the same one.
#[derive(Clone)]
pub struct ReceiverHandle(Arc<Shared>);

impl fmt::Debug for ReceiverHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiverHandle").field(&self.counts()).finish()
    }
}

impl ReceiverHandle {
    /// What came in, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.0.lock().journal.iter().cloned().collect()
    }

    pub fn counts(&self) -> Counts {
        self.0.lock().tally.counts()
    }

    pub fn verdict(&self) -> Verdict {
        self.0.lock().tally.verdict()
    }

    /// Answers the next requests with these, one each, signature good or bad; then goes on as before.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut books = self.0.lock();
        answers.into_iter().for_each(|answer| books.script.push_once(answer));
    }

    /// Answers with this from now on.
    pub fn answer_always(&self, answer: Answer) {
        self.0.lock().answer = answer;
    }

    /// Asks `steering` first, for every request.
    pub fn answer_by(&self, steering: impl Fn(&Delivery) -> Option<Answer> + Send + Sync + 'static) {
        self.0.lock().steering = Some(Arc::new(steering));
    }

    /// Waits until the counts are `enough`. The caller sets the time limit.
    pub async fn wait_until(&self, mut enough: impl FnMut(&Counts) -> bool) {
        // The sender lives in what the handle holds.
        let _ = self.0.counts.subscribe().wait_for(|counts| enough(counts)).await;
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Answer::status(413).header("connection", "close").into_response();
    };
    let delivery = Delivery::read(parts, body, &shared.secrets, shared.clock.now());
    let (number, answer) = arrive(&shared, &delivery);
    delay(&answer, &shared.closing).await;
    settle(&shared, number, delivery, answer.status.as_u16());
    answer.into_response()
}

/// Enters the delivery into the books and chooses its answer: the steering's, the next of the script, 401 for a bad
/// signature, the usual.
fn arrive(shared: &Shared, delivery: &Delivery) -> (u64, Answer) {
    let mut books = shared.lock();
    books.tally.received(&delivery.verified);
    let number = books.journal.push(delivery.clone());
    let steering = books.steering.clone();
    drop(books);
    let steered = steering.and_then(|steering| steering(delivery));
    let mut books = shared.lock();
    let refused = || matches!(delivery.verified, Verified::Bad(_)).then(|| Answer::status(401));
    let answer =
        steered.or_else(|| books.script.next()).or_else(refused).unwrap_or_else(|| books.answer.clone());
    let counts = books.tally.counts();
    drop(books);
    shared.counts.send_replace(counts);
    (number, answer)
}

/// Books the answer. It is on its way from here, so what the sender gave up waiting for is not booked as accepted.
fn settle(shared: &Shared, number: u64, mut delivery: Delivery, status: u16) {
    let mut books = shared.lock();
    books.tally.answered(&delivery, status);
    delivery.answered = Some(status);
    if let Some(kept) = books.journal.get_mut(number) {
        kept.answered = Some(status);
    }
    let counts = books.tally.counts();
    drop(books);
    if let Some(watch) = &shared.watch {
        // Nobody watches any more: fine.
        let _ = watch.send(delivery);
    }
    shared.counts.send_replace(counts);
}

#[cfg(test)]
mod tests;
