//! What usually goes wrong with a gateway, looked at from its own machine: `countersign doctor`.
//!
//! Nothing is changed, whether the gateway runs or not, and no tool gets a request: an upstream is connected to, no more.

mod machine;
mod reach;

use std::time::Duration;

use serde::Serialize;

use super::check::check;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::trust::tls::Identity;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A certificate that ends within this time wants to be looked at.
const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and probably not as meant, or not for long.
    Warning,
    /// It does not work, or is not safe.
    Flaw,
}

impl State {
    /// The name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Flaw => "flaw",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// About what: `settings`, `clock`, `upstream imaging/orthanc`.
    pub about: String,
    /// How it is.
    pub state: State,
    /// A sentence.
    pub said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    fn new(state: State, about: impl Into<String>, said: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            state,
            said: said.into(),
            next: None,
        }
    }

    fn ok(about: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(State::Ok, about, said)
    }

    fn warning(about: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(State::Warning, about, said)
    }

    fn flaw(about: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(State::Flaw, about, said)
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Looks at everything: settings, files, machine, certificates, mail server and upstreams.
pub async fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut found = settings(config, now);
    found.extend(certificate(config, now));
    found.extend(policy(config));
    found.extend(machine::look(config, now));
    found.extend(reach::look(config, now).await);
    found
}

/// What a start says.
fn settings(config: &Config, now: Timestamp) -> Vec<Finding> {
    let checked = check(config, now);
    if checked.flaws.is_empty() && checked.warnings.is_empty() {
        return vec![Finding::ok("settings", "a start finds nothing wrong with them")];
    }
    let flaws = checked
        .flaws
        .into_iter()
        .map(|flaw| Finding::flaw("settings", flaw));
    let warnings = checked.warnings.into_iter();
    flaws
        .chain(warnings.map(|warning| Finding::warning("settings", warning)))
        .collect()
}

/// The gateway's own certificate; that it cannot be read, [`settings`] says.
fn certificate(config: &Config, now: Timestamp) -> Option<Finding> {
    let file = |path: &std::path::Path| config.data.join(path);
    let identity = Identity::load(&file(&config.gateway.certificate), &file(&config.gateway.key)).ok()?;
    Some(
        ending("certificate of the gateway", identity.ends()?, now).next(format!(
            "put a new one in `{}`; it is taken up without a restart",
            config.gateway.certificate.display()
        )),
    )
}

fn ending(about: impl Into<String>, ends: Timestamp, now: Timestamp) -> Finding {
    if ends < now {
        return Finding::flaw(about, format!("it ended {ends}"));
    }
    let left = ends.since(now);
    let said = format!(
        "{} days are left of it, until {ends}",
        left.as_secs() / DAY.as_secs()
    );
    match left < SOON {
        true => Finding::warning(about, said),
        false => Finding::ok(about, said),
    }
}

/// Where the settings ask for less than what is recommended for sign-in: Argon2id as OWASP's password storage cheat sheet
/// has it, and ends of sessions as SP 800-63B-4 has them for one factor.
fn policy(config: &Config) -> Vec<Finding> {
    const ABOUT: &str = "passwords and sessions";
    let set = &config.authenticate;
    let month = 30 * DAY;
    let mut found = Vec::new();
    let cost = set.cost;
    // Less memory is made up for by more passes: 19 MiB and 2, 12 MiB and 3, 9 MiB and 4.
    let enough = [(19_456, 2), (12_288, 3), (9_216, 4)]
        .into_iter()
        .any(|(memory, passes)| cost.memory_kib >= memory && cost.passes >= passes);
    if !enough {
        found.push(
            Finding::warning(
                ABOUT,
                format!(
                    "a guess at a stolen password costs {} KiB and {} passes of Argon2id, which is less than recommended",
                    cost.memory_kib, cost.passes
                ),
            )
            .next("`[authenticate] argon2_memory_kib` 19456 and `argon2_passes` 2, or more"),
        );
    }
    for (name, lifetime) in [
        ("browser_lifetime", set.browser_lifetime),
        ("token_lifetime", set.token_lifetime),
    ] {
        if lifetime > month {
            let days = lifetime.as_secs() / DAY.as_secs();
            let said = format!("nobody is asked again for {days} days; recommended are at most 30");
            found.push(Finding::warning(ABOUT, said).next(format!("`[authenticate] {name}`")));
        }
    }
    if set.account_burst > 100 {
        let said = format!(
            "{} wrong passwords in a row go through before an account is slowed; recommended are at most 100",
            set.account_burst
        );
        found.push(Finding::warning(ABOUT, said).next("`[authenticate] account_burst`"));
    }
    if found.is_empty() {
        found.push(Finding::ok(ABOUT, "at least as strict as recommended"));
    }
    found
}
