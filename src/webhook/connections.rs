//! The client of one subscriber: its addresses, its certificates, its proxy, its pool.

use std::sync::Arc;

use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Proxy};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use super::NoTls;
use super::phase::{Sessions, Watched};
use super::resolver::Guard;
use crate::agent::USER_AGENT;
use crate::domain::address::Manner;
use crate::domain::subscriber::Subscriber;

/// Sessions kept for resumption: one host needs few.
const SESSIONS: usize = 32;

/// A pool as large as the subscriber's concurrency, so that a callback needs no new connection.
pub(super) fn client(subscriber: &Subscriber, manner: Manner) -> Result<Client, NoTls> {
    let no_tls = |error: &dyn std::error::Error| NoTls(error.to_string());
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .referer(false)
        .pool_max_idle_per_host(subscriber.max_in_flight as usize)
        .tls_backend_preconfigured(tls(subscriber).map_err(|error| no_tls(&error))?)
        .dns_resolver(Guard(manner))
        .connector_layer(Watched)
        // Else the client takes the environment's by itself.
        .no_proxy();
    let except = NoProxy::from_string(&subscriber.proxies.except);
    let of = &subscriber.proxies;
    if let Some(url) = &of.http {
        // Its error would show the URL.
        let proxy = Proxy::http(url.expose()).map_err(|_| NoTls("the proxy's URL is none".to_owned()))?;
        builder = builder.proxy(proxy.no_proxy(except.clone()));
    }
    if let Some(url) = &of.https {
        let proxy = Proxy::https(url.expose()).map_err(|_| NoTls("the proxy's URL is none".to_owned()))?;
        builder = builder.proxy(proxy.no_proxy(except));
    }
    builder.build().map_err(|error| no_tls(&error))
}

/// The system's roots and the subscriber's; its client certificate, if it has one.
fn tls(subscriber: &Subscriber) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = subscriber.roots.iter().map(|der| CertificateDer::from(der.clone()));
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &subscriber.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let key = PrivateKeyDer::try_from(identity.key.expose().clone())
                .map_err(|error| rustls::Error::General(error.to_owned()))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::new(Sessions::new(SESSIONS)));
    Ok(config)
}
