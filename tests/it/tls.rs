//! Real connections: certificates, credentials, proxies, and their failures (contract 7.8).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, connect};

/// A private certificate authority, with a directory for its files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: TempDir,
}

/// A certificate and its key, both PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &pem).unwrap();
        Self { issuer: Issuer::new(params, key), pem, directory }
    }

    fn certify(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Returns the configuration line that trusts it.
    fn trusted(&self) -> String {
        line("ca_file", &self.directory.path().join("ca.pem"))
    }
}

fn line(key: &str, path: &Path) -> String {
    format!("{key} = \"{}\"\n", path.display())
}

fn of_loopback() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// Returns the configuration of a server with `pair`. `clients`: the authority of client certificates that it requires.
fn tls_config(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(chain(&authority.pem).remove(0)).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain(&pair.certificate), key).unwrap())
}

/// Serves one connection. Returns the head of the request, or an empty text if there was none.
fn served(tls: Option<Arc<ServerConfig>>, answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        match tls {
            None => serve_connection(stream, answer),
            Some(config) => {
                let connection = ServerConnection::new(config).unwrap();
                serve_connection(StreamOwned::new(connection, stream), answer)
            }
        }
    });
    (addr, thread)
}

fn serve_connection(mut stream: impl Read + Write, answer: &str) -> String {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.split("content-length: ").nth(1).map(|rest| rest.lines().next().unwrap().to_owned());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return String::new(),
            Ok(count) => read.extend_from_slice(&chunk[..count]),
        }
    }
    stream.write_all(answer.as_bytes()).unwrap();
    stream.flush().unwrap();
    String::from_utf8_lossy(&read).split("\r\n\r\n").next().unwrap().to_owned()
}

const DONE: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

/// Returns outcome and detail of one attempt to `url`. `more`: additional configuration of the subscriber.
async fn attempt(url: &str, more: &str) -> (String, String) {
    let orders = ORDERS.replace("HOOK/orders", url).replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut harness = Harness::with(&format!("{orders}timeout = \"1s\"\n{more}\n")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    let mut attempts = harness.attempts().await;
    assert_eq!(attempts.len(), 1);
    attempts.remove(0)
}

#[tokio::test]
async fn a_private_certificate_authority_is_trusted_if_configured() {
    let authority = Authority::new();
    let pair = authority.certify(of_loopback());
    for host in ["localhost", "127.0.0.1"] {
        let (addr, server) = served(Some(tls_config(&pair, None)), DONE);
        let (outcome, detail) =
            attempt(&format!("https://{host}:{}/", addr.port()), &authority.trusted()).await;
        assert_eq!(outcome, "accepted", "{detail}");
        assert!(server.join().unwrap().starts_with("POST / HTTP/1.1"));
    }
    let (addr, server) = served(Some(tls_config(&pair, None)), DONE);
    let (outcome, detail) = attempt(&format!("https://{addr}/"), "").await;
    assert!(outcome == "tls" && detail.contains("UnknownIssuer"), "{outcome}: {detail}");
    assert_eq!(server.join().unwrap(), "", "no request was sent to an untrusted server");
}

#[tokio::test]
async fn an_invalid_certificate_is_reported_with_a_reason() {
    let authority = Authority::new();
    let other = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let mut expired = of_loopback();
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let stranger = Authority::named("a stranger");
    for (pair, expected) in [
        (authority.certify(other), "not valid for name"),
        (authority.certify(expired), "expired"),
        (stranger.certify(of_loopback()), "UnknownIssuer"),
    ] {
        let (addr, server) = served(Some(tls_config(&pair, None)), DONE);
        let (outcome, detail) = attempt(&format!("https://{addr}/"), &authority.trusted()).await;
        assert!(outcome == "tls" && detail.contains(expected), "{expected}: {outcome}: {detail}");
        server.join().unwrap();
    }

    let key = KeyPair::generate().unwrap();
    let certificate = of_loopback().self_signed(&key).unwrap().pem();
    let (addr, server) =
        served(Some(tls_config(&Pair { certificate, key: key.serialize_pem() }, None)), DONE);
    let (outcome, detail) = attempt(&format!("https://{addr}/"), "").await;
    assert!(outcome == "tls" && detail.contains("certificate"), "{outcome}: {detail}");
    server.join().unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_sent_on_request() {
    let authority = Authority::new();
    let server_pair = authority.certify(of_loopback());
    let mut params = CertificateParams::new(vec!["trackpost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = authority.certify(params);
    let mine = line("client_certificate", &authority.file("client.pem", &client.certificate))
        + &line("client_key", &authority.file("client.key", &client.key));

    let (addr, server) = served(Some(tls_config(&server_pair, Some(&authority))), DONE);
    let (outcome, detail) = attempt(&format!("https://{addr}/"), &(authority.trusted() + &mine)).await;
    assert_eq!(outcome, "accepted", "{detail}");
    server.join().unwrap();

    let (addr, server) = served(Some(tls_config(&server_pair, Some(&authority))), DONE);
    let (outcome, detail) = attempt(&format!("https://{addr}/"), &authority.trusted()).await;
    assert_eq!(outcome, "tls", "{detail}");
    server.join().unwrap();
}

#[tokio::test]
async fn a_timeout_names_its_phase() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // The kernel accepts the connection, but no server answers.
    let (outcome, detail) = attempt(&format!("https://{addr}/"), "").await;
    assert_eq!(
        (outcome.as_str(), detail.as_str()),
        ("tls_timeout", "connected, but no TLS handshake within 1s")
    );
    let (outcome, detail) = attempt(&format!("http://{addr}/"), "").await;
    assert_eq!((outcome.as_str(), detail.as_str()), ("timeout", "connected, but no status within 1s"));

    // Its queue is full, so another connection gets no answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let addr = full.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queue.push(stream);
    }
    let (outcome, detail) = attempt(&format!("http://{addr}/"), "").await;
    assert_eq!((outcome.as_str(), detail.as_str()), ("connect_timeout", "no connection within 1s"));
}

#[tokio::test]
async fn tls_failures_differ_from_connection_failures() {
    let (addr, server) = served(None, DONE);
    // A plain-text server waits for the end of a request while the handshake waits for an answer.
    let (outcome, _) = attempt(&format!("https://{addr}/"), "").await;
    assert_eq!(outcome, "tls_timeout");
    server.join().unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 16]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(attempt(&format!("https://{addr}/"), "").await.0, "tls");
    server.join().unwrap();
    assert_eq!(attempt("https://nowhere.invalid/", "").await.0, "name");
    assert_eq!(attempt(&format!("https://{addr}/"), "").await.0, "refused");
}

#[tokio::test]
async fn credentials_in_a_url_are_sent_and_never_printed() {
    let (addr, server) = served(None, DONE);
    let url = format!("http://us%65r:p%4055@{addr}/x?token=t0ken");
    assert_eq!(attempt(&url, "").await.0, "accepted");
    let head = server.join().unwrap();
    assert!(head.starts_with("POST /x?token=t0ken HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: basic "), "{head}");
    assert!(head.contains("dXNlcjpwQDU1"), "user:p@55 in base64: {head}");

    // The port is closed now.
    let (outcome, detail) = attempt(&url, "").await;
    assert_eq!(outcome, "refused");
    assert!(!["p%4055", "p@55", "t0ken"].iter().any(|secret| detail.contains(secret)), "{detail}");
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let (addr, server) = served(None, DONE);
    let proxy = format!("proxy = \"http://me:s3cret@{addr}\"\n");
    assert_eq!(attempt("http://hooks.invalid/x", &proxy).await.0, "accepted");
    let head = server.join().unwrap().to_lowercase();
    assert!(head.starts_with("post http://hooks.invalid/x http/1.1"), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");

    let (addr, server) = served(None, "HTTP/1.1 403 Forbidden\r\n\r\n");
    let proxy = format!("proxy = \"http://me:s3cret@{addr}\"\n");
    let (outcome, detail) = attempt("https://hooks.invalid/x", &proxy).await;
    assert!(outcome == "refused" && !detail.contains("s3cret"), "{outcome}: {detail}");
    assert!(server.join().unwrap().starts_with("CONNECT hooks.invalid:443 HTTP/1.1"));

    // `check` probes the receiver as far as possible.
    let (outcome, _) = attempt("http://169.254.169.254/", "proxy = \"http://127.0.0.1:9\"").await;
    assert_eq!(outcome, "address");
}

#[tokio::test]
async fn polls_use_the_proxy_of_their_account() {
    let (addr, server) = served(None, "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n");
    let mut harness = Harness::with(&format!("proxy = \"http://me:s3cret@{addr}\"\n{ORDERS}")).await;
    harness.register(&["se-1"]).await;
    harness.poll_once().await;
    let head = server.join().unwrap().to_lowercase();
    assert!(
        head.starts_with(&format!("get {}/v2/labels/se-1/track http/1.1", harness.sandbox.base_url())),
        "{head}"
    );
    assert!(head.contains("proxy-authorization: basic "), "{head}");
    assert_eq!(harness.sandbox.counters().requests, 0);
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_only_if_configured() {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    // The port is closed.
    let environment = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:9"));
    let daemon = site.start_with(&environment);
    site.received(|counts| counts.accepted >= 3).await;
    daemon.stop().await;

    let text = site
        .configuration("[\"se-1\"]", "")
        .replace("[accounts.main]", "[accounts.main]\nproxy = \"environment\"");
    site.write("trackpost.toml", &text);
    let before = site.sandbox.counters().requests;
    let daemon = site.start_with(&environment);
    daemon.logged("no_connection", 1).await;
    daemon.stop().await;
    assert_eq!(site.sandbox.counters().requests, before);
    site.inspect();
}

#[tokio::test]
async fn secrets_in_an_answer_are_not_stored() {
    let echo = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\n\
                POST /x?token=t0%20ken Authorization: Basic dXNlcjpwQDU1NQ== X-Api: Bearer h3ader p@555, t0 ken, not s1gned";
    let (addr, server) = served(None, echo);
    let orders = ORDERS
        .replace("HOOK/orders", &format!("http://user:p%40555@{addr}/x?token=t0%20ken"))
        .replace("[\"*\"]", "[\"tracking.updated\"]");
    let mut harness = Harness::with(&format!("{orders}headers = {{ X-Api = \"Bearer h3ader\" }}\nhmac_header = {{ name = \"X-Sum\", secret = \"s1gned\" }}\n")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once("orders").await;
    server.join().unwrap();
    let answer: String = sqlx::query_scalar("SELECT answer FROM attempts")
        .fetch_one(&mut connect(harness.path()).await)
        .await
        .unwrap();
    assert_eq!(
        answer,
        "POST /x?(hidden) Authorization: Basic (hidden) X-Api: (hidden) (hidden), (hidden), not (hidden)"
    );
}
