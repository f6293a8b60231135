//! `[http]`: where health, metrics and the status page are served, and to whom.

use std::net::SocketAddr;

use super::reader::Entry;
use super::secret;
use crate::domain::secret::Hidden;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// `None`: not served.
    pub listen: Option<SocketAddr>,
    /// What readers must send as a bearer token; always there when `listen` is not loopback.
    pub token: Option<Hidden<String>>,
}

pub(super) fn read(section: &Entry<'_>) -> Option<HttpConfig> {
    let table = section.table(&["listen", "token"])?;
    let listen = table.required("listen", "an address such as \"127.0.0.1:8787\", or \"\"").and_then(listen);
    let token = table.required("token", "a secret, or \"\"").and_then(secret::read);
    let (listen, token) = (listen?, token?);
    if listen.is_some_and(|address| !address.ip().to_canonical().is_loopback()) && token.expose().is_empty() {
        table.fault(
            "token",
            "is required when http.listen is not a loopback address",
            "a long random text, or listen = \"127.0.0.1:8787\"",
        );
    }
    Some(HttpConfig { listen, token: (!token.expose().is_empty()).then_some(token) })
}

fn listen(entry: &Entry<'_>) -> Option<Option<SocketAddr>> {
    let text = entry.text()?.trim();
    if text.is_empty() {
        return Some(None);
    }
    match text.parse() {
        Ok(address) => Some(Some(address)),
        Err(_) => entry.fault(
            "is no address and port",
            "numbers, as in \"127.0.0.1:8787\" or \"[::1]:8787\"; \"\" turns it off",
        ),
    }
}
