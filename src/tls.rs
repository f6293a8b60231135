//! TLS configuration: rustls with ring, for the API and for subscribers.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use crate::domain::messages::subscriber::Identity;

/// Sessions kept for resumption; one host needs few.
const SESSIONS: usize = 32;

/// Sets ring as the provider of the process. Further calls change nothing.
pub fn install() {
    // An error means that a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the TLS configuration of a client: the system's roots and `roots` (DER), and a client certificate.
///
/// # Errors
/// The system has no roots, or a certificate or key is not usable.
pub fn client_config(roots: &[Vec<u8>], identity: Option<&Identity>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots.iter().map(|der| CertificateDer::from(der.clone()));
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let key = PrivateKeyDer::try_from(identity.key.expose().clone())
                .map_err(|error| rustls::Error::General(error.to_owned()))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}
