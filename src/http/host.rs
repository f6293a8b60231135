//! Check of the `Host` header. In a DNS rebinding attack, a page of another origin makes its name resolve to this
//! address and sends requests with that name; they are rejected.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{HttpState, json_error};

/// Lets a request pass if its `Host` is a name of this server, or is missing: browsers always send one.
pub(super) async fn check(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let called = sent.or_else(|| request.uri().authority().map(Authority::as_str));
    if called.is_none_or(|host| is_ours(host, state.listen, &state.hosts)) {
        return next.run(request).await;
    }
    let error = "the Host of this request is not a name of this server; add it to http.hosts";
    json_error(StatusCode::MISDIRECTED_REQUEST, error)
}

/// Whether `host` is loopback, the listen address, or one of `hosts` (with its port, or with any port).
fn is_ours(host: &str, listen: SocketAddr, hosts: &[String]) -> bool {
    let host = host.to_ascii_lowercase();
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    if name == "localhost" || hosts.iter().any(|ours| *ours == host || ours == name) {
        return true;
    }
    let listen = listen.ip().to_canonical();
    name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| {
        let address = address.to_canonical();
        // A server that listens on every address of the machine accepts any address. A name is not accepted: it may
        // belong to another host.
        address.is_loopback() || listen.is_unspecified() || address == listen
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_are_accepted() {
        let hosts = ["trackpost.example.com".to_owned(), "proxy:8443".to_owned()];
        let loopback = "127.0.0.1:8787".parse().unwrap();
        for ours in ["localhost:8787", "127.0.0.1", "[::1]:1", "TrackPost.example.com:443", "proxy:8443"] {
            assert!(is_ours(ours, loopback, &hosts), "{ours}");
        }
        for other in ["", "evil.example", "10.0.0.1:8787", "proxy", "localhost.evil.example", "a b"] {
            assert!(!is_ours(other, loopback, &hosts), "{other}");
        }
        assert!(is_ours("10.0.0.1", "10.0.0.1:80".parse().unwrap(), &[]));
        assert!(is_ours("10.0.0.1", "0.0.0.0:80".parse().unwrap(), &[]));
        assert!(!is_ours("evil.example", "0.0.0.0:80".parse().unwrap(), &[]));
    }
}
