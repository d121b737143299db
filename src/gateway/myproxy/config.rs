//! The `[myproxy]` section.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::settings::Table;

/// Where the gateway is a MyProxy server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address of its listener.
    pub listen: SocketAddr,
    /// Files of certificate and key that clients are shown; those of the gateway when absent.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A folder of authorities, as grid software reads it (`HASH.0`, `HASH.signing_policy`), that clients may fetch.
    pub trust_roots: Option<PathBuf>,
}

impl Config {
    /// Reads the section; without `listen` there is no such listener. Relative paths are below `data`.
    #[must_use]
    pub fn read(mut table: Table<'_>, data: &Path) -> Option<Self> {
        let listen = table.parsed("listen", "an address and port, e.g. 0.0.0.0:7512", |text| {
            text.parse().ok()
        });
        for name in ["certificate", "key", "trust_roots"] {
            if table.has(name) && !table.has("listen") {
                table.flaw(name, "is for a listener: give `listen`, an address and port");
            }
        }
        for (name, other) in [("certificate", "key"), ("key", "certificate")] {
            if table.has(name) && !table.has(other) {
                table.flaw(name, format!("needs `{other}` beside it"));
            }
        }
        let mut file = |name: &str| table.text(name).map(|file| data.join(file));
        let identity = file("certificate").zip(file("key"));
        let trust_roots = file("trust_roots");
        table.end();
        Some(Self {
            listen: listen?,
            identity,
            trust_roots,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::read;

    fn section(text: &str) -> (Option<Config>, Vec<String>) {
        read(text, |root| {
            let table = root.table("myproxy")?;
            Config::read(table, Path::new("/data"))
        })
    }

    #[test]
    fn there_is_a_listener_where_an_address_is_given() {
        assert_eq!(section("[myproxy]\n"), (None, Vec::new()));
        let (config, flaws) = section("[myproxy]\nlisten = \"[::]:7512\"\ntrust_roots = \"roots\"\n");
        assert!(flaws.is_empty(), "{flaws:?}");
        let config = config.unwrap();
        assert_eq!(config.trust_roots, Some("/data/roots".into()));
        assert_eq!(config.identity, None);
    }

    #[test]
    fn a_certificate_without_its_key_or_a_listener_is_a_flaw() {
        for text in [
            "listen = \"7512\"",
            "trust_roots = \"roots\"",
            "listen = \"[::]:7512\"\ncertificate = \"host.pem\"",
            "listen = \"[::]:7512\"\nkey = \"host.key\"",
        ] {
            let (_, flaws) = section(&format!("[myproxy]\n{text}\n"));
            assert_eq!(flaws.len(), 1, "{text}: {flaws:?}");
        }
    }
}
