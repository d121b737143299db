//! The `[gateway]` section.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;

use super::forwarded::ForwardedHeader;
use super::framing::{Authority, Limits};
use crate::network::Networks;
use crate::settings::Table;
use crate::trust::chain;

/// Where and within which bounds the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address of the HTTPS listener.
    pub listen: SocketAddr,
    /// The gateway's own host name, lower case.
    pub name: String,
    /// Ports under which clients may reach it, beside the port of the listener itself.
    pub public_ports: Vec<u16>,
    /// The server's certificate chain (PEM), relative to the data folder.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// How often certificate and key are looked at for a renewal.
    pub certificate_check: Duration,
    /// Whether the certificate is from the private CA of first use; no HSTS while it is.
    pub private_ca: bool,
    /// Whether an edit by the API must say what it changes (`If-Match`).
    pub require_if_match: bool,
    /// What stands in front of the gateway.
    pub balancers: Balancers,
    /// Times and numbers of connections.
    pub bounds: Bounds,
    /// Sizes of request heads.
    pub limits: Limits,
}

/// The listener for people who come with a grid certificate or a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateListener {
    /// Its address.
    pub listen: SocketAddr,
    /// Ports under which clients may reach it, beside its own.
    pub public_ports: Vec<u16>,
    /// CAs that are trusted to name people, and revocation lists: a PEM file or a folder, relative to the data folder.
    pub trust: PathBuf,
    /// How often they are read anew.
    pub check: Duration,
    /// What bounds chains of proxies.
    pub limits: chain::Limits,
}

impl CertificateListener {
    /// Reads the section; where nothing is set there is no such listener. Flaws are noted in the document.
    #[must_use]
    pub fn read(table: Option<Table<'_>>) -> Option<Self> {
        let mut table = table.filter(|table| !table.keys().is_empty())?;
        let listen = table.parsed("listen", "an address with a port, e.g. 127.0.0.1:8445", |text| {
            text.parse().ok()
        });
        let limits = chain::Limits::default();
        let config = Self {
            listen: listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_445)),
            public_ports: public_ports(&mut table, Vec::new()),
            trust: PathBuf::from(table.required_text("trust")),
            check: table.duration(
                "check",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
                Duration::from_secs(60),
            ),
            limits: chain::Limits {
                lifetime: table.duration(
                    "proxy_lifetime",
                    Duration::from_secs(60)..=Duration::from_secs(366 * 86_400),
                    limits.lifetime,
                ),
                ..limits
            },
        };
        table.end();
        Some(config)
    }
}

/// What stands in front of the gateway and may say where a client is. Nothing, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancers {
    /// Who begins every connection with a PROXY protocol head (version 2). It must, and nobody else may.
    pub proxy_protocol: Networks,
    /// Whose `Forwarded` or `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// Which of the two.
    pub forwarded_header: ForwardedHeader,
}

impl Balancers {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            proxy_protocol: Networks::read(table, "proxy_protocol"),
            trusted_proxies: Networks::read(table, "trusted_proxies"),
            forwarded_header: table
                .parsed(
                    "forwarded_header",
                    "x-forwarded-for, forwarded",
                    ForwardedHeader::parse,
                )
                .unwrap_or_default(),
        }
    }

    /// Whether connections from `ip` are those of many clients.
    pub(super) fn speaks_for_many(&self, ip: IpAddr) -> bool {
        self.proxy_protocol.contains(ip) || self.trusted_proxies.contains(ip)
    }

    /// Where a request on a connection from `peer` comes from.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match self.trusted_proxies.contains(peer) {
            true => self.forwarded_header.client(headers, peer, &self.trusted_proxies),
            false => peer,
        }
    }
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
    /// Requests at once; more are answered with 503.
    pub requests: usize,
    /// Requests at once from one address (IPv4) or /64 (IPv6), over all its connections; more are answered with 503.
    pub requests_per_source: usize,
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
            connections_per_source: 256,
            requests: 10_000,
            requests_per_source: 1_024,
            streams: 128,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_443),
            name: "gw.localhost".into(),
            public_ports: vec![443],
            certificate: "tls/server.pem".into(),
            key: "tls/server.key".into(),
            certificate_check: Duration::from_secs(60),
            private_ca: true,
            require_if_match: false,
            balancers: Balancers::default(),
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
            public_ports: public_ports(&mut table, default.public_ports),
            certificate: table
                .text("certificate")
                .map_or(default.certificate, PathBuf::from),
            key: table.text("key").map_or(default.key, PathBuf::from),
            certificate_check: table.duration(
                "certificate_check",
                Duration::from_secs(1)..=Duration::from_secs(86_400),
                default.certificate_check,
            ),
            private_ca: table.boolean("private_ca", default.private_ca),
            require_if_match: table.boolean("require_if_match", default.require_if_match),
            balancers: Balancers::read(&mut table),
            bounds: Bounds::read(&mut table),
            limits: read_limits(&mut table),
        };
        table.end();
        config
    }
}

/// File descriptors that connections never take: for the log, the store, the tools and the operators.
const FILES_KEPT: u64 = 512;
/// With fewer places than this the gateway does not start.
const FEWEST_CONNECTIONS: u64 = 64;

/// The system allows too few open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {allowed} open files are allowed, and at least {} are needed (`ulimit -Hn`, `LimitNOFILE=`)",
    FILES_KEPT + FEWEST_CONNECTIONS)]
pub struct TooFewFiles {
    /// How many are.
    pub allowed: u64,
}

/// Raises this process's limit of open files to the most that the system allows, and gives what then holds.
#[must_use]
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("the limit of open files could not be raised: {error}");
            limit.current
        }
    }
    .unwrap_or(u64::MAX)
}

impl Bounds {
    /// These bounds with no more connections than leave 512 of `files` open files to everything else.
    ///
    /// # Errors
    /// [`TooFewFiles`] when too few connections remain to serve anybody.
    pub fn within(self, files: u64) -> Result<Self, TooFewFiles> {
        // SECURITY: connections cost a stranger nothing; what they take must never be what the log and the store need.
        let places = files.saturating_sub(FILES_KEPT);
        if places < FEWEST_CONNECTIONS {
            return Err(TooFewFiles { allowed: files });
        }
        let places = usize::try_from(places).unwrap_or(usize::MAX);
        if places < self.connections {
            tracing::info!(
                "{} connections are set, but {files} open files allow only {places}",
                self.connections
            );
        }
        Ok(Self {
            connections: self.connections.min(places),
            ..self
        })
    }

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
            requests: number(table, "requests", 1..=1_000_000, default.requests),
            requests_per_source: number(
                table,
                "requests_per_source",
                1..=1_000_000,
                default.requests_per_source,
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

fn public_ports(table: &mut Table<'_>, default: Vec<u16>) -> Vec<u16> {
    if !table.has("public_ports") {
        return default;
    }
    let given = table.integers("public_ports", 1..=65_535);
    given
        .into_iter()
        .filter_map(|port| u16::try_from(port).ok())
        .collect()
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
    fn public_ports_are_443_until_they_are_set() {
        let read = |text: &str| {
            let document = Document::parse("t.toml", text).unwrap();
            let config = Config::read(document.root().table("gateway"));
            (config.public_ports, document.problems().len())
        };
        assert_eq!(read("[gateway]\n"), (vec![443], 0));
        assert_eq!(
            read("[gateway]\npublic_ports = [443, 9443]\n"),
            (vec![443, 9_443], 0)
        );
        assert_eq!(read("[gateway]\npublic_ports = []\n"), (vec![], 0));
        assert_eq!(read("[gateway]\npublic_ports = [0, 65536, 1]\n"), (vec![1], 2));
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

    #[test]
    fn who_speaks_for_clients_is_said_by_range() {
        let text = "[gateway]\nproxy_protocol = [\"10.0.0.1/8\"]\ntrusted_proxies = [\"10.0.0.0/8\", \"x\"]\n\
                    forwarded_header = \"via\"\n";
        let document = Document::parse("t.toml", text).unwrap();
        let mut root = document.root();
        let config = Config::read(root.table("gateway"));
        let lines: Vec<usize> = document.problems().iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert!(config.balancers.speaks_for_many("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn connections_never_take_the_files_of_log_and_store() {
        let bounds = Bounds::default();
        assert_eq!(bounds.clone().within(20_000).unwrap().connections, 19_488);
        assert_eq!(bounds.clone().within(u64::MAX).unwrap(), bounds);
        assert_eq!(bounds.clone().within(576).unwrap().connections, 64);
        assert_eq!(bounds.clone().within(575), Err(TooFewFiles { allowed: 575 }));
        assert_eq!(bounds.within(0), Err(TooFewFiles { allowed: 0 }));
    }

    #[test]
    fn one_address_cannot_take_all_places_by_default() {
        let bounds = Bounds::default();
        assert!(bounds.connections_per_source * 10 < bounds.connections);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_most() {
        let files = raise_file_limit();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(files, limit.maximum.unwrap_or(u64::MAX));
    }
}
