//! Plain hex HMAC in a header of any name, as GitHub sends it, for tools that cannot run code.
//!
//! HMAC-SHA256 over the body alone. It does not cover time and id, so an intercepted callback can be replayed for ever.
//! It is weaker than Standard Webhooks, which every callback has too.

use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::inspect::Inspection;
use crate::domain::digest;
use crate::domain::secret::Hidden;

/// Default prefix of the hex: GitHub's.
pub const PREFIX: &str = "sha256=";

/// HMAC header of one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacHeader {
    pub name: String,
    pub prefix: String,
    /// Key, used as text. Not empty.
    pub secret: Hidden<String>,
}

impl HmacHeader {
    /// Header value: prefix and 64 hex digits in lower case.
    pub fn value(&self, body: &[u8]) -> String {
        format!("{}{}", self.prefix, digest::hex(&self.mac(body).finalize().into_bytes()))
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let key = self.secret.expose().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(body);
        mac
    }

    /// Verifies `value` in constant time; hex digits may be upper case.
    fn holds(&self, value: &str, body: &[u8]) -> bool {
        let given =
            value.strip_prefix(&self.prefix).and_then(|hex| HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok());
        given.is_some_and(|given| self.mac(body).verify_slice(&given).is_ok())
    }

    /// Explains whether a callback's HMAC is right. `value`: the header's value as received.
    pub fn inspect(&self, value: Option<&str>, body: &[u8]) -> Inspection {
        let mut found = Inspection::default();
        let over = format!("HMAC-SHA256 over {} bytes of body", body.len());
        let outcome = match value {
            None => Err(format!("the header {} is missing", self.name)),
            Some(value) if self.holds(value, body) => Ok(over),
            Some(value) if !value.starts_with(&self.prefix) => {
                Err(format!("{} does not start with {:?}", self.name, self.prefix))
            }
            Some(_) => Err(format!("{} is not made with this secret ({over})", self.name)),
        };
        found.add("HMAC header", outcome);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    /// By `openssl dgst -sha256 -hmac 'a plain secret'`.
    const BY_OPENSSL: &str = "4b63d79ec437225824dd2eed0b4af91be6914a50a5cfeb100c2f9a220ec2fbf2";

    fn header(prefix: &str, secret: &str) -> HmacHeader {
        HmacHeader {
            name: "X-Hub-Signature-256".to_owned(),
            prefix: prefix.to_owned(),
            secret: Hidden::new(secret.to_owned()),
        }
    }

    #[test]
    fn signs_as_openssl_and_github_do() {
        let plain = header("", "a plain secret");
        assert_eq!(plain.value(BODY), BY_OPENSSL);
        assert_eq!(header(PREFIX, "a plain secret").value(BODY), format!("sha256={BY_OPENSSL}"));
        // The example in GitHub's documentation.
        assert_eq!(
            header(PREFIX, "It's a Secret to Everybody").value(b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn explains_a_wrong_value() {
        let header = header(PREFIX, "a plain secret");
        let good = header.value(BODY);
        assert!(header.inspect(Some(&good), BODY).holds());
        assert!(header.inspect(Some(&good.to_uppercase().replace("SHA", "sha")), BODY).holds());
        for (value, body, expected) in [
            (None, BODY, "is missing"),
            (Some(BY_OPENSSL), BODY, "does not start with \"sha256=\""),
            (Some(good.as_str()), &b"{}"[..], "is not made with this secret"),
            (Some("sha256=é"), BODY, "is not made with this secret"),
            (Some("sha256=+1"), BODY, "is not made with this secret"),
            (Some("sha256="), BODY, "is not made with this secret"),
        ] {
            let found = header.inspect(value, body);
            assert!(format!("{found:?}").contains(&expected.replace('"', "\\\"")), "{found:?}");
            assert!(!found.holds());
        }
        assert!(!format!("{header:?}").contains("plain"));
    }
}
