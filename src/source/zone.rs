//! Where an address lies: on the internet, in a private network, on this worker's own host, or where nothing may ever be asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// From the farthest to the nearest: what may reach one zone may reach all before it, but never the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Zone {
    Public,
    /// Private and shared networks (RFC 1918, RFC 6598, RFC 4193), and what no host on the internet has: multicast, benchmarks, reserved.
    Private,
    /// This worker's own host: loopback, the unspecified address, and the addresses of its interfaces.
    Host,
    /// The link (169.254/16, fe80::/10), and the clouds' metadata services elsewhere.
    Forbidden,
}

/// The zone of `ip`. `is_own` says whether an address is one of this host's interfaces.
pub(super) fn zone(ip: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> Zone {
    let own = |ip| if is_own(ip) { Zone::Host } else { Zone::Public };
    match ip {
        IpAddr::V4(v4) => zone_v4(v4).max(own(ip)),
        // An IPv4 address in IPv6 clothes is where the IPv4 address is.
        IpAddr::V6(v6) => embedded_v4(v6.segments())
            .into_iter()
            .map(|v4| zone_v4(v4).max(own(IpAddr::V4(v4))))
            .chain([zone_v6(v6), own(ip)])
            .max()
            .unwrap_or(Zone::Public),
    }
}

/// The zone of `ip` as this host sees it now.
pub(super) fn zone_here(ip: IpAddr) -> Zone {
    zone(ip, |ip| is_of_this_host(ip) || container_gateway() == Some(ip))
}

/// Alibaba 100.100.100.200, Oracle 192.0.0.192, Azure's wire server 168.63.129.16.
fn zone_v4(ip: Ipv4Addr) -> Zone {
    let [a, b, c, _] = ip.octets();
    let is_metadata =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)].contains(&ip);
    match (a, b, c) {
        _ if is_metadata || ip.is_link_local() => Zone::Forbidden,
        (0 | 127, _, _) => Zone::Host,
        (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _) | (224.., _, _) => Zone::Private,
        _ if ip.is_private() => Zone::Private,
        _ => Zone::Public,
    }
}

/// AWS fd00:ec2::254, Google fd20:ce::254.
fn zone_v6(ip: Ipv6Addr) -> Zone {
    let first = ip.segments()[0];
    let metadata = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];
    if metadata.contains(&ip) || (first & 0xffc0) == 0xfe80 {
        Zone::Forbidden
    } else if ip.is_loopback() || ip.is_unspecified() {
        Zone::Host
    } else if (first & 0xfe00) == 0xfc00 || (first & 0xffc0) == 0xfec0 || (first & 0xff00) == 0xff00 {
        Zone::Private
    } else {
        Zone::Public
    }
}

/// Mapped, compatible, translated, NAT64 (the well-known prefix, and the one for networks of one's own), 6to4, ISATAP; Teredo has two.
fn embedded_v4(s: [u16; 8]) -> Vec<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => vec![join(high, low)],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => vec![join(high, low)],
        [0x2002, high, low, ..] => vec![join(high, low)],
        [0x2001, 0, server_high, server_low, _, _, high, low] => vec![join(server_high, server_low), join(!high, !low)],
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => vec![join(high, low)],
        _ => Vec::new(),
    }
}

/// The kernel answers: whoever sends to an address of the host itself has that address, or loopback, as the sender's. Nothing is sent.
fn is_of_this_host(ip: IpAddr) -> bool {
    let unspecified = if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let sender = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(ip, 9))?;
        socket.local_addr()
    });
    sender.is_ok_and(|sender| sender.ip() == ip || sender.ip().is_loopback())
}

/// In a container the gateway is the host that runs it.
fn container_gateway() -> Option<IpAddr> {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| std::path::Path::new(mark).exists());
    if !in_container {
        return None;
    }
    default_gateway(&std::fs::read_to_string("/proc/net/route").ok()?).map(IpAddr::V4)
}

/// The gateway of the route to 0.0.0.0 in `/proc/net/route`: hexadecimal, in the machine's byte order.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination == "00000000").then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> Zone {
        zone(ip.parse().expect("an address"), |_| false)
    }

    #[test]
    fn metadata_addresses_are_forbidden_in_every_clothing() {
        for ip in [
            "169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:a9fe:a9fe",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808::5601:5601",
            "2001:db8::5efe:a9fe:a9fe",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ] {
            assert_eq!(of(ip), Zone::Forbidden, "{ip}");
        }
    }

    #[test]
    fn loopback_and_the_unspecified_address_are_the_host_in_every_clothing() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:0::",
        ] {
            assert_eq!(of(ip), Zone::Host, "{ip}");
        }
    }

    #[test]
    fn networks_that_the_internet_does_not_route_are_private() {
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.19.0.1",
            "192.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:c0a8:101::1",
        ] {
            assert_eq!(of(ip), Zone::Private, "{ip}");
        }
    }

    #[test]
    fn their_neighbours_are_public() {
        for ip in [
            "9.255.255.255",
            "11.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2001:4860::8888",
        ] {
            assert_eq!(of(ip), Zone::Public, "{ip}");
        }
    }

    #[test]
    fn an_address_of_the_hosts_own_is_the_host_whatever_network_it_is_in() {
        let own: IpAddr = "203.0.113.7".parse().expect("an address");
        assert_eq!(zone(own, |ip| ip == own), Zone::Host);
        assert_eq!(zone("::ffff:203.0.113.7".parse().expect("an address"), |ip| ip == own), Zone::Host);
        assert_eq!(zone("169.254.1.1".parse().expect("an address"), |_| true), Zone::Forbidden);
    }

    #[test]
    fn the_kernel_knows_the_hosts_own_addresses() {
        assert!(is_of_this_host("127.0.0.1".parse().expect("an address")));
        assert!(is_of_this_host("127.5.5.5".parse().expect("an address")));
        assert!(!is_of_this_host("192.0.2.1".parse().expect("an address")));
    }

    #[test]
    fn the_gateway_of_a_container_is_read_from_its_routes() {
        let routes = "Iface\tDestination\tGateway\tFlags\neth0\t000011AC\t00000000\t0001\neth0\t00000000\t010011AC\t0003\n";
        let expected = u32::from_ne_bytes([172, 17, 0, 1]);
        let routes = routes.replace("010011AC", &format!("{expected:08X}"));
        assert_eq!(default_gateway(&routes), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(default_gateway("Iface\tDestination\tGateway\n"), None);
    }
}
