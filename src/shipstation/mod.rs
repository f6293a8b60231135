//! The client of the ShipStation API: asks about one label, or for the list of labels, and says what came back.
//!
//! Whatever the network does is a value ([`Reading`]), never an error. Redirects are not followed: the API key goes
//! where it was configured to go, and nowhere else.

mod account;
mod list;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;

use crate::domain::account::Account;
use crate::domain::label::LabelId;
use crate::domain::tracking::reading::Reading;

pub use account::AccountClient;

/// Bodies over this are refused while they are read.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the body of a 429 or a 5xx may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A client can't be made: TLS can't be set up on this machine, or a URL or the key can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no HTTP client can be made: {0}")]
pub struct NoClient(String);

/// Makes the clients of accounts. Keeps that of the account it was asked for last. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    last: Arc<Mutex<Option<Arc<AccountClient>>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Fails only if TLS can't be set up on this machine.
    pub fn new() -> Result<Self, NoClient> {
        let tls = crate::tls::client_config(&[], None).map_err(|error| NoClient(error.to_string()))?;
        Ok(Self { tls: Arc::new(tls), last: Arc::default() })
    }

    /// The client that asks for `account`, with connections of its own.
    pub fn for_account(&self, account: &Account) -> Result<Self, NoClient> {
        let of_account = AccountClient::new(self, account)?;
        Ok(Self { tls: Arc::clone(&self.tls), last: Arc::new(Mutex::new(Some(Arc::new(of_account)))) })
    }

    /// Asks for the tracking of a label; see [`AccountClient::read`].
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
        if let Some(known) = last.as_ref().filter(|known| known.is_of(account)) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(AccountClient::new(self, account)?);
        *last = Some(Arc::clone(&made));
        Ok(made)
    }
}
