//! `[signing]`: the RSA keys with which callbacks are signed as the vendor signs its own, for subscribers that ask for it.
//!
//! A key is signed with once before it counts as one, so that a wrong one is a fault here and no failure later.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::reader::{Entry, Extent};
use super::secret;
use crate::domain::messages::signature::rsa::{KeyForm, RsaKey};

/// What the section says.
#[derive(Default)]
pub(super) struct Signing {
    /// The first signs, all are published; empty also where they were not wanted or are at fault.
    pub(super) keys: Vec<RsaKey>,
    /// Whether there is a key to sign with, read or not.
    pub(super) configured: bool,
}

const HINT: &str = "make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem";

pub(super) fn read(section: &Entry<'_>) -> Option<Signing> {
    let table = section.table(&["rsa_key", "rsa_keys"])?;
    let entries = match (table.get("rsa_key"), table.get("rsa_keys")) {
        (None, None) => return Some(Signing::default()),
        (Some(_), Some(several)) => {
            return several
                .fault_unshown("stands beside rsa_key", "one of the two; the first of rsa_keys signs");
        }
        (Some(one), None) => vec![Entry { key: one.key.clone(), ..*one }],
        (None, Some(several)) => several.list()?,
    };
    let mut keys: Vec<RsaKey> = Vec::new();
    if section.context.extent == Extent::Everything {
        for entry in &entries {
            match key(entry) {
                Some(key) if keys.contains(&key) => {
                    entry.fault_unshown::<()>("is there twice", "each key once; the first one signs");
                }
                key => keys.extend(key),
            }
        }
    }
    Some(Signing { keys, configured: !entries.is_empty() })
}

fn key(entry: &Entry<'_>) -> Option<RsaKey> {
    let text = secret::read(entry)?;
    let parsed = match PrivateKeyDer::from_pem_slice(text.expose().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKey::parse(KeyForm::Pkcs8, der.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKey::parse(KeyForm::Pkcs1, der.secret_pkcs1_der()),
        Ok(_) => return entry.fault_unshown("is no RSA key", HINT),
        Err(_) if text.expose().contains("ENCRYPTED") => {
            return entry.fault_unshown(
                "is an encrypted private key",
                "openssl pkey -in rsa.pem -out plain.pem takes the password off; systemd can keep credentials encrypted",
            );
        }
        Err(_) if !text.expose().contains("-----") => {
            return entry.fault_unshown(
                "is no private key in PEM",
                "a key is a secret: { file = \"rsa.pem\" } says where it is",
            );
        }
        Err(_) => return entry.fault_unshown("is no private key in PEM", HINT),
    };
    parsed.map_or_else(|error| entry.fault_unshown(error.to_string(), HINT), Some)
}
