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
use super::{secret, url};
use crate::domain::address::never;
use crate::domain::secret::Hidden;
use crate::domain::subscriber::{Identity, Proxies};

/// A bundle of all the roots there are has a quarter of it.
const LONGEST: u64 = 1024 * 1024;
const RELATIVE: &str = "relative paths start at the configuration file";
const PROXY_FORM: &str = "as in \"http://proxy.internal:3128\", or \"environment\"";

/// The keys this reads.
pub(super) struct Connection {
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    pub(super) proxies: Proxies,
}

/// What a subscriber's table says about connections; none if something is at fault.
pub(super) fn read(table: &Table<'_>) -> Option<Connection> {
    let roots = present(table, "ca_file").map_or_else(|| Some(Vec::new()), roots);
    let identity = identity(table);
    let proxies = present(table, "proxy").map_or_else(|| Some(Proxies::default()), proxies);
    Some(Connection { roots: roots?, identity: identity?, proxies: proxies? })
}

/// The entry, unless it is the empty text, which is none.
fn present<'t, 'a>(table: &'t Table<'a>, key: &str) -> Option<&'t Entry<'a>> {
    table.get(key).filter(|entry| entry.text_if_any().is_none_or(|text| !text.is_empty()))
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
    match (present(table, "client_certificate"), present(table, "client_key")) {
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

fn proxies(entry: &Entry<'_>) -> Option<Proxies> {
    if entry.context.extent == Extent::BesideDaemon {
        return Some(Proxies::default());
    }
    let text = secret::read(entry)?;
    if text.expose() == "environment" {
        return environment(entry);
    }
    let proxy = proxy(entry, text.expose().trim(), "")?;
    Some(Proxies { http: Some(proxy.clone()), https: Some(proxy), except: String::new() })
}

/// What the usual variables say, in capitals or not.
fn environment(entry: &Entry<'_>) -> Option<Proxies> {
    let variable = |names: [&'static str; 2]| {
        let set = |name| entry.context.environment.get(name).map(|value| (name, value.trim()));
        names.into_iter().filter_map(set).find(|(_, value)| !value.is_empty())
    };
    let all = variable(["ALL_PROXY", "all_proxy"]);
    let of = |names| match variable(names).or(all) {
        None => Some(None),
        Some((name, value)) => {
            let scheme = if value.contains("://") { "" } else { "http://" };
            proxy(entry, &format!("{scheme}{value}"), &format!("{name} ")).map(Some)
        }
    };
    let (http, https) = (of(["HTTP_PROXY", "http_proxy"]), of(["HTTPS_PROXY", "https_proxy"]));
    let except = variable(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, hosts)| hosts.to_owned());
    Some(Proxies { http: http?, https: https?, except })
}

/// `whose` names a variable, or nobody.
fn proxy(entry: &Entry<'_>, text: &str, whose: &str) -> Option<Hidden<String>> {
    match url::parse(text) {
        Err(problem) => entry.fault_masked(&url::masked(text), format!("{whose}{problem}"), PROXY_FORM),
        Ok(url) => match url.address.and_then(never) {
            Some(refusal) => entry.fault_masked(
                &url.shown,
                format!("{whose}has an address that won't do: {refusal}"),
                PROXY_FORM,
            ),
            None => Some(Hidden::new(text.to_owned())),
        },
    }
}

/// Warns of a URL whose address no callback will ever be sent to.
pub(super) fn warn_if_never(entry: &Entry<'_>, url: &url::HttpUrl) {
    if let Some(refusal) = url.address.and_then(never) {
        let problem = format!("has an address that won't do: {refusal}");
        let fault = Fault::new(entry.place(), &entry.key, problem).value(&url.shown);
        entry
            .context
            .findings
            .warn(fault.hint("every attempt will be refused: give the receiver's own address"));
    }
}
