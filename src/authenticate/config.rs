//! The `[authenticate]` section.

use std::time::Duration;

use crate::settings::Table;

const HOUR: Duration = Duration::from_secs(3_600);

/// How people sign in and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Cost of a password hash.
    pub cost: Cost,
    /// How many password hashes are computed at once.
    pub hashes_at_once: usize,
    /// How long a login waits for its turn before it is refused as busy.
    pub hash_wait: Duration,
    /// Longest life of a browser session (and of its children).
    pub browser_lifetime: Duration,
    /// A browser session that is not used for this long ends.
    pub browser_idle: Duration,
    /// Longest life of a bearer token.
    pub token_lifetime: Duration,
    /// A bearer token that is not used for this long ends.
    pub token_idle: Duration,
    /// Longest life of a personal access token.
    pub personal_lifetime: Duration,
    /// How long a one-time password can be used.
    pub one_time_lifetime: Duration,
    /// How long a verified HTTP Basic password is remembered (under a keyed hash, in memory).
    pub basic_kept: Duration,
    /// How many sessions one person may have; the oldest ends when there are more.
    pub sessions_per_person: usize,
    /// Wrong passwords for one account from one address before it is slowed.
    pub account_burst: u32,
    /// After that: one attempt per this time.
    pub account_period: Duration,
    /// Wrong passwords from one network before it is slowed.
    pub source_burst: u32,
    /// After that: one attempt per this time.
    pub source_period: Duration,
    /// Whether whoever administers something must have shown a second factor in the session.
    pub require_mfa_for_admin: bool,
}

/// Cost of one Argon2id computation (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cost: Cost::default(),
            hashes_at_once: 2,
            hash_wait: Duration::from_secs(3),
            browser_lifetime: 12 * HOUR,
            browser_idle: 2 * HOUR,
            token_lifetime: 12 * HOUR,
            token_idle: 12 * HOUR,
            personal_lifetime: 90 * 24 * HOUR,
            one_time_lifetime: 7 * 24 * HOUR,
            basic_kept: Duration::from_secs(60),
            sessions_per_person: 100,
            account_burst: 5,
            account_period: Duration::from_secs(20),
            source_burst: 100,
            source_period: Duration::from_secs(1),
            require_mfa_for_admin: false,
        }
    }
}

impl Config {
    /// Reads the section; flaws are noted in its document.
    #[must_use]
    pub fn read(mut table: Table<'_>) -> Self {
        let default = Self::default();
        let second = Duration::from_secs(1);
        let year = 365 * 24 * HOUR;
        let config = Self {
            cost: Cost {
                memory_kib: number(
                    &mut table,
                    "argon2_memory_kib",
                    8_192..=4_194_304,
                    default.cost.memory_kib,
                ),
                passes: number(&mut table, "argon2_passes", 1..=64, default.cost.passes),
                lanes: number(&mut table, "argon2_lanes", 1..=64, default.cost.lanes),
            },
            hashes_at_once: count(&mut table, "hashes_at_once", 1..=256, default.hashes_at_once),
            hash_wait: table.duration(
                "hash_wait",
                Duration::from_millis(100)..=60 * second,
                default.hash_wait,
            ),
            browser_lifetime: table.duration(
                "browser_lifetime",
                60 * second..=year,
                default.browser_lifetime,
            ),
            browser_idle: table.duration("browser_idle", 60 * second..=year, default.browser_idle),
            token_lifetime: table.duration("token_lifetime", 60 * second..=year, default.token_lifetime),
            token_idle: table.duration("token_idle", 60 * second..=year, default.token_idle),
            personal_lifetime: table.duration("personal_lifetime", HOUR..=year, default.personal_lifetime),
            one_time_lifetime: table.duration(
                "one_time_lifetime",
                60 * second..=year,
                default.one_time_lifetime,
            ),
            basic_kept: table.duration("basic_kept", Duration::ZERO..=600 * second, default.basic_kept),
            sessions_per_person: count(
                &mut table,
                "sessions_per_person",
                2..=10_000,
                default.sessions_per_person,
            ),
            account_burst: number(&mut table, "account_burst", 1..=1_000, default.account_burst),
            account_period: table.duration("account_period", second..=HOUR, default.account_period),
            source_burst: number(&mut table, "source_burst", 1..=100_000, default.source_burst),
            source_period: table.duration(
                "source_period",
                Duration::from_millis(1)..=HOUR,
                default.source_period,
            ),
            require_mfa_for_admin: table.boolean("require_mfa_for_admin", default.require_mfa_for_admin),
        };
        table.end();
        config
    }
}

fn number(table: &mut Table<'_>, name: &str, range: std::ops::RangeInclusive<i64>, default: u32) -> u32 {
    u32::try_from(table.integer(name, range, Some(i64::from(default)))).unwrap_or(default)
}

fn count(table: &mut Table<'_>, name: &str, range: std::ops::RangeInclusive<i64>, default: usize) -> usize {
    let fallback = i64::try_from(default).unwrap_or(i64::MAX);
    usize::try_from(table.integer(name, range, Some(fallback))).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    #[test]
    fn an_empty_section_is_the_default_and_an_unknown_key_is_a_flaw() {
        let document = Document::parse("t.toml", "[authenticate]\n").unwrap();
        assert_eq!(
            Config::read(document.root().table("authenticate").unwrap()),
            Config::default()
        );
        let text = "[authenticate]\nargon2_passes = 0\nbrowser_life = \"1h\"\nbrowser_idle = \"5m\"\n";
        let document = Document::parse("t.toml", text).unwrap();
        let config = Config::read(document.root().table("authenticate").unwrap());
        assert_eq!(config.browser_idle, Duration::from_secs(300));
        assert_eq!(document.problems().len(), 2);
    }
}
