//! `[http]`: where health, metrics and the status page are served, and to whom.

use std::net::SocketAddr;

use axum::http::uri::Authority;

use super::reader::Entry;
use super::secret;
use crate::domain::secret::Hidden;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// `None`: not served.
    pub listen: Option<SocketAddr>,
    /// Further names it may be called by, in lower case; another `Host` is refused.
    pub hosts: Vec<String>,
    /// What readers must send as a bearer token; always there when `listen` is not loopback.
    pub token: Option<Hidden<String>>,
}

pub(super) fn read(section: &Entry<'_>) -> Option<HttpConfig> {
    let table = section.table(&["listen", "token", "hosts"])?;
    let listen = table.required("listen", "an address such as \"127.0.0.1:8787\", or \"\"").and_then(listen);
    let token = table.required("token", "a secret, or \"\"").and_then(secret::read_token);
    let hosts = table.get("hosts").map_or_else(|| Some(Vec::new()), hosts);
    let (listen, token) = (listen?, token?);
    if listen.is_some_and(|address| !address.ip().to_canonical().is_loopback()) && token.expose().is_empty() {
        table.fault(
            "token",
            "is required when http.listen is not a loopback address",
            "a long random text, or listen = \"127.0.0.1:8787\"",
        );
    }
    Some(HttpConfig { listen, hosts: hosts?, token: (!token.expose().is_empty()).then_some(token) })
}

/// Names as a `Host` header has them, with a port or without.
fn hosts(entry: &Entry<'_>) -> Option<Vec<String>> {
    let host = |entry: &Entry<'_>| {
        let text = entry.text()?.trim();
        let plain =
            !text.is_empty() && text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
        if !plain {
            return entry.fault("is no name of a host", "as in \"trackpost.example.com\", without http://");
        }
        Some(text.to_ascii_lowercase())
    };
    entry.list()?.iter().map(host).collect()
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
