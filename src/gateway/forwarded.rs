//! Where a request came from, when a trusted proxy in front of the gateway says so.
//!
//! Proxies append: what stands right-most was written by who is nearest. So the address that counts is the right-most
//! one that is not a trusted proxy's. Whatever stands left of it was written by a stranger and is never read.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::network::Networks;

/// The header in which the proxies of a site say for whom they ask. Only one is read: a proxy that writes one may pass
/// on the other as a client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// Longest chain of proxies that is followed.
const HOPS: usize = 16;

impl ForwardedHeader {
    /// The name in settings, and of the header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "x-forwarded-for" => Some(Self::XForwardedFor),
            "forwarded" => Some(Self::Forwarded),
            _ => None,
        }
    }

    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => header::FORWARDED,
        }
    }

    /// The client of a request that came from `peer`: the nearest address that is not `trusted`, or the last one that
    /// could be read.
    pub(super) fn client(self, headers: &HeaderMap, peer: IpAddr, trusted: &Networks) -> IpAddr {
        let values: Vec<&[u8]> = headers
            .get_all(self.name())
            .iter()
            .map(http::HeaderValue::as_bytes)
            .collect();
        let mut hops = values
            .iter()
            .rev()
            .flat_map(|value| split(value, b',').into_iter().rev());
        let mut client = peer.to_canonical();
        // SECURITY: each step is taken only on the word of a trusted proxy.
        for _ in 0..HOPS {
            if !trusted.contains(client) {
                break;
            }
            let Some(next) = hops.next().and_then(|hop| self.node(hop)) else {
                break;
            };
            client = next.to_canonical();
        }
        client
    }

    fn node(self, hop: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => address(std::str::from_utf8(hop).ok()?.trim()),
            Self::Forwarded => {
                let mut found = split(hop, b';').into_iter().filter_map(|pair| {
                    let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
                    name.eq_ignore_ascii_case("for").then_some(value)
                });
                let value = found.next()?;
                let plain = match value.strip_prefix('"') {
                    Some(quoted) => quoted.strip_suffix('"')?,
                    None => value,
                };
                // `for` twice in one element says two things.
                found.next().is_none().then(|| address(plain))?
            }
        }
    }
}

/// An address, perhaps with a port, an IPv6 address perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse().ok().map(IpAddr::V6);
    }
    text.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// Parts between separators that stand outside of quotes.
fn split(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(|byte| {
            let here = *byte == separator && !quoted;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            here
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use proptest::prelude::*;

    fn trusted() -> Networks {
        ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|text| Network::parse(text).unwrap())
            .collect()
    }

    fn client(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), line.parse().unwrap());
        }
        header
            .client(&headers, peer.parse().unwrap(), &trusted())
            .to_string()
    }

    #[test]
    fn the_right_most_stranger_is_the_client() {
        use ForwardedHeader::XForwardedFor as X;
        for (peer, lines, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.7,10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db9::7]:4711"], "2001:db9::7"),
            ("10.0.0.1", &["[2001:db9::7]"], "2001:db9::7"),
            ("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("2001:db8::1", &["10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["6.6.6.6, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, "], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(client(X, peer, lines), expected, "{peer} {lines:?}");
        }
        let endless = vec!["10.0.0.9"; 100].join(",");
        assert_eq!(
            client(X, "10.0.0.1", &[&format!("6.6.6.6,{endless}")]),
            "10.0.0.9"
        );
    }

    #[test]
    fn the_standard_header_is_read_by_its_rules() {
        use ForwardedHeader::Forwarded as F;
        for (lines, expected) in [
            (&["for=198.51.100.7"][..], "198.51.100.7"),
            (&["For=198.51.100.7;proto=https;by=10.0.0.1"], "198.51.100.7"),
            (
                &["for=6.6.6.6, for=\"[2001:db9::7]:4711\";host=\"a,b;for=6.6.6.6\""],
                "2001:db9::7",
            ),
            (
                &["for=6.6.6.6", "for=198.51.100.7 , for=10.0.0.2"],
                "198.51.100.7",
            ),
            (&["for=6.6.6.6, for=_hidden"], "10.0.0.1"),
            (&["for=6.6.6.6, for=unknown"], "10.0.0.1"),
            (&["for=6.6.6.6, by=10.0.0.1"], "10.0.0.1"),
            (&["for=6.6.6.6;for=198.51.100.7"], "10.0.0.1"),
            (&["for=\"6.6.6.6, for=198.51.100.7"], "10.0.0.1"),
        ] {
            assert_eq!(client(F, "10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_wrote_never_decides(spoofed in "[ -~]{0,40}", real: u32, which: bool) {
            let real = IpAddr::V4(real.into());
            prop_assume!(!trusted().contains(real));
            let (header, own) = match which {
                true => (ForwardedHeader::XForwardedFor, real.to_string()),
                false => (ForwardedHeader::Forwarded, format!("for={real}")),
            };
            // An honest proxy appends a line of its own.
            prop_assert_eq!(client(header, "10.0.0.1", &[spoofed.as_str(), own.as_str()]), real.to_string());
        }
    }
}
