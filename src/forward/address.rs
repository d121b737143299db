//! Which addresses an upstream may resolve to. Asked at every connect, of the very address that is then connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The gateway's own listeners, which are never an upstream.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners {
    /// TCP listeners, as they are bound.
    pub addresses: Vec<SocketAddr>,
    /// Unix sockets.
    pub sockets: Vec<PathBuf>,
}

impl OwnListeners {
    /// Whether connecting to `address` reaches one of our listeners, as far as the address alone tells.
    #[must_use]
    pub fn include(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.addresses.iter().any(|own| {
            let own_ip = own.ip().to_canonical();
            own.port() == address.port()
                && (own_ip == ip || (own_ip.is_unspecified() && (ip.is_loopback() || ip.is_unspecified())))
        })
    }

    /// Whether a listener of ours has this port (then a peer that has our own address is ourselves).
    #[must_use]
    pub fn have_port(&self, port: u16) -> bool {
        self.addresses.iter().any(|own| own.port() == port)
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// One of our own listeners.
    OwnListener,
    /// Loopback, link-local or private, and not registered as such.
    Local,
    /// Not an address of one host: unspecified, multicast, broadcast.
    NotAHost,
}

impl Refused {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnListener => "is one of the gateway's own listeners",
            Self::Local => "is loopback, link-local or private, and the upstream is not registered as such",
            Self::NotAHost => "is not the address of a host",
        }
    }
}

/// Whether `address` may be connected to.
///
/// # Errors
/// [`Refused`], saying why not.
pub(super) fn check(address: SocketAddr, allow_local: bool, own: &OwnListeners) -> Result<(), Refused> {
    // SECURITY: a name that a VO gave may resolve to anything; without this a tool could be the gateway itself, a cloud's
    // metadata service or a neighbour that trusts this machine.
    let ip = embedded(address.ip());
    if own.include(address) {
        Err(Refused::OwnListener)
    } else if is_no_host(ip) {
        Err(Refused::NotAHost)
    } else if is_local(ip) && !allow_local {
        Err(Refused::Local)
    } else {
        Ok(())
    }
}

/// The IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4), or the address itself.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let low = |hi: u16, lo: u16| {
        let [a, b] = hi.to_be_bytes();
        let [c, d] = lo.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, hi, lo] | [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] | [0x2002, hi, lo, ..] => {
            low(hi, lo)
        }
        [0, 0, 0, 0, 0, 0, hi, lo] if hi != 0 => low(hi, lo),
        _ => ip,
    }
}

const fn is_no_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_multicast() || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}

const fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598 shared addresses are a provider's inside.
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => is_local_v6(ip),
    }
}

const fn is_local_v6(ip: Ipv6Addr) -> bool {
    let first = ip.segments()[0];
    // fc00::/7 unique local, fe80::/10 link-local, fec0::/10 once site-local.
    ip.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xff80 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ip: &str, allow_local: bool) -> Result<(), Refused> {
        check(
            SocketAddr::new(ip.parse().unwrap(), 80),
            allow_local,
            &OwnListeners::default(),
        )
    }

    #[test]
    fn local_addresses_need_to_be_registered_as_such() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::ffff:10.1.2.3",
            "::127.0.0.1",
        ] {
            assert_eq!(judge(ip, false), Err(Refused::Local), "{ip}");
            assert_eq!(judge(ip, true), Ok(()), "{ip}");
        }
        for ip in ["192.0.2.1", "100.128.0.1", "2001:db8::1", "172.32.0.1"] {
            assert_eq!(judge(ip, false), Ok(()), "{ip}");
        }
    }

    #[test]
    fn no_host_is_never_allowed() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
        ] {
            assert_eq!(judge(ip, true), Err(Refused::NotAHost), "{ip}");
        }
    }

    #[test]
    fn our_own_listeners_are_never_allowed() {
        let own = OwnListeners {
            addresses: vec!["0.0.0.0:8443".parse().unwrap(), "192.0.2.7:9000".parse().unwrap()],
            sockets: Vec::new(),
        };
        for address in [
            "127.0.0.1:8443",
            "[::ffff:127.0.0.1]:8443",
            "[::1]:8443",
            "192.0.2.7:9000",
        ] {
            assert_eq!(
                check(address.parse().unwrap(), true, &own),
                Err(Refused::OwnListener),
                "{address}"
            );
        }
        assert_eq!(check("127.0.0.1:9000".parse().unwrap(), true, &own), Ok(()));
    }
}
