//! Upstreams: the addresses that a system administrator gives to a VO.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;

use super::{Upstream, UpstreamAddress, VoError, Vos, is_name, store};
use crate::id::VoId;
use crate::record::{Change, Hash};
use crate::store::Tx;

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not one of the forms.
    #[error("`{0}` is not an address: give `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`")]
    Form(String),
    /// The host is not a name or address one can connect to.
    #[error("`{0}` is not a host: give a name in lower case or an IP address (IPv6 in brackets)")]
    Host(String),
    /// The socket's path.
    #[error("`{0}` is not a socket: give an absolute path without `..`, at most 107 bytes")]
    Socket(String),
    /// Trust settings beside an address without TLS.
    #[error("`ca` and `name` belong to `https://` addresses only")]
    NoTls,
    /// The authorities are not readable.
    #[error("`ca` must be one or more certificates in PEM")]
    Ca,
    /// The name is not a server name.
    #[error("`{0}` is not a name that a certificate can bear")]
    Name(String),
}

/// An address as an error quotes it.
///
/// SECURITY: what stands before an `@` is a user name and a password, which an address here never has.
fn shown(address: &str) -> String {
    let Some((before, host)) = address.rsplit_once('@') else {
        return address.to_owned();
    };
    let scheme = before
        .find("//")
        .and_then(|at| before.get(..at + 2))
        .unwrap_or_default();
    format!("{scheme}...@{host}")
}

/// An upstream as a system administrator gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpstream {
    /// Name within the VO.
    pub name: String,
    /// `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`.
    pub url: String,
    /// PEM of the authorities that may sign for it; the system's when absent. With `https` only.
    pub ca: Option<String>,
    /// Name expected in its certificate, when it is not the host. With `https` only.
    pub expected: Option<String>,
    /// Whether it is spoken to in HTTP/2: over TLS it must choose that, else it is told so at once (prior knowledge).
    pub http2: bool,
}

impl NewUpstream {
    /// Where it is.
    ///
    /// # Errors
    /// [`UpstreamError`] with the accepted form.
    pub fn address(&self) -> Result<UpstreamAddress, UpstreamError> {
        address(&self.url, self.ca.clone(), self.expected.clone()).map(|(address, _)| address)
    }
}

/// Reads an address, and whether it names this machine or a local network itself.
///
/// # Errors
/// [`UpstreamError`] with the accepted form.
pub(super) fn address(
    url: &str,
    ca: Option<String>,
    expected: Option<String>,
) -> Result<(UpstreamAddress, bool), UpstreamError> {
    let plain = ca.is_none() && expected.is_none();
    if let Some(path) = url.strip_prefix("unix:") {
        return if plain {
            Ok((UpstreamAddress::Unix(socket(path)?), true))
        } else {
            Err(UpstreamError::NoTls)
        };
    }
    if let Some(authority) = url.strip_prefix("http://") {
        let (host, port, local) = host_and_port(url, authority, 80)?;
        return if plain {
            Ok((UpstreamAddress::Tcp(host, port), local))
        } else {
            Err(UpstreamError::NoTls)
        };
    }
    let Some(authority) = url.strip_prefix("https://") else {
        return Err(UpstreamError::Form(shown(url)));
    };
    let (host, port, local) = host_and_port(url, authority, 443)?;
    if let Some(pem) = &ca {
        check_ca(pem)?;
    }
    if let Some(name) = &expected {
        ServerName::try_from(name.as_str()).map_err(|_| UpstreamError::Name(name.clone()))?;
    }
    let address = UpstreamAddress::Tls {
        host,
        port,
        ca,
        name: expected,
    };
    Ok((address, local))
}

fn socket(path: &str) -> Result<PathBuf, UpstreamError> {
    let socket = PathBuf::from(path);
    let plain = socket
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // `sun_path` of Linux holds 108 bytes with the closing zero (unix(7)).
    if !path.starts_with('/') || path.len() < 2 || path.len() > 107 || !plain || path.contains('\0') {
        return Err(UpstreamError::Socket(path.to_owned()));
    }
    Ok(socket)
}

fn host_and_port(url: &str, authority: &str, default: u16) -> Result<(String, u16, bool), UpstreamError> {
    let form = || UpstreamError::Form(shown(url));
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(form)?;
            (host, rest)
        }
        None => match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| form())?,
        Some(_) => return Err(form()),
        None if port.is_empty() => default,
        None => return Err(form()),
    };
    if port == 0 {
        return Err(form());
    }
    if authority.starts_with('[') {
        let ip: std::net::Ipv6Addr = host.parse().map_err(|_| UpstreamError::Host(shown(host)))?;
        return checked_ip(IpAddr::V6(ip)).map(|local| (ip.to_string(), port, local));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return checked_ip(IpAddr::V4(ip)).map(|local| (ip.to_string(), port, local));
    }
    if !is_host_name(host) {
        return Err(UpstreamError::Host(shown(host)));
    }
    let local = host == "localhost" || host.ends_with(".localhost");
    Ok((host.to_owned(), port, local))
}

/// Whether an address is one of this machine or of a local network. Those that nobody can be reached at are refused.
fn checked_ip(ip: IpAddr) -> Result<bool, UpstreamError> {
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(UpstreamError::Host(ip.to_string()));
    }
    Ok(match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local(),
    })
}

/// A host name in lower case (RFC 1123 section 2.1). One that ends in a number would be read as an IPv4 address by some
/// resolvers (`127.1`, `0x7f.1`, `2130706433`), so it is none.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.starts_with(|c: char| c.is_ascii_digit())
}

fn check_ca(pem: &str) -> Result<(), UpstreamError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = certificate.map_err(|_| UpstreamError::Ca)?;
        x509_parser::parse_x509_certificate(&der).map_err(|_| UpstreamError::Ca)?;
        count += 1;
    }
    if count == 0 {
        Err(UpstreamError::Ca)
    } else {
        Ok(())
    }
}

impl Vos {
    /// Gives an address to a VO.
    ///
    /// # Errors
    /// [`VoError::Name`], [`VoError::Upstream`], [`VoError::Taken`], [`VoError::Unknown`] for the VO.
    pub async fn allow_upstream(&self, tx: &mut Tx, vo: VoId, new: &NewUpstream) -> Result<Change, VoError> {
        if !is_name(&new.name) {
            return Err(VoError::Name(new.name.clone()));
        }
        let (address, allow_local) = address(&new.url, new.ca.clone(), new.expected.clone())?;
        self.touch(tx, vo).await?;
        let upstream = Upstream {
            id: self.ids.next()?,
            vo,
            name: new.name.clone(),
            address,
            url: new.url.clone(),
            allow_local,
            http2: new.http2,
            version: 1,
        };
        store::insert_upstream(
            tx,
            &upstream,
            (new.ca.as_deref(), new.expected.as_deref()),
            self.now(),
        )
        .await
        .map_err(VoError::taken("upstream", &new.name))?;
        let ca = new.ca.as_ref().map(|pem| Hash::of(pem.as_bytes()));
        Ok(Change {
            after: Some(json!({
                "name": new.name, "url": new.url, "ca": ca, "expected": new.expected, "local": allow_local,
                "http2": new.http2,
            })),
            ..change("upstream.allow", vo, &new.name)
        })
    }

    /// Takes an address away from a VO.
    ///
    /// # Errors
    /// [`VoError::Unknown`] when the VO has no such upstream.
    pub async fn end_upstream(&self, tx: &mut Tx, vo: VoId, name: &str) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        let url = store::upstream_url(tx, vo, name)
            .await?
            .ok_or_else(|| VoError::unknown("upstream", name))?;
        store::end_upstream(tx, vo, name, self.now()).await?;
        Ok(Change {
            before: Some(json!({ "name": name, "url": url })),
            ..change("upstream.end", vo, name)
        })
    }
}

fn change(action: &str, vo: VoId, name: &str) -> Change {
    Change {
        action: action.into(),
        kind: "upstream".into(),
        target: name.to_owned(),
        vo,
        person: None,
        before: None,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(url: &str) -> Result<(UpstreamAddress, bool), UpstreamError> {
        address(url, None, None)
    }

    #[test]
    fn the_three_forms_are_read() {
        let tcp = |host: &str, port| UpstreamAddress::Tcp(host.into(), port);
        assert_eq!(
            read("http://ce.example.org:8080").unwrap(),
            (tcp("ce.example.org", 8080), false)
        );
        assert_eq!(
            read("http://ce.example.org/").unwrap(),
            (tcp("ce.example.org", 80), false)
        );
        assert_eq!(
            read("http://[2001:db8::1]:81").unwrap(),
            (tcp("2001:db8::1", 81), false)
        );
        let (tls, local) = address("https://ce.example.org", None, Some("other.example.org".into())).unwrap();
        assert!(
            matches!(
                tls,
                UpstreamAddress::Tls {
                    port: 443,
                    name: Some(_),
                    ..
                }
            ) && !local
        );
        assert_eq!(
            read("unix:/run/jobs.sock").unwrap(),
            (UpstreamAddress::Unix("/run/jobs.sock".into()), true)
        );
    }

    #[test]
    fn only_an_address_that_names_a_local_place_may_lead_there() {
        for local in [
            "http://127.0.0.1:80",
            "http://localhost:1",
            "http://[::1]:1",
            "http://10.0.0.1:1",
            "http://169.254.169.254:1",
            "http://[fe80::1]:1",
            "http://[::ffff:127.0.0.1]:1",
        ] {
            assert!(read(local).unwrap().1, "{local}");
        }
        assert!(!read("http://192.0.2.1:1").unwrap().1);
    }

    #[test]
    fn a_password_in_an_address_is_not_quoted_by_the_error() {
        for bad in [
            "https://user:hush@a.example.org",
            "https://user:hush@[::",
            "user:hush@a",
            "ftp://u:hush@x@y",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(!error.contains("hush") && error.contains("..."), "{error}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "ce.example.org:80",
            "ftp://x",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:",
            "http://u@a",
            "http://a/b",
            "http://a?b",
            "http://A",
            "http://127.1",
            "http://0x7f.1",
            "http://2130706433",
            "http://0.0.0.0",
            "http://[::]",
            "http://[fe80::1%25eth0]",
            "unix:run",
            "unix:/a/../b",
            "unix:",
            "HTTP://a",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(
            address("http://a", Some(String::new()), None),
            Err(UpstreamError::NoTls)
        );
        assert_eq!(
            address("https://a", Some("nothing".into()), None),
            Err(UpstreamError::Ca)
        );
    }

    proptest! {
        #[test]
        fn reading_an_address_never_panics(url in "(http://|https://|unix:)?\\PC{0,40}") {
            let _ = read(&url);
        }

        #[test]
        fn what_is_read_names_the_same_place_again(host in "[a-z][a-z0-9]{0,10}(\\.[a-z]{2,5}){0,2}", port in 1_u16..) {
            let (read, _) = read(&format!("http://{host}:{port}")).unwrap();
            prop_assert_eq!(read, UpstreamAddress::Tcp(host, port));
        }
    }
}
