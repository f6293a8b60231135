//! Address policy of callbacks (contract 7.7): which addresses may be connected to.
//!
//! A subscriber's URL must not give access to the machine's own credentials. Callbacks must not be readable on the
//! network unless the operator allows it. Loopback and private networks are allowed, because receivers run there. This
//! module does not resolve names; the resolver checks every address, on each attempt.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use crate::domain::named_enum::named_enum;

/// Metadata addresses of clouds: AWS (also ECS and EKS), Azure, Google, Alibaba, Oracle, Scaleway.
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

named_enum! {
    /// Rule that refuses an address.
    pub enum AddressRule {
        LinkLocal = "link-local",
        Metadata = "cloud-metadata",
        Unspecified = "unspecified",
        Multicast = "multicast",
        Broadcast = "broadcast",
        /// Plain `http` to a public address without `allow_insecure`.
        PlainHttp = "plain-http",
    }
}

/// Error for a refused address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RefusedAddress {
    pub address: IpAddr,
    /// The address that the rule applies to: `address`, or the IPv4 address embedded in it.
    pub target: IpAddr,
    pub rule: AddressRule,
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is ", self.address)?;
        if self.address != self.target {
            write!(f, "{}, ", self.target)?;
        }
        let what = match self.rule {
            _ if METADATA.contains(&self.target) => "a cloud metadata address, which is never allowed",
            AddressRule::LinkLocal => "a link-local address, which is never allowed",
            AddressRule::Metadata => "a cloud metadata address, which is never allowed",
            AddressRule::Unspecified => "an unspecified address, which is never allowed",
            AddressRule::Multicast => "a multicast address, which is never allowed",
            AddressRule::Broadcast => "the broadcast address, which is never allowed",
            AddressRule::PlainHttp => "a public address: plain http needs allow_insecure = true",
        };
        write!(f, "{what} (rule: {})", self.rule.as_str())
    }
}

/// Part of a subscriber's configuration that decides which addresses are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Whether the URL is https.
    pub encrypted: bool,
    pub allow_insecure: bool,
}

impl AddressPolicy {
    /// Checks whether `address` may be connected to.
    pub fn check(self, address: IpAddr) -> Result<(), RefusedAddress> {
        if let Some(refusal) = always_refused(address) {
            return Err(refusal);
        }
        let targets = targets(address);
        if self.encrypted || self.allow_insecure {
            return Ok(());
        }
        // An embedded address counts instead of its wrapper.
        let mut targets = targets.clone().skip(usize::from(targets.count() > 1));
        match targets.find(|target| is_public(*target)) {
            Some(target) => Err(RefusedAddress { address, target, rule: AddressRule::PlainHttp }),
            None => Ok(()),
        }
    }
}

/// Returns the refusal of an address that is never allowed.
pub fn always_refused(address: IpAddr) -> Option<RefusedAddress> {
    let refused = |target| Some(RefusedAddress { address, target, rule: rule_for_all(target)? });
    targets(address).find_map(refused)
}

fn rule_for_all(address: IpAddr) -> Option<AddressRule> {
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
        Some(AddressRule::LinkLocal)
    } else if METADATA.contains(&address) {
        Some(AddressRule::Metadata)
    } else if unspecified {
        Some(AddressRule::Unspecified)
    } else if address.is_multicast() {
        Some(AddressRule::Multicast)
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some(AddressRule::Broadcast)
    } else {
        None
    }
}

/// Whether an address is neither of this machine nor of a private network.
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

/// Returns `address` and the IPv4 addresses embedded in it.
fn targets(address: IpAddr) -> impl Iterator<Item = IpAddr> + Clone {
    let embedded = match address {
        IpAddr::V4(_) => [None, None],
        IpAddr::V6(v6) => embedded_v4(v6),
    };
    std::iter::once(address).chain(embedded.into_iter().flatten().map(IpAddr::V4))
}

fn embedded_v4(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let o = v6.octets();
    let v4 = |a: usize, b: usize, c: usize, d: usize| Some(Ipv4Addr::new(o[a], o[b], o[c], o[d]));
    let low = v4(12, 13, 14, 15);
    match v6.segments() {
        // `::` and `::1` embed nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        // Mapped, compatible, and NAT64 (RFC 4291, 6052).
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [low, None],
        // Local NAT64 (RFC 8215), with an unknown prefix length.
        [0x64, 0xff9b, 1, ..] => [low, v4(6, 7, 9, 10)].map(|v4| v4.filter(|v4| !v4.is_unspecified())),
        // 6to4 (RFC 3056).
        [0x2002, ..] => [v4(2, 3, 4, 5), None],
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, ..] => [Some(Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15])), None],
        // ISATAP (RFC 5214), after any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [low, None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTPS: AddressPolicy = AddressPolicy { encrypted: true, allow_insecure: false };
    const HTTP: AddressPolicy = AddressPolicy { encrypted: false, allow_insecure: false };
    const INSECURE: AddressPolicy = AddressPolicy { encrypted: false, allow_insecure: true };

    fn rule(policy: AddressPolicy, text: &str) -> Option<AddressRule> {
        policy.check(text.parse().unwrap()).err().map(|refusal| refusal.rule)
    }

    #[test]
    fn some_addresses_are_forbidden_by_every_policy() {
        use AddressRule::{Broadcast, LinkLocal, Metadata, Multicast, Unspecified};
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
            for policy in [HTTPS, HTTP, INSECURE] {
                assert_eq!(rule(policy, text), Some(expected), "{text} {policy:?}");
            }
        }
    }

    #[test]
    fn private_receivers_are_allowed_by_every_policy() {
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
            for policy in [HTTPS, HTTP, INSECURE] {
                assert_eq!(rule(policy, text), None, "{text} {policy:?}");
            }
        }
    }

    #[test]
    fn plain_http_to_a_public_address_must_be_allowed() {
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
            assert_eq!(rule(HTTP, text), Some(AddressRule::PlainHttp), "{text}");
            assert_eq!(rule(HTTPS, text), None, "{text}");
            assert_eq!(rule(INSECURE, text), None, "{text}");
        }
    }

    #[test]
    fn a_refusal_names_address_and_rule() {
        for (text, expected) in [
            (
                "169.254.169.254",
                "169.254.169.254 is a cloud metadata address, which is never allowed (rule: link-local)",
            ),
            (
                "::ffff:169.254.169.254",
                "::ffff:169.254.169.254 is 169.254.169.254, a cloud metadata address, which is never allowed (rule: link-local)",
            ),
            ("fe80::1", "fe80::1 is a link-local address, which is never allowed (rule: link-local)"),
            (
                "fd00:ec2::254",
                "fd00:ec2::254 is a cloud metadata address, which is never allowed (rule: cloud-metadata)",
            ),
            (
                "8.8.8.8",
                "8.8.8.8 is a public address: plain http needs allow_insecure = true (rule: plain-http)",
            ),
        ] {
            assert_eq!(HTTP.check(text.parse().unwrap()).unwrap_err().to_string(), expected);
        }
    }
}
