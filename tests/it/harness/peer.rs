//! A server that answers raw bytes and closes on request, which a correct library would not do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use trackpost::clock;

use super::loopback;

/// A request as received.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// Number of its connection, from 0.
    pub connection: usize,
    /// Number within its connection, from 0.
    pub number: usize,
    pub head: String,
    pub body: Vec<u8>,
}

/// Reaction to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends these bytes and keeps the connection open.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// Sends these bytes, then a chunk of one byte every 50 ms, without end.
    Drip(Vec<u8>),
}

pub struct Peer {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<PeerRequest>>>,
    closed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Peer {
    pub async fn new(reply: impl Fn(&PeerRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (received, closed): (Arc<Mutex<Vec<PeerRequest>>>, Arc<AtomicUsize>) = Default::default();
        let reply = Arc::new(reply);
        let (books, ends) = (Arc::clone(&received), Arc::clone(&closed));
        let task = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (books, ends, reply) = (Arc::clone(&books), Arc::clone(&ends), Arc::clone(&reply));
                tokio::spawn(async move {
                    serve_connection(stream, connection, &books, &*reply).await;
                    ends.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { addr, received, closed, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn received(&self) -> Vec<PeerRequest> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.received().iter().map(|received| received.connection + 1).max().unwrap_or(0)
    }

    /// Returns the number of connections closed by either side.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A complete answer.
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn serve_connection(
    mut stream: TcpStream,
    connection: usize,
    books: &Mutex<Vec<PeerRequest>>,
    reply: &(impl Fn(&PeerRequest) -> Reply + Sync),
) {
    let mut read = Vec::new();
    for number in 0.. {
        let Some((head, body)) = request(&mut stream, &mut read).await else { return };
        let received = PeerRequest { connection, number, head, body };
        books.lock().unwrap().push(received.clone());
        let (bytes, last) = match reply(&received) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Last(bytes) => (bytes, true),
            Reply::Drip(bytes) => {
                let mut dripping = stream.write_all(&bytes).await;
                while dripping.is_ok() {
                    clock::sleep(Duration::from_millis(50)).await;
                    dripping = stream.write_all(b"1\r\nx\r\n").await;
                }
                return;
            }
        };
        if stream.write_all(&bytes).await.is_err() || last {
            return;
        }
    }
}

/// Reads the next request. `read` keeps the bytes after it.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
            if read.len() >= end + 4 + length {
                let body = read[end + 4..end + 4 + length].to_vec();
                read.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        stream.read_buf(read).await.ok().filter(|count| *count > 0)?;
    }
}

/// Returns an address that refuses connections. No other test gets its port while the socket exists.
pub fn closed_port() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(loopback()).unwrap();
    (socket.local_addr().unwrap(), socket)
}
