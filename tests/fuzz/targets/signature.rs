//! Signature headers, secrets and body of a callback, each after a separator.

use jiff::Timestamp;
use trackpost::domain::messages::signature::hmac_header::HmacHeader;
use trackpost::domain::messages::signature::inspect::{Inspection, inspect};
use trackpost::domain::messages::signature::jwks::{self, VendorHeaders};
use trackpost::domain::messages::signature::{SignedHeaders, SigningSecret, sign, verify};
use trackpost::domain::secret::Hidden;

const NOW: i64 = 1_790_000_000;
const BODY: &str = "{\"type\":\"a b\",\r\n \"n\":[1,2.0]}\n";
const JWKS: &str = r#"{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"},{"kty":"EC"}]}"#;

pub fn seeds() -> Vec<Vec<u8>> {
    let now = NOW.to_string();
    let secret = SigningSecret::parse(super::SECRET).unwrap();
    let signature = sign(&[secret.clone(), secret], "msg_1", NOW, BODY.as_bytes());
    let hmac = hmac("a secret", "sha256=").value(BODY.as_bytes());
    let whole = [
        super::SECRET,
        "msg_1",
        &now,
        &signature,
        BODY,
        "a",
        "2026-09-21T14:13:20Z",
        JWKS,
        "a secret",
        &hmac,
    ];
    let vendor = [
        "",
        "msg_1",
        "1789999000",
        "v1,AAAA v2,AAAA",
        "",
        "a",
        "2026-09-21T14:13:20Z",
        JWKS,
        "s",
        "sha256=00",
    ];
    vec![super::join(&whole), super::join(&vendor), super::join(&whole[..5])]
}

pub fn check(input: &[u8]) {
    let parts: Vec<&[u8]> = super::parts(input, 10).collect();
    let bytes = |at: usize| parts.get(at).copied();
    let text = |at: usize| bytes(at).and_then(|part| std::str::from_utf8(part).ok());
    let body = bytes(4).unwrap_or_default();

    let (secret, headers) = (text(0), SignedHeaders { id: text(1), timestamp: text(2), signature: text(3) });
    if let Some(secret) = secret {
        let found = inspect(secret, headers, body, NOW);
        check_inspection(&found);
        if let Ok(secret) = SigningSecret::parse(secret) {
            assert_eq!(found.holds(), verify(&secret, headers, body, NOW).is_ok(), "{found:?}");
            check_round_trip(&secret, text(1).unwrap_or_default(), body);
        } else {
            assert!(!found.holds());
        }
    }
    let keys = text(7).map_or(Ok(Vec::new()), jwks::parse);
    if let (Ok(keys), Ok(now)) = (keys, Timestamp::from_second(NOW)) {
        let headers = VendorHeaders { signature: text(3), key_id: text(5), timestamp: text(6) };
        check_inspection(&jwks::inspect(&keys, headers, body, now));
    }
    let header = hmac(text(8).unwrap_or_default(), text(1).unwrap_or_default());
    check_inspection(&header.inspect(text(9), body));
    assert!(header.inspect(Some(&header.value(body)), body).holds());
}

fn hmac(secret: &str, prefix: &str) -> HmacHeader {
    let secret = Hidden::new(secret.to_owned());
    HmacHeader { name: "x-signature".to_owned(), prefix: prefix.to_owned(), secret }
}

fn check_inspection(found: &Inspection) {
    assert!(!found.checks.is_empty());
    assert!(found.holds() == found.checks.iter().all(|check| check.outcome.is_ok()));
}

fn check_round_trip(secret: &SigningSecret, id: &str, body: &[u8]) {
    let (signature, now) = (sign(std::slice::from_ref(secret), id, NOW, body), NOW.to_string());
    let headers = SignedHeaders { id: Some(id), timestamp: Some(&now), signature: Some(&signature) };
    assert_eq!(verify(secret, headers, body, NOW), Ok(()));
    let mut other = body.to_vec();
    other.push(0);
    assert!(verify(secret, headers, &other, NOW).is_err());
}
