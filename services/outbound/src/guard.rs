//! Which addresses are the internet. Everything that has a meaning of its own (IANA's registries of special-purpose
//! addresses) is not, and of IPv6 only what is given out as global unicast is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const SPECIAL_V4: [Ipv4Net; 18] = [
    v4([0, 0, 0, 0], 8),        // this network; connecting to 0.0.0.0 reaches the own machine
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // behind a carrier's NAT; metadata of some clouds
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // the platform's own services in one cloud
    v4([169, 254, 0, 0], 16),   // link-local; metadata of most clouds
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments; metadata of one cloud
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 31, 196, 0], 24),  // AS112
    v4([192, 52, 193, 0], 24),  // automatic multicast tunnelling
    v4([192, 88, 99, 0], 24),   // relays of 6to4
    v4([192, 168, 0, 0], 16),   // private
    v4([192, 175, 48, 0], 24),  // AS112
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
];

/// What is given out as global unicast. Outside are, among others, loopback, IPv4 in its mapped, compatible and
/// translated (NAT64) forms, link-local, site-local, unique local and multicast addresses.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const SPECIAL_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4: an IPv4 address in disguise
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// Says which addresses may be reached.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Vec<IpNet>,
}

impl Guard {
    /// The internet, and these networks besides.
    pub const fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether an address may be reached.
    pub fn admits(&self, address: IpAddr) -> bool {
        is_internet(address) || self.allowed.iter().any(|network| network.contains(&address))
    }
}

fn is_internet(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// IANA's registries of special-purpose addresses, without what is globally reachable in them, multicast, what is
    /// reserved, and where clouds keep their metadata.
    const REGISTRY: &str = "
        0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
        192.0.0.8/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24
        192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        255.255.255.255/32 169.254.169.254/32 169.254.170.2/32 100.100.100.200/32 192.0.0.192/32 168.63.129.16/32
        ::/128 ::1/128 ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64
        2001::/23 2001::/32 2001:1::1/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28
        2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10
        ff00::/8 fd00:ec2::254/128 4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/4 f000::/5";

    fn registry() -> impl Iterator<Item = IpNet> {
        REGISTRY.split_whitespace().map(|network| network.parse().unwrap())
    }

    #[test]
    fn the_ends_of_every_special_network_are_outside() {
        for network in registry() {
            for address in [network.network(), network.broadcast()] {
                assert!(!is_internet(address), "{address} of {network}");
            }
        }
    }

    #[test]
    fn the_neighbours_of_special_networks_are_the_internet() {
        let neighbours = "
            1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
            168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
            192.31.195.255 192.31.197.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255
            198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 8.8.8.8 93.184.216.34
            2001:200:: 2001:db7:ffff:: 2001:db9:: 2003:: 2606:4700::1111 2620:4f:7fff:: 2a00:: 3ffe:ffff::
            3fff:1000::";
        for address in neighbours.split_whitespace() {
            assert!(is_internet(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_besides_is_admitted_and_nothing_else() {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        for inside in ["127.0.0.1", "127.1.2.3", "::1", "8.8.8.8"] {
            assert!(guard.admits(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["10.0.0.1", "::2", "::ffff:127.0.0.1", "169.254.169.254"] {
            assert!(!guard.admits(outside.parse().unwrap()), "{outside}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_special_network_is_the_internet(bits in any::<u128>()) {
            for network in registry() {
                let address: IpAddr = match network {
                    IpNet::V4(network) => {
                        let host = bits as u32 & u32::from(network.hostmask());
                        Ipv4Addr::from(u32::from(network.network()) | host).into()
                    }
                    IpNet::V6(network) => {
                        let host = bits & u128::from(network.hostmask());
                        Ipv6Addr::from(u128::from(network.network()) | host).into()
                    }
                };
                prop_assert!(network.contains(&address));
                prop_assert!(!is_internet(address), "{address} of {network}");
            }
        }

        #[test]
        fn what_the_standard_library_calls_special_is_not_the_internet(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let is_special = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_broadcast()
                || address.is_documentation()
                || address.is_multicast()
                || address.is_unspecified();
            prop_assert!(!(is_special && is_internet(address.into())), "{address}");
        }

        #[test]
        fn no_form_of_ipv4_within_ipv6_is_the_internet(bits in any::<u32>()) {
            let (v4, bits) = (Ipv4Addr::from(bits), u128::from(bits));
            let forms = [
                v4.to_ipv6_mapped(),
                v4.to_ipv6_compatible(),
                Ipv6Addr::from((0x64_ff9b_u128 << 96) | bits),
                Ipv6Addr::from((0x2002_u128 << 112) | (bits << 80)),
                Ipv6Addr::from((0x2001_0000_u128 << 96) | !bits),
            ];
            for form in forms {
                prop_assert!(!is_internet(form.into()), "{form}");
            }
        }
    }
}
