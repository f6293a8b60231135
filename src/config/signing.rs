//! `[signing]`: the RSA keys that sign callbacks as the vendor does, for subscribers with `rsa_signature`.
//!
//! Each key signs once here, so that a wrong one is a fault now and not a failure later.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::secret::{OneOrMore, Secret};
use super::table::{At, Extent};
use crate::domain::messages::signature::rsa::{KeyForm, RsaKey};
use crate::domain::secret::Hidden;

/// `[signing]` as written.
#[derive(Default, Deserialize)]
pub(super) struct SigningSection {
    #[serde(alias = "rsa_keys")]
    rsa_key: Option<OneOrMore<Secret>>,
}

impl SigningSection {
    /// The first key signs, all are published.
    pub(super) fn check(self, at: &At<'_>) -> Vec<RsaKey> {
        let mut keys: Vec<RsaKey> = Vec::new();
        let texts = self.rsa_key.map_or_else(Vec::new, |OneOrMore(texts)| texts);
        if at.context.extent == Extent::BesideDaemon {
            return keys;
        }
        for (index, text) in texts.into_iter().enumerate() {
            let one = at.key("rsa_key");
            let at = if one.is_set() { one } else { at.key("rsa_keys").item(index) };
            match rsa_key(&text.0) {
                Ok(key) if keys.contains(&key) => {
                    at.fault("is given twice", "write each key once; the first one signs")
                }
                Ok(key) => keys.push(key),
                Err((problem, hint)) => at.fault(problem, hint),
            }
        }
        keys
    }
}

/// Whether there is a key to sign with, right or wrong.
pub(super) fn is_configured(at: &At<'_>) -> bool {
    at.key("rsa_key").is_set() || at.key("rsa_keys").item(0).is_set()
}

/// Returns the key, or its problem and a hint.
fn rsa_key(text: &Hidden<String>) -> Result<RsaKey, (String, &'static str)> {
    let make = "create one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem";
    let parsed = match PrivateKeyDer::from_pem_slice(text.expose().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKey::parse(KeyForm::Pkcs8, der.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKey::parse(KeyForm::Pkcs1, der.secret_pkcs1_der()),
        Ok(_) => return Err(("is not an RSA key".to_owned(), make)),
        Err(_) if text.expose().contains("ENCRYPTED") => {
            let hint = "openssl pkey -in rsa.pem -out plain.pem removes the password; systemd can encrypt credentials";
            return Err(("is an encrypted private key".to_owned(), hint));
        }
        Err(_) => {
            let path = "write { file = \"rsa.pem\" }, or another form of a secret";
            let hint = if text.expose().contains("-----") { make } else { path };
            return Err(("is not a private key in PEM".to_owned(), hint));
        }
    };
    parsed.map_err(|error| (error.to_string(), make))
}
