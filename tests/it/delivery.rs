//! One attempt and the behavior of its receiver (contract 7.4, 7.8).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use trackpost::sandbox::Answer;

use crate::harness::parcel::in_transit;
use crate::harness::peer::closed_port;
use crate::harness::{Harness, ORDERS};

/// A server that passes its first connection to `treat` after the head of the request.
fn one_shot_server<T: Send + 'static>(
    treat: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).unwrap() > 0);
        treat(stream)
    });
    (addr, thread)
}

/// A harness after one attempt of a callback to `addr`.
async fn posting_to(addr: &str) -> Harness {
    let orders = ORDERS.replace("HOOK/orders", addr).replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut harness = Harness::with(&(orders + "timeout = \"1s\"\n")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    harness
}

async fn outcome(harness: &Harness) -> String {
    let outcome: String = sqlx::query_scalar("SELECT outcome FROM attempts")
        .fetch_one(&mut crate::harness::connect(harness.path()).await)
        .await
        .unwrap();
    outcome
}

#[tokio::test]
async fn the_status_decides_and_an_endless_body_is_dropped() {
    let (addr, server) = one_shot_server(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        // Ends when the client closes the connection.
        while stream.write_all(&chunk).is_ok() {}
    });
    let harness = posting_to(&format!("http://{addr}/")).await;
    server.join().unwrap();
    assert_eq!(outcome(&harness).await, "accepted");
    let kept = harness.count("SELECT length(answer) FROM attempts").await;
    assert_eq!(kept, 1024, "the first KiB of the answer is stored");
}

#[tokio::test]
async fn the_status_decides_without_waiting_for_the_body() {
    let (addr, server) = one_shot_server(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        // Waits until the client closes the connection.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let harness = posting_to(&format!("http://{addr}/")).await;
    server.join().unwrap();
    assert_eq!(outcome(&harness).await, "accepted");
}

#[tokio::test]
async fn each_kind_of_failure_has_its_own_outcome() {
    let (reset, server) = one_shot_server(drop);
    let harness = posting_to(&format!("http://{reset}/")).await;
    server.join().unwrap();
    assert_eq!(outcome(&harness).await, "reset");

    let (silent, server) = one_shot_server(|mut stream| {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let harness = posting_to(&format!("http://{silent}/")).await;
    server.join().unwrap();
    assert_eq!(outcome(&harness).await, "timeout");

    let (no_tls, server) =
        one_shot_server(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let harness = posting_to(&format!("https://{no_tls}/")).await;
    server.join().unwrap().unwrap();
    assert_eq!(outcome(&harness).await, "tls");

    let (closed_port, _reserved) = closed_port();
    assert_eq!(outcome(&posting_to(&format!("http://{closed_port}/")).await).await, "refused");
    assert_eq!(outcome(&posting_to("http://nobody.invalid/").await).await, "name");
}

#[tokio::test]
async fn a_short_excerpt_of_the_answer_is_stored() {
    let mut harness = Harness::with(&ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]")).await;
    harness.receiver.answer_always(Answer::status(422).body("ü".repeat(10_000)));
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    let bytes = harness.count("SELECT length(CAST(answer AS BLOB)) FROM attempts").await;
    assert_eq!(bytes, 1024);
    assert_eq!(harness.count("SELECT count(*) FROM attempts WHERE status = 422").await, 1);
}
