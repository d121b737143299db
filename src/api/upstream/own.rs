//! Where the gateway itself is reached: never an upstream, since a request would come back to where it came from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::forward::OwnListeners;
use crate::vo::UpstreamAddress;

/// Where the gateway itself is reached.
#[derive(Clone, Debug, Default)]
pub struct OwnPlaces {
    /// Its host name; tools have names directly below it.
    pub name: String,
    /// Its listeners.
    pub listeners: OwnListeners,
    /// Further ports under which clients reach it.
    pub public_ports: Vec<u16>,
}

impl OwnPlaces {
    /// Whether `address` leads back here, as far as can be told without asking the name service. What a name resolves to
    /// is looked at whenever it is connected to.
    pub(super) fn include(&self, address: &UpstreamAddress) -> bool {
        let (host, port) = match address {
            UpstreamAddress::Tcp(host, port) | UpstreamAddress::Tls { host, port, .. } => (host, *port),
            UpstreamAddress::Unix(path) => return self.listeners.sockets.contains(path),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.is_ours(ip, port);
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let local = host == "localhost" || host.ends_with(".localhost");
        (self.is_ours_by_name(host) && (self.listeners.have_port(port) || self.public_ports.contains(&port)))
            || (local && loopback.iter().any(|ip| self.is_ours(*ip, port)))
    }

    fn is_ours(&self, ip: IpAddr, port: u16) -> bool {
        // An address that a socket can be bound to is one of this machine's; nothing is sent.
        self.listeners.include(SocketAddr::new(ip, port))
            || (self.listens_everywhere(port) && UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok())
    }

    fn listens_everywhere(&self, port: u16) -> bool {
        let mut listeners = self.listeners.addresses.iter();
        listeners.any(|own| own.port() == port && own.ip().is_unspecified())
    }

    fn is_ours_by_name(&self, host: &str) -> bool {
        host == self.name || host.split_once('.').is_some_and(|(_, above)| above == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vo::NewUpstream;

    fn lead_back(places: &OwnPlaces, url: &str) -> bool {
        let upstream = NewUpstream {
            name: "x".into(),
            url: url.into(),
            ca: None,
            expected: None,
            http2: false,
        };
        places.include(&upstream.address().unwrap())
    }

    fn places(gateway: &str) -> OwnPlaces {
        OwnPlaces {
            name: "gw.example.org".into(),
            listeners: OwnListeners {
                addresses: vec![gateway.parse().unwrap(), "127.0.0.1:8444".parse().unwrap()],
                sockets: vec!["/srv/cs/admin.sock".into()],
            },
            public_ports: vec![443],
        }
    }

    #[test]
    fn every_spelling_of_the_gateways_own_places_is_known() {
        let places = places("0.0.0.0:8443");
        for url in [
            "https://127.0.0.1:8443",
            "https://127.8.8.8:8443",
            "https://localhost:8443",
            "https://jobs.gw.localhost:8443",
            "https://gw.example.org",
            "https://gw.example.org:8443",
            "http://jobs.gw.example.org:8443",
            "http://127.0.0.1:8444",
            "unix:/srv/cs/admin.sock",
        ] {
            assert!(lead_back(&places, url), "{url}");
        }
    }

    #[test]
    fn what_is_beside_the_gateway_is_not_the_gateway() {
        let places = places("127.0.0.1:8443");
        for url in [
            "http://127.0.0.1:8080",
            "http://localhost:8042",
            "http://gw.example.org:8042",
            "https://ce.example.org:8443",
            "https://192.0.2.7:8443",
            "unix:/run/jobs.sock",
        ] {
            assert!(!lead_back(&places, url), "{url}");
        }
    }
}
