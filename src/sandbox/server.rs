//! The sandbox's server: records each request and answers it as the vendor does.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, Uri};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::sleep;
use crate::domain::label::LabelId;

use super::SandboxOptions;
use super::answer::Answer;
use super::errors;
use super::handle::{LIST, SandboxHandle};
use super::labels::{self, ListQuery};
use super::script::AnswerScript;
use super::state::{LabelAnswer, SandboxShared};

/// Time that running answers have to end after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A fake ShipStation that is bound to its port; [`Sandbox::serve`] serves it.
pub struct Sandbox {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<SandboxShared>,
}

impl Sandbox {
    /// Binds `listen`; port 0 selects a free port. Fails if the port is not available, or if the replay directory
    /// cannot be read.
    pub async fn bind(listen: SocketAddr, options: SandboxOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(SandboxShared::new(format!("http://{addr}"), options)?);
        Ok(Self { listener, addr, shared })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Value for an account's `base_url`.
    pub fn base_url(&self) -> String {
        self.shared.base_url.clone()
    }

    pub fn handle(&self) -> SandboxHandle {
        SandboxHandle(self.shared.clone())
    }

    /// Serves until `shutdown`. Running answers are sent within two seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let router = Router::new().fallback(respond).with_state(self.shared.clone());
        serve(self.listener, router, self.shared.closing.clone(), shutdown).await
    }
}

/// Serves `router` until `shutdown`, then sets `closing` and waits briefly for running answers.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    closing: watch::Sender<bool>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut closed = closing.subscribe();
    let graceful = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        closing.send_replace(true);
    });
    tokio::select! {
        served = graceful => served,
        () = async {
            // An error means that the server itself has ended.
            let _ = closed.wait_for(|closing| *closing).await;
            sleep(DRAIN_TIMEOUT).await;
        } => Ok(()),
    }
}

/// Waits for an answer's delay, or until the server closes.
pub(super) async fn delay(answer: &Answer, closing: &watch::Sender<bool>) {
    if answer.delay.is_zero() {
        return;
    }
    let mut closed = closing.subscribe();
    tokio::select! {
        () = sleep(answer.delay) => {}
        _ = closed.wait_for(|closing| *closing) => {}
    }
}

/// The endpoint of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    Track(&'a str),
    Labels,
    Nowhere,
}

impl<'a> Endpoint<'a> {
    fn of(method: &Method, path: &'a str) -> Self {
        if method != Method::GET {
            return Self::Nowhere;
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["", "v1" | "v2", "labels", id, "track"] if !id.is_empty() => Self::Track(id),
            ["", "v1" | "v2", "labels"] => Self::Labels,
            _ => Self::Nowhere,
        }
    }

    fn label(self) -> Option<&'a str> {
        if let Self::Track(id) = self { Some(id) } else { None }
    }
}

async fn respond(State(shared): State<Arc<SandboxShared>>, request: Request) -> Response<Body> {
    let (uri, headers) = (request.uri(), request.headers());
    let route = Endpoint::of(request.method(), uri.path());
    let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
    let number = shared.lock().requests.arrived(shared.clock.now(), target, route.label(), headers);
    let _in_flight = RequestInFlight(&shared);
    let request_id = shared.lock().next_request_id();
    let mut answer = decide(&shared, route, request.method(), uri, headers, &request_id);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        answer.headers.insert("x-shipengine-requestid", id);
    }
    delay(&answer, &shared.closing).await;
    let status = answer.status.as_u16();
    let mut state = shared.lock();
    state.requests.record_answer(number, status);
    if let (Some(label), 200) = (route.label(), status) {
        state.requests.served.record_answer(label, &answer.body);
    }
    drop(state);
    answer.into_response()
}

/// A request being answered. It is dropped too when the client disconnects.
struct RequestInFlight<'a>(&'a SandboxShared);

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().requests.record_end();
    }
}

fn decide(
    shared: &SandboxShared,
    route: Endpoint<'_>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    request_id: &str,
) -> Answer {
    if route == Endpoint::Nowhere {
        return errors::no_such_endpoint(request_id, method.as_str(), uri.path());
    }
    let key = headers.get("api-key").and_then(|key| key.to_str().ok());
    let mut state = shared.lock();
    if !state.admits(key) {
        state.requests.counters.wrong_key += 1;
        return errors::unauthorized(request_id);
    }
    if let (Some(limit), Some(key)) = (state.rate_limit, key) {
        let window = state.windows.entry(key.to_owned()).or_default();
        if let Err(wait) = window.admit(shared.clock.now(), limit) {
            return errors::rate_limited(request_id, wait);
        }
    }
    if let Some(scripted) = state.scripts.get_mut(route.label().unwrap_or(LIST)).and_then(AnswerScript::next)
    {
        return scripted;
    }
    state.grow(&shared.timeline, shared.clock.now());
    drop(state);
    let answer = match route {
        Endpoint::Track(id) => track(shared, id, request_id),
        Endpoint::Labels | Endpoint::Nowhere => list(shared, uri, request_id),
    };
    shared.lock().faults.apply(answer, request_id)
}

fn track(shared: &SandboxShared, id: &str, request_id: &str) -> Answer {
    let Ok(label) = id.parse::<LabelId>() else { return errors::malformed_label(request_id, id) };
    let now = shared.virtual_now();
    match shared.lock().answer(&label, now) {
        LabelAnswer::Tracking(body) => Answer::json(200, body),
        LabelAnswer::Untrackable => errors::untrackable(request_id, id),
        LabelAnswer::Unknown => errors::unknown_label(request_id, id),
    }
}

fn list(shared: &SandboxShared, uri: &Uri, request_id: &str) -> Answer {
    let parameters = Query::<HashMap<String, String>>::try_from_uri(uri).map(|Query(map)| map);
    let state = shared.lock();
    match ListQuery::read(&parameters.unwrap_or_default(), state.largest_page) {
        Ok(query) => {
            let now = shared.virtual_now();
            let url = format!("{}{}", shared.base_url, uri.path());
            let body = labels::list(&query, state.list_entries(now), &url, |id| state.tracking_of(id, now));
            Answer::json(200, body)
        }
        Err(bad) => errors::invalid_field(request_id, bad.name, &bad.value),
    }
}

#[cfg(test)]
mod tests;
