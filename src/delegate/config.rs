//! The `[delegation]` section of the configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::settings::Table;
use crate::trust::token::TokenConfig;

use super::spool::{self, SpoolConfig};

/// Limits of what is delegated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// No proxy lives longer, whatever its tool asks for.
    pub max_lifetime: Duration,
    /// Sessions whose proxies are kept in memory at once.
    pub max_sessions: usize,
    /// RSA keys for proxies that are made in advance.
    pub rsa_pool: usize,
    /// What may be on one MyProxy server at once.
    pub uploads_per_server: usize,
    /// What one person may have on MyProxy servers at once, in all her sessions.
    pub uploads_per_person: usize,
    /// How long a person can be traced after her last proxy has expired: her cards are kept so long.
    pub trace_period: Duration,
    /// Folders that proxies may be put into, for tools on this machine.
    pub spool: Vec<SpoolConfig>,
    /// Tokens that VO keys may be on.
    pub token: Vec<TokenConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_lifetime: Duration::from_secs(3_600),
            max_sessions: 10_000,
            rsa_pool: 64,
            uploads_per_server: 256,
            uploads_per_person: 32,
            trace_period: Duration::from_secs(180 * 86_400),
            spool: Vec::new(),
            token: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the section; flaws are noted in its document.
    #[must_use]
    pub fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let lifetimes = Duration::from_secs(300)..=Duration::from_secs(7 * 86_400);
        Self {
            max_lifetime: table.duration("max_lifetime", lifetimes, default.max_lifetime),
            max_sessions: count(table, "max_sessions", 100..=1_000_000, default.max_sessions),
            rsa_pool: count(table, "rsa_pool", 1..=10_000, default.rsa_pool),
            uploads_per_server: count(
                table,
                "uploads_per_server",
                1..=100_000,
                default.uploads_per_server,
            ),
            uploads_per_person: count(
                table,
                "uploads_per_person",
                1..=100_000,
                default.uploads_per_person,
            ),
            trace_period: table.duration(
                "trace_period",
                Duration::ZERO..=Duration::from_secs(3_650 * 86_400),
                default.trace_period,
            ),
            spool: spool::read(table),
            token: tokens(table),
        }
    }
}

fn tokens(table: &mut Table<'_>) -> Vec<TokenConfig> {
    let mut tokens: Vec<TokenConfig> = Vec::new();
    for one in table.tables("token") {
        let Some(token) = TokenConfig::read(one) else {
            continue;
        };
        if tokens.iter().any(|other| other.name == token.name) {
            let message = format!("has `{}` twice: each name stands once", token.name);
            table.flaw("token", message);
        }
        if let Some(other) = tokens.iter().find(|other| token.is_shared_with(other)) {
            let message = format!(
                "lets `{}` and `{}` use each other's keys on the token `{}`: give each entry its own `keys`, the labels of its keys",
                other.vo, token.vo, token.label
            );
            table.flaw("token", message);
        }
        tokens.push(token);
    }
    tokens
}

fn count(table: &mut Table<'_>, key: &str, accepted: RangeInclusive<i64>, default: usize) -> usize {
    let count = table.integer(key, accepted, i64::try_from(default).ok());
    usize::try_from(count).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    #[test]
    fn a_value_outside_its_limits_is_a_flaw() {
        let document = Document::parse(
            "t.toml",
            "max_lifetime = \"30d\"\nmax_sessions = 1\nrsa_pool = 0\nuploads_per_server = 0\nuploads_per_person = 0\n",
        )
        .unwrap();
        let mut root = document.root();
        let _ = Config::read(&mut root);
        root.end();
        assert_eq!(document.problems().len(), 5);
    }

    #[test]
    fn no_vo_may_use_a_key_of_another_that_lies_on_the_same_token() {
        let entry = |vo: &str, more: &str| {
            format!(
                "[[token]]\nname = \"{vo}\"\nmodule = \"/m.so\"\nlabel = \"hsm\"\npin_file = \"pin\"\nvo = \"{vo}\"\n{more}"
            )
        };
        let flaws = |first: &str, second: &str| {
            let text = entry("imaging", first) + &entry("trial", second);
            let document = Document::parse("t.toml", &text).unwrap();
            let mut root = document.root();
            let _ = Config::read(&mut root);
            root.end();
            document.problems()
        };
        for (first, second) in [
            ("", ""),
            ("keys = [\"a\"]\n", ""),
            ("keys = [\"a\", \"b\"]\n", "keys = [\"b\"]\n"),
        ] {
            let found = flaws(first, second);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(format!("{found:?}").contains("each other's keys"), "{found:?}");
        }
        assert!(flaws("keys = [\"a\"]\n", "keys = [\"b\"]\n").is_empty());
    }

    #[test]
    fn an_empty_section_gives_the_defaults() {
        let document = Document::parse("t.toml", "").unwrap();
        assert_eq!(Config::read(&mut document.root()), Config::default());
    }
}
