//! Public keys as a JSON Web Key Set (RFC 7517), and the receiver's side of [`super::rsa`].
//!
//! As ShipStation's documents require, a callback is refused if the headers are missing, if it is too old or if the
//! signature differs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TOLERANCE_SECONDS;
use super::inspect::Inspection;
use super::rsa::{KEY_ID, PublicKey, RsaKey, SIGNATURE, TIMESTAMP, signed_text};

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    alg: Option<String>,
    #[serde(rename = "use", default)]
    usage: Option<String>,
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// Returns the key set for receivers: the public keys of `keys`.
pub fn publish(keys: &[RsaKey]) -> String {
    let jwk = |key: &RsaKey| Jwk {
        kty: "RSA".to_owned(),
        n: URL_SAFE_NO_PAD.encode(&key.public().n),
        e: URL_SAFE_NO_PAD.encode(&key.public().e),
        alg: Some("RS256".to_owned()),
        usage: Some("sig".to_owned()),
        kid: Some(key.public().key_id.clone()),
    };
    let set = Jwks { keys: keys.iter().map(jwk).collect() };
    serde_json::to_string(&set).expect("texts are JSON")
}

/// Parses a key set. Keys of other types than RSA are skipped.
///
/// # Errors
/// A description of the fault.
pub fn parse(text: &str) -> Result<Vec<PublicKey>, String> {
    let set: Jwks = serde_json::from_str(text).map_err(|error| format!("is not a key set: {error}"))?;
    let key = |jwk: Jwk| {
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let (Ok(n), Ok(e)) = (number(&jwk.n), number(&jwk.e)) else {
            return Err("contains a key that is not base64url".to_owned());
        };
        let key = PublicKey::new(n, e);
        Ok(PublicKey { key_id: jwk.kid.unwrap_or(key.key_id), ..key })
    };
    set.keys.into_iter().filter(|jwk| jwk.kty == "RSA").map(key).collect()
}

/// The three signature headers of a callback, as received.
#[derive(Clone, Copy, Debug, Default)]
pub struct VendorHeaders<'a> {
    pub signature: Option<&'a str>,
    pub key_id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
}

/// Checks one callback at `now` with the published `keys`.
pub fn inspect(keys: &[PublicKey], headers: VendorHeaders<'_>, body: &[u8], now: Timestamp) -> Inspection {
    let mut found = Inspection::default();
    let (Some(signature), Some(key_id), Some(stamp)) = (headers.signature, headers.key_id, headers.timestamp)
    else {
        let named =
            [(SIGNATURE, headers.signature), (KEY_ID, headers.key_id), (TIMESTAMP, headers.timestamp)];
        let missing = named.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name);
        let missing = missing.collect::<Vec<_>>().join(", ");
        found.add("RSA headers", Err(format!("missing: {missing}")));
        found.causes.push("the subscriber needs rsa_signature = true".to_owned());
        return found;
    };
    found.add("RSA headers", Ok("all three".to_owned()));
    found.add("RSA age", age(stamp, now));
    let Some(key) = keys.iter().find(|key| key.key_id == key_id) else {
        found.add("RSA key", Err(format!("none of the {} keys in the file has the id {key_id}", keys.len())));
        found.causes.push("the file is old or of another sender: fetch /jwks again".to_owned());
        return found;
    };
    found.add("RSA key", Ok(format!("{key_id}, {} bits", key.bits())));
    let holds =
        STANDARD.decode(signature).is_ok_and(|signature| key.verifies(&signed_text(stamp, body), &signature));
    let over = format!("RSA-SHA256 over \"{{timestamp}}.\" and {} bytes of body", body.len());
    found.add(
        "RSA match",
        if holds { Ok(over) } else { Err(format!("the signature does not match this key ({over})")) },
    );
    found
}

fn age(stamp: &str, now: Timestamp) -> Result<String, String> {
    let at: Timestamp = stamp.parse().map_err(|_| format!("{TIMESTAMP} is not an instant: {stamp:?}"))?;
    let skew = at.duration_since(now).as_secs();
    if skew.saturating_abs() > TOLERANCE_SECONDS {
        return Err(format!(
            "{TIMESTAMP} is {skew} s from now; receivers refuse more than {TOLERANCE_SECONDS} s"
        ));
    }
    Ok(format!("{} s from now; receivers allow {TOLERANCE_SECONDS} s", skew.saturating_abs()))
}

#[cfg(test)]
mod tests {
    use super::super::rsa::tests::{A, AT, BODY, BY_OPENSSL, read};
    use super::*;

    /// Made from `a.pem` by another implementation.
    const KEY_ID_A: &str = "-UpRbVLXKw2fkwrZJVYwrR0aZkpFoZB6HoJXphVI6Ks";
    const N_OF_A: &str = "mER0u0F4HE9vpJSGsOiYO2Cw81g1_A5ARqY5Npybpm0Cefp66P8xfoKPjEpIwARprym0_SjjWlvIarOEbMt5jyoLZCe3LyrgWZjdQdLnhrOVWyXclvMUA2sROTQb6bKf68nArrR_nuwEkCBo6r7--ApF1jSGOMuGyObSw1MiPVEVWgiEjHfwmy_6enhA0EgUBXUk-dYPQycN4eEywVYLxg1Dm3PxAstaaKxl0eg0fI2rw-bXoDUD3_PCQ37a-PQHHCe6NwZKWP-qj0T1bE727fD5-MYbFYLmQFQS6Yk7k5c-qiXhaIIMgP7hHUj94FAoUSWR5eZBQMyOimOolaohMQ";

    fn look(headers: VendorHeaders<'_>, body: &[u8], now: &str) -> Vec<String> {
        let published =
            publish(&[read(include_str!("../../../../tests/keys/b.pem")).unwrap(), read(A).unwrap()]);
        let found = inspect(&parse(&published).unwrap(), headers, body, now.parse().unwrap());
        let wrong = found.checks.into_iter().filter_map(|step| step.outcome.err().map(|_| step.name));
        wrong.map(str::to_owned).collect()
    }

    const GOOD: VendorHeaders<'_> =
        VendorHeaders { signature: Some(BY_OPENSSL), key_id: Some(KEY_ID_A), timestamp: Some(AT) };

    #[test]
    fn publishes_the_same_as_another_implementation() {
        assert_eq!(
            publish(&[read(A).unwrap()]),
            format!(
                r#"{{"keys":[{{"kty":"RSA","n":"{N_OF_A}","e":"AQAB","alg":"RS256","use":"sig","kid":"{KEY_ID_A}"}}]}}"#
            )
        );
        assert_eq!(publish(&[]), r#"{"keys":[]}"#);
        assert_eq!(read(A).unwrap().public().bits(), 2048);
    }

    #[test]
    fn accepts_the_signature_of_openssl_and_no_other() {
        assert_eq!(look(GOOD, BODY, "2026-08-04T12:04:59Z"), [""; 0]);
        assert_eq!(look(GOOD, BODY, "2026-08-04T12:05:01Z"), ["RSA age"]);
        assert_eq!(look(GOOD, b"{}", AT), ["RSA match"]);
        let later = VendorHeaders { timestamp: Some("2026-08-04T12:00:00.001Z"), ..GOOD };
        assert_eq!(look(later, BODY, AT), ["RSA match"]);
        let none = VendorHeaders { timestamp: Some("noon"), ..GOOD };
        assert_eq!(look(none, BODY, AT), ["RSA age", "RSA match"]);
        assert_eq!(look(VendorHeaders { key_id: Some("k"), ..GOOD }, BODY, AT), ["RSA key"]);
        assert_eq!(look(VendorHeaders::default(), BODY, AT), ["RSA headers"]);
    }

    #[test]
    fn parses_key_sets_of_others() {
        let others = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b"},{"kty":"RSA","n":"AQ==","e":"AQAB","kid":"k"}]}"#;
        let keys = parse(others).unwrap();
        assert_eq!((keys.len(), keys[0].key_id.as_str()), (1, "k"));
        assert!(parse(r#"{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}"#).is_err());
        assert!(parse("-----BEGIN PUBLIC KEY-----").is_err());
    }
}
