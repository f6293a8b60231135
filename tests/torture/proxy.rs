//! TCP proxy between the daemon and a healthy server, which fails in every way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use trackpost::clock;

/// Fault of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset when it is open.
    Refuse,
    /// The request is read and never answered.
    Hang,
    /// The request is passed on; the answer is thrown away and the connection reset.
    Reset,
    /// The answer ends halfway.
    Cut,
    /// The answer is not HTTP.
    Garbage,
    /// The answer arrives a few bytes at a time.
    Drip,
    /// The answer arrives late.
    Slow,
}

impl Fault {
    pub const ALL: [Self; 7] =
        [Self::Refuse, Self::Hang, Self::Reset, Self::Cut, Self::Garbage, Self::Drip, Self::Slow];
}

/// The current fault and the share of connections that it affects.
type Setting = Option<(Fault, f64)>;

#[derive(Clone)]
pub struct Proxy {
    pub addr: SocketAddr,
    setting: watch::Sender<Setting>,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let setting = watch::Sender::new(None);
        let settings = setting.clone();
        let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let mut changed = settings.subscribe();
                let fault = changed
                    .borrow_and_update()
                    .filter(|(_, share)| rng.lock().unwrap().f64() < *share)
                    .map(|(fault, _)| fault);
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(client, upstream, fault) => {}
                        // The fault has changed or ended: open connections are closed.
                        _ = changed.changed() => {}
                    }
                });
            }
        });
        Self { addr, setting }
    }

    pub fn set(&self, setting: Setting) {
        self.setting.send_replace(setting);
    }
}

async fn serve_connection(mut client: TcpStream, upstream: SocketAddr, fault: Option<Fault>) {
    // A failure here is the injected fault or the end of the test.
    let _ = attempt(&mut client, upstream, fault).await;
}

async fn attempt(client: &mut TcpStream, upstream: SocketAddr, fault: Option<Fault>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    match fault {
        Some(Fault::Refuse) => return client.set_zero_linger(),
        Some(Fault::Hang) => {
            while client.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
        Some(Fault::Garbage) => {
            if client.read(&mut buffer).await? == 0 {
                return Ok(());
            }
            return client.write_all(b"\x15\x03\x01\x00\x02\x02\x46 that was not HTTP\r\n\r\n").await;
        }
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let forth = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        loop {
            let length = from_server.read(&mut buffer).await?;
            let answer = &buffer[..length];
            match fault {
                _ if length == 0 => return Ok(()),
                Some(Fault::Reset) => return Err(std::io::ErrorKind::ConnectionReset.into()),
                Some(Fault::Cut) => return to_client.write_all(&answer[..length / 2]).await,
                Some(Fault::Slow) => {
                    clock::sleep(Duration::from_millis(700)).await;
                    to_client.write_all(answer).await?;
                }
                Some(Fault::Drip) => {
                    for piece in answer.chunks(97) {
                        clock::sleep(Duration::from_millis(25)).await;
                        to_client.write_all(piece).await?;
                    }
                }
                _ => to_client.write_all(answer).await?,
            }
        }
    };
    let ended = tokio::select! {
        copied = forth => copied.map(|_| ()),
        ended = back => ended,
    };
    if fault == Some(Fault::Reset) {
        client.set_zero_linger()?;
    }
    ended
}
