//! Requests to the HTTP port as bytes on the connection.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use trackpost::domain::secret::Hidden;
use trackpost::http::{self, HttpState};
use trackpost::store::views::degraded::Configured;
use trackpost::workers::heartbeat::Heartbeats;

use super::api;
use super::world::World;

/// The longest time that an answer may take: requests on one connection are answered one after the other.
const LONGEST: Duration = Duration::from_secs(60);

pub fn seeds() -> Vec<Vec<u8>> {
    let targets = [
        "/",
        "/?find=1Z",
        "/healthz",
        "/readyz",
        "/jwks",
        "/metrics",
        "/labels/se-1?account=main",
        "/subscribers/standard",
        "/messages?after=0&limit=2",
        "/messages/msg_1",
        "/login",
    ];
    let get = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\nauthorization: Bearer t\r\n\r\n"
        )
    };
    let login = "POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 25\r\n\r\ntoken=t&to=%2Flabels%2F%41";
    let others = [
        login,
        "GET / HTTP/1.1\r\nhost: example.com\r\ncookie: a=b; trackpost=00\r\n\r\n",
        "POST /login HTTP/1.1\r\nhost: [::1]:80\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\n\r\n",
        "GET http://localhost/labels/%2e%2e/se-1?%ff HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ];
    let gets = targets.into_iter().map(get);
    gets.chain(others.map(str::to_owned)).map(String::into_bytes).collect()
}

pub fn check(input: &[u8]) {
    static SERVER: OnceLock<(World, SocketAddr)> = OnceLock::new();
    let (_, addr) = SERVER.get_or_init(serve);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    // The server may close the connection before it has read everything.
    let _ = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut response = Vec::new();
    if let Err(error) = stream.read_to_end(&mut response) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    let head = String::from_utf8_lossy(&response[..response.len().min(12)]).into_owned();
    assert!(response.is_empty() || head.starts_with("HTTP/1."), "{head}");
    assert!(!head.ends_with("500"), "{}", String::from_utf8_lossy(&response));
}

/// Starts a server with the history of the recorded journeys.
fn serve() -> (World, SocketAddr) {
    let mut world = World::new();
    for journey in super::journeys() {
        let label = world.register();
        journey.iter().for_each(|answer| world.poll(&label, api::http("200 OK", answer).as_bytes()));
    }
    let config = super::config();
    let configured = Configured {
        accounts: config.accounts.values().map(|account| (account.name.clone(), account.into())).collect(),
        subscribers: config.subscribers.values().map(|of| (of.name.clone(), of.enabled)).collect(),
        ..Configured::default()
    };
    let store = world.store.clone();
    let addr = world.runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let listen = listener.local_addr().unwrap();
        let state = HttpState {
            store,
            heartbeats: Heartbeats::default(),
            ready: Arc::new(AtomicBool::new(true)),
            token: Some(Hidden::new("t".to_owned())),
            notices: Default::default(),
            listen,
            hosts: Vec::new(),
            configured: watch::channel(Arc::new(configured)).1,
            jwks: watch::channel("{}".into()).1,
        };
        tokio::spawn(http::serve(listener, state, std::future::pending()));
        listen
    });
    (world, addr)
}
