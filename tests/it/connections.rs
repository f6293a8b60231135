//! Failures of connections and their attribution (contract 3, 7.4, 7.8, 7.9): byte for byte over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use trackpost::clock::Stopwatch;
use trackpost::domain::account::Account;
use trackpost::domain::delivery::address::AddressPolicy;
use trackpost::domain::proxies::Proxies;
use trackpost::domain::tracking::reading::Reading;
use trackpost::shipstation::{self, Client};
use trackpost::transport::{
    ConnectionLimits, ExchangeFailure, ExchangeProgress, FailureCause, HttpAnswer, Settings, Transport,
};

use crate::harness::child::until;
use crate::harness::parcel::in_transit;
use crate::harness::peer::{Peer, PeerRequest, Reply, answer};
use crate::harness::{Harness, ORDERS, about};

/// An account with its API at `url`, and its client.
async fn api(url: &str) -> (Account, Client) {
    let harness = Harness::new().await;
    let account = Account { base_url: url.to_owned(), ..harness.account.clone() };
    let client = Client::new(&shipstation::tls().unwrap(), &account).unwrap();
    (account, client)
}

async fn read(account: &Account, client: &Client) -> Reading {
    client.read(account, &"se-1".parse().unwrap(), None, "2030-03-04T12:00:00Z".parse().unwrap()).await
}

/// Returns the reading of a raw answer of the API.
async fn reading_of(bytes: Vec<u8>) -> Reading {
    let peer = Peer::new(move |_| Reply::Last(bytes.clone())).await;
    let (account, client) = api(&peer.url()).await;
    read(&account, &client).await
}

/// A harness whose receiver is `peer`. `orders` gets summaries only.
async fn receiving_at(peer: &Peer, more: &str) -> Harness {
    let orders = ORDERS.replace("HOOK/orders", &peer.url()).replace("[\"*\"]", "[\"tracking.updated\"]");
    Harness::with(&format!("{orders}{more}")).await
}

/// A harness after one attempt to post a callback to `peer`.
async fn posted_to(peer: &Peer, more: &str) -> Harness {
    let mut harness = receiving_at(peer, more).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    harness
}

/// Returns outcome and detail of one attempt that gets this raw answer.
async fn attempt_of(reply: Reply) -> (String, String) {
    let peer = Peer::new(move |_| reply.clone()).await;
    let mut attempts = posted_to(&peer, "").await.attempts().await;
    assert_eq!(attempts.len(), 1);
    attempts.remove(0)
}

/// Answers the first request of each connection, and closes it when a second one comes.
fn answer_first_request(received: &PeerRequest, first: Vec<u8>) -> Reply {
    if received.number == 0 { Reply::Bytes(first) } else { Reply::Last(Vec::new()) }
}

#[tokio::test]
async fn a_reused_connection_that_closes_unanswered_is_not_a_failure_of_the_api() {
    let peer = Peer::new(|received| answer_first_request(received, answer("200 OK", &in_transit()))).await;
    let (account, client) = api(&peer.url()).await;
    for _ in 0..5 {
        let reading = read(&account, &client).await;
        assert!(matches!(reading, Reading::Answer { .. }), "{reading:?}");
    }
    let received: Vec<_> =
        peer.received().iter().map(|received| (received.connection, received.number)).collect();
    assert_eq!(received, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)]);
}

#[tokio::test]
async fn a_reused_connection_that_closes_unanswered_is_not_a_failure_of_a_receiver() {
    let peer = Peer::new(|received| answer_first_request(received, answer("200 OK", "{}"))).await;
    let mut harness = receiving_at(&peer, "").await;
    let labels: Vec<String> = (0..20).map(|n| format!("se-{n}")).collect();
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.register(&labels[..8].iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.poll_and_deliver().await;
    harness.register(&labels[8..].iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.poll_and_deliver().await;
    let attempts = harness.attempts().await;
    assert_eq!(attempts.len(), 20, "one attempt of each message");
    assert!(attempts.iter().all(|(outcome, _)| outcome == "accepted"), "{attempts:?}");
    assert_eq!(harness.count("SELECT count(*) FROM messages WHERE type LIKE 'system.%'").await, 0);
    let received = peer.received();
    assert!(received.len() > 20, "some requests were repeated within the attempt");
    for unanswered in received.iter().filter(|received| received.number > 0) {
        let again = received.iter().find(|again| again.number == 0 && again.head == unanswered.head);
        assert_eq!(again.expect("the same request").body, unanswered.body);
    }
}

#[tokio::test]
async fn a_408_on_an_idle_connection_is_not_a_failure() {
    // Some servers send 408 on a connection before they close it, for any request.
    let peer = Peer::new(|received| match received.number {
        0 => Reply::Bytes(answer("200 OK", &in_transit())),
        _ => Reply::Last(answer("408 Request Timeout", "")),
    })
    .await;
    let (account, client) = api(&peer.url()).await;
    for _ in 0..3 {
        assert!(matches!(read(&account, &client).await, Reading::Answer { .. }));
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_unanswered_is_a_failure() {
    let peer = Peer::new(|_| Reply::Last(Vec::new())).await;
    let (account, client) = api(&peer.url()).await;
    let reading = read(&account, &client).await;
    assert_eq!(reading.as_str(), "no_connection");
    assert_eq!(reading.detail().unwrap(), "the connection was closed before an answer came");
    assert_eq!(peer.received().len(), 1, "it is not repeated");

    let (outcome, detail) = attempt_of(Reply::Last(Vec::new())).await;
    assert_eq!(
        (outcome.as_str(), detail.as_str()),
        ("reset", "the connection was closed before an answer came")
    );
}

#[tokio::test]
async fn half_an_answer_on_a_reused_connection_is_a_failure() {
    let peer = Peer::new(|received| match received.number {
        0 => Reply::Bytes(answer("200 OK", &in_transit())),
        _ => Reply::Last(b"HTTP/1.1 2".to_vec()),
    })
    .await;
    let (account, client) = api(&peer.url()).await;
    assert!(matches!(read(&account, &client).await, Reading::Answer { .. }));
    let reading = read(&account, &client).await;
    assert_eq!(reading.as_str(), "no_connection", "{reading:?}");
    assert_eq!(peer.received().len(), 2, "the server may have processed it, so it is not repeated");
}

#[tokio::test]
async fn connections_are_reused_and_requests_accept_only_identity_encoding() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        in_transit().len(),
        in_transit()
    );
    for bytes in [answer("200 OK", &in_transit()), chunked.into_bytes(), answer("503 Busy", "later")] {
        let peer = Peer::new(move |_| Reply::Bytes(bytes.clone())).await;
        let (account, client) = api(&peer.url()).await;
        for _ in 0..5 {
            read(&account, &client).await;
        }
        assert_eq!((peer.received().len(), peer.connections()), (5, 1));
        let head = peer.received()[0].head.to_lowercase();
        assert!(head.contains("\r\naccept-encoding: identity"), "{head}");
        assert!(head.contains(&format!("\r\nhost: {}", peer.addr)), "{head}");
    }
    for answer in [answer("200 OK", "{}"), answer("204 No Content", ""), answer("500 No", "no")] {
        let peer = Peer::new(move |_| Reply::Bytes(answer.clone())).await;
        let mut harness = receiving_at(&peer, "max_in_flight = 1\n").await;
        for label in ["se-1", "se-2", "se-3"] {
            harness.says(label, &in_transit());
        }
        harness.register(&["se-1", "se-2", "se-3"]).await;
        harness.poll_and_deliver().await;
        assert_eq!((peer.received().len(), peer.connections()), (3, 1));
    }
}

/// Returns an answer with this many header lines.
fn many_headers(count: usize) -> Vec<u8> {
    let lines: String = (0..count).map(|n| format!("x-debug-{n}: {n}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn the_status_decides_whatever_the_headers_contain() {
    for bytes in [
        many_headers(150),
        many_headers(5_000),
        b"HTTP/1.1 200 OK\r\nx debug: 1\r\nx-folded: a\r\n b\r\n: nameless\r\ncontent-length: 0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nx-debug : 1\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_vec(),
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec(),
    ] {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let (outcome, detail) = attempt_of(Reply::Last(bytes)).await;
        assert_eq!(outcome, "accepted", "{head}: {detail}");
    }
    let refused = String::from_utf8(many_headers(5_000)).unwrap().replace("200 OK", "500 No");
    assert_eq!(attempt_of(Reply::Last(refused.into_bytes())).await.0, "status");
    let (outcome, detail) = attempt_of(Reply::Last(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())).await;
    assert!(
        outcome == "unreadable" && detail.starts_with("the answer is not valid HTTP: "),
        "{outcome}: {detail}"
    );
}

#[tokio::test]
async fn an_answer_of_the_api_that_is_not_readable_is_garbled() {
    let reading = reading_of(many_headers(150)).await;
    assert!(
        matches!(reading, Reading::Garbled { status: 200, .. }),
        "it is not a tracking answer: {reading:?}"
    );
    let with_body = String::from_utf8(answer("200 OK", &in_transit())).unwrap();
    let lines: String = (0..150).map(|n| format!("x-debug-{n}: {n}\r\n")).collect();
    let with_body = with_body.replacen("content-type", &format!("{lines}content-type"), 1);
    assert!(matches!(reading_of(with_body.into_bytes()).await, Reading::Answer { .. }));
    let reading = reading_of(many_headers(5_000)).await;
    assert!(matches!(reading, Reading::Garbled { status: 200, .. }), "{reading:?}");
    let reading = reading_of(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).await;
    assert_eq!((reading.as_str(), reading.status()), ("garbled", None));
    let short = answer("200 OK", &in_transit());
    let reading = reading_of(short[..short.len() - 9].to_vec()).await;
    assert_eq!((reading.as_str(), reading.status()), ("garbled", Some(200)), "cut short: {reading:?}");
}

#[tokio::test]
async fn a_compressed_answer_is_reported_as_compressed() {
    let gzip = [&[0x1f_u8, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0x55; 40]].concat();
    for (header, how) in
        [("content-encoding: gzip\r\n", "gzip"), ("content-encoding: br\r\n", "br"), ("", "gzip")]
    {
        let head = format!("HTTP/1.1 200 OK\r\n{header}content-length: {}\r\n\r\n", gzip.len());
        let reading = reading_of([head.as_bytes(), &gzip].concat()).await;
        let detail = format!("the answer is compressed ({how}) although identity was requested");
        assert_eq!((reading.as_str(), reading.detail()), ("garbled", Some(detail)));
    }
    let plain = String::from_utf8(answer("200 OK", &in_transit())).unwrap();
    let plain = plain.replacen("content-type", "content-encoding: identity\r\ncontent-type", 1);
    assert!(matches!(reading_of(plain.into_bytes()).await, Reading::Answer { .. }));
}

#[tokio::test]
async fn a_redirect_is_reported_with_its_target_and_without_secrets() {
    let moved = b"HTTP/1.1 302 Found\r\nlocation: https://user:pw@login.example/sso?token=t0ken\r\ncontent-length: 0\r\n\r\n";
    let reading = reading_of(moved.to_vec()).await;
    assert_eq!(
        (reading.as_str(), reading.detail().unwrap().as_str()),
        ("garbled", "the server answered 302 and redirects to login.example/sso; redirects are not followed")
    );
    let (outcome, detail) = attempt_of(Reply::Last(moved.to_vec())).await;
    assert_eq!(
        (outcome.as_str(), detail.as_str()),
        ("status", "redirects are not followed; the target is login.example/sso")
    );
}

#[tokio::test]
async fn a_body_without_an_end_does_not_delay_the_outcome() {
    for (status, accepted) in [("200 OK", "accepted"), ("500 No", "status")] {
        let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
        let watch = Stopwatch::start();
        let peer = Peer::new(move |_| Reply::Drip(head.clone())).await;
        let harness = posted_to(&peer, "timeout = \"50s\"\n").await;
        assert_eq!(harness.attempts().await[0].0, accepted);
        assert!(watch.elapsed() < Duration::from_secs(25), "it ends before the time limit");
        until(|| peer.closed() == 1).await.expect("the connection is dropped");
    }
}

#[tokio::test]
async fn a_refused_connection_is_reported_in_plain_words() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (account, client) = api(&format!("http://{addr}")).await;
    let reading = read(&account, &client).await;
    assert_eq!(
        (reading.as_str(), reading.detail().unwrap()),
        ("no_connection", format!("{addr} refused the connection"))
    );
    let (account, client) = api("http://nowhere.invalid").await;
    let reading = read(&account, &client).await;
    assert_eq!(reading.as_str(), "no_connection");
    let detail = reading.detail().unwrap();
    assert!(detail.starts_with("the name nowhere.invalid has no address: "), "{detail}");

    // The server has no TLS.
    let peer = Peer::new(|_| Reply::Last(Vec::new())).await;
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = plain.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 16]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let (account, client) = api(&format!("https://{addr}")).await;
    let reading = read(&account, &client).await;
    assert_eq!(
        reading.detail().unwrap(),
        format!("{addr} does not speak TLS on this port; the URL may need http")
    );
    server.join().unwrap();
    drop(peer);
}

/// Connections to `peer` with these limits.
fn transport(peer: &Peer, limits: ConnectionLimits) -> Transport {
    let settings = Settings {
        tls: Arc::new(trackpost::tls::client_config(&[], None).unwrap()),
        proxies: Proxies::default(),
        address_policy: Some(AddressPolicy { encrypted: false, allow_insecure: false }),
        max_idle: 4,
        limits,
        connect_timeout: None,
    };
    Transport::new(&peer.url().parse().unwrap(), settings).unwrap()
}

async fn get(transport: &Transport) -> Result<Bytes, ExchangeFailure> {
    let (progress, none) = (ExchangeProgress::default(), Bytes::new());
    let sending = transport.send(&Method::GET, "/", transport.headers(), &none, &progress);
    let HttpAnswer { body, .. } = sending.await?;
    Ok(body.whole(1024).await?.unwrap())
}

#[tokio::test]
async fn a_busy_connection_has_a_maximum_age() {
    let peer = Peer::new(|_| Reply::Bytes(answer("200 OK", "{}"))).await;
    let limits = ConnectionLimits { age: Duration::from_millis(200), ..ConnectionLimits::default() };
    let transport = transport(&peer, limits);
    let watch = Stopwatch::start();
    let mut requests = 0;
    while peer.connections() < 3 {
        assert_eq!(get(&transport).await.unwrap(), "{}");
        requests += 1;
    }
    assert!(watch.elapsed() >= Duration::from_millis(400), "two connections reached their maximum age");
    assert!(requests > 10, "there were many requests: {requests}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_itself() {
    let peer = Peer::new(|_| Reply::Bytes(answer("200 OK", "{}"))).await;
    let limits = ConnectionLimits {
        idle: Duration::from_millis(50),
        sweep_every: Duration::from_millis(20),
        ..ConnectionLimits::default()
    };
    let transport = transport(&peer, limits);
    get(&transport).await.unwrap();
    until(|| peer.closed() == 1).await.expect("the idle connection is closed");
    get(&transport).await.unwrap();
    assert_eq!(peer.connections(), 2);
    let defaults = ConnectionLimits::default();
    assert!(defaults.idle + defaults.sweep_every <= Duration::from_secs(30));
    assert!(defaults.age <= Duration::from_secs(60));
}

#[tokio::test]
async fn one_stale_connection_empties_the_pool() {
    // After four requests at once the server closes all connections, and the client has not noticed.
    let late = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&late);
    let peer = Peer::new(move |received| {
        if received.number == 0 {
            return Reply::Bytes(answer("200 OK", "{}"));
        }
        seen.fetch_add(1, Ordering::Relaxed);
        Reply::Last(Vec::new())
    })
    .await;
    let transport = transport(&peer, ConnectionLimits::default());
    let (a, b, c, d) = tokio::join!(get(&transport), get(&transport), get(&transport), get(&transport));
    assert!([a, b, c, d].iter().all(Result::is_ok));
    assert_eq!(get(&transport).await.unwrap(), "{}");
    assert_eq!(late.load(Ordering::Relaxed), 1, "one was tried, the others were closed with it");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read() {
    let large = "x".repeat(4 * 1024 * 1024 + 1);
    let reading = reading_of(answer("200 OK", &large)).await;
    assert_eq!(reading.detail().unwrap(), "the answer is larger than 4194304 bytes");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let reading = reading_of(chunked.into_bytes()).await;
    assert_eq!(reading.detail().unwrap(), "the answer is larger than 4194304 bytes");
}

/// Returns the wait before the next attempt in seconds, and the detail, for an answer with this Retry-After.
async fn wait_and_detail(form: impl FnOnce(&Harness) -> String) -> (f64, String) {
    let text = Arc::new(std::sync::Mutex::new(String::new()));
    let value = Arc::clone(&text);
    let peer = Peer::new(move |_| {
        let value = value.lock().unwrap();
        Reply::Last(
            format!("HTTP/1.1 429 Slow\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        )
    })
    .await;
    let mut harness = receiving_at(&peer, "retry = [\"300ms\"]\n").await;
    *text.lock().unwrap() = form(&harness);
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    let next =
        harness.count("SELECT min(next_attempt_at) FROM deliveries WHERE next_attempt_at IS NOT NULL").await;
    let wait = (next - harness.now().as_millisecond()) as f64 / 1000.0;
    (wait, harness.attempts().await.remove(0).1)
}

#[tokio::test]
async fn retry_after_is_read_in_every_valid_form() {
    let at = |harness: &Harness, form: &str| {
        let at = harness.now() + crate::harness::seconds(90);
        at.to_zoned(jiff::tz::TimeZone::UTC).strftime(form).to_string()
    };
    for form in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
        let (wait, detail) = wait_and_detail(|harness| at(harness, form)).await;
        assert!(about(wait, 90.0, 0.05), "{form}: {wait} s");
        assert_eq!(detail, "");
    }
    for (text, seconds) in [("4.5", 5.0), ("90", 90.0), ("9999999999", 86_400.0)] {
        let (wait, _) = wait_and_detail(|_| text.to_owned()).await;
        assert!(about(wait, seconds, 0.05), "{text}: {wait} s");
    }
    for text in ["soon", "-5", "4,5"] {
        let (wait, detail) = wait_and_detail(|_| text.to_owned()).await;
        assert!(wait < 1.0, "{text}: {wait} s");
        assert_eq!(detail, format!("its Retry-After header is not valid: \"{text}\""));
    }
}

#[tokio::test]
async fn a_link_local_address_is_refused_at_connect_time() {
    let settings = |address_policy| Settings {
        tls: Arc::new(trackpost::tls::client_config(&[], None).unwrap()),
        proxies: Proxies::default(),
        address_policy: Some(address_policy),
        max_idle: 1,
        limits: ConnectionLimits::default(),
        connect_timeout: None,
    };
    let address_policy = AddressPolicy { encrypted: false, allow_insecure: true };
    let transport =
        Transport::new(&"http://169.254.169.254/".parse().unwrap(), settings(address_policy)).unwrap();
    let failure = get(&transport).await.unwrap_err();
    assert_eq!(failure.cause, FailureCause::Address, "{failure:?}");
}
