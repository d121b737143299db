//! The `[gateway]` section.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::framing::{Authority, Limits};
use crate::settings::Table;

/// Where and within which bounds the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address of the HTTPS listener.
    pub listen: SocketAddr,
    /// The gateway's own host name, lower case.
    pub name: String,
    /// The server's certificate chain (PEM), relative to the data folder.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Whether the certificate is from the private CA of first use; no HSTS while it is.
    pub private_ca: bool,
    /// Times and numbers of connections.
    pub bounds: Bounds,
    /// Sizes of request heads.
    pub limits: Limits,
}

/// Times and numbers of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// TLS handshake, from the connection's start.
    pub handshake_timeout: Duration,
    /// A request head, from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// Within this time at least [`Bounds::body_bytes`] of a request body must come.
    pub body_timeout: Duration,
    /// See [`Bounds::body_timeout`].
    pub body_bytes: usize,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// How long requests under way may go on when the gateway stops.
    pub drain: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address (IPv4) or /64 (IPv6).
    pub connections_per_source: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(20),
            body_bytes: 1_024,
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            connections: 20_000,
            connections_per_source: 4_096,
            streams: 128,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_443),
            name: "gw.localhost".into(),
            certificate: "tls/server.pem".into(),
            key: "tls/server.key".into(),
            private_ca: true,
            bounds: Bounds::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Reads the section; defaults where it, or a key, is absent. Flaws are noted in the document.
    #[must_use]
    pub fn read(table: Option<Table<'_>>) -> Self {
        let default = Self::default();
        let Some(mut table) = table else { return default };
        let config = Self {
            listen: table
                .parsed("listen", "an address with a port, e.g. 127.0.0.1:8443", |text| {
                    text.parse().ok()
                })
                .unwrap_or(default.listen),
            name: table
                .parsed(
                    "name",
                    "a host name without a port, e.g. gw.example.org",
                    host_name,
                )
                .unwrap_or(default.name),
            certificate: table
                .text("certificate")
                .map_or(default.certificate, PathBuf::from),
            key: table.text("key").map_or(default.key, PathBuf::from),
            private_ca: table.boolean("private_ca", default.private_ca),
            bounds: Bounds::read(&mut table),
            limits: read_limits(&mut table),
        };
        table.end();
        config
    }
}

impl Bounds {
    fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
        Self {
            handshake_timeout: table.duration("handshake_timeout", range.clone(), default.handshake_timeout),
            header_timeout: table.duration("header_timeout", range.clone(), default.header_timeout),
            idle_timeout: table.duration("idle_timeout", range.clone(), default.idle_timeout),
            body_timeout: table.duration("body_timeout", range.clone(), default.body_timeout),
            body_bytes: number(table, "body_bytes", 1..=1_048_576, default.body_bytes),
            write_timeout: table.duration("write_timeout", range.clone(), default.write_timeout),
            drain: table.duration("drain", range, default.drain),
            connections: number(table, "connections", 1..=1_000_000, default.connections),
            connections_per_source: number(
                table,
                "connections_per_source",
                1..=1_000_000,
                default.connections_per_source,
            ),
            streams: u32::try_from(number(table, "streams", 1..=10_000, 128)).unwrap_or(default.streams),
        }
    }
}

fn read_limits(table: &mut Table<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        headers: number(table, "headers", 10..=1_000, default.headers),
        header_bytes: number(table, "header_bytes", 4_096..=262_144, default.header_bytes),
    }
}

fn number(table: &mut Table<'_>, name: &str, range: std::ops::RangeInclusive<i64>, default: usize) -> usize {
    let given = table.integer(name, range, i64::try_from(default).ok());
    usize::try_from(given).unwrap_or(default)
}

fn host_name(text: &str) -> Option<String> {
    let authority = Authority::parse(text)?;
    authority.port().is_none().then(|| authority.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    #[test]
    fn an_empty_section_is_the_defaults() {
        let document = Document::parse("t.toml", "[gateway]\n").unwrap();
        assert_eq!(Config::read(document.root().table("gateway")), Config::default());
        assert!(document.problems().is_empty());
    }

    #[test]
    fn every_flaw_is_noted() {
        let text = "[gateway]\nlisten = \"x\"\nname = \"gw.example.org:1\"\nstreams = 0\nstraems = 1\n";
        let document = Document::parse("t.toml", text).unwrap();
        let mut root = document.root();
        let _ = Config::read(root.table("gateway"));
        let lines: Vec<usize> = document.problems().iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
    }
}
