//! Connection settings of a subscriber: trusted certificates, client certificate and headers.
//!
//! Certificates and keys are parsed here, so that a wrong one is a fault of the configuration and not a failure of the
//! first callback; a reload reads them again.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use serde::Deserialize;

use super::secret::{FileText, KeyText, Secret};
use super::table::At;
use crate::domain::messages::signature::hmac_header::{HmacHeader, PREFIX};
use crate::domain::messages::signature::rsa;
use crate::domain::messages::subscriber::Identity;
use crate::domain::secret::Hidden;

/// The certificates (DER) of a PEM file; none without a file.
#[derive(Default, Deserialize)]
#[serde(try_from = "FileText")]
pub(super) struct Certificates(pub(super) Vec<Vec<u8>>);

impl TryFrom<FileText> for Certificates {
    type Error = &'static str;

    fn try_from(FileText(text): FileText) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let certificates = parsed.ok().filter(|certificates| !certificates.is_empty());
        let Some(certificates) = certificates else {
            return Err(
                "is not a file of certificates in PEM\nit should contain -----BEGIN CERTIFICATE-----",
            );
        };
        let mut store = RootCertStore::empty();
        if certificates.iter().any(|der| store.add(der.clone()).is_err()) {
            return Err("contains a certificate that cannot be read\nuse X.509 certificates");
        }
        Ok(Self(certificates.into_iter().map(|der| der.as_ref().to_vec()).collect()))
    }
}

/// The client certificate with its key.
pub(super) fn identity(
    at: &At<'_>,
    Certificates(chain): Certificates,
    KeyText(text): KeyText,
) -> Option<Identity> {
    let (at_chain, at_key) = (at.key("client_certificate"), at.key("client_key"));
    if !at_chain.is_valid() || !at_key.is_valid() {
        return None;
    }
    let fault = |problem: &str, hint: &str| {
        at_key.fault(problem, hint);
        None
    };
    match (chain.is_empty(), text.expose().is_empty()) {
        (true, true) => return None,
        (false, true) => return fault("is missing", "set client_key to the key of client_certificate"),
        (true, false) => {
            at_chain.fault("is missing", "set client_certificate to the certificate of client_key");
            return None;
        }
        (false, false) => {}
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(text.expose().as_bytes()) else {
        let hint = "use a PKCS#8, PKCS#1 or SEC1 key that is not encrypted: -----BEGIN PRIVATE KEY-----";
        return fault("is not a private key in PEM", hint);
    };
    let certificates = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match CertifiedKey::from_der(certificates, key.clone_key(), &provider) {
        Ok(_) => Some(Identity { chain, key: Hidden::new(key.secret_der().to_vec()) }),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let hint = "the first certificate in the file must be that of client_key";
            fault("does not belong to client_certificate", hint)
        }
        Err(_) => fault("cannot be used with client_certificate", "use an RSA, ECDSA or Ed25519 key"),
    }
}

/// Headers that trackpost or HTTP sets.
const RESERVED_HEADERS: [&str; 13] = [
    "content-type",
    "content-length",
    "host",
    rsa::SIGNATURE,
    rsa::KEY_ID,
    rsa::TIMESTAMP,
    // These belong to the connection.
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const OUR_PREFIXES: [&str; 2] = ["webhook-", "trackpost-"];

/// Checks the headers of one subscriber, which are in the order of their names.
pub(super) fn check_headers(at: &At<'_>, headers: &[(String, Hidden<String>)]) {
    for (index, (name, value)) in headers.iter().enumerate() {
        let at = at.key(name);
        check_header_name(&at, name, &headers[..index], "is given twice, in different case");
        let text = value.expose();
        if !text.is_ascii() || text.trim() != text || HeaderValue::from_str(text).is_err() {
            let hint = "use one line of ASCII text, without spaces around it";
            at.fault("contains characters that are not allowed in a header", hint);
        }
    }
}

fn check_header_name(at: &At<'_>, name: &str, others: &[(String, Hidden<String>)], twice: &str) {
    match HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => {
            at.fault("is not a valid name of a header", "use letters, digits and hyphens, as in X-Api-Token")
        }
        Ok(_) if others.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) => {
            at.fault(twice, "choose another name");
        }
        Ok(name)
            if RESERVED_HEADERS.contains(&name.as_str())
                || OUR_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)) =>
        {
            at.fault("is a header that trackpost sets itself", "choose another name");
        }
        Ok(_) => {}
    }
}

/// `hmac_header` of a subscriber as written.
#[derive(Deserialize)]
pub(super) struct HmacSection {
    name: String,
    prefix: Option<String>,
    secret: Secret,
}

impl HmacSection {
    /// `own` are the subscriber's own headers.
    pub(super) fn check(self, at: &At<'_>, own: &[(String, Hidden<String>)]) -> HmacHeader {
        let prefix = self.prefix.unwrap_or_else(|| PREFIX.to_owned());
        let header = HmacHeader { name: self.name, prefix, secret: self.secret.0 };
        check_header_name(&at.key("name"), &header.name, own, "is one of the subscriber's own headers");
        // Leading white space would not arrive.
        if header.prefix.starts_with([' ', '\t']) || HeaderValue::from_str(&header.prefix).is_err() {
            let problem = "contains characters that are not allowed in a header";
            at.key("prefix").fault_of(&header.prefix, problem, "use plain text, such as \"sha256=\" or \"\"");
        }
        if header.secret.expose().is_empty() {
            at.key("secret").fault("is empty", "use any text; it is the key, unchanged");
        }
        header
    }
}
