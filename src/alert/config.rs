//! The `[alert]` section.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;

use crate::settings::Table;

const HOUR: Duration = Duration::from_secs(3_600);

/// When repeated denials become a mail, and how mails leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many denials of one person for one task within `window` open an episode.
    pub threshold: u32,
    /// The window; an episode ends when it is quiet for this long.
    pub window: Duration,
    /// Most alert mails for one VO in an hour; further episodes wait for a digest.
    pub mails_per_hour: u32,
    /// Who gets the log's checkpoints by mail.
    pub auditor: Option<String>,
    /// Sender.
    pub from: String,
    /// How mails leave.
    pub transport: Transport,
    /// After this long without success a mail is given up.
    pub give_up: Duration,
}

/// How mails leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As `.eml` files in a folder below the data folder.
    File {
        /// The folder.
        folder: PathBuf,
    },
    /// To a mail server.
    Smtp(Smtp),
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Host name, as its certificate says it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection of the connection.
    pub security: Security,
    /// User name, where the server wants one.
    pub username: Option<String>,
    /// File with the password, in one line.
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for one answer of the server.
    pub timeout: Duration,
}

/// Protection of the connection to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, required (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// None; for a server on the loopback interface only.
    None,
}

impl Security {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "starttls" => Some(Self::StartTls),
            "tls" => Some(Self::Tls),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    const fn port(self) -> i64 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threshold: 3,
            window: HOUR,
            mails_per_hour: 4,
            auditor: None,
            from: "Countersign <countersign@localhost>".into(),
            transport: Transport::File {
                folder: "outbox".into(),
            },
            give_up: 72 * HOUR,
        }
    }
}

impl Config {
    /// Reads the section from the root table; defaults where it is absent, flaws go to the document.
    pub fn read(root: &mut Table<'_>) -> Self {
        let default = Self::default();
        let Some(mut section) = root.table("alert") else {
            return default;
        };
        let minute = Duration::from_secs(60);
        let number = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        let config = Self {
            threshold: number(section.integer("threshold", 1..=100, Some(3))),
            window: section.duration("window", minute..=168 * HOUR, default.window),
            mails_per_hour: number(section.integer("mails_per_hour", 1..=1_000, Some(4))),
            auditor: section.parsed("auditor", "a mail address", |text| {
                text.parse::<Address>().ok().map(|_| text.to_owned())
            }),
            from: section
                .parsed("from", "a mail address, or `Name <address>`", |text| {
                    text.parse::<Mailbox>().ok().map(|_| text.to_owned())
                })
                .unwrap_or(default.from),
            give_up: section.duration("give_up", minute..=720 * HOUR, default.give_up),
            transport: transport(&mut section),
        };
        section.end();
        config
    }
}

fn transport(section: &mut Table<'_>) -> Transport {
    let kind = section.parsed("transport", "file, smtp", |text| {
        ["file", "smtp"].contains(&text).then(|| text.to_owned())
    });
    let folder = section.text("folder").unwrap_or_else(|| "outbox".into());
    let smtp = section.table("smtp").map(smtp);
    if kind.is_none() && smtp.is_some() && !section.has("transport") {
        section.flaw(
            "smtp",
            "is given, but `alert.transport` is not; accepted: transport = \"smtp\" (by this server) or \"file\"",
        );
    }
    match (kind.as_deref(), smtp) {
        (Some("smtp"), None) => {
            section.flaw(
                "transport",
                "is smtp, so a table `[alert.smtp]` with `host` is needed",
            );
            Transport::File {
                folder: folder.into(),
            }
        }
        (Some("smtp"), Some(smtp)) => Transport::Smtp(smtp),
        _ => Transport::File {
            folder: folder.into(),
        },
    }
}

fn smtp(mut table: Table<'_>) -> Smtp {
    let host = table.required_text("host");
    let security = table
        .parsed("security", "starttls, tls, none", Security::parse)
        .unwrap_or(Security::StartTls);
    // SECURITY: names, tasks and addresses of people never cross a network in the clear.
    if security == Security::None && !is_loopback(&host) {
        table.flaw(
            "security",
            "may be none only for a server on this machine (localhost or a loopback address)",
        );
    }
    let port = table.integer("port", 1..=65_535, Some(security.port()));
    let username = table.text("username");
    let password_file = table.text("password_file").map(PathBuf::from);
    if username.is_some() != password_file.is_some() {
        table.flaw("username", "and `password_file` go together");
    }
    let second = Duration::from_secs(1);
    let smtp = Smtp {
        host,
        port: u16::try_from(port).unwrap_or(u16::MAX),
        security,
        username,
        password_file,
        ca_file: table.text("ca_file").map(PathBuf::from),
        timeout: table.duration("timeout", second..=300 * second, 10 * second),
    };
    table.end();
    smtp
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing;

    fn read(text: &str) -> (Config, Vec<String>) {
        testing::read(text, Config::read)
    }

    #[test]
    fn an_absent_section_and_an_empty_one_mean_the_defaults() {
        assert_eq!(read(""), (Config::default(), Vec::new()));
        assert_eq!(read("[alert]\n"), (Config::default(), Vec::new()));
    }

    #[test]
    fn mail_crosses_a_network_only_under_tls() {
        let text = |host: &str| {
            format!("[alert]\ntransport = \"smtp\"\n[alert.smtp]\nhost = \"{host}\"\nsecurity = \"none\"\n")
        };
        assert_eq!(read(&text("localhost")).1, Vec::<String>::new());
        assert_eq!(read(&text("127.0.0.1")).1, Vec::<String>::new());
        assert_eq!(read(&text("mail.example.org")).1.len(), 1);
    }

    #[test]
    fn every_flaw_is_told_with_its_line() {
        let (_, flaws) = read(
            "[alert]\nthreshold = 0\nfrom = \"nobody\"\nauditor = \"x\"\ntransport = \"smtp\"\nsecret = 1\n\
             [alert.smtp]\nusername = \"me\"\nport = 0\n",
        );
        let lines: Vec<&str> = flaws.iter().filter_map(|flaw| flaw.split(':').nth(1)).collect();
        assert_eq!(lines, ["2", "3", "4", "6", "7", "8", "9"], "{flaws:#?}");
    }

    #[test]
    fn a_server_that_nothing_uses_is_a_flaw() {
        let server = "[alert.smtp]\nhost = \"mail.example.org\"\n";
        let (_, flaws) = read(&format!("[alert]\n{server}"));
        assert_eq!(flaws.len(), 1, "{flaws:?}");
        assert!(flaws[0].starts_with("countersign.toml:2: `alert.smtp` is given"));
        assert!(flaws[0].contains("transport = \"smtp\""));
        for transport in ["smtp", "file"] {
            let (_, flaws) = read(&format!("[alert]\ntransport = \"{transport}\"\n{server}"));
            assert_eq!(flaws, Vec::<String>::new());
        }
    }

    #[test]
    fn smtp_without_a_server_is_a_flaw() {
        assert_eq!(read("[alert]\ntransport = \"smtp\"\n").1.len(), 1);
    }
}
