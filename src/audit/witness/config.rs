//! The `[audit.witness]` section.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::WitnessKey;
use crate::settings::Table;

/// Who cosigns the checkpoints of this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the witness takes checkpoints: the URL before `/add-checkpoint`.
    pub url: Uri,
    /// Its public key.
    pub key: WitnessKey,
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How often it is asked.
    pub every: Duration,
}

impl Config {
    /// Whether the witness is on this machine: then it is in the same hands, and its word adds nothing.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.url.host().is_some_and(is_here)
    }

    /// Reads the section. `None` when it is not whole: then it has a flaw.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let url = table.parsed(
            "url",
            "the URL of a witness, e.g. https://witness.example.org (http:// to this machine only), without query",
            url,
        );
        let key = table.parsed("key", "the witness's public key, `name+hash+base64`", |text| {
            text.parse().ok()
        });
        for (name, there) in [("url", url.is_some()), ("key", key.is_some())] {
            if !there && !table.has(name) {
                table.flaw(name, "is missing: `[audit.witness]` needs `url` and `key`");
            }
        }
        let ca_file = table.text("ca_file").map(PathBuf::from);
        let every = table.duration(
            "every",
            Duration::from_secs(1)..=Duration::from_secs(3600),
            Duration::from_secs(10),
        );
        table.end();
        Some(Self {
            url: url?,
            key: key?,
            ca_file,
            every,
        })
    }
}

fn url(text: &str) -> Option<Uri> {
    let uri: Uri = text.trim_end_matches('/').parse().ok()?;
    let host = uri.host()?;
    // SECURITY: the answer is signed, but who reads along would learn how much this log grows.
    let safe = match uri.scheme_str()? {
        "https" => true,
        "http" => is_here(host),
        _ => false,
    };
    (safe && uri.query().is_none()).then_some(uri)
}

fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::witness::WitnessSigner;
    use crate::id::SystemSource;
    use crate::settings::Document;

    #[test]
    fn the_section_takes_https_and_this_machine_and_a_witness_key_only() {
        let signer = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        let good = signer.public().to_string();
        let read = |url: &str, key: &str| {
            let text = format!("[witness]\nurl = \"{url}\"\nkey = \"{key}\"\n");
            let document = Document::parse("c.toml", &text).unwrap();
            let mut root = document.root();
            let read = root.table("witness").and_then(Config::read);
            let lines: Vec<_> = document.problems().iter().map(|flaw| flaw.line).collect();
            assert_eq!(read.is_some(), lines.is_empty(), "{url} {key}");
            (read, lines)
        };
        for url in [
            "https://witness.example.org",
            "https://witness.example.org/a/",
            "http://127.0.0.1:7",
            "http://[::1]:7",
            "http://localhost:7",
        ] {
            let read = read(url, &good).0.unwrap();
            assert_eq!(read.every, Duration::from_secs(10));
            assert!(!read.url.to_string().ends_with("a/"), "{url}");
        }
        for url in [
            "http://witness.example.org",
            "witness",
            "ftp://localhost",
            "https://w.example.org?a=b",
            "",
        ] {
            assert_eq!(read(url, &good).1, [2], "{url}");
        }
        assert_eq!(read("https://witness.example.org", "a+b").1, [3]);
        let document = Document::parse("c.toml", "[witness]\nevery = \"0s\"\n").unwrap();
        assert!(document.root().table("witness").and_then(Config::read).is_none());
        assert_eq!(document.problems().len(), 3);
    }
}
