//! A plain hex HMAC in a header of any name, as GitHub sends it: for tools in which no code can be written.
//!
//! HMAC-SHA256 over the body alone. It covers neither time nor id, so what is caught once can be sent again for ever:
//! weaker than Standard Webhooks, beside which it goes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::inspect::Inspection;
use crate::domain::digest;
use crate::domain::secret::Hidden;

/// What stands before the hex unless something else is asked for: GitHub's.
pub const PREFIX: &str = "sha256=";

/// The header of one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacHeader {
    pub name: String,
    pub prefix: String,
    /// The key is the text as it is; never empty.
    pub secret: Hidden<String>,
}

impl HmacHeader {
    /// Prefix and 64 digits in lower case.
    pub fn value(&self, body: &[u8]) -> String {
        format!("{}{}", self.prefix, digest::hex(&self.mac(body).finalize().into_bytes()))
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let key = self.secret.expose().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(body);
        mac
    }

    /// Whether `value`, as it came, belongs to `body`. Compared in constant time; the hex in any case.
    fn holds(&self, value: &str, body: &[u8]) -> bool {
        let given = value.strip_prefix(&self.prefix).and_then(bytes);
        given.is_some_and(|given| self.mac(body).verify_slice(&given).is_ok())
    }

    /// Inspects one callback; `value` is the header's, as it came.
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
        found.step("HMAC header", outcome);
        found
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
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
    fn tells_what_is_wrong() {
        let header = header(PREFIX, "a plain secret");
        let good = header.value(BODY);
        assert!(header.inspect(Some(&good), BODY).holds());
        assert!(header.inspect(Some(&good.to_uppercase().replace("SHA", "sha")), BODY).holds());
        for (value, body, said) in [
            (None, BODY, "is missing"),
            (Some(BY_OPENSSL), BODY, "does not start with \"sha256=\""),
            (Some(good.as_str()), &b"{}"[..], "is not made with this secret"),
            (Some("sha256=é"), BODY, "is not made with this secret"),
            (Some("sha256=+1"), BODY, "is not made with this secret"),
            (Some("sha256="), BODY, "is not made with this secret"),
        ] {
            let found = header.inspect(value, body);
            assert!(format!("{found:?}").contains(&said.replace('"', "\\\"")), "{found:?}");
            assert!(!found.holds());
        }
        assert!(!format!("{header:?}").contains("plain"));
    }
}
