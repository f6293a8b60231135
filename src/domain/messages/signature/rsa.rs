//! ShipStation's way to sign, with the operator's own key, for receivers that require it.
//!
//! RSA PKCS#1 v1.5 with SHA-256 over `"{timestamp}.{body}"`, in three headers. The public keys are published as a
//! [key set](super::jwks). The receiver must be configured with its URL, because ShipStation's own key is not available.
//! This signature is always in addition to Standard Webhooks.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};

use crate::domain::digest;
use crate::domain::time::instant;

pub const SIGNATURE: &str = "x-shipengine-rsa-sha256-signature";
pub const KEY_ID: &str = "x-shipengine-rsa-sha256-key-id";
pub const TIMESTAMP: &str = "x-shipengine-timestamp";

/// Public key. Its id is its thumbprint (RFC 7638).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub key_id: String,
    /// Modulus, big-endian.
    pub(super) n: Vec<u8>,
    /// Exponent, big-endian.
    pub(super) e: Vec<u8>,
}

impl PublicKey {
    pub(super) fn new(n: Vec<u8>, e: Vec<u8>) -> Self {
        let [n64, e64] = [&n, &e].map(|number| URL_SAFE_NO_PAD.encode(number));
        // The thumbprint covers the required members, sorted by name, without white space.
        let text = format!(r#"{{"e":"{e64}","kty":"RSA","n":"{n64}"}}"#);
        Self { key_id: URL_SAFE_NO_PAD.encode(digest::of_bytes(text.as_bytes())), n, e }
    }

    pub fn bits(&self) -> usize {
        self.n.len() * 8
    }

    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let key = PublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature).is_ok()
    }
}

/// Private key that has signed a test text. Keys are equal if their public keys are.
#[derive(Clone)]
pub struct RsaKey(Arc<Pair>);

struct Pair {
    private: RsaKeyPair,
    public: PublicKey,
}

/// Encoding of an unencrypted private key (DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    Pkcs8,
    Pkcs1,
}

/// Error for an unusable key. Contains nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("is an RSA key of less than 2048 bits")]
    TooShort,
    #[error("is an RSA key of more than 4096 bits")]
    TooLong,
    #[error("is not an RSA key")]
    NotRsa,
    #[error("is an RSA key whose parts do not belong together")]
    Inconsistent,
    #[error("is not an RSA key that can be used ({0})")]
    Unusable(String),
}

/// Values of the three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorSignature {
    /// Standard base64, padded.
    pub signature: String,
    pub key_id: String,
    /// ISO 8601, UTC, with milliseconds.
    pub timestamp: String,
}

impl RsaKey {
    /// Parses a key of 2048 to 4096 bits.
    pub fn parse(form: KeyForm, der: &[u8]) -> Result<Self, KeyError> {
        let parsed = match form {
            KeyForm::Pkcs8 => RsaKeyPair::from_pkcs8(der),
            KeyForm::Pkcs1 => RsaKeyPair::from_der(der),
        };
        let private = parsed.map_err(|rejected| match rejected.to_string().as_str() {
            "TooSmall" => KeyError::TooShort,
            "TooLarge" => KeyError::TooLong,
            "WrongAlgorithm" => KeyError::NotRsa,
            "InconsistentComponents" | "InvalidComponent" => KeyError::Inconsistent,
            other => KeyError::Unusable(other.to_owned()),
        })?;
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(private.public());
        let key = Self(Arc::new(Pair { private, public: PublicKey::new(n, e) }));
        // Only signing reveals inconsistent private parts.
        let trial = key.signature_of(b"trial").map_err(|_| KeyError::Inconsistent)?;
        if key.public().verifies(b"trial", &trial) { Ok(key) } else { Err(KeyError::Inconsistent) }
    }

    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs `body`, sent at `now`.
    pub fn sign(&self, now: Timestamp, body: &[u8]) -> VendorSignature {
        let timestamp = instant(now);
        let signature = self.signature_of(&signed_text(&timestamp, body));
        VendorSignature {
            signature: STANDARD.encode(signature.expect("a key that has signed once signs always")),
            key_id: self.public().key_id.clone(),
            timestamp,
        }
    }

    fn signature_of(&self, text: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let private = &self.0.private;
        let mut signature = vec![0; private.public().modulus_len()];
        // PKCS#1 v1.5 is deterministic: the random source is not used.
        private.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)?;
        Ok(signature)
    }
}

/// Signed text: the timestamp as in its header, a dot, and the body as sent.
pub(super) fn signed_text(timestamp: &str, body: &[u8]) -> Vec<u8> {
    [timestamp.as_bytes(), b".", body].concat()
}

impl PartialEq for RsaKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.public == other.0.public
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RsaKey").field(&self.0.public.key_id).finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Parses a key of `tests/keys`, made with OpenSSL.
    pub fn read(pem: &str) -> Result<RsaKey, KeyError> {
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() {
            PrivateKeyDer::Pkcs8(der) => RsaKey::parse(KeyForm::Pkcs8, der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKey::parse(KeyForm::Pkcs1, der.secret_pkcs1_der()),
            _ => unreachable!("no test key has another form"),
        }
    }

    pub const A: &str = include_str!("../../../../tests/keys/a.pem");
    pub const AT: &str = "2026-08-04T12:00:00.000Z";
    pub const BODY: &[u8] = br#"{"test": 2432232314}"#;
    /// Made by `openssl dgst -sha256 -sign a.pem` over timestamp, dot and body.
    pub const BY_OPENSSL: &str = "WJgvckMFFaXPzlQGEnZx2fXhSttBB1+qSR2bUzUFsWI3sFqw69CLRYIaPjV7gc3dOBnqfeAi4Lhu4nslHmSOw80+Tjesv1QPrVz7CJuHpt6lGKAAxKhQxBYK/mmxn+QqYfGX8XaviRJFabl9wOD4CUhqqQWVigWCKU3BbVeE2EeY7dOdFWhunfa9aSHDI4jOF9NQVnfm1ECMWMVKICiK7qS15kiN31YfGoWWIkd9oNOQv+Gl+r7xf91s4q1b7ItustkkXnHgdbYJO8+8uUwQozsODIYmEcocdMJ8AXDBWc4zcWYotaA7lX0CeDxwdJOmOFDq1t5xtHpkJBB9WxwKeQ==";

    #[test]
    fn signs_like_openssl_with_either_encoding_of_the_key() {
        for pem in [A, include_str!("../../../../tests/keys/a.pkcs1.pem")] {
            let signed = read(pem).unwrap().sign(AT.parse().unwrap(), BODY);
            assert_eq!(signed.timestamp, AT);
            assert_eq!(signed.signature, BY_OPENSSL);
            assert_eq!(signed.key_id, "-UpRbVLXKw2fkwrZJVYwrR0aZkpFoZB6HoJXphVI6Ks");
        }
    }

    #[test]
    fn the_timestamp_has_milliseconds_and_is_signed() {
        let key = read(include_str!("../../../../tests/keys/b.pem")).unwrap();
        let now: Timestamp = "2026-08-04T12:00:00.7Z".parse().unwrap();
        let (signed, later) =
            (key.sign(now, BODY), key.sign("2026-08-04T12:00:00.8Z".parse().unwrap(), BODY));
        assert_eq!(signed.timestamp, "2026-08-04T12:00:00.700Z");
        assert_ne!(signed.signature, later.signature);
        assert_eq!(signed, key.sign(now, BODY), "signing is deterministic");
    }

    #[test]
    fn refuses_unusable_keys_with_a_reason() {
        for (pem, why) in [
            (include_str!("../../../../tests/keys/short.pem"), KeyError::TooShort),
            (include_str!("../../../../tests/keys/long.pem"), KeyError::TooLong),
            (include_str!("../../../../tests/keys/curve.pem"), KeyError::NotRsa),
        ] {
            assert_eq!(read(pem).err(), Some(why));
        }
        assert!(matches!(RsaKey::parse(KeyForm::Pkcs1, b"x"), Err(KeyError::Unusable(_))));
    }

    #[test]
    fn debug_shows_only_the_key_id() {
        assert_eq!(
            format!("{:?}", read(A).unwrap()),
            "RsaKey(\"-UpRbVLXKw2fkwrZJVYwrR0aZkpFoZB6HoJXphVI6Ks\")"
        );
    }
}
