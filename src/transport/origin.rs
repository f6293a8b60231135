//! The server of a URL, and the proxy to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::Settings;

/// One server: scheme, host and port.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// An address without brackets, or a name.
    pub(super) host: String,
    pub(super) port: u16,
    /// `host` or `host:port`, as `Host` has it.
    pub(super) host_header: HeaderValue,
    /// The name that the certificate must contain; `None` without encryption.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl Origin {
    fn of(url: &Url) -> Result<Self, &'static str> {
        let encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("it is not an http or https URL"),
        };
        let host = match url.host() {
            // Only the resolver uses a dot at the end.
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("it has no host"),
        };
        let port = url.port_or_known_default().ok_or("it has no port")?;
        let shown = url.host_str().unwrap_or_default();
        let host_header = match url.port() {
            Some(port) => HeaderValue::try_from(format!("{shown}:{port}")),
            None => HeaderValue::from_str(shown),
        };
        let host_header = host_header.map_err(|_| "its host is not valid in a Host header")?;
        let server_name = encrypted.then(|| ServerName::try_from(host.clone())).transpose();
        let server_name = server_name.map_err(|_| "its host is not valid in a certificate")?;
        Ok(Self { host, port, host_header, server_name })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.server_name.is_some()
    }
}

/// A server and the way to it.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) origin: Origin,
    pub(super) proxy: Option<Proxy>,
    /// `http://host:port` of the origin.
    base: String,
    pub(super) settings: Settings,
}

/// A proxy on the way.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) origin: Origin,
    pub(super) credentials: Option<HeaderValue>,
}

impl Route {
    pub(super) fn new(url: &Url, settings: Settings) -> Result<Self, &'static str> {
        let origin = Origin::of(url)?;
        let base = format!("{}://{}", url.scheme(), origin.host_header.to_str().unwrap_or_default());
        let proxies = &settings.proxies;
        let matcher = Matcher::builder()
            .http(proxies.http.as_ref().map_or("", |url| url.expose()))
            .https(proxies.https.as_ref().map_or("", |url| url.expose()))
            .no(proxies.except.as_str())
            .build();
        let uri: Uri = base.parse().map_err(|_| "the URL is not valid for a request")?;
        let proxy = matcher.intercept(&uri).map(|proxy| Proxy::of(&proxy)).transpose()?;
        Ok(Self { origin, proxy, base, settings })
    }

    /// Returns the base of the target of a plain request to a forwarding proxy, which needs the whole URL.
    pub(super) fn forwards_to(&self) -> Option<&str> {
        (self.proxy.is_some() && !self.origin.is_encrypted()).then_some(&self.base)
    }

    /// Returns the authorization header for a forwarding proxy, sent with each plain request.
    pub(super) fn credentials_of_forwarding(&self) -> Option<HeaderValue> {
        self.proxy.as_ref().filter(|_| !self.origin.is_encrypted())?.credentials.clone()
    }
}

impl Proxy {
    fn of(proxy: &Intercept) -> Result<Self, &'static str> {
        let url: Url = proxy.uri().to_string().parse().map_err(|_| "the proxy's URL is not valid")?;
        Ok(Self { origin: Origin::of(&url)?, credentials: proxy.basic_auth().cloned() })
    }
}

/// Returns the header of the user and the password of `url`, if it has them.
pub(super) fn basic_auth(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |part: &str| percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the part of a `Location` that may be shown: host and path, without user and query, which may hold secrets.
pub fn shown_location(location: &str) -> String {
    let shown = match Url::parse(location) {
        Ok(url) => format!("{}{}", url.host_str().unwrap_or_default(), url.path()),
        Err(_) => location.split(['?', '#']).next().unwrap_or_default().to_owned(),
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}
