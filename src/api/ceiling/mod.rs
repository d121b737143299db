//! Ceilings: what a virtual organisation may grant at all, set by a system administrator for whoever gave it the resource.

pub mod set;
pub mod show;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::authorize::pin;
use crate::id::VoId;
use crate::tool::Tools;
use crate::vo::{Ceiling, CeilingScope, Directory};

/// A task of a tool that may be granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingTaskView {
    /// Name of the tool.
    #[schema(max_length = 40)]
    pub tool: String,
    /// Name of the task.
    #[schema(max_length = 64)]
    pub task: String,
    /// Whether the manifest has changed the task since the ceiling was set: then it is outside, until the ceiling is set anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// What the virtual organisation may grant of some of its tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeilingView {
    /// Over the tools on this upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Over this tool; with neither, over all tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Kinds of task that may be granted.
    pub kinds: Vec<String>,
    /// Tasks that may be granted whatever their kind.
    pub tasks: Vec<CeilingTaskView>,
}

/// A grant that does not hold, because its task is outside a ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CutGrant {
    /// Id of the grant.
    pub id: String,
    /// Name of the role.
    pub role: String,
    /// How many people hold that role.
    pub holders: usize,
    /// Name of the tool.
    pub tool: String,
    /// Name of the task.
    pub task: String,
    /// The ceiling, in a sentence.
    pub why: String,
}

/// The ceilings of a virtual organisation, and the grants that do not hold under them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeilingList {
    /// The ceilings; a task has to be within each that is over its tool. Without any, everything may be granted.
    pub ceilings: Vec<CeilingView>,
    /// The grants that do not hold.
    pub cut: Vec<CutGrant>,
}

fn list(api: &Api, directory: &Directory, vo: VoId) -> CeilingList {
    let tools = api.wrapped();
    let mut ceilings: Vec<CeilingView> = directory
        .ceilings(vo)
        .iter()
        .map(|ceiling| view(&tools, ceiling))
        .collect();
    ceilings.sort_by(|a, b| (&a.upstream, &a.tool).cmp(&(&b.upstream, &b.tool)));
    CeilingList {
        ceilings,
        cut: cut(api, directory, vo),
    }
}

fn view(tools: &Tools, ceiling: &Ceiling) -> CeilingView {
    let (upstream, tool) = match &ceiling.scope {
        CeilingScope::All => (None, None),
        CeilingScope::Upstream(name) => (Some(name.clone()), None),
        CeilingScope::Tool(name) => (None, Some(name.clone())),
    };
    let tasks = ceiling.tasks.iter().map(|known| {
        let tool = tools.get(ceiling.vo, &known.tool);
        let now = tool.and_then(|tool| Some(pin(tool, tool.task(&known.task)?)));
        CeilingTaskView {
            tool: known.tool.clone(),
            task: known.task.clone(),
            changed: now != Some(known.pin),
        }
    });
    CeilingView {
        upstream,
        tool,
        kinds: ceiling.kinds.clone(),
        tasks: tasks.collect(),
    }
}

/// The grants of a VO that do not hold under the ceilings of `directory`.
fn cut(api: &Api, directory: &Directory, vo: VoId) -> Vec<CutGrant> {
    let (tools, now) = (api.wrapped(), api.now());
    let mut cut: Vec<CutGrant> = directory
        .grants_of_vo(vo)
        .filter_map(|grant| {
            let tool = tools.get(vo, &grant.tool)?;
            let outside = crate::authorize::outside(directory, vo, tool, tool.task(&grant.task)?)?;
            let role = directory.role(grant.role)?.name.clone();
            Some(CutGrant {
                id: grant.id.to_string(),
                holders: directory.holders(vo, &role, now).len(),
                role,
                tool: grant.tool.clone(),
                task: grant.task.clone(),
                why: outside.to_string(),
            })
        })
        .collect();
    cut.sort_by(|a, b| (&a.role, &a.tool, &a.task, &a.id).cmp(&(&b.role, &b.tool, &b.task, &b.id)));
    cut
}
