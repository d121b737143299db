//! The `[forward]` section.

use std::time::Duration;

use super::response::Limits;
use crate::settings::Table;

/// Times and bounds towards tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// To connect and to shake hands.
    pub connect_timeout: Duration,
    /// From the end of the request (or its last piece) to the first byte of the answer, where a task does not say otherwise.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body, in either direction.
    pub idle_timeout: Duration,
    /// Between two pieces of anything on a connection that was switched to another protocol.
    pub upgrade_idle_timeout: Duration,
    /// How long a request may be under way before it is decided again, and how often then.
    pub lease: Duration,
    /// For how long an upstream that could not be reached is not tried again.
    pub unreachable: Duration,
    /// How long an unused connection to a tool is kept.
    pub pool_idle: Duration,
    /// How many unused connections to one tool are kept.
    pub pool_size: usize,
    /// How many pools there are; one for each upstream, and one for each proxy used as client certificate.
    pub pools: u64,
    /// How long an unused pool is kept.
    pub pools_idle: Duration,
    /// How much head an answer may have.
    pub answer: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            upgrade_idle_timeout: Duration::from_secs(3_600),
            lease: Duration::from_secs(30),
            unreachable: Duration::from_millis(500),
            pool_idle: Duration::from_secs(30),
            pool_size: 256,
            pools: 1_024,
            pools_idle: Duration::from_secs(300),
            answer: Limits {
                count: 100,
                bytes: 64 * 1024,
            },
        }
    }
}

impl Config {
    /// Reads the section; defaults where it, or a key, is absent. Flaws are noted in the document.
    #[must_use]
    pub fn read(table: Option<Table<'_>>) -> Self {
        let default = Self::default();
        let Some(mut table) = table else { return default };
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let size = |value: i64| usize::try_from(value).unwrap_or(0);
        let config = Self {
            connect_timeout: table.duration("connect_timeout", second..=day, default.connect_timeout),
            first_byte_timeout: table.duration(
                "first_byte_timeout",
                second..=day,
                default.first_byte_timeout,
            ),
            idle_timeout: table.duration("idle_timeout", second..=day, default.idle_timeout),
            upgrade_idle_timeout: table.duration(
                "upgrade_idle_timeout",
                second..=day,
                default.upgrade_idle_timeout,
            ),
            lease: table.duration("lease", second..=Duration::from_secs(3_600), default.lease),
            unreachable: table.duration(
                "unreachable",
                Duration::from_millis(1)..=Duration::from_secs(60),
                default.unreachable,
            ),
            pool_idle: table.duration("pool_idle", second..=day, default.pool_idle),
            pool_size: size(table.integer("pool_size", 1..=65_536, Some(256))),
            pools: table.integer("pools", 1..=65_536, Some(1_024)).unsigned_abs(),
            pools_idle: table.duration("pools_idle", second..=day, default.pools_idle),
            answer: Limits {
                count: size(table.integer("answer_headers", 10..=1_000, Some(100))),
                bytes: size(table.integer("answer_head_bytes", 8_192..=1_048_576, Some(65_536))),
            },
        };
        table.end();
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    #[test]
    fn an_absent_section_is_the_defaults_and_flaws_are_noted() {
        assert_eq!(Config::read(None), Config::default());
        let document =
            Document::parse("t.toml", "[forward]\nconnect_timeout = \"2s\"\npool_sise = 3\n").unwrap();
        let mut root = document.root();
        let config = Config::read(root.table("forward"));
        root.end();
        assert_eq!(config.connect_timeout, Duration::from_secs(2));
        assert_eq!(document.problems().len(), 1);
    }

    #[test]
    fn an_empty_section_is_the_defaults() {
        let document = Document::parse("t.toml", "[forward]\n").unwrap();
        let mut root = document.root();
        assert_eq!(Config::read(root.table("forward")), Config::default());
        assert!(document.problems().is_empty());
    }
}
