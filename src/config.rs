//! The one settings file, `countersign.toml`: the sum of every module's section.
//!
//! [`Config::load`] reads it and reports every flaw at once. [`template`] writes the commented file that `init` leaves
//! behind, with every default shown; a test reads it back and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::secret::{self, Secret};
use crate::settings::{Document, Flaw, Flaws, Table};
use crate::store::{Db, StoreError};
use crate::{alert, audit, authenticate, delegate, forward, gateway, telemetry};

/// Name of the settings file in the data folder.
pub const FILE: &str = "countersign.toml";

/// Where the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// A file that holds a `postgres://` URL; SQLite in the data folder when absent.
    pub url_file: Option<PathBuf>,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// `[gateway]`.
    pub gateway: gateway::Config,
    /// `[certificate_listener]`.
    pub certificate_listener: Option<gateway::CertificateListener>,
    /// Listener of health and metrics.
    pub operations: SocketAddr,
    /// `[myproxy]`: the listener for MyProxy clients, where there is one.
    pub myproxy: Option<gateway::MyProxyConfig>,
    /// The sealing key's file.
    pub sealing_key: PathBuf,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[audit]`.
    pub audit: audit::Config,
    /// `[authenticate]`.
    pub authenticate: authenticate::Config,
    /// `[delegate]`.
    pub delegate: delegate::Config,
    /// `[forward]`.
    pub forward: forward::Config,
    /// `[alert]`.
    pub alert: alert::Config,
    /// `[telemetry]`.
    pub telemetry: telemetry::Config,
    /// SHA-256 of the file, for the log's `start` record.
    pub hash: crate::record::Hash,
    /// Every key of the file as it stands there, to tell what has changed.
    keys: BTreeMap<String, String>,
}

/// Whether a running gateway takes up a change of this key.
fn is_reloadable(key: &str) -> bool {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    match section {
        "gateway" => !matches!(name, "listen" | "name" | "require_if_match"),
        "forward" => true,
        _ => false,
    }
}

impl Config {
    /// Reads `countersign.toml` in the data folder.
    ///
    /// # Errors
    /// [`Flaws`]: everything that is wrong, each with its line, key and accepted form.
    pub fn load(data: &Path) -> Result<Self, Flaws> {
        let file = data.join(FILE);
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).map_err(|error| {
            let message = format!("cannot be read: {error}; `countersign init --data DIR` makes one");
            Flaws(vec![Flaw {
                file: name.clone(),
                line: 0,
                message,
            }])
        })?;
        Self::parse(data, &name, &text)
    }

    /// Reads settings from text; relative paths are below `data`.
    ///
    /// # Errors
    /// [`Flaws`], all at once.
    pub fn parse(data: &Path, name: &str, text: &str) -> Result<Self, Flaws> {
        let document = Document::parse(name, text)?;
        let mut root = document.root();
        let operations = root
            .table("operations")
            .map_or_else(default_operations, read_operations);
        let sealing_key = root
            .table("sealing")
            .and_then(read_sealing)
            .unwrap_or_else(|| PathBuf::from("keys/sealing.key"));
        let store = root.table("store").map(read_store).unwrap_or_default();
        let delegate = root
            .table("delegation")
            .map_or_else(delegate::Config::default, |mut table| {
                let mut config = delegate::Config::read(&mut table);
                table.end();
                let tokens = config.token.into_iter();
                config.token = tokens.map(|token| token.below(data)).collect();
                config
            });
        let mut audit = root
            .table("audit")
            .map_or_else(audit::Config::default, |mut table| {
                let config = audit::Config::read(&mut table);
                let traced = delegate.trace_period + delegate.max_lifetime;
                if config.keep.is_some_and(|keep| keep < traced) {
                    table.flaw(
                        "keep",
                        "must not be shorter than `delegation.trace_period` and `delegation.max_lifetime` together: a proxy is traced by its records",
                    );
                }
                table.end();
                config
            });
        audit.syslog = audit
            .syslog
            .into_iter()
            .map(|receiver| receiver.below(data))
            .collect();
        audit.folder = data.join("log");
        audit.index = Some(data.join("index.db"));
        let config = Self {
            gateway: gateway::Config::read(root.table("gateway")),
            certificate_listener: gateway::CertificateListener::read(root.table("certificate_listener")).map(
                |listener| gateway::CertificateListener {
                    trust: data.join(&listener.trust),
                    ..listener
                },
            ),
            operations,
            myproxy: root
                .table("myproxy")
                .and_then(|table| gateway::MyProxyConfig::read(table, data)),
            sealing_key: data.join(sealing_key),
            store: StoreConfig {
                url_file: store.url_file.map(|file| data.join(file)),
            },
            audit,
            authenticate: root
                .table("authenticate")
                .map_or_else(authenticate::Config::default, authenticate::Config::read),
            delegate,
            forward: forward::Config::read(root.table("forward")),
            alert: alert::Config::read(&mut root),
            telemetry: telemetry::Config::read(&mut root).below(data),
            data: data.to_owned(),
            hash: crate::record::Hash::of(text.as_bytes()),
            keys: keys(text),
        };
        root.end();
        document.finish(config)
    }

    /// Keys that differ from those which the gateway was `started` with, and take effect at the next start only.
    #[must_use]
    pub fn needs_restart(&self, started: &Self) -> Vec<String> {
        let both = self.keys.keys().chain(started.keys.keys());
        let differing: BTreeSet<&String> = both
            .filter(|key| !is_reloadable(key) && self.keys.get(*key) != started.keys.get(*key))
            .filter(|key| !self.means_the_same(started, key))
            .collect();
        differing.into_iter().cloned().collect()
    }

    /// Whether the section of `key` says the same, although it is written in another way.
    fn means_the_same(&self, other: &Self, key: &str) -> bool {
        match key.split('.').next().unwrap_or_default() {
            "gateway" => {
                let fixed = |config: &Self| {
                    let gateway = &config.gateway;
                    (gateway.listen, gateway.name.clone(), gateway.require_if_match)
                };
                fixed(self) == fixed(other)
            }
            "certificate_listener" => self.certificate_listener == other.certificate_listener,
            "operations" => self.operations == other.operations,
            "myproxy" => self.myproxy == other.myproxy,
            "sealing" => self.sealing_key == other.sealing_key,
            "store" => self.store == other.store,
            "audit" => self.audit == other.audit,
            "authenticate" => self.authenticate == other.authenticate,
            "delegation" => self.delegate == other.delegate,
            "alert" => self.alert == other.alert,
            "telemetry" => self.telemetry == other.telemetry,
            _ => false,
        }
    }

    /// What the gateway would be with these settings, a line each.
    #[must_use]
    pub fn report(&self) -> Vec<String> {
        let store = self.store.url_file.as_ref();
        let store = store.map_or_else(
            || "SQLite".into(),
            |file| format!("PostgreSQL by {}", file.display()),
        );
        vec![
            format!(
                "gateway     {} on {}",
                origin(&self.gateway.name, self.gateway.listen.port()),
                self.gateway.listen
            ),
            format!("operations  {}", self.operations),
            format!("store       {store}"),
            format!("sealing key {}", self.sealing_key.display()),
        ]
    }

    /// The `[audit]` section for another data folder (while `init` builds one).
    #[must_use]
    pub fn audit_in(&self, folder: &Path) -> audit::Config {
        audit::Config {
            folder: folder.join("log"),
            index: Some(folder.join("index.db")),
            ..self.audit.clone()
        }
    }
}

impl StoreConfig {
    /// Opens the store: PostgreSQL by the URL in the file, else SQLite in `data`.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn open(&self, data: &Path) -> Result<Db, StoreError> {
        match self.url()? {
            None => Db::sqlite(&data.join("store.db")).await,
            Some(url) => Db::postgres(url.expose()).await,
        }
    }

    /// Opens the store to be looked at only: nothing is made in it or changed.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn look(&self, data: &Path) -> Result<Db, StoreError> {
        match self.url()? {
            None => Db::look_sqlite(&data.join("store.db")).await,
            Some(url) => Db::look_postgres(url.expose()).await,
        }
    }

    /// Whether the file with the URL can be read.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.url().map(drop)
    }

    fn url(&self) -> Result<Option<Secret<String>>, StoreError> {
        let read = |file: &PathBuf| {
            secret::read_text(file)
                .map_err(|error| StoreError::Open(format!("`{}` cannot be read: {error}", file.display())))
        };
        self.url_file.as_ref().map(read).transpose()
    }
}

/// Every key with its value, as written; tables by their path.
fn keys(text: &str) -> BTreeMap<String, String> {
    fn walk(path: &str, table: &toml::Table, keys: &mut BTreeMap<String, String>) {
        for (name, value) in table {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            match value {
                toml::Value::Table(table) => walk(&path, table, keys),
                value => drop(keys.insert(path, value.to_string())),
            }
        }
    }
    let mut keys = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        walk("", &table, &mut keys);
    }
    keys
}

fn default_operations() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8444))
}

fn read_operations(mut table: Table<'_>) -> SocketAddr {
    let listen = table.parsed("listen", "an address and port, e.g. 127.0.0.1:8444", |text| {
        text.parse().ok()
    });
    table.end();
    listen.unwrap_or_else(default_operations)
}

fn read_sealing(mut table: Table<'_>) -> Option<PathBuf> {
    let file = table.text("key_file").map(PathBuf::from);
    table.end();
    file
}

fn read_store(mut table: Table<'_>) -> StoreConfig {
    let url_file = table.text("url_file").map(PathBuf::from);
    table.end();
    StoreConfig { url_file }
}

/// The gateway's origin for a host name and a port.
#[must_use]
pub fn origin(name: &str, port: u16) -> String {
    if port == 443 {
        format!("https://{name}")
    } else {
        format!("https://{name}:{port}")
    }
}

/// Origin of the log's checkpoints (C2SP tlog-checkpoint).
#[must_use]
pub fn log_origin(name: &str) -> String {
    format!("{name}/log")
}

/// What `init` chose; everything else stands in the file as a commented default.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Listening address.
    pub listen: String,
    /// Operations address.
    pub operations: String,
    /// Host name.
    pub name: String,
    /// The sealing key's file.
    pub sealing_key: String,
    /// Whether the server certificate is from the private CA.
    pub private_ca: bool,
    /// The auditor's address.
    pub auditor: Option<String>,
    /// File with the PostgreSQL URL.
    pub store_url_file: Option<String>,
    /// Size of log segments, where it is not the default.
    pub segment_bytes: Option<u64>,
}

impl Default for Chosen {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8443".into(),
            operations: "127.0.0.1:8444".into(),
            name: "gw.localhost".into(),
            sealing_key: "keys/sealing.key".into(),
            private_ca: true,
            auditor: None,
            store_url_file: None,
            segment_bytes: None,
        }
    }
}

/// The text of `countersign.toml`.
#[must_use]
pub fn template(chosen: &Chosen) -> String {
    let mut text = String::new();
    for line in include_str!("config/countersign.toml").lines() {
        let line = match line {
            "listen = @gateway" => format!("listen = \"{}\"", chosen.listen),
            "name = @name" => format!("name = \"{}\"", chosen.name),
            "private_ca = @private_ca" => format!("private_ca = {}", chosen.private_ca),
            "listen = @operations" => format!("listen = \"{}\"", chosen.operations),
            "key_file = @sealing" => format!("key_file = \"{}\"", chosen.sealing_key),
            "# url_file = @store" => match &chosen.store_url_file {
                Some(file) => format!("url_file = \"{file}\""),
                None => "# url_file = \"store.url\"".into(),
            },
            "# auditor = @auditor" => match &chosen.auditor {
                Some(mail) => format!("auditor = \"{mail}\""),
                None => "# auditor = \"auditor@example.org\"".into(),
            },
            "# segment_bytes = @segment" => match chosen.segment_bytes {
                Some(bytes) => format!("segment_bytes = {bytes}"),
                None => "# segment_bytes = 67108864".into(),
            },
            other => other.to_owned(),
        };
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template with every commented default switched on.
    fn with_every_default(text: &str) -> String {
        text.lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest
                        .split_once(" = ")
                        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
                {
                    rest
                }
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_default_that_the_template_shows_is_the_default() {
        let text = template(&Chosen::default());
        let plain = Config::parse(Path::new("/data"), "countersign.toml", &text).unwrap();
        let shown =
            Config::parse(Path::new("/data"), "countersign.toml", &with_every_default(&text)).unwrap();
        assert_eq!(plain.gateway, shown.gateway);
        assert_eq!(plain.gateway, gateway::Config::default());
        assert_eq!(plain.operations, default_operations());
        assert_eq!(shown.authenticate, authenticate::Config::default());
        assert_eq!(shown.forward, forward::Config::default());
        let folders: Vec<&str> = shown.delegate.spool.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(folders, ["grid"]);
        let delegate = delegate::Config {
            spool: Vec::new(),
            token: Vec::new(),
            ..shown.delegate.clone()
        };
        assert_eq!(delegate, delegate::Config::default());
        assert_eq!(plain.telemetry, telemetry::Config::default());
        let telemetry::Config {
            filter,
            format,
            traces,
        } = shown.telemetry;
        assert_eq!((filter, format), (plain.telemetry.filter, plain.telemetry.format));
        let example = (traces.one_in, traces.queue);
        assert_eq!(
            example,
            (plain.telemetry.traces.one_in, plain.telemetry.traces.queue)
        );
        assert!(traces.endpoint.is_some() && traces.trust != crate::network::Networks::default());
        assert_eq!(plain.alert, alert::Config::default());
        assert_eq!(
            alert::Config {
                auditor: None,
                ..shown.alert
            },
            alert::Config::default()
        );
        let every = shown.audit.witness.as_ref().map(|witness| witness.every);
        assert_eq!(every, Some(std::time::Duration::from_secs(10)));
        let receivers: Vec<&str> = shown.audit.syslog.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(receivers, ["siem"]);
        assert_eq!(
            audit::Config {
                keep: None,
                archive: None,
                syslog: Vec::new(),
                outside: None,
                witness: None,
                ..shown.audit.clone()
            },
            plain.audit
        );
    }

    #[test]
    fn records_are_kept_for_as_long_as_a_proxy_may_be_traced() {
        let read = |text: &str| Config::parse(Path::new("/data"), "countersign.toml", text);
        assert_eq!(read("").unwrap().audit.keep, None, "for ever");
        let error = read("[audit]\nkeep = \"180d\"\n").unwrap_err().to_string();
        assert!(error.contains("trace_period"), "{error}");
        let kept = read("[audit]\nkeep = \"2h\"\n[delegation]\ntrace_period = \"1h\"\n").unwrap();
        assert_eq!(kept.audit.keep, Some(std::time::Duration::from_secs(7_200)));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else() {
        let read = |text: &str| Config::parse(Path::new("/data"), "countersign.toml", text).unwrap();
        let started = read("[gateway]\nlisten = \"127.0.0.1:1\"\n[audit]\nqueue = 8192\n");
        let other = read(
            "[gateway]\nlisten = \"127.0.0.1:2\"\nstreams = 7\n[authenticate]\nargon2_passes = 2\n\
             browser_idle = \"1h\"\n[forward]\npool_size = 3\n[alert]\nthreshold = 9\n",
        );
        assert_eq!(
            other.needs_restart(&started),
            [
                "alert.threshold",
                "authenticate.argon2_passes",
                "authenticate.browser_idle",
                "gateway.listen"
            ]
        );
        assert!(started.needs_restart(&started).is_empty());
        let same = read("[gateway]\nlisten = \"127.0.0.1:1\"\n[authenticate]\nargon2_passes = 2\n");
        assert!(same.needs_restart(&started).is_empty());
    }

    #[test]
    fn every_flaw_of_the_file_is_reported_at_once_with_its_line() {
        let text = "[gateway]\nlisten = 1\n[audit]\nqueue = 1\n[authenticate]\nargon2_passes = \"many\"\n[nonsense]\na = 1\n";
        let flaws = Config::parse(Path::new("/data"), "countersign.toml", text).unwrap_err();
        let lines: Vec<usize> = flaws.0.iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [2, 4, 6, 7], "{flaws}");
    }
}
