//! Standard Webhooks signatures: `v1,<base64 HMAC-SHA256(secret, "{id}.{timestamp}.{body}")>`.
//!
//! Like the official verifiers: standard padded base64, whole seconds, one space between tokens. [`verify`] is the
//! receiving side; [`inspect`] explains a failed verification for `trackpost verify`. Two additional signatures can be
//! configured: [`rsa`], ShipStation's own way, and a plain [`hmac_header`].

pub mod hmac_header;
pub mod inspect;
pub mod jwks;
pub mod rsa;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::secret::Hidden;

/// Signing secret: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecret(Hidden<Vec<u8>>);

/// Error for a text that is not a signing secret. Contains nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("a signing secret starts with whsec_")]
    NoPrefix,
    #[error("the part after whsec_ is not standard, padded base64")]
    NotBase64,
    #[error("a signing secret has 24 to 64 bytes, this one has {0}")]
    Length(usize),
}

impl SigningSecret {
    pub const PREFIX: &str = "whsec_";

    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SecretError::NoPrefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        if (24..=64).contains(&key.len()) {
            Ok(Self(Hidden::new(key)))
        } else {
            Err(SecretError::Length(key.len()))
        }
    }

    /// Returns the secret with the bytes `key` as text.
    pub fn encode(key: &[u8]) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(key))
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }

    fn token(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, timestamp, body).finalize().into_bytes()))
    }
}

/// Returns the value of `webhook-signature`: one token per secret, separated by single spaces. `timestamp`: Unix seconds.
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let tokens: Vec<String> = secrets.iter().map(|secret| secret.token(id, timestamp, body)).collect();
    tokens.join(" ")
}

/// Maximum difference between a receiver's clock and the timestamp in the official libraries, in seconds.
pub const TOLERANCE_SECONDS: i64 = 5 * 60;

/// The three signature headers of a callback, as received.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignedHeaders<'a> {
    pub id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    pub signature: Option<&'a str>,
}

/// First error found in a callback's signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error("webhook-timestamp is not a whole number of seconds: {0:?}")]
    Timestamp(String),
    #[error("webhook-timestamp is {0} s from now; receivers refuse more than {TOLERANCE_SECONDS} s")]
    Skewed(i64),
    #[error("webhook-signature is not a list of version,base64 with single spaces: {0:?}")]
    Malformed(String),
    #[error("webhook-signature has no v1 token")]
    NoV1,
    #[error("no v1 signature matches this secret and these bytes")]
    Mismatch,
}

/// Parses a timestamp: a whole number of seconds in its usual spelling.
fn parse_timestamp(stamp: &str) -> Result<i64, VerifyError> {
    let timestamp = stamp.parse::<i64>().ok().filter(|seconds| seconds.to_string() == stamp);
    timestamp.ok_or_else(|| VerifyError::Timestamp(stamp.to_owned()))
}

/// Returns how far `timestamp` is ahead of `now` in seconds, if receivers allow it.
fn check_age(timestamp: i64, now: i64) -> Result<i64, VerifyError> {
    let skew = timestamp.saturating_sub(now);
    if skew.saturating_abs() <= TOLERANCE_SECONDS { Ok(skew) } else { Err(VerifyError::Skewed(skew)) }
}

/// Verifies one callback with one secret at `now` (Unix seconds). Tokens are compared in constant time.
pub fn verify(
    secret: &SigningSecret,
    headers: SignedHeaders<'_>,
    body: &[u8],
    now: i64,
) -> Result<(), VerifyError> {
    let id = headers.id.ok_or(VerifyError::Missing("webhook-id"))?;
    let stamp = headers.timestamp.ok_or(VerifyError::Missing("webhook-timestamp"))?;
    let signature = headers.signature.ok_or(VerifyError::Missing("webhook-signature"))?;
    let timestamp = parse_timestamp(stamp)?;
    check_age(timestamp, now)?;
    let mut any = false;
    for token in signature.split(' ') {
        let (version, encoded) =
            token.split_once(',').ok_or_else(|| VerifyError::Malformed(signature.to_owned()))?;
        let given = STANDARD.decode(encoded).map_err(|_| VerifyError::Malformed(signature.to_owned()))?;
        if version != "v1" {
            continue;
        }
        any = true;
        if secret.mac(id, timestamp, body).verify_slice(&given).is_ok() {
            return Ok(());
        }
    }
    Err(if any { VerifyError::Mismatch } else { VerifyError::NoV1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn signs_the_example_of_the_specification() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let signature = sign(&[secret], ID, 1614265330, BODY);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn signs_with_each_secret_while_rotating() {
        let new = SigningSecret::parse(&SigningSecret::encode(&[7; 32])).unwrap();
        let old = SigningSecret::parse(SECRET).unwrap();
        let signature = sign(&[new.clone(), old.clone()], ID, 1614265330, BODY);
        assert_eq!(signature.matches(' ').count(), 1);
        let headers =
            SignedHeaders { id: Some(ID), timestamp: Some("1614265330"), signature: Some(&signature) };
        assert_eq!(verify(&new, headers, BODY, 1614265330), Ok(()));
        assert_eq!(verify(&old, headers, BODY, 1614265330 - 300), Ok(()));
        assert_eq!(verify(&old, headers, b"{}", 1614265330), Err(VerifyError::Mismatch));
        assert_eq!(verify(&old, headers, BODY, 1614265330 + 301), Err(VerifyError::Skewed(-301)));
    }

    #[test]
    fn refuses_invalid_secrets_with_a_reason() {
        assert_eq!(SigningSecret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Err(SecretError::NoPrefix));
        assert_eq!(SigningSecret::parse("whsec_!"), Err(SecretError::NotBase64));
        assert_eq!(
            SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA"),
            Err(SecretError::NotBase64)
        );
        assert_eq!(SigningSecret::parse(&SigningSecret::encode(&[0; 23])), Err(SecretError::Length(23)));
        assert_eq!(SigningSecret::parse(&SigningSecret::encode(&[0; 65])), Err(SecretError::Length(65)));
        assert!(!format!("{:?}", SigningSecret::parse(SECRET)).contains("MfKQ"));
    }
}
