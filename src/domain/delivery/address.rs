//! Where callbacks may go (contract 7.7): what an address is, and whether it may be connected to.
//!
//! A subscriber's URL must not become a way to the machine's own credentials, and nobody on the way may read a callback
//! unless the operator has said so. Loopback and private networks are where receivers live: allowed. Names are not
//! resolved here; whoever connects asks for every address, each time.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// Where clouds hand out credentials: AWS (also ECS and EKS), Azure, Google, Alibaba, Oracle, Scaleway.
const METADATA: [IpAddr; 11] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// What a refusal rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Broadcast,
    /// `http` in the open, without `allow_insecure`.
    PlainHttp,
}

impl Rule {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud-metadata",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::PlainHttp => "plain-http",
        }
    }
}

/// An address that is not connected to, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    pub address: IpAddr,
    /// What `address` leads to: itself, or the IPv4 address it wraps.
    pub meant: IpAddr,
    pub rule: Rule,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is ", self.address)?;
        if self.address != self.meant {
            write!(f, "{}, ", self.meant)?;
        }
        let what = match self.rule {
            _ if METADATA.contains(&self.meant) => "a cloud metadata address: never sent to",
            Rule::LinkLocal => "a link-local address: never sent to",
            Rule::Metadata => "a cloud metadata address: never sent to",
            Rule::Unspecified => "no address of a host: never sent to",
            Rule::Multicast => "a multicast address: never sent to",
            Rule::Broadcast => "the broadcast address: never sent to",
            Rule::PlainHttp => "a public address: plain http needs allow_insecure = true",
        };
        write!(f, "{what} (rule: {})", self.rule.as_str())
    }
}

/// How a subscriber's URL is spoken to, as far as it decides about addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether the URL is https.
    pub encrypted: bool,
    pub allow_insecure: bool,
}

impl Manner {
    /// Whether `address` may be connected to.
    pub fn judge(self, address: IpAddr) -> Result<(), Refusal> {
        if let Some(refusal) = never(address) {
            return Err(refusal);
        }
        let readings = readings(address);
        if self.encrypted || self.allow_insecure {
            return Ok(());
        }
        // If it wraps others, they tell where it leads.
        let mut leads = readings.clone().skip(usize::from(readings.count() > 1));
        match leads.find(|meant| is_public(*meant)) {
            Some(meant) => Err(Refusal { address, meant, rule: Rule::PlainHttp }),
            None => Ok(()),
        }
    }
}

/// Why `address` is refused to all, if it is.
pub fn never(address: IpAddr) -> Option<Refusal> {
    let refused = |meant| Some(Refusal { address, meant, rule: refused_to_all(meant)? });
    readings(address).find_map(refused)
}

fn refused_to_all(address: IpAddr) -> Option<Rule> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    // The whole of 0.0.0.0/8 is "this host on this network" (RFC 6890): Linux connects it to itself.
    let unspecified = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if link_local {
        Some(Rule::LinkLocal)
    } else if METADATA.contains(&address) {
        Some(Rule::Metadata)
    } else if unspecified {
        Some(Rule::Unspecified)
    } else if address.is_multicast() {
        Some(Rule::Multicast)
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some(Rule::Broadcast)
    } else {
        None
    }
}

/// Whether an address lies in the open: neither this machine nor a private network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || first == 0 || shared)
        }
        IpAddr::V6(v6) => {
            let site_local = v6.segments()[0] & 0xffc0 == 0xfec0;
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || site_local)
        }
    }
}

/// Everything that `address` may lead to: itself, then the IPv4 addresses it wraps.
fn readings(address: IpAddr) -> impl Iterator<Item = IpAddr> + Clone {
    let wrapped = match address {
        IpAddr::V4(_) => [None, None],
        IpAddr::V6(v6) => wrapped(v6),
    };
    std::iter::once(address).chain(wrapped.into_iter().flatten().map(IpAddr::V4))
}

fn wrapped(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let o = v6.octets();
    let v4 = |a: usize, b: usize, c: usize, d: usize| Some(Ipv4Addr::new(o[a], o[b], o[c], o[d]));
    let low = v4(12, 13, 14, 15);
    match v6.segments() {
        // `::` and `::1` have a meaning of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        // Mapped, compatible, and NAT64 (RFC 4291, 6052).
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [low, None],
        // NAT64 of a network's own (RFC 8215), of which the length of the prefix is not known.
        [0x64, 0xff9b, 1, ..] => [low, v4(6, 7, 9, 10)].map(|v4| v4.filter(|v4| !v4.is_unspecified())),
        // 6to4 (RFC 3056).
        [0x2002, ..] => [v4(2, 3, 4, 5), None],
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, ..] => [Some(Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15])), None],
        // ISATAP (RFC 5214), behind any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [low, None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTPS: Manner = Manner { encrypted: true, allow_insecure: false };
    const HTTP: Manner = Manner { encrypted: false, allow_insecure: false };
    const INSECURE: Manner = Manner { encrypted: false, allow_insecure: true };

    fn rule(manner: Manner, text: &str) -> Option<Rule> {
        manner.judge(text.parse().unwrap()).err().map(|refusal| refusal.rule)
    }

    #[test]
    fn some_addresses_are_refused_to_all() {
        use Rule::{Broadcast, LinkLocal, Metadata, Multicast, Unspecified};
        for (text, expected) in [
            ("169.254.169.254", LinkLocal),
            ("169.254.0.1", LinkLocal),
            ("169.254.255.255", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf:ffff::1", LinkLocal),
            ("fd00:ec2::254", Metadata),
            ("fd20:ce::254", Metadata),
            ("100.100.100.200", Metadata),
            ("192.0.0.192", Metadata),
            ("168.63.129.16", Metadata),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("::ffff:0.0.0.0", Unspecified),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("255.255.255.255", Broadcast),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::169.254.169.254", LinkLocal),
            ("64:ff9b::169.254.169.254", LinkLocal),
            ("64:ff9b:1::169.254.169.254", LinkLocal),
            ("64:ff9b:1:a9fe:a9:fe00::", LinkLocal),
            ("2002:a9fe:a9fe::1", LinkLocal),
            ("2001::5601:5601", LinkLocal),
            ("2001:db8::5efe:169.254.169.254", LinkLocal),
            ("::ffff:100.100.100.200", Metadata),
            ("64:ff9b::255.255.255.255", Broadcast),
        ] {
            for manner in [HTTPS, HTTP, INSECURE] {
                assert_eq!(rule(manner, text), Some(expected), "{text} {manner:?}");
            }
        }
    }

    #[test]
    fn private_receivers_may_be_reached_in_any_manner() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "64:ff9b:1:a00:0:100::",
        ] {
            for manner in [HTTPS, HTTP, INSECURE] {
                assert_eq!(rule(manner, text), None, "{text} {manner:?}");
            }
        }
    }

    #[test]
    fn plain_http_in_the_open_must_be_allowed() {
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.0.193",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(rule(HTTP, text), Some(Rule::PlainHttp), "{text}");
            assert_eq!(rule(HTTPS, text), None, "{text}");
            assert_eq!(rule(INSECURE, text), None, "{text}");
        }
    }

    #[test]
    fn a_refusal_says_which_address_and_which_rule() {
        for (text, expected) in [
            (
                "169.254.169.254",
                "169.254.169.254 is a cloud metadata address: never sent to (rule: link-local)",
            ),
            (
                "::ffff:169.254.169.254",
                "::ffff:169.254.169.254 is 169.254.169.254, a cloud metadata address: never sent to (rule: link-local)",
            ),
            ("fe80::1", "fe80::1 is a link-local address: never sent to (rule: link-local)"),
            (
                "fd00:ec2::254",
                "fd00:ec2::254 is a cloud metadata address: never sent to (rule: cloud-metadata)",
            ),
            (
                "8.8.8.8",
                "8.8.8.8 is a public address: plain http needs allow_insecure = true (rule: plain-http)",
            ),
        ] {
            assert_eq!(HTTP.judge(text.parse().unwrap()).unwrap_err().to_string(), expected);
        }
    }
}
