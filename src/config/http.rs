//! `[http]`: where health, metrics and the status page are served, and to whom.

use std::net::SocketAddr;

use http::uri::Authority;
use serde::Deserialize;

use super::secret::Token;
use super::table::At;
use crate::domain::secret::Hidden;

/// `[http]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// `None`: not served.
    pub listen: Option<SocketAddr>,
    /// Further host names, in lower case; any other `Host` is refused.
    pub hosts: Vec<String>,
    /// The bearer token that readers must send; always there when `listen` is not loopback.
    pub token: Option<Hidden<String>>,
}

/// `[http]` as written.
#[derive(Deserialize)]
pub(super) struct HttpSection {
    listen: Listen,
    token: Token,
    hosts: Vec<HostName>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Listen(Option<SocketAddr>);

impl TryFrom<String> for Listen {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "is not an IP address with a port\nwrite it like \"127.0.0.1:8787\" or \"[::1]:8787\"; \"\" turns the server off";
        let text = text.trim();
        if text.is_empty() {
            Ok(Self(None))
        } else {
            text.parse().map(|at| Self(Some(at))).map_err(|_| WRONG)
        }
    }
}

/// A host name as in a `Host` header, with a port or without.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct HostName(String);

impl TryFrom<String> for HostName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.trim().parse::<Authority>() {
            Ok(host) if !host.as_str().contains('@') => Ok(Self(host.as_str().to_ascii_lowercase())),
            _ => Err("is not a host name\nwrite it like \"trackpost.example.com\", without http://"),
        }
    }
}

impl HttpSection {
    pub(super) fn check(self, at: &At<'_>) -> HttpConfig {
        let Self { listen: Listen(listen), token, hosts } = self;
        let token = Some(token.0).filter(|token| !token.expose().is_empty());
        let is_open = listen.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        if is_open && token.is_none() && at.key("token").is_valid() {
            let problem = "is required when http.listen is not a loopback address";
            at.key("token")
                .fault(problem, "set it to a long random text, or set listen = \"127.0.0.1:8787\"");
        }
        HttpConfig { listen, hosts: hosts.into_iter().map(|HostName(host)| host).collect(), token }
    }
}
