//! Ranges of addresses, as settings name them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;

use crate::settings::Table;

/// One range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `ADDRESS/BITS` or `ADDRESS`. Bits of the address beyond the range are refused: they are a slip.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text.parse().ok()?, None),
            Some((address, bits)) => (address.parse().ok()?, Some(bits)),
        };
        let widest = width(address);
        let bits = match bits {
            None => widest,
            // One spelling for one number: no sign, no leading zero.
            Some(bits) => bits.parse().ok().filter(|n: &u32| n.to_string() == bits)?,
        };
        let network = Self { address, bits };
        (bits <= widest && number(address) & !network.mask() == 0).then_some(network)
    }

    /// Whether `ip` lies in it; an IPv4 address inside an IPv6 one counts as itself.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && number(ip) & self.mask() == number(self.address)
    }

    fn mask(&self) -> u128 {
        let below = width(self.address).saturating_sub(self.bits);
        u128::MAX.checked_shl(below).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

const fn width(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Some ranges; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Reads a list of ranges; each flaw is noted.
    pub(crate) fn read(table: &mut Table<'_>, name: &str) -> Self {
        let mut networks = Vec::new();
        for text in table.texts(name) {
            match Network::parse(&text) {
                Some(network) => networks.push(network),
                None => table.flaw(
                    name,
                    format!(
                        "has the value `{text}`; accepted: addresses and ranges, e.g. 10.0.0.0/8, 2001:db8::/32"
                    ),
                ),
            }
        }
        Self(networks)
    }

    /// Whether `ip` lies in one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0/8",
            "a",
            "::1/129",
            "2001:db8::1/32",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.7/32"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        assert!(
            Network::parse("10.0.0.0/8")
                .unwrap()
                .contains("::ffff:10.9.9.9".parse().unwrap())
        );
        assert!(
            !Network::parse("::/0")
                .unwrap()
                .contains("10.0.0.1".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn a_range_holds_exactly_what_shares_its_first_bits(base: u128, other: u128, bits in 0_u32..=128) {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let network = Network::parse(&format!("{}/{bits}", std::net::Ipv6Addr::from(base & mask))).unwrap();
            let mixed = (base & mask) | (other & !mask);
            for number in [base, mixed, other] {
                let ip = IpAddr::V6(number.into());
                prop_assume!(ip.to_canonical().is_ipv6());
                prop_assert_eq!(network.contains(ip), number & mask == base & mask);
            }
        }
    }
}
