//! Opens a connection: name, TCP, proxy, TLS. Each stage is recorded in [`ExchangeProgress`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Duplex, drive};
use crate::clock;
use crate::domain::delivery::address::AddressPolicy;
use crate::domain::delivery::attempt::Stage;
use crate::transport::failure::{ExchangeFailure, FailureCause};
use crate::transport::origin::{Origin, Proxy, Route};
use crate::transport::{ExchangeProgress, resolver};

/// The time after which the next address is tried in parallel (happy eyeballs).
const HEAD_START: Duration = Duration::from_millis(300);

/// Returns a stream to the server, through its proxy, encrypted if the URL is https.
pub(super) async fn connect(
    route: &Route,
    progress: &ExchangeProgress,
) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    let connecting = stream(route, progress);
    match route.settings.connect_timeout {
        None => connecting.await,
        Some(limit) => match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let missed = progress.reached().missed();
                Err(ExchangeFailure::new(FailureCause::Connect, format!("{missed} within {limit:?}")))
            }
        },
    }
}

async fn stream(route: &Route, progress: &ExchangeProgress) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    let Route { origin, proxy, settings, .. } = route;
    let stream = match proxy {
        None => tcp(origin, settings.address_policy, progress).await?,
        Some(proxy) => through_proxy(proxy, route, progress).await?,
    };
    match &origin.server_name {
        None => Ok(stream),
        Some(name) => {
            progress.enter(Stage::Handshaking);
            encrypted(stream, name, &settings.tls, origin).await
        }
    }
}

async fn tcp(
    origin: &Origin,
    address_policy: Option<AddressPolicy>,
    progress: &ExchangeProgress,
) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    progress.enter(Stage::Resolving);
    let addresses = resolver::addresses(&origin.host, origin.port, address_policy).await?;
    progress.enter(Stage::Connecting);
    let stream = first_connection(addresses).await.map_err(|tried| ExchangeFailure::connect(&tried))?;
    Ok(Box::new(stream))
}

/// Returns the first connection that is established. A slow address is tried in parallel with the next one.
async fn first_connection(addresses: Vec<SocketAddr>) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failed = Vec::new();
    let dial = |address| async move { (address, dial(address).await) };
    trying.extend(waiting.next().map(dial));
    while !trying.is_empty() {
        let ended = tokio::select! {
            ended = trying.next() => ended,
            () = clock::sleep(HEAD_START), if waiting.len() > 0 => None,
        };
        match ended {
            Some((_, Ok(stream))) => return Ok(stream),
            Some((address, Err(error))) => failed.push((address, error)),
            None => {}
        }
        trying.extend(waiting.next().map(dial));
    }
    Err(failed)
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn through_proxy(
    proxy: &Proxy,
    route: &Route,
    progress: &ExchangeProgress,
) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    let mut stream = tcp(&proxy.origin, route.settings.address_policy, progress).await?;
    if let Some(name) = &proxy.origin.server_name {
        stream = encrypted(stream, name, &route.settings.tls, &proxy.origin).await?;
    }
    if !route.origin.is_encrypted() {
        return Ok(stream);
    }
    tunnel(stream, connect_request(&route.origin, proxy.credentials.as_ref())?).await
}

/// `CONNECT host:port`.
fn connect_request(
    origin: &Origin,
    credentials: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, ExchangeFailure> {
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let authority = format!("{host}:{}", origin.port);
    let mut request =
        Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
    if let Some(credentials) = credentials {
        request = request.header(header::PROXY_AUTHORIZATION, credentials);
    }
    request.body(Full::default()).map_err(|error| {
        ExchangeFailure::new(FailureCause::Address, format!("a proxy request for it is not valid: {error}"))
    })
}

async fn encrypted(
    stream: Box<dyn Duplex>,
    name: &ServerName<'static>,
    tls: &Arc<ClientConfig>,
    origin: &Origin,
) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    match TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let server = format!("{}:{}", name.to_str(), origin.port);
            Err(ExchangeFailure::handshake(&server, &error))
        }
    }
}

/// Reads the answer of a proxy to `CONNECT`: returns the tunnel, or the reason for the failure.
async fn tunnel(
    stream: Box<dyn Duplex>,
    request: Request<Full<Bytes>>,
) -> Result<Box<dyn Duplex>, ExchangeFailure> {
    let broke = |error: &hyper::Error| {
        let failure = ExchangeFailure::exchange(error, false, None);
        ExchangeFailure::new(failure_of_proxy(failure.cause), format!("the proxy: {}", failure.detail))
    };
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
    let mut driver = Some(driver.with_upgrades());
    let sent = sender.send_request(request);
    let response = drive(&mut driver, sent).await.map_err(|error| broke(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(ExchangeFailure::new(
            FailureCause::Connect,
            format!("the proxy answered {}", status.as_u16()),
        ));
    }
    let upgraded = drive(&mut driver, hyper::upgrade::on(response)).await.map_err(|error| broke(&error))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// A proxy that closes the connection counts as no connection to the server.
fn failure_of_proxy(cause: FailureCause) -> FailureCause {
    if cause == FailureCause::Shortage { FailureCause::Shortage } else { FailureCause::Connect }
}
