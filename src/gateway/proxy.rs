//! The head that a balancer sends before anything else: PROXY protocol, version 2 (haproxy's `proxy-protocol.txt`,
//! section 2.2).
//!
//! Only what is unambiguous is taken: version 2, a stream over IPv4 or IPv6, or the balancer's own connection (`LOCAL`).
//! Additions (TLVs) are skipped. Never a byte more than the head is read, since TLS follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What every head begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version with command, family with protocol, length.
const FIXED: usize = 16;
/// Longest part behind the fixed one: addresses and additions.
const MOST: usize = 4_096;

/// Why a head is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// It ended or failed in the middle.
    #[error("the balancer's head broke off: {0}")]
    Io(#[from] std::io::Error),
    /// It is not what the protocol says.
    #[error("the balancer's head is not PROXY protocol version 2: {0}")]
    Form(&'static str),
}

/// Reads the head. Gives the client's address, or `None` for a connection of the balancer's own (a health check).
///
/// # Errors
/// [`ProxyError`]: the connection must end.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyError> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let (local, family, length) = parse_fixed(&fixed)?;
    let mut rest = [0; MOST];
    let rest = rest.get_mut(..length).ok_or(ProxyError::Form("it is too long"))?;
    stream.read_exact(rest).await?;
    if local {
        return Ok(None);
    }
    parse_addresses(family, rest).map(Some)
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
    Other,
}

fn parse_fixed(fixed: &[u8; FIXED]) -> Result<(bool, Family, usize), ProxyError> {
    let (signature, [command, family, high, low]) = fixed
        .split_last_chunk()
        .ok_or(ProxyError::Form("it is too short"))?;
    if signature != SIGNATURE {
        return Err(ProxyError::Form("it has another signature"));
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Form("it has another version or command")),
    };
    let family = match family {
        0x11 => Family::V4,
        0x21 => Family::V6,
        _ => Family::Other,
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MOST {
        return Err(ProxyError::Form("it is too long"));
    }
    Ok((local, family, length))
}

/// Source and destination address, then both ports, then additions: only the source counts.
fn parse_addresses(family: Family, rest: &[u8]) -> Result<IpAddr, ProxyError> {
    let short = ProxyError::Form("it is too short for its addresses");
    match family {
        Family::V4 => match (rest.len() >= 12, rest.first_chunk::<4>()) {
            (true, Some(ip)) => Ok(IpAddr::V4(Ipv4Addr::from(*ip))),
            _ => Err(short),
        },
        Family::V6 => match (rest.len() >= 36, rest.first_chunk::<16>()) {
            (true, Some(ip)) => Ok(IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical()),
            _ => Err(short),
        },
        // SECURITY: a client without an address could be limited by nothing.
        Family::Other => Err(ProxyError::Form("it names no IPv4 or IPv6 stream")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// What was read, and what is left for TLS.
    fn told(mut bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyError>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut bytes));
        (read, bytes.len())
    }

    fn v4(ip: [u8; 4]) -> Vec<u8> {
        [&ip[..], &[10, 0, 0, 1, 0x30, 0x39, 0x20, 0xfb]].concat()
    }

    #[test]
    fn a_head_gives_the_clients_address_and_leaves_the_rest_alone() {
        let additions = [0x04, 0, 3, 1, 2, 3];
        let bytes = [
            head(0x21, 0x11, &[v4([192, 0, 2, 9]), additions.to_vec()].concat()),
            b"TLS".to_vec(),
        ]
        .concat();
        let (ip, left) = told(&bytes);
        assert_eq!(ip.unwrap(), Some("192.0.2.9".parse().unwrap()));
        assert_eq!(left, 3);
        let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 9], &[0; 20]].concat();
        assert_eq!(
            told(&head(0x21, 0x21, &mapped)).0.unwrap(),
            Some("192.0.2.9".parse().unwrap())
        );
        for local in [head(0x20, 0, &[]), head(0x20, 0x11, &v4([1, 2, 3, 4]))] {
            assert_eq!(told(&local).0.unwrap(), None);
        }
    }

    #[test]
    fn whatever_else_is_refused() {
        let good = head(0x21, 0x11, &v4([1, 2, 3, 4]));
        for bytes in [
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
            good[..good.len() - 1].to_vec(),
            head(0x11, 0x11, &v4([1, 2, 3, 4])),
            head(0x22, 0x11, &v4([1, 2, 3, 4])),
            head(0x21, 0x12, &v4([1, 2, 3, 4])),
            head(0x21, 0x31, &[0; 216]),
            head(0x21, 0x00, &[]),
            head(0x21, 0x11, &[1, 2, 3, 4]),
            head(0x21, 0x21, &v4([1, 2, 3, 4])),
            head(0x21, 0x11, &[0; MOST + 1]),
            Vec::new(),
        ] {
            assert!(told(&bytes).0.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_address_comes_out_as_it_went_in(ip: u128, additions in prop::collection::vec(any::<u8>(), 0..64), tail: Vec<u8>) {
            let rest = [&ip.to_be_bytes()[..], &[0; 20], &additions].concat();
            let bytes = [head(0x21, 0x21, &rest), tail.clone()].concat();
            let (read, left) = told(&bytes);
            prop_assert_eq!(read.unwrap(), Some(IpAddr::V6(ip.into()).to_canonical()));
            prop_assert_eq!(left, tail.len());
        }

        #[test]
        fn no_bytes_do_more_than_fail(bytes: Vec<u8>, signed: bool) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let (read, left) = told(&bytes);
            prop_assert!(read.is_err() || left <= bytes.len() - FIXED);
        }
    }
}
