//! How a subscriber is reached: whom it is trusted to be, what it is shown, and by way of which proxy.
//!
//! Files are read and looked into here, so that a wrong one is a fault of the configuration and no failure at the first
//! callback; a reload reads them again. Nothing of a key, and nothing of a proxy's credentials, is ever shown.

use std::sync::Arc;

use config::ValueKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::fault::Fault;
use super::reader::{Entry, Extent, Table};
use super::{proxies, secret, url};
use crate::domain::delivery::address::always_refused;
use crate::domain::messages::subscriber::Identity;
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

/// A bundle of all the roots there are has a quarter of it.
const LONGEST: u64 = 1024 * 1024;
const RELATIVE: &str = "relative paths start at the configuration file";

/// The keys this reads.
pub(super) struct Connection {
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    pub(super) proxies: Proxies,
}

/// What a subscriber's table says about connections; none if something is at fault.
pub(super) fn read(table: &Table<'_>) -> Option<Connection> {
    let roots = table.present("ca_file").map_or_else(|| Some(Vec::new()), roots);
    let identity = identity(table);
    let proxies = proxies::of(table);
    Some(Connection { roots: roots?, identity: identity?, proxies: proxies? })
}

fn roots(entry: &Entry<'_>) -> Option<Vec<Vec<u8>>> {
    let certificates = certificates(entry)?;
    let mut store = RootCertStore::empty();
    for der in &certificates {
        if store.add(CertificateDer::from(der.as_slice())).is_err() {
            return entry.fault("holds a certificate that cannot be read", "an X.509 certificate of a CA");
        }
    }
    Some(certificates)
}

fn certificates(entry: &Entry<'_>) -> Option<Vec<Vec<u8>>> {
    let path = entry.context.directory.join(entry.text()?);
    let text = secret::from_file(entry, &path, LONGEST, RELATIVE)?;
    let parsed: Result<Vec<CertificateDer<'_>>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => {
            Some(certificates.into_iter().map(|der| der.as_ref().to_vec()).collect())
        }
        _ => entry.fault("is no file of certificates in PEM", "it should hold -----BEGIN CERTIFICATE-----"),
    }
}

/// None within is "no client certificate".
fn identity(table: &Table<'_>) -> Option<Option<Identity>> {
    match (table.present("client_certificate"), table.present("client_key")) {
        (None, None) => Some(None),
        // The key may be out of reach, and what goes over no connection needs none.
        (Some(_), Some(key)) if key.context.extent == Extent::BesideDaemon => Some(None),
        (Some(certificate), Some(key_entry)) => {
            let chain = certificates(certificate);
            let key = key(key_entry);
            let (chain, key) = (chain?, key?);
            matching(key_entry, &chain, &key)?;
            Some(Some(Identity { chain, key: Hidden::new(key.secret_der().to_vec()) }))
        }
        (Some(_), None) => {
            table.fault("client_key", "is missing", "client_certificate needs the key that belongs to it");
            None
        }
        (None, Some(_)) => {
            table.fault("client_certificate", "is missing", "client_key is the key of a certificate");
            None
        }
    }
}

fn key(entry: &Entry<'_>) -> Option<PrivateKeyDer<'static>> {
    let text = match &entry.value.kind {
        ValueKind::String(text) if text.contains("-----") => {
            return entry.fault_unshown("holds a key where the path of a file should be", RELATIVE);
        }
        ValueKind::String(path) => {
            let path = entry.context.directory.join(path);
            Hidden::new(secret::from_file(entry, &path, LONGEST, RELATIVE)?)
        }
        _ => secret::read(entry)?,
    };
    PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).map_or_else(
        |_| {
            entry.fault_unshown(
                "is no private key in PEM",
                "a PKCS#8, PKCS#1 or SEC1 key that is not encrypted: -----BEGIN PRIVATE KEY-----",
            )
        },
        Some,
    )
}

fn matching(entry: &Entry<'_>, chain: &[Vec<u8>], key: &PrivateKeyDer<'static>) -> Option<()> {
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match CertifiedKey::from_der(chain, key.clone_key(), &provider) {
        Ok(_) => Some(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => entry.fault_unshown(
            "does not belong to client_certificate",
            "the first certificate of the file is the client's own",
        ),
        Err(_) => {
            entry.fault_unshown("cannot be used with client_certificate", "an RSA, ECDSA or Ed25519 key")
        }
    }
}

/// Warns of a URL whose address no callback will ever be sent to.
pub(super) fn warn_if_never(entry: &Entry<'_>, url: &url::HttpUrl) {
    if let Some(refusal) = url.address.and_then(always_refused) {
        let problem = format!("has an address that won't do: {refusal}");
        let fault = Fault::new(entry.place(), &entry.key, problem).value(&url.shown);
        entry
            .context
            .findings
            .warn(fault.hint("every attempt will be refused: give the receiver's own address"));
    }
}
