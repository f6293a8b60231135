//! Failures of an exchange, classified by cause, with texts for people.
//!
//! Types and error numbers decide the kind, never texts.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustls::{CertificateError, InvalidMessage};

/// Cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// This machine: no descriptor, no memory, no local port, no name server.
    Shortage,
    /// The host has no address.
    Name,
    /// A refused address, or a URL that cannot be requested.
    Address,
    /// No listener, or no route.
    Connect,
    /// The TLS handshake failed, or the certificate is not valid.
    Tls,
    /// The connection broke.
    Reset,
    /// The answer is not valid HTTP; the status, if its first line had one.
    Unreadable { status: Option<u16> },
}

/// A failure with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeFailure {
    pub cause: FailureCause,
    /// One line, without secrets.
    pub detail: String,
}

impl ExchangeFailure {
    pub(super) fn new(cause: FailureCause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// Failure to connect to any of the addresses. A failure of the receiver takes precedence over a shortage of this
    /// machine, which may lack one of the two address families.
    pub(super) fn connect(tried: &[(SocketAddr, io::Error)]) -> Self {
        let theirs = tried.iter().rev().find(|(address, error)| shortage(error, Some(*address)).is_none());
        match theirs.or(tried.last()) {
            None => Self::new(FailureCause::Name, "the name has no address"),
            Some((address, error)) => match shortage(error, Some(*address)) {
                Some(missing) => Self::new(FailureCause::Shortage, missing),
                None => Self::new(FailureCause::Connect, unreachable(*address, error)),
            },
        }
    }

    /// Failure of the TLS handshake with `server`.
    pub(super) fn handshake(server: &str, error: &io::Error) -> Self {
        if let Some(missing) = shortage(error, None) {
            return Self::new(FailureCause::Shortage, missing);
        }
        let detail = match rustls_error(error) {
            Some(error) => tls(server, error),
            None if is_closed(error.kind()) => {
                format!("{server} closed the connection during the TLS handshake")
            }
            None => format!("the TLS handshake with {server} failed: {}", plain(error)),
        };
        Self::new(FailureCause::Tls, detail)
    }

    /// Failure of an exchange, before or after the first byte of the answer (`answered`), with the status of the
    /// answer's first line.
    pub(super) fn exchange(error: &hyper::Error, answered: bool, status: Option<u16>) -> Self {
        if error.is_parse() {
            let what = innermost(error);
            return Self::new(
                FailureCause::Unreadable { status },
                format!("the answer is not valid HTTP: {what}"),
            );
        }
        if let Some(io) = source_of::<io::Error>(error) {
            if let Some(missing) = shortage(io, None) {
                return Self::new(FailureCause::Shortage, missing);
            }
            if let Some(tls_error) = rustls_error(io) {
                return Self::new(FailureCause::Tls, tls("the server", tls_error));
            }
        }
        let when = if answered { "in the middle of the answer" } else { "before an answer came" };
        let reset = source_of::<io::Error>(error).is_some_and(|io| io.kind() == ErrorKind::ConnectionReset);
        let how = if reset { "reset" } else { "closed" };
        Self::new(FailureCause::Reset, format!("the connection was {how} {when}"))
    }
}

/// Returns the missing resource of this machine, if that caused `error`.
pub(super) fn shortage(error: &io::Error, connecting_to: Option<SocketAddr>) -> Option<String> {
    let missing = match error.raw_os_error()? {
        libc::EMFILE => "out of file descriptors (the limit of this process is reached)",
        libc::ENFILE => "out of file descriptors (the limit of this machine is reached)",
        libc::ENOMEM | libc::ENOBUFS => "out of memory for a connection",
        libc::ENOSPC => "no more connections can be watched (the limit of epoll watches is reached)",
        // For IPv6 it means that this machine has no IPv6 address.
        libc::EADDRNOTAVAIL if connecting_to.is_some_and(|address| address.is_ipv4()) => {
            "out of local ports or addresses for a connection"
        }
        _ => return None,
    };
    Some(missing.to_owned())
}

fn unreachable(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
        ErrorKind::TimedOut => format!("{address} did not answer"),
        ErrorKind::HostUnreachable => format!("{address} is not reachable: no route to the host"),
        ErrorKind::NetworkUnreachable => format!("{address} is not reachable: no route to its network"),
        ErrorKind::AddrNotAvailable => {
            format!("{address} is not reachable: this machine has no such address family")
        }
        ErrorKind::ConnectionReset => format!("{address} reset the connection"),
        _ => format!("no connection to {address}: {}", plain(error)),
    }
}

fn tls(server: &str, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{server} does not speak TLS on this port; the URL may need http")
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("the issuer of the certificate of {server} is not trusted (UnknownIssuer)")
        }
        rustls::Error::AlertReceived(alert) => format!("{server} aborted TLS: {alert:?}"),
        other => format!("TLS with {server} failed: {other}"),
    }
}

/// Formats an I/O error without the number of the operating system.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn source_of<T: Error + 'static>(error: &hyper::Error) -> Option<&T> {
    causes(error.source()?).find_map(|error| error.downcast_ref())
}

/// Returns `error` and all its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn innermost(error: &hyper::Error) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn local_shortages_are_our_own_failures() {
        let v4: SocketAddr = "127.0.0.1:80".parse().unwrap();
        for number in
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::ENOSPC, libc::EADDRNOTAVAIL]
        {
            let failure = ExchangeFailure::connect(&[(v4, errno(number))]);
            assert_eq!(failure.cause, FailureCause::Shortage, "{number}");
            assert!(!failure.detail.contains("os error"), "{}", failure.detail);
        }
    }

    #[test]
    fn a_failure_of_the_receiver_counts_before_a_local_shortage() {
        let v6: SocketAddr = "[::1]:80".parse().unwrap();
        let v4: SocketAddr = "127.0.0.1:80".parse().unwrap();
        for tried in [
            [(v4, errno(libc::ECONNREFUSED)), (v6, errno(libc::EADDRNOTAVAIL))],
            [(v6, errno(libc::EADDRNOTAVAIL)), (v4, errno(libc::ECONNREFUSED))],
        ] {
            assert_eq!(ExchangeFailure::connect(&tried).cause, FailureCause::Connect);
        }
        let refused = ExchangeFailure::connect(&[(v4, errno(libc::ECONNREFUSED))]);
        assert_eq!(refused.detail, "127.0.0.1:80 refused the connection");
        let far = ExchangeFailure::connect(&[(v4, errno(libc::ENETUNREACH))]);
        assert_eq!(far.detail, "127.0.0.1:80 is not reachable: no route to its network");
    }
}
