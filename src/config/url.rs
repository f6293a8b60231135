//! Looks at URLs as far as a configuration can be wrong about them.
//!
//! Names are not resolved: what an address may be is checked at every connect. Only what is plain to see is refused
//! here, such as plain http to an address in the open.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::Uri;

use crate::domain::delivery::address::{AddressPolicy, AddressRule};

/// An absolute http or https URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpUrl {
    pub(super) https: bool,
    /// The host, if it is written as an address.
    pub(super) address: Option<IpAddr>,
    pub(super) has_user: bool,
    pub(super) has_query: bool,
    pub(super) has_fragment: bool,
    /// Without user, password, query and fragment: fit for logs.
    pub(super) shown: String,
}

/// What `text` says, or why it is no such URL.
pub(super) fn parse(text: &str) -> Result<HttpUrl, &'static str> {
    let has_fragment = text.contains('#');
    let uri: Uri = text.parse().map_err(|_| "is no URL")?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("is no http or https URL"),
    };
    let authority = uri.authority().ok_or("names no host")?.as_str();
    let (user, place) =
        authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("names no host")?;
    let port = place.strip_prefix(host).unwrap_or_default();
    if !port.is_empty() && port[1..].parse::<u16>().ok().is_none_or(|port| port == 0) {
        return Err("has a port that is none");
    }
    let address = address(host)?;
    let shown = format!("{}://{place}{}", if https { "https" } else { "http" }, uri.path());
    Ok(HttpUrl {
        https,
        address,
        has_user: user.is_some(),
        has_query: uri.query().is_some(),
        has_fragment,
        shown,
    })
}

/// The address a host is written as. Spellings such as `0x7f.1` or `2130706433`, which clients take for addresses, are
/// refused, lest a rule about addresses be walked around.
fn address(host: &str) -> Result<Option<IpAddr>, &'static str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|v6| Some(v6.into())).map_err(|_| "names no host");
    }
    if let Ok(v4) = host.parse() {
        return Ok(Some(v4));
    }
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let numeric =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if numeric { Err("has an address that is not of the form 192.0.2.1") } else { Ok(None) }
}

/// Whether plain http to this address goes over networks that are open to others.
pub(super) fn in_the_open(address: IpAddr) -> bool {
    let plain = AddressPolicy { encrypted: false, allow_insecure: false };
    plain.check(address).is_err_and(|refusal| refusal.rule == AddressRule::PlainHttp)
}

/// As much of what is no URL as can be shown: nothing before an `@`, nothing from a `?` or `#` on.
pub(super) fn masked(text: &str) -> String {
    let (hidden, shown) = text.rsplit_once('@').unwrap_or(("", text));
    let shown = &shown[..shown.find(['?', '#']).unwrap_or(shown.len())];
    match (hidden.split_once("://"), hidden) {
        (_, "") => shown.to_owned(),
        (Some((scheme, _)), _) => format!("{scheme}://…@{shown}"),
        (None, _) => format!("…@{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_http_urls_and_shows_them_without_credentials() {
        let url = parse("https://user:pass@example.com:8443/hooks/x?token=abc#top").unwrap();
        assert_eq!(url.shown, "https://example.com:8443/hooks/x");
        assert!(url.https && url.has_user && url.has_query && url.has_fragment && url.address.is_none());
        assert_eq!(parse("http://[::1]:80").unwrap().address, Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse("http://[::1]:80").unwrap().shown, "http://[::1]:80/");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "/path",
            "example.com",
            "example.com/x",
            "ftp://example.com",
            "https://",
            "https:///x",
            "http://a:99999/",
            "http://a:0/",
            "http://a b/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://8.8.8.8./",
            "http://[::zz]/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_what_might_be_secret() {
        assert_eq!(masked("ftp://user:pass@example.com/x?token=abc"), "ftp://…@example.com/x");
        assert_eq!(masked("https://user:pa#ss?word@example.com/x"), "https://…@example.com/x");
        assert_eq!(masked("user:pass@example.com"), "…@example.com");
        assert_eq!(masked("example.com/x"), "example.com/x");
    }
}
