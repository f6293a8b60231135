//! The HTTP server of a harness, and a client that writes raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trackpost::domain::secret::Hidden;
use trackpost::http::{self, HttpState};
use trackpost::store::views::degraded::Configured;
use trackpost::workers::heartbeat::Heartbeats;

use super::{Harness, loopback};

/// A server that ends with the test.
pub struct Server {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server with the account and the subscribers of the harness.
    pub async fn of(harness: &Harness, token: Option<&str>) -> Self {
        let subscribers = harness.policy.subscribers.iter().map(|of| (of.name.clone(), of.enabled)).collect();
        let accounts = vec![(harness.account.name.clone(), (&harness.account).into())];
        Self::with(harness, token, Configured { accounts, subscribers, ..Configured::default() }).await
    }

    pub async fn with(harness: &Harness, token: Option<&str>, configured: Configured) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = HttpState {
            notices: Default::default(),
            listen: addr,
            hosts: Vec::new(),
            configured: watch::channel(Arc::new(configured)).1,
            jwks: watch::channel("{}".into()).1,
            store: harness.store().clone(),
            heartbeats: Heartbeats::default(),
            ready: Arc::new(AtomicBool::new(true)),
            token: token.map(|token| Hidden::new(token.to_owned())),
        };
        let task = tokio::spawn(http::serve(listener, state, std::future::pending()));
        Self { addr, task }
    }

    /// Returns a client for a server that runs elsewhere.
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, task: tokio::spawn(async {}) }
    }

    /// Returns the body of an answer with 200.
    pub async fn ok(&self, target: &str) -> String {
        let (status, head, body) = self.get_with(target, "accept: text/html\r\n").await;
        assert_eq!(status, 200, "{target}: {head}\n{body}");
        body
    }

    /// Returns status, head and body. `more`: additional header lines.
    pub async fn get_with(&self, target: &str, more: &str) -> (u16, String, String) {
        self.ask(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n"))
            .await
    }

    pub async fn get_host(&self, target: &str, host: &str) -> (u16, String, String) {
        self.ask(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
    }

    pub async fn post(&self, target: &str, form: &str) -> (u16, String, String) {
        let head = format!("POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        let of =
            format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n", form.len());
        self.ask(&format!("{head}{of}\r\n{form}")).await
    }

    async fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head[9..12].parse().unwrap(), format!("{head}\r\n"), body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
