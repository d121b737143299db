//! One table of `[[audit.syslog]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::settings::Table;

/// Port of syslog over TLS (RFC 5425 section 4.1).
const PORT: u16 = 6514;

/// What the messages hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Records as they stand in the log.
    Json,
    /// Events of the Open Cybersecurity Schema Framework.
    Ocsf,
}

/// One receiver of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in metrics, log lines and the file that keeps the position.
    pub name: String,
    /// Host, as it is looked up.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name that its certificate must be for.
    pub server_name: ServerName<'static>,
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key to show, where it asks for them.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What the messages hold.
    pub format: Format,
    /// How far behind it may be before the administrators are told.
    pub alert_after: Duration,
}

impl Config {
    /// Reads a table. `None` when it is not whole: then it has a flaw.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let address = table.parsed(
            "address",
            "the host of a receiver, e.g. `syslog.example.org` or `syslog.example.org:6514`",
            address,
        );
        if address.is_none() && !table.has("address") {
            table.flaw("address", "is missing: each `[[audit.syslog]]` needs one");
        }
        let name = table.parsed("name", "1 to 40 of a-z, 0-9 and `-`", |text| {
            is_name(text).then(|| text.to_owned())
        });
        let server_name = table.parsed("server_name", "a host name or an address", |text| {
            ServerName::try_from(text.to_owned()).ok()
        });
        let file = |table: &mut Table<'_>, name| table.text(name).map(PathBuf::from);
        let ca_file = file(&mut table, "ca_file");
        let client = match (file(&mut table, "certificate_file"), file(&mut table, "key_file")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                table.flaw(
                    "certificate_file",
                    "and `key_file` belong together: give both, or neither",
                );
                None
            }
        };
        let format = table.parsed("format", "`json` or `ocsf`", |text| match text {
            "json" => Some(Format::Json),
            "ocsf" => Some(Format::Ocsf),
            _ => None,
        });
        let alert_after = table.duration(
            "alert_after",
            Duration::from_secs(10)..=Duration::from_secs(7 * 86_400),
            Duration::from_secs(300),
        );
        table.end();
        let (host, port) = address?;
        let server_name = match server_name {
            Some(name) => name,
            None => ServerName::try_from(host.clone()).ok()?,
        };
        Some(Self {
            name: name.unwrap_or_else(|| named_for(&host)),
            host,
            port,
            server_name,
            ca_file,
            client,
            format: format.unwrap_or(Format::Json),
            alert_after,
        })
    }

    /// The same with its files in `folder`, where their paths are relative.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        self.ca_file = self.ca_file.map(|file| folder.join(file));
        self.client = self
            .client
            .map(|(certificate, key)| (folder.join(certificate), folder.join(key)));
        self
    }
}

/// `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    ServerName::try_from(host).ok()?;
    Some((host.to_owned(), port))
}

fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn named_for(host: &str) -> String {
    let plain = host.to_ascii_lowercase();
    let name: String = plain
        .chars()
        .map(|sign| if sign.is_ascii_alphanumeric() { sign } else { '-' })
        .take(40)
        .collect();
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    fn read(text: &str) -> (Option<Config>, usize) {
        let document = Document::parse("c.toml", text).unwrap();
        let config = Config::read(document.root());
        (config, document.problems().len())
    }

    #[test]
    fn a_receiver_needs_its_address_and_has_defaults() {
        let (config, flaws) = read("address = \"Logs.example.org\"\n");
        let config = config.unwrap();
        assert_eq!(flaws, 0);
        assert_eq!((config.name.as_str(), config.port), ("logs-example-org", 6514));
        assert_eq!(config.format, Format::Json);
        assert_eq!(
            config.server_name,
            ServerName::try_from("Logs.example.org").unwrap()
        );
        for (text, host, port) in [
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:7", "::1", 7),
            ("[::1]", "::1", 6514),
        ] {
            let config = read(&format!("address = \"{text}\"\n")).0.unwrap();
            assert_eq!((config.host.as_str(), config.port), (host, port));
        }
    }

    #[test]
    fn what_cannot_work_is_a_flaw() {
        for text in [
            "",
            "address = \"\"",
            "address = \"a:0\"",
            "address = \"a:b\"",
            "address = \"https://a\"",
            "address = \"a\"\nname = \"A B\"",
            "address = \"a\"\nname = \"../a\"",
            "address = \"a\"\ncertificate_file = \"c.pem\"",
            "address = \"a\"\nformat = \"cef\"",
            "address = \"a\"\nalert_after = \"1s\"",
            "address = \"a\"\nverify = false",
        ] {
            assert_eq!(read(text).1, 1, "{text}");
        }
    }
}
