//! Whether a VO may grant a task at all: the ceilings that whoever gave it the resource has set.
//!
//! Whether a task is within them is known when its bucket is built, and stands in the context of every request, where a
//! rule of every bucket reads it: so a ceiling that is lowered closes at once what was granted before, and a ceiling that is
//! lifted brings it back.

use std::fmt;

use crate::id::VoId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Hash;
use crate::tool::{self, Task, Tool, ToolTarget};
use crate::vo::{Ceiling, CeilingScope, Directory, OWN_TOOL};

/// A ceiling that a task is outside of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// VO by name.
    pub vo: String,
    /// Tool.
    pub tool: String,
    /// Task.
    pub task: String,
    /// What the ceiling is over.
    pub scope: CeilingScope,
    /// What it lets the VO grant, in words.
    pub allows: String,
    /// Whether it names the task, which the manifest has changed since.
    pub changed: bool,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vo,
            tool,
            task,
            scope,
            allows,
            changed,
        } = self;
        write!(
            f,
            "`{task}` of `{tool}` is outside the ceiling over {scope} of `{vo}`, which lets it grant {allows}"
        )?;
        if *changed {
            f.write_str("; the manifest has changed the task since the ceiling was set")?;
        }
        Ok(())
    }
}

impl AsProblem for Outside {
    fn as_problem(&self) -> Problem {
        let (over, name) = self.scope.parts();
        Problem::new(Kind::OutsideCeiling, self.to_string())
            .with("tool", self.tool.as_str())
            .with("task", self.task.as_str())
            .with(
                "ceiling",
                format!("{over}/{name}").trim_end_matches('/').to_owned(),
            )
    }
}

/// The first ceiling that a task of a VO's tool is outside of.
///
/// The gateway's own tasks are no resource that somebody gave to a VO: there is no ceiling over them.
#[must_use]
pub fn outside(directory: &Directory, vo: VoId, tool: &Tool, task: &Task) -> Option<Outside> {
    if tool.name == OWN_TOOL {
        return None;
    }
    let upstream = match &tool.target {
        ToolTarget::Upstream(name) => Some(name.as_str()),
        ToolTarget::Local(_) => None,
    };
    let mut over = directory
        .ceilings(vo)
        .iter()
        .filter(|ceiling| ceiling.is_over(&tool.name, upstream));
    let ceiling = over.find(|ceiling| !is_within(ceiling, tool, task))?;
    let names = |known: &&crate::vo::CeilingTask| known.tool == tool.name && known.task == task.name;
    Some(Outside {
        vo: directory
            .vo(vo)
            .map_or_else(|| vo.to_string(), |vo| vo.name.clone()),
        tool: tool.name.clone(),
        task: task.name.clone(),
        scope: ceiling.scope.clone(),
        allows: ceiling.allows(),
        changed: ceiling.tasks.iter().any(|known| names(&known)),
    })
}

fn is_within(ceiling: &Ceiling, tool: &Tool, task: &Task) -> bool {
    if ceiling.kinds.iter().any(|kind| kind == task.kind.as_str()) && is_believed(task) {
        return true;
    }
    let mut named = ceiling
        .tasks
        .iter()
        .filter(|known| known.tool == tool.name && known.task == task.name)
        .peekable();
    named.peek().is_some() && {
        let now = pin(tool, task);
        named.any(|known| known.pin == now)
    }
}

/// Whether the methods of a task are those of its kind.
///
/// SECURITY: the kind is a word of the VO's own manifest. Whoever gave the resource reads `read` as "changes nothing" and
/// `create` as "removes nothing", so that much is held against the methods (RFC 9110 section 9.2.1 and 9.3.5); a task that
/// looks by POST has to be named.
fn is_believed(task: &Task) -> bool {
    task.matches.iter().all(|text| {
        let method = text.split(' ').next().unwrap_or_default();
        match method {
            "GET" | "HEAD" => true,
            "DELETE" => task.kind == tool::Kind::Delete,
            _ => task.kind.changes_state(),
        }
    })
}

/// What a manifest says of a task, and where its tool goes: a ceiling that names the task means this one.
///
/// SECURITY: a VO's administrator writes the manifest, so the name of a task alone would allow whatever she gives that name.
#[must_use]
pub fn pin(tool: &Tool, task: &Task) -> Hash {
    let upstream = match &tool.target {
        ToolTarget::Upstream(name) => name.as_str(),
        ToolTarget::Local(name) => name,
    };
    let manifest: toml::Table = toml::from_str(&tool.manifest).unwrap_or_default();
    let tasks = manifest.get("task").and_then(toml::Value::as_array);
    let is_it = |table: &&toml::Table| table.get("name").and_then(toml::Value::as_str) == Some(&task.name);
    let written = tasks
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_table)
        .find(is_it)
        .map_or_else(String::new, ToString::to_string);
    let text = serde_json::json!([
        tool.name,
        upstream,
        task.name,
        task.kind.as_str(),
        task.matches,
        written
    ]);
    Hash::of(text.to_string().as_bytes())
}
