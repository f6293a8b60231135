//! The HTTP server: accepts connections and bounds them in number and time, whatever a client does.
//!
//! A connection is closed when the head of a request takes longer than [`HEAD`] (an idle connection waits for one), when a
//! client takes nothing of an answer for [`WRITE`], or when its place is wanted: of more than [`most`] connections the
//! oldest idle one is closed first, then the oldest one that has been answered for longer than [`BUSY`]. So the port
//! never uses up the descriptors that the database, polls and deliveries need.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_io_timeout::TimeoutStream;

use super::gate::{Pace, Visit};
use crate::clock::{self, Stopwatch};
use crate::transport;

/// How long the head of a request may take to arrive, and a connection may be idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer.
const WRITE: Duration = Duration::from_secs(10);
/// How long an answer may take to make.
const ANSWER: Duration = Duration::from_secs(20);
/// An answer under way for longer is given up if its place is wanted.
const BUSY: Duration = Duration::from_secs(2);
/// How long answers under way may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a connection that are held in memory at once, each way.
const BUFFER: usize = 64 << 10;
/// An answer is handed to its connection in pieces of this size.
const PIECE: usize = 16 << 10;
/// No answer is longer: a page ends at 1 MiB, or after one message, which holds an API answer of at most 4 MiB.
const LONGEST: usize = 16 << 20;

/// The most connections at a time: fewer where the process may open few files.
fn most() -> usize {
    transport::http_connections()
}

/// Answers until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut connections = Connections::new(routes);
    let mut shutdown = pin!(shutdown);
    loop {
        let room = connections.has_room();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                connections.open.remove(&id);
            }
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => connections.start(stream),
                // No descriptors, or the client has gone: a fault of this moment.
                Err(_) => clock::sleep(PAUSE).await,
            },
            () = clock::sleep(PAUSE), if !room => {}
        }
    }
    drop(listener);
    connections.stop.send_replace(true);
    let ended = async { while connections.tasks.join_next().await.is_some() {} };
    // A request of which only half ever comes must not hold up the stop.
    let _ = tokio::time::timeout(LAST_ANSWERS, ended).await;
    Ok(())
}

/// All connections that are open.
struct Connections {
    routes: Router,
    tasks: JoinSet<()>,
    open: HashMap<Id, (AbortHandle, Arc<Activity>)>,
    pace: Arc<Pace>,
    watch: Stopwatch,
    stop: watch::Sender<bool>,
}

/// What a connection does.
#[derive(Debug)]
struct Activity {
    watch: Stopwatch,
    /// Answers under way.
    answers: AtomicU32,
    /// When that changed last, in milliseconds of the server's watch.
    since: AtomicU64,
}

impl Activity {
    fn note(&self) {
        self.since.store(millis(self.watch.elapsed()), Ordering::Relaxed);
    }
}

/// An answer under way.
struct Busy(Arc<Activity>);

impl Busy {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.answers.fetch_add(1, Ordering::Relaxed);
        activity.note();
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answers.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}

impl Connections {
    fn new(routes: Router) -> Self {
        Self {
            routes,
            tasks: JoinSet::new(),
            open: HashMap::new(),
            pace: Arc::default(),
            watch: Stopwatch::start(),
            stop: watch::Sender::new(false),
        }
    }

    fn has_room(&self) -> bool {
        self.open.len() < most() || self.dispensable().is_some()
    }

    /// The oldest idle connection, else the one that has been answered for longest, if that is long.
    fn dispensable(&self) -> Option<Id> {
        let now = millis(self.watch.elapsed());
        let of = |activity: &Activity| {
            (activity.answers.load(Ordering::Relaxed) > 0, activity.since.load(Ordering::Relaxed))
        };
        let oldest =
            self.open.iter().map(|(id, (_, activity))| (of(activity), *id)).min_by_key(|(of, _)| *of);
        oldest
            .filter(|((busy, since), _)| !busy || now.saturating_sub(*since) > millis(BUSY))
            .map(|(_, id)| id)
    }

    fn start(&mut self, stream: TcpStream) {
        if self.open.len() >= most()
            && let Some(oldest) = self.dispensable()
            && let Some((task, _)) = self.open.remove(&oldest)
        {
            task.abort();
        }
        let activity =
            Arc::new(Activity { watch: self.watch, answers: AtomicU32::new(0), since: AtomicU64::new(0) });
        activity.note();
        let routes = TowerToHyperService::new(self.routes.clone());
        let (pace, noted, mut stopped) =
            (Arc::clone(&self.pace), Arc::clone(&activity), self.stop.subscribe());
        let task = self.tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (busy, pace) = (Busy::begin(&noted), Arc::clone(&pace));
                let answer = routes.call(request.map(Body::new));
                async move {
                    pace.wait().await;
                    let answer = match tokio::time::timeout(ANSWER, answer).await {
                        Ok(Ok(answer)) => answer,
                        Ok(Err(never)) => match never {},
                        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    };
                    Ok::<_, std::convert::Infallible>(in_pieces(answer, busy).await)
                }
            });
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE));
            let stream = Box::pin(stream);
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(BUFFER)
                    .serve_connection(TokioIo::new(stream), service)
            );
            // An error of a connection is that connection's.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        self.open.insert(task.id(), (task, activity));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that is copied to its connection piece by piece. Until the last piece, its place among the pages is held.
struct Pieces {
    rest: Bytes,
    _busy: Busy,
    _visit: Option<Arc<Visit>>,
}

async fn in_pieces(answer: Response<Body>, busy: Busy) -> Response<Pieces> {
    let (mut parts, body) = answer.into_parts();
    let rest = match to_bytes(body, LONGEST).await {
        Ok(rest) => rest,
        Err(_) => {
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
            Bytes::new()
        }
    };
    let visit = parts.extensions.remove();
    Response::from_parts(parts, Pieces { rest, _busy: busy, _visit: visit })
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        // A copy: a piece of the whole would keep all of it in memory until the client has taken the last byte.
        let piece = Bytes::copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
