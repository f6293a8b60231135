//! Client of the ShipStation API: polls labels, requests the list of labels, and classifies the answers.
//!
//! Every failure of the network is a value ([`crate::domain::tracking::reading::Reading`]), not an error. Redirects
//! are not followed, so the API key is sent only to the configured server.

mod account;
mod list;
mod wire;

use std::sync::Arc;

use rustls::ClientConfig;

pub use crate::transport::NoClient;
pub use account::{Client, reading_of_body};

/// TLS configuration of the clients of all accounts. Cheap to clone.
pub type Tls = Arc<ClientConfig>;

/// Returns the TLS configuration.
///
/// # Errors
/// TLS cannot be set up on this machine.
pub fn tls() -> Result<Tls, NoClient> {
    let config = crate::tls::client_config(&[], None).map_err(|error| NoClient(error.to_string()))?;
    Ok(Arc::new(config))
}
