//! `ceiling.set`: sets or lifts a ceiling over what a virtual organisation may grant. For system administrators.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CeilingList, CeilingTaskView, list};
use crate::api::operation::{Call, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::authorize::pin;
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::{Allowance, CeilingScope, CeilingTask, Directory, OWN_TOOL};

/// Most tasks in one ceiling.
const MOST_TASKS: usize = 1_000;

/// What may be granted, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingSet {
    /// Over the tools on this upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub upstream: Option<String>,
    /// Over this tool; with neither, over all tools of the virtual organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub tool: Option<String>,
    /// Kinds of task that may be granted: `read`, `download`, `create`, `update`, `delete`, `execute`, `transfer`, `asset`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 8)]
    pub kinds: Vec<String>,
    /// Tasks that may be granted whatever their kind, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1000)]
    pub tasks: Vec<CeilingTaskView>,
    /// Take the ceiling away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lift: bool,
    /// Change nothing: only answer what there would be, and which grants would not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
}

pub(in crate::api) struct Set;

impl Operation for Set {
    type Body = CeilingSet;
    type Answer = CeilingList;
    const SUMMARY: &'static str = "Sets or lifts a ceiling over what a virtual organisation may grant; the next request is decided with it";

    fn task() -> Task {
        // SECURITY: judged at the gateway's level: no role of the VO can raise its own ceiling.
        reasoned(task(
            "ceiling.set",
            "PUT /api/v1/vos/{vo:slug}/ceiling",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, body: CeilingSet) -> Result<CeilingList, Problem> {
        let vo = call.vo()?.id;
        let scope = scope(api, vo, &body)?;
        let allowance = allowance(api, vo, &body)?;
        let mut tx = api.begin().await?;
        let set = api.vos.set_ceiling(&mut tx, vo, &scope, allowance);
        let change = set.await.map_err(problem)?;
        if body.check {
            // What the store would hold, seen from within the transaction, which ends here.
            let rows = api.vos.read(&mut tx).await.map_err(problem)?;
            return Ok(list(api, &Directory::build(rows), vo));
        }
        api.commit(call, tx, vec![change]).await?;
        Ok(list(api, &api.directory(), vo))
    }
}

fn scope(api: &Api, vo: VoId, body: &CeilingSet) -> Result<CeilingScope, Problem> {
    match (&body.upstream, &body.tool) {
        (None, None) => Ok(CeilingScope::All),
        (Some(_), Some(_)) => Err(invalid("name an upstream or a tool, not both".into())),
        (Some(name), None) => {
            if !body.lift && api.directory().upstream(vo, name).is_none() {
                return Err(unknown(format!("there is no upstream `{name}` here")));
            }
            Ok(CeilingScope::Upstream(name.clone()))
        }
        (None, Some(name)) if name == OWN_TOOL => Err(invalid(
            "a ceiling is over wrapped tools; what a virtual organisation does with itself is not given to it by a resource".into(),
        )),
        (None, Some(name)) => {
            if !body.lift && api.wrapped().get(vo, name).is_none() {
                return Err(unknown(format!("there is no tool `{name}` here")));
            }
            Ok(CeilingScope::Tool(name.clone()))
        }
    }
}

fn allowance(api: &Api, vo: VoId, body: &CeilingSet) -> Result<Option<Allowance>, Problem> {
    if body.lift {
        if body.kinds.is_empty() && body.tasks.is_empty() {
            return Ok(None);
        }
        return Err(invalid(
            "a ceiling that is lifted names no kinds and no tasks".into(),
        ));
    }
    if let Some(bad) = body.kinds.iter().find(|kind| tool::Kind::parse(kind).is_none()) {
        return Err(invalid(format!("`{bad}` is not a kind of task")));
    }
    if body.tasks.len() > MOST_TASKS {
        return Err(invalid(format!("a ceiling names at most {MOST_TASKS} tasks")));
    }
    let tools = api.wrapped();
    let named = |wanted: &CeilingTaskView| {
        let tool = tools
            .get(vo, &wanted.tool)
            .ok_or_else(|| unknown(format!("there is no tool `{}` here", wanted.tool)))?;
        let task = tool.task(&wanted.task).ok_or_else(|| {
            unknown(format!(
                "the tool `{}` has no task `{}`",
                wanted.tool, wanted.task
            ))
        })?;
        Ok(CeilingTask {
            tool: wanted.tool.clone(),
            task: wanted.task.clone(),
            pin: pin(tool, task),
        })
    };
    let tasks: Result<Vec<CeilingTask>, Problem> = body.tasks.iter().map(named).collect();
    Ok(Some((body.kinds.clone(), tasks?)))
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::Invalid, detail)
}

fn unknown(detail: String) -> Problem {
    Problem::new(Kind::NotFound, detail)
}
