//! What a personal access token is for: the part of its person's rights that it carries. It only ever narrows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tool::Task;
use crate::vo::{GATEWAY, OWN_TOOL, is_name};

/// What the gateway's own level is called in a scope.
const LEVEL: &str = "gateway";
/// The task that gives somebody a proxy, with which a grid takes her for herself.
const PROXY: &str = "proxy.download";
/// What somebody does who gets herself one: she is asked who she is, and certifies a key.
const MYPROXY: [&str; 2] = ["person.me", PROXY];
/// Parts that a scope may have.
pub const SCOPE_PARTS: usize = 100;

/// What a token is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// VOs, tools and tasks; any of them is enough.
    pub parts: Vec<ScopePart>,
    /// Whether of these only what changes nothing.
    pub read_only: bool,
    /// Whether it also gets its person's proxies, at the MyProxy port above all.
    pub myproxy: bool,
}

/// A VO (or the gateway's own level), a tool of it, or one task of that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScopePart {
    /// The VO; `gateway` for what belongs to none.
    pub vo: String,
    /// The tool; every one when absent.
    pub tool: Option<String>,
    /// The task; every one when absent.
    pub task: Option<String>,
}

/// A text that is no part of a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a scope; accepted: VO, VO/TOOL or VO/TOOL/TASK, with `gateway` for what belongs to no VO"
)]
pub struct ScopeError(String);

impl FromStr for ScopePart {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let flaw = || ScopeError(text.chars().take(160).collect());
        let mut parts = text.splitn(3, '/');
        let vo = parts.next().unwrap_or_default();
        let (tool, task) = (parts.next(), parts.next());
        let is_task = |task: &str| {
            (1..=64).contains(&task.len()) && task.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        let fits = (vo == LEVEL || is_name(vo))
            && tool.is_none_or(|tool| tool == OWN_TOOL || is_name(tool))
            && task.is_none_or(is_task);
        fits.then(|| Self {
            vo: vo.to_owned(),
            tool: tool.map(str::to_owned),
            task: task.map(str::to_owned),
        })
        .ok_or_else(flaw)
    }
}

impl TryFrom<String> for ScopePart {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<ScopePart> for String {
    fn from(part: ScopePart) -> Self {
        part.to_string()
    }
}

impl fmt::Display for ScopePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.vo)?;
        for part in [&self.tool, &self.task].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

impl ScopePart {
    /// Whether it is about the gateway's own level and no VO.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.vo == LEVEL
    }

    fn covers(&self, level: &str, tool: &str, task: &str) -> bool {
        // The level's row has a name that no VO can have.
        let vo = if self.is_gateway() { GATEWAY } else { &self.vo };
        let is = |own: &Option<String>, asked: &str| own.as_deref().is_none_or(|own| own == asked);
        vo == level && is(&self.tool, tool) && is(&self.task, task)
    }
}

impl Scope {
    /// Whether a task is within it; `level` is the name of the VO (or of the gateway's own level) that it is decided at.
    #[must_use]
    pub fn covers(&self, level: &str, tool: &str, task: &Task) -> bool {
        let own = |names: &[&str]| tool == OWN_TOOL && names.contains(&task.name.as_str());
        // SECURITY: a proxy reaches further than any scope, so that only its own word covers it, and never read-only.
        let is_proxy = own(&[PROXY]);
        let kept = !self.read_only || !(task.kind.changes_state() || is_proxy);
        let named = self
            .parts
            .iter()
            .any(|part| part.covers(level, tool, &task.name) && (!is_proxy || part.task.is_some()));
        (named && kept) || (self.myproxy && own(&MYPROXY))
    }

    /// In words, for people: its parts and what restricts or widens them.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        words.extend(self.read_only.then(|| "read only".to_owned()));
        words.extend(self.myproxy.then(|| "own proxies".to_owned()));
        words
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tool::{Audience, Kind};

    fn task(name: &str, kind: Kind) -> Task {
        Task::plain(name, &["GET /x"], kind, Audience::Granted(&[]))
    }

    fn scope(parts: &[&str]) -> Scope {
        Scope {
            parts: parts.iter().map(|part| part.parse().unwrap()).collect(),
            ..Scope::default()
        }
    }

    #[test]
    fn a_part_covers_a_vo_a_tool_or_a_task_and_nothing_beside_it() {
        let submit = task("submit job", Kind::Create);
        for (part, covered) in [
            ("imense", true),
            ("imense/jobs", true),
            ("imense/jobs/submit job", true),
            ("imense/jobs/submit", false),
            ("imense/job", false),
            ("imense/countersign", false),
            ("ahe", false),
            ("gateway", false),
        ] {
            assert_eq!(
                scope(&[part]).covers("imense", "jobs", &submit),
                covered,
                "{part}"
            );
        }
        assert!(scope(&["ahe", "imense"]).covers("imense", "jobs", &submit));
        assert!(!scope(&[]).covers("imense", "jobs", &submit));
        let me = task("person.me", Kind::Read);
        assert!(scope(&["gateway"]).covers(GATEWAY, OWN_TOOL, &me));
        assert!(!scope(&["imense"]).covers(GATEWAY, OWN_TOOL, &me));
    }

    #[test]
    fn read_only_covers_no_change_and_proxies_come_by_their_own_word() {
        let read_only = Scope {
            read_only: true,
            ..scope(&["imense"])
        };
        assert!(read_only.covers("imense", "jobs", &task("list jobs", Kind::Read)));
        assert!(!read_only.covers("imense", "jobs", &task("submit job", Kind::Create)));
        let download = task(PROXY, Kind::Read);
        assert!(!read_only.covers("imense", OWN_TOOL, &download));
        assert!(!scope(&["imense", "imense/countersign"]).covers("imense", OWN_TOOL, &download));
        let by_name = scope(&["imense/countersign/proxy.download"]);
        assert!(by_name.covers("imense", OWN_TOOL, &download));
        let kept = Scope {
            read_only: true,
            ..by_name
        };
        assert!(!kept.covers("imense", OWN_TOOL, &download));
        let proxies = Scope {
            myproxy: true,
            ..read_only
        };
        assert!(proxies.covers("imense", OWN_TOOL, &download));
        assert!(proxies.covers(GATEWAY, OWN_TOOL, &task("person.me", Kind::Read)));
        assert!(!proxies.covers(GATEWAY, OWN_TOOL, &task("person.export", Kind::Read)));
        // A tool's task of the same name is not the gateway's.
        assert!(!proxies.covers("ahe", "jobs", &download));
    }

    #[test]
    fn what_is_no_part_is_told_with_what_is_accepted() {
        for text in [
            "",
            "/",
            "Imense",
            "imense/",
            "imense//x",
            "imense/jobs/",
            "api",
            "imense/jobs/ä",
        ] {
            let error = text.parse::<ScopePart>().unwrap_err().to_string();
            assert!(error.contains("VO/TOOL/TASK"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_part_that_is_written_as_it_was_read_or_none(text in "\\PC{0,80}|[a-z]{1,9}(/[a-z]{1,9}(/[ -~]{0,70})?)?") {
            if let Ok(part) = text.parse::<ScopePart>() {
                prop_assert_eq!(part.to_string(), text);
            }
        }
    }
}
