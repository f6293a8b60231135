//! The vendor's signature with our key, and the plain HMAC, checked as receivers do: with the keys that the running
//! daemon publishes, for every attempt and format.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rsa::PublicKeyComponents;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use serde_json::Value;
use trackpost::sandbox::{Answer, ReceivedCallback, SandboxOptions};

use crate::harness::child::{Daemon, Site, until};
use crate::harness::parcel::in_transit;
use crate::harness::server::Server;
use crate::harness::{SECRET, free_address};

const A: &str = include_str!("../keys/a.pem");
const B: &str = include_str!("../keys/b.pem");
const KEY_ID_A: &str = "-UpRbVLXKw2fkwrZJVYwrR0aZkpFoZB6HoJXphVI6Ks";
const KEY_ID_B: &str = "kbto-XVCnm0TgsmJFZJd28dlZln6gXUWun6ucKVfAIQ";
const HMAC_SECRET: &str = "It's a Secret to Everybody";

/// A daemon with HTTP, RSA keys in files, and subscribers that use all kinds of signatures.
struct Setup {
    site: Site,
    http: SocketAddr,
}

impl Setup {
    async fn new() -> Self {
        let site = Site::new(SandboxOptions::default()).await;
        site.write("a.pem", A);
        site.write("b.pem", B);
        Self { site, http: free_address() }
    }

    /// `signing`: contents of `[signing]`.
    fn configure(&self, signing: &str) {
        let more = |name: &str, format: &str| {
            format!(
                "[subscribers.{name}]\nurl = \"{}{name}\"\nsecret = \"{SECRET}\"\nformat = \"{format}\"\n{SIGNED}",
                self.site.receiver_url()
            )
        };
        let more =
            format!("[signing]\n{signing}\n{}{}", more("shop", "shipstation"), more("old", "shipengine"));
        let text = self.site.configuration("[\"se-1\"]", &more);
        let text = text
            .replace("listen = \"\"", &format!("listen = \"{}\"", self.http))
            .replace("events = [\"*\"]\n", &format!("events = [\"*\"]\n{SIGNED}"));
        self.site.write("trackpost.toml", &text);
    }

    async fn run(&self) -> Daemon {
        let daemon = self.site.start();
        daemon.logged("started: ", 1).await;
        daemon
    }

    /// Returns head and body of the answer.
    async fn get(&self, target: &str) -> (String, String) {
        let (_, head, body) = Server::at(self.http).get_with(target, "").await;
        (head.to_lowercase(), body)
    }

    async fn key_ids(&self) -> Vec<String> {
        let set: Value = serde_json::from_str(&self.get("/jwks").await.1).unwrap();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Replaces `[signing]` and reloads.
    async fn reload(&self, daemon: &Daemon, signing: &str, times: usize) {
        self.configure(signing);
        daemon.signal("HUP");
        daemon.logged("configuration reloaded", times).await;
    }

    /// Sends a ping and returns its callback.
    async fn ping(&self) -> ReceivedCallback {
        let before = self.site.receiver.callbacks().len();
        let (ok, output, error) = self.site.try_command(&["subscribers", "ping", "orders"]).await;
        assert!(ok, "{output}{error}");
        self.site.receiver.callbacks().into_iter().skip(before).find(is_ping).expect("the ping was received")
    }
}

const SIGNED: &str = r#"retry = ["100ms"]
rsa_signature = true
hmac_header = { name = "X-Hub-Signature-256", secret = "It's a Secret to Everybody" }
"#;

fn is_ping(callback: &ReceivedCallback) -> bool {
    callback.kind.as_deref() == Some("trackpost.ping")
}

/// Checks a callback against a key set as the vendor's documents describe. Returns the id of the key.
fn vendor_signature(jwks: &str, callback: &ReceivedCallback) -> String {
    let header = |name| callback.header(name).unwrap_or_else(|| panic!("{name} is missing"));
    let stamp = header("x-shipengine-timestamp");
    let at: Timestamp = stamp.parse().unwrap();
    assert_eq!(format!("{at:.3}"), stamp, "UTC, with milliseconds");
    assert!(callback.at.duration_since(at).as_secs().abs() < 300, "the timestamp is that of this attempt");
    let set: Value = serde_json::from_str(jwks).unwrap();
    let key_id = header("x-shipengine-rsa-sha256-key-id");
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == key_id);
    let key = key.unwrap_or_else(|| panic!("{key_id} is not published"));
    assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&"RSA".into(), &"RS256".into(), &"sig".into()));
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let text = [stamp.as_bytes(), b".", &callback.body].concat();
    let signature = STANDARD.decode(header("x-shipengine-rsa-sha256-signature")).unwrap();
    PublicKeyComponents { n: number("n"), e: number("e") }
        .verify(&RSA_PKCS1_2048_8192_SHA256, &text, &signature)
        .expect("the signature holds");
    key_id.to_owned()
}

#[tokio::test]
async fn every_attempt_has_a_new_signature_in_every_format() {
    let setup = Setup::new().await;
    setup.configure("rsa_key = { file = \"a.pem\" }");
    setup.site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let refused = Mutex::new(BTreeSet::new());
    setup.site.receiver.answer_by(move |callback| {
        // The first attempt of each subscriber fails.
        let first = refused.lock().unwrap().insert(callback.path.clone());
        first.then(|| Answer::status(500))
    });
    let daemon = setup.run().await;
    setup.site.received(|counts| counts.accepted >= 5).await;
    let (head, jwks) = setup.get("/jwks").await;
    let (ok, printed, _) = setup.site.try_command(&["jwks"]).await;
    daemon.stop().await;

    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: public, max-age=300"), "{head}");
    assert!(ok && printed.trim_end() == jwks, "the command prints the served key set");
    assert!(!jwks.contains("\"d\"") && !jwks.contains("\"p\""), "no private key: {jwks}");
    let callbacks = setup.site.receiver.callbacks();
    for path in ["/orders", "/shop", "/old"] {
        let of: Vec<&ReceivedCallback> = callbacks.iter().filter(|callback| callback.path == path).collect();
        let id = of[0].message_id.clone();
        let attempts: Vec<&&ReceivedCallback> =
            of.iter().filter(|callback| callback.message_id == id).collect();
        assert_eq!(attempts.len(), 2, "{path}: one failed and one was accepted");
        let stamps = attempts.iter().map(|callback| callback.header("x-shipengine-timestamp").unwrap());
        let stamps: Vec<&str> = stamps.collect();
        assert!(stamps[0] < stamps[1], "{path}: {stamps:?}");
        assert_eq!(attempts[0].body, attempts[1].body);
        let hmac = |callback: &ReceivedCallback| callback.header("x-hub-signature-256").unwrap().to_owned();
        assert_eq!(hmac(attempts[0]), hmac(attempts[1]), "it covers only the body");
    }
    assert!(callbacks.iter().all(|callback| vendor_signature(&jwks, callback) == KEY_ID_A));

    // `trackpost verify` checks the callback of the daemon.
    setup.site.write("jwks.json", &jwks);
    let callback = &callbacks[0];
    setup.site.write("body.json", std::str::from_utf8(&callback.body).unwrap());
    let lines: Vec<String> =
        callback.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let (body, jwks) = (setup.site.directory().join("body.json"), setup.site.directory().join("jwks.json"));
    let mut arguments = vec!["verify", "--secret", SECRET, "--jwks", jwks.to_str().unwrap()];
    arguments.extend(["--hmac-secret", HMAC_SECRET]);
    arguments.extend(lines.iter().flat_map(|line| ["-H", line.as_str()]));
    arguments.push(body.to_str().unwrap());
    let (ok, output, error) = setup.site.try_command(&arguments).await;
    assert!(ok, "{output}{error}");
    for step in ["✓ match", "✓ RSA match", "✓ HMAC header"] {
        assert!(output.contains(step), "{step} is missing in:\n{output}");
    }
    setup.site.inspect();
}

#[tokio::test]
async fn keys_rotate_by_reload_and_are_published_before_they_sign() {
    let setup = Setup::new().await;
    setup.configure("rsa_key = { file = \"a.pem\" }");
    let daemon = setup.run().await;
    assert_eq!(setup.key_ids().await, [KEY_ID_A]);
    let first = setup.ping().await;

    setup.reload(&daemon, "rsa_keys = [{ file = \"a.pem\" }, { file = \"b.pem\" }]", 1).await;
    assert_eq!(setup.key_ids().await, [KEY_ID_A, KEY_ID_B]);
    daemon.logged("configuration reloaded: [signing] changed", 1).await;
    let old = setup.ping().await;
    let (_, cached) = setup.get("/jwks").await;

    setup.reload(&daemon, "rsa_keys = [{ file = \"b.pem\" }, { file = \"a.pem\" }]", 2).await;
    let new = setup.ping().await;
    let by = [&first, &old, &new].map(|callback| vendor_signature(&cached, callback));
    assert_eq!(by, [KEY_ID_A, KEY_ID_A, KEY_ID_B], "key sets fetched before the change still verify");

    // The replay has its old id and a signature of the current key.
    let id = first.message_id.clone().unwrap();
    let (ok, output, error) = setup.site.try_command(&["deliveries", "retry", &id]).await;
    assert!(ok, "{output}{error}");
    let again = || {
        let mut callbacks = setup.site.receiver.callbacks().into_iter();
        callbacks.rfind(|callback| callback.message_id.as_ref() == Some(&id) && callback.attempt == Some(2))
    };
    until(|| again().is_some()).await.unwrap();
    assert_eq!(vendor_signature(&cached, &again().unwrap()), KEY_ID_B);

    // An unreadable key changes nothing.
    setup.configure("rsa_key = { file = \"gone.pem\" }");
    daemon.signal("HUP");
    daemon.logged("reload rejected", 1).await;
    assert_eq!(setup.key_ids().await, [KEY_ID_B, KEY_ID_A]);
    assert!(!daemon.log().contains("PRIVATE KEY"));
    daemon.stop().await;
    setup.site.inspect();
}

#[tokio::test]
async fn check_prints_the_rsa_keys_and_the_key_set_url() {
    let setup = Setup::new().await;
    setup.configure("rsa_keys = [{ file = \"b.pem\" }, { file = \"a.pem\" }]");
    let (ok, output, error) = setup.site.try_command(&["check"]).await;
    assert!(ok, "{output}{error}");
    let url = format!("http://{}/jwks", setup.http);
    assert!(
        output.contains(&format!(
            "RSA signatures: key {KEY_ID_B} (also published: {KEY_ID_A}); published at {url}"
        )),
        "{output}"
    );
    let (_, json, _) = setup.site.try_command(&["check", "--json"]).await;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["signing"], serde_json::json!({ "key_ids": [KEY_ID_B, KEY_ID_A], "jwks": url }));
    assert_eq!(report["subscribers"][0]["hmac_header"], "X-Hub-Signature-256");
    assert!(!json.contains("Everybody") && !json.contains("PRIVATE"), "{json}");
}
