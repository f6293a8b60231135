//! The HTTP server: accepts connections, with limits in number and time.
//!
//! A connection is closed in three cases: the head of a request takes longer than [`HEAD_TIMEOUT`] (this covers idle
//! connections); the client reads nothing of a response for [`WRITE_TIMEOUT`]; or a new connection exceeds the limit,
//! [`http_connections`]. Then the server closes the oldest idle connection, else the connection with the longest running
//! response, if longer than [`MIN_RESPONSE_TIME`]. So the port leaves enough file descriptors for the database, polls and
//! deliveries.

use std::collections::HashMap;
use std::future::Future;
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

use super::page_limiter::{PagePermit, RequestSpacing};
use crate::clock::{self, Stopwatch};
use crate::domain::time::millis;
use crate::transport::http_connections;

/// Timeout for the head of a request, also of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for a client that reads nothing of its response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for computing a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after which a response may be dropped for a new connection.
const MIN_RESPONSE_TIME: Duration = Duration::from_secs(2);
/// Time that running responses have to end when the daemon stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait after a failed accept.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Bytes of a connection that are buffered in memory, in each direction.
const BUFFER_BYTES: usize = 64 << 10;
/// Size of the pieces in which a response is written.
const PIECE_BYTES: usize = 16 << 10;
/// Maximum size of a response: a page ends at 1 MiB, or after one message, which contains an API answer of at most 4
/// MiB.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Serves until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let mut connections = OpenConnections::new(routes);
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
                // Temporary: no file descriptors, or the client has disconnected.
                Err(_) => clock::sleep(ACCEPT_RETRY_WAIT).await,
            },
            () = clock::sleep(ACCEPT_RETRY_WAIT), if !room => {}
        }
    }
    drop(listener);
    connections.stop.send_replace(true);
    let ended = async { while connections.tasks.join_next().await.is_some() {} };
    // An incomplete request must not delay the stop.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
}

/// All open connections.
struct OpenConnections {
    routes: Router,
    tasks: JoinSet<()>,
    open: HashMap<Id, (AbortHandle, Arc<Activity>)>,
    spacing: Arc<RequestSpacing>,
    watch: Stopwatch,
    stop: watch::Sender<bool>,
}

/// State of a connection.
#[derive(Debug)]
struct Activity {
    watch: Stopwatch,
    /// Number of running responses.
    responses: AtomicU32,
    /// Time of its last change, in milliseconds since the server's start.
    since: AtomicU64,
}

impl Activity {
    fn note(&self) {
        self.since.store(millis(self.watch.elapsed()), Ordering::Relaxed);
    }
}

/// A running response.
struct RunningResponse(Arc<Activity>);

impl RunningResponse {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.responses.fetch_add(1, Ordering::Relaxed);
        activity.note();
        Self(Arc::clone(activity))
    }
}

impl Drop for RunningResponse {
    fn drop(&mut self) {
        self.0.responses.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}

impl OpenConnections {
    fn new(routes: Router) -> Self {
        Self {
            routes,
            tasks: JoinSet::new(),
            open: HashMap::new(),
            spacing: Arc::default(),
            watch: Stopwatch::start(),
            stop: watch::Sender::new(false),
        }
    }

    fn has_room(&self) -> bool {
        self.open.len() < http_connections() || self.closable().is_some()
    }

    /// Returns the oldest idle connection, else the connection with the longest running response, if that runs longer than
    /// the limit.
    fn closable(&self) -> Option<Id> {
        let now = millis(self.watch.elapsed());
        let of = |activity: &Activity| {
            (activity.responses.load(Ordering::Relaxed) > 0, activity.since.load(Ordering::Relaxed))
        };
        let oldest =
            self.open.iter().map(|(id, (_, activity))| (of(activity), *id)).min_by_key(|(of, _)| *of);
        oldest
            .filter(|((busy, since), _)| !busy || now.saturating_sub(*since) > millis(MIN_RESPONSE_TIME))
            .map(|(_, id)| id)
    }

    fn start(&mut self, stream: TcpStream) {
        if self.open.len() >= http_connections()
            && let Some(oldest) = self.closable()
            && let Some((task, _)) = self.open.remove(&oldest)
        {
            task.abort();
        }
        let activity =
            Arc::new(Activity { watch: self.watch, responses: AtomicU32::new(0), since: AtomicU64::new(0) });
        activity.note();
        let routes = TowerToHyperService::new(self.routes.clone());
        let (spacing, noted, mut stopped) =
            (Arc::clone(&self.spacing), Arc::clone(&activity), self.stop.subscribe());
        let task = self.tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (busy, spacing) = (RunningResponse::begin(&noted), Arc::clone(&spacing));
                let response = routes.call(request.map(Body::new));
                async move {
                    let responded = async {
                        spacing.wait().await;
                        response.await
                    };
                    let response = match tokio::time::timeout(RESPONSE_TIMEOUT, responded).await {
                        Ok(Ok(response)) => response,
                        Ok(Err(never)) => match never {},
                        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    };
                    Ok::<_, std::convert::Infallible>(in_pieces(response, busy).await)
                }
            });
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let stream = Box::pin(stream);
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(BUFFER_BYTES)
                    .serve_connection(TokioIo::new(stream), service)
            );
            // An error concerns only this connection.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        self.open.insert(task.id(), (task, activity));
    }
}

/// A response that is written to its connection piece by piece. It holds its permit until the last piece.
struct Pieces {
    rest: Bytes,
    _busy: RunningResponse,
    _permit: Option<Arc<PagePermit>>,
}

async fn in_pieces(response: Response<Body>, busy: RunningResponse) -> Response<Pieces> {
    let (mut parts, body) = response.into_parts();
    let rest = match to_bytes(body, MAX_RESPONSE_BYTES).await {
        Ok(rest) => rest,
        Err(_) => {
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
            Bytes::new()
        }
    };
    let permit = parts.extensions.remove();
    Response::from_parts(parts, Pieces { rest, _busy: busy, _permit: permit })
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
        let length = self.rest.len().min(PIECE_BYTES);
        // Copied, because a slice would keep the whole response in memory until the client has read the last byte.
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
