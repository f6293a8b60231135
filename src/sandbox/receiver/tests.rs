#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::ledger::ViolationKind;
use super::*;
use crate::domain::messages::signature::{VerifyError, sign};

const NOW: i64 = 1_800_000_000;

fn secret(byte: u8) -> SigningSecret {
    SigningSecret::parse(&SigningSecret::encode(&[byte; 32])).unwrap()
}

async fn run(options: ReceiverOptions) -> (SocketAddr, ReceiverHandle) {
    let clock = Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
    let options = ReceiverOptions { clock, ..options };
    let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let (addr, handle) = (receiver.addr(), receiver.handle());
    tokio::spawn(receiver.serve(std::future::pending()));
    (addr, handle)
}

async fn post_raw(addr: SocketAddr, path: &str, headers: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A rejection may be sent before the body has been read.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn signed(key: &SigningSecret, id: &str, label: &str, seq: u64, body: &[u8]) -> String {
    let signature = sign(std::slice::from_ref(key), id, NOW, body);
    format!(
        "webhook-id: {id}\r\nwebhook-timestamp: {NOW}\r\nwebhook-signature: {signature}\r\n\
         trackpost-label-id: {label}\r\ntrackpost-seq: {seq}\r\ntrackpost-type: tracking.updated\r\n\
         trackpost-attempt: 2\r\n"
    )
}

async fn post(addr: SocketAddr, path: &str, id: &str, label: &str, seq: u64) -> u16 {
    post_raw(addr, path, &signed(&secret(1), id, label, seq, b"{}"), b"{}").await
}

fn checking() -> ReceiverOptions {
    ReceiverOptions { secrets: vec![secret(9), secret(1)], ..ReceiverOptions::default() }
}

#[tokio::test]
async fn records_callbacks_unchanged() {
    let (watch, mut watched) = mpsc::unbounded_channel();
    let (addr, handle) = run(ReceiverOptions { watch: Some(watch), ..checking() }).await;
    assert_eq!(post(addr, "/hooks?x=1", "msg_1", "se-1", 3).await, 200);
    let callback = &handle.callbacks()[0];
    assert_eq!(callback.verified, Verified::Good);
    assert_eq!((callback.path.as_str(), &callback.body[..]), ("/hooks?x=1", &b"{}"[..]));
    assert_eq!(callback.message_id.as_deref(), Some("msg_1"));
    assert_eq!(callback.label_id.as_deref(), Some("se-1"));
    assert_eq!((callback.seq, callback.attempt), (Some(3), Some(2)));
    assert_eq!(callback.kind.as_deref(), Some("tracking.updated"));
    assert_eq!((callback.answered, callback.header("webhook-id")), (Some(200), Some("msg_1")));
    assert_eq!(watched.recv().await.unwrap().message_id.as_deref(), Some("msg_1"));
    assert_eq!(handle.accepted().violations(), []);
}

#[tokio::test]
async fn bad_signatures_are_rejected_and_never_accepted() {
    let (addr, handle) = run(checking()).await;
    let headers = signed(&secret(2), "msg_1", "se-1", 1, b"{}");
    assert_eq!(post_raw(addr, "/", &headers, b"{}").await, 401);
    assert_eq!(post_raw(addr, "/", "", b"{}").await, 401);
    handle.answer_next([Answer::status(204)]);
    assert_eq!(post_raw(addr, "/", &signed(&secret(1), "msg_1", "se-1", 1, b"{}"), b"[]").await, 204);
    let counts = handle.counts();
    assert_eq!((counts.bad_signatures, counts.accepted), (3, 0));
    assert_eq!(handle.callbacks()[1].verified, Verified::Bad(VerifyError::Missing("webhook-id")));
}

#[tokio::test]
async fn repetitions_and_order_are_counted_per_path_and_label() {
    let (addr, handle) = run(checking()).await;
    for (path, id, label, seq) in [
        ("/a", "msg_1", "se-1", 1),
        ("/b", "msg_1", "se-1", 1),
        ("/a", "msg_3", "se-1", 3),
        ("/a", "msg_1", "se-1", 1),
        ("/a", "msg_2", "se-1", 2),
        ("/a", "msg_9", "se-2", 1),
    ] {
        assert_eq!(post(addr, path, id, label, seq).await, 200);
    }
    let accepted = handle.accepted();
    assert_eq!(accepted.unique(), ["msg_1", "msg_1", "msg_3", "msg_2", "msg_9"]);
    assert_eq!(accepted.repeated(), ["msg_1"]);
    let [violation] = accepted.violations() else { panic!("{:?}", accepted.violations()) };
    assert_eq!(violation.kind, ViolationKind::Reordered);
    assert_eq!(violation.to_string(), "se-1: seq 2 (msg_2) reached a after 3");
    let counts = handle.counts();
    assert_eq!((counts.received, counts.accepted, counts.unique, counts.repeated), (6, 6, 5, 1));
}

#[tokio::test]
async fn answers_as_configured() {
    let (addr, handle) = run(checking()).await;
    handle.answer_next([Answer::status(503).header("retry-after", "1"), Answer::status(410)]);
    assert_eq!(post(addr, "/", "msg_1", "se-1", 1).await, 503);
    assert_eq!(post(addr, "/", "msg_1", "se-1", 1).await, 410);
    assert_eq!(post(addr, "/", "msg_1", "se-1", 1).await, 200);
    handle.answer_by(|callback| (callback.label_id.as_deref() == Some("se-2")).then(|| Answer::status(500)));
    assert_eq!(post(addr, "/", "msg_2", "se-2", 1).await, 500);
    handle.answer_always(Answer::status(202));
    assert_eq!(post(addr, "/", "msg_3", "se-1", 2).await, 202);
    assert_eq!(handle.accepted().violations(), []);
    assert_eq!(handle.counts().unique, 2);
}

#[tokio::test]
async fn a_callback_whose_sender_disconnected_is_not_accepted() {
    let (addr, handle) = run(checking()).await;
    handle.answer_next([Answer::status(200).after(Duration::from_secs(3600))]);
    let given_up = timeout(Duration::from_millis(50), post(addr, "/", "msg_1", "se-1", 1)).await;
    assert!(given_up.is_err());
    timeout(Duration::from_secs(10), handle.wait_until(|counts| counts.received == 1)).await.unwrap();
    assert_eq!(post(addr, "/", "msg_1", "se-1", 1).await, 200);
    let counts = handle.counts();
    assert_eq!((counts.received, counts.accepted, counts.repeated), (2, 1, 0));
    assert_eq!(handle.callbacks()[0].answered, None);
}

#[tokio::test]
async fn without_a_secret_nothing_is_checked() {
    let (addr, handle) = run(ReceiverOptions { keep: 1, ..ReceiverOptions::default() }).await;
    assert_eq!(post_raw(addr, "/", "", b"1").await, 200);
    assert_eq!(post_raw(addr, "/", "", b"2").await, 200);
    let callbacks = handle.callbacks();
    assert_eq!((callbacks.len(), &callbacks[0].body[..]), (1, &b"2"[..]));
    assert_eq!(callbacks[0].verified, Verified::Unchecked);
    assert_eq!((handle.counts().accepted, handle.counts().unique), (2, 0));
}

#[tokio::test]
async fn bodies_over_eight_mebibytes_are_rejected() {
    let (addr, handle) = run(ReceiverOptions::default()).await;
    assert_eq!(post_raw(addr, "/", "", &vec![b' '; MAX_BODY]).await, 200);
    assert_eq!(post_raw(addr, "/", "", &vec![b' '; MAX_BODY + 1]).await, 413);
    assert_eq!(handle.counts().received, 1);
}
