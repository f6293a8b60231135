//! Client of the ShipStation API: polls labels, requests the list of labels, and classifies the answers.
//!
//! Every failure of the network is a value ([`Reading`]), not an error. Redirects are not followed, so the API key is
//! sent only to the configured server.

mod account;
mod list;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;

use crate::domain::account::Account;
use crate::domain::label::LabelId;
use crate::domain::tracking::reading::Reading;
use crate::transport::NoClient;

pub use account::{AccountClient, reading_of_body};

/// Maximum size of a body; a larger one is rejected while it is read.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the body of a 429 or a 5xx.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates the clients of accounts and keeps the last one used. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    last: Arc<Mutex<Option<Arc<AccountClient>>>>,
}

impl Client {
    /// Fails only if TLS cannot be set up on this machine.
    pub fn new() -> Result<Self, NoClient> {
        let tls = crate::tls::client_config(&[], None).map_err(|error| NoClient(error.to_string()))?;
        Ok(Self { tls: Arc::new(tls), last: Arc::default() })
    }

    /// Returns the client for `account`, with its own connections.
    pub fn for_account(&self, account: &Account) -> Result<Self, NoClient> {
        let of_account = AccountClient::new(self, account)?;
        Ok(Self { tls: Arc::clone(&self.tls), last: Arc::new(Mutex::new(Some(Arc::new(of_account)))) })
    }

    /// Polls a label; see [`AccountClient::read`].
    pub async fn read(
        &self,
        account: &Account,
        label: &LabelId,
        last: Option<u64>,
        now: Timestamp,
    ) -> Reading {
        match self.of(account) {
            Ok(client) => client.read(label.as_str(), last, now).await,
            Err(NoClient(detail)) => Reading::NoConnection { detail },
        }
    }

    fn of(&self, account: &Account) -> Result<Arc<AccountClient>, NoClient> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_ref().filter(|known| known.is_for(account)) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(AccountClient::new(self, account)?);
        *last = Some(Arc::clone(&made));
        Ok(made)
    }
}
