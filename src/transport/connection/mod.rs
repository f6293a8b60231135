//! One connection: sequential exchanges, driven by the task that waits for the answer.

mod connect;
pub(super) mod pool;

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::InspectReader;

use super::descriptors::ConnectionPermit;
use super::failure::ExchangeFailure;
use super::origin::Route;
use super::{ExchangeProgress, HttpAnswer};
use crate::clock::Stopwatch;
use pool::{ConnectionLimits, Pool};

/// Maximum number of header lines; with more, only the status of an answer is known.
const MAX_HEADERS: usize = 512;

/// Bytes both ways, plain or encrypted.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream that passes received bytes to a [`Meter`].
type Metered = InspectReader<Box<dyn Duplex>, Box<dyn FnMut(&[u8]) + Send>>;
type Driver = http1::Connection<TokioIo<Metered>, Full<Bytes>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` after its end.
    driver: Option<Driver>,
    meter: Meter,
    opened: Stopwatch,
    used: Stopwatch,
    _permit: ConnectionPermit,
}

/// An exchange without an answer.
pub(super) struct Broken {
    pub(super) failure: ExchangeFailure,
    /// Whether no byte of the answer came.
    pub(super) unanswered: bool,
}

impl Connection {
    pub(super) async fn open(route: &Route, progress: &ExchangeProgress) -> Result<Self, ExchangeFailure> {
        // Its age counts from where the name is resolved.
        let opened = Stopwatch::start();
        let permit = ConnectionPermit::take()?;
        let stream = connect::connect(route, progress).await?;
        let meter = Meter::default();
        let counted = meter.clone();
        let metered: Metered = InspectReader::new(stream, Box::new(move |bytes| counted.count(bytes)));
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(metered))
            .await
            .map_err(|error| ExchangeFailure::exchange(&error, false, None))?;
        Ok(Self { sender, driver: Some(driver), meter, opened, used: opened, _permit: permit })
    }

    /// Sends `request`. The connection returns to `pool` after the answer was read to its end.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
        pool: &Pool,
    ) -> Result<HttpAnswer, Broken> {
        self.meter.begin();
        let sent = self.sender.send_request(request);
        match drive(&mut self.driver, sent).await {
            Ok(response) => {
                let (parts, incoming) = response.into_parts();
                let body = AnswerBody { incoming, connection: Some(self), pool: pool.clone() };
                Ok(HttpAnswer { status: parts.status, headers: parts.headers, body })
            }
            Err(error) => {
                let (read, status) = self.meter.read();
                Err(Broken {
                    failure: ExchangeFailure::exchange(&error, read > 0, status),
                    unanswered: read == 0,
                })
            }
        }
    }

    /// Whether it is neither too old nor idle for too long.
    pub(super) fn is_fit(&self, limits: &ConnectionLimits) -> bool {
        self.opened.elapsed() < limits.age && self.used.elapsed() < limits.idle
    }

    /// Whether another request may be sent, as far as known without sending it.
    pub(super) async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            step(&mut self.driver, cx);
            Poll::Ready(())
        })
        .await;
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Body of an answer. Dropping it before its end closes the connection.
pub struct AnswerBody {
    incoming: Incoming,
    /// `None` after the connection returned to the pool.
    connection: Option<Connection>,
    pool: Pool,
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerBody")
    }
}

impl AnswerBody {
    /// Returns the next part; `None` at the end. The connection then returns to the pool.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeFailure> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        while !self.incoming.is_end_stream()
            && let Some(frame) = drive(&mut connection.driver, self.incoming.frame()).await
        {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Ok(Some(data)),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => {
                    self.connection = None;
                    return Err(ExchangeFailure::exchange(&error, true, None));
                }
            }
        }
        if let Some(mut connection) = self.connection.take()
            && connection.is_open().await
        {
            connection.used = Stopwatch::start();
            self.pool.put(connection);
        }
        Ok(None)
    }

    /// Returns the whole body; `None` if it is longer than `limit`. A body in one part is not copied.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn whole(mut self, limit: usize) -> Result<Option<Bytes>, ExchangeFailure> {
        let announced = self.incoming.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let Some(first) = self.chunk().await? else { return Ok(Some(Bytes::new())) };
        let Some(second) = self.chunk().await? else {
            return Ok(Some(first).filter(|first| first.len() <= limit));
        };
        let mut body = Vec::with_capacity(announced.unwrap_or(first.len() + second.len()));
        body.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(part) = next {
            if body.len() + part.len() > limit {
                return Ok(None);
            }
            body.extend_from_slice(&part);
            next = self.chunk().await?;
        }
        Ok(Some(body.into()))
    }
}

/// Waits for `future` and drives the connection meanwhile.
pub(super) async fn drive<D, F>(driver: &mut Option<D>, future: F) -> F::Output
where
    D: Future + Unpin,
    F: Future,
{
    let mut future = pin!(future);
    poll_fn(|cx| {
        // A second poll of the connection often completes the request and saves a wake-up.
        for _ in 0..2 {
            step(driver, cx);
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// Polls the connection.
fn step(driver: &mut Option<impl Future + Unpin>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        // Its error reaches the request.
        *driver = None;
    }
}

/// Counts the received bytes of an answer and keeps its first line.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<MeterReading>>);

#[derive(Default)]
struct MeterReading {
    count: u64,
    first: [u8; STATUS_LINE_BYTES],
}

/// Length of `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;

impl Meter {
    fn begin(&self) {
        *self.lock() = MeterReading::default();
    }

    fn count(&self, bytes: &[u8]) {
        let mut reading = self.lock();
        let known = usize::try_from(reading.count).unwrap_or(STATUS_LINE_BYTES).min(STATUS_LINE_BYTES);
        let more = bytes.len().min(STATUS_LINE_BYTES - known);
        reading.first[known..known + more].copy_from_slice(&bytes[..more]);
        reading.count += bytes.len() as u64;
    }

    /// Returns the number of received bytes and the final status of the first line.
    fn read(&self) -> (u64, Option<u16>) {
        let reading = self.lock();
        let line = std::str::from_utf8(&reading.first).unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)?.parse().ok());
        (reading.count, status.filter(|status| (200..600).contains(status)))
    }

    fn lock(&self) -> MutexGuard<'_, MeterReading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
