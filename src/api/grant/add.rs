//! `grant.add`: lets a role do tasks of a tool; the next request is decided with it.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{GrantList, GrantView};
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task, Tool};
use crate::vo::{Condition, OWN_TOOL, VO_ADMINISTRATOR};

/// Tasks with which a role can be had that may do everything.
const RISING: [&str; 3] = ["role.assign", "grant.add", "user.add"];

/// Which role may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantAdd {
    /// Name of the role.
    #[schema(max_length = 40)]
    pub role: String,
    /// Name of the tool; `countersign` for the gateway's own tasks.
    #[schema(max_length = 40)]
    pub tool: String,
    /// Names of the tasks.
    #[schema(min_items = 1, max_items = 200)]
    pub tasks: Vec<String>,
    /// `always` (when absent), `own`, or a Cedar expression over `principal`, `resource` and `context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub when: Option<String>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = GrantAdd;
    type Answer = GrantList;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Lets a role do tasks of a tool, always or under a condition";

    fn task() -> Task {
        reasoned(task(
            "grant.add",
            "POST /api/v1/vos/{vo:slug}/grants",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: GrantAdd) -> Result<GrantList, Problem> {
        let vo = call.vo()?.id;
        no_provider(&body.role)?;
        let condition = Condition::parse(body.when.as_deref().unwrap_or("always"));
        check(api, vo, &body, &condition)?;
        let mut tx = api.begin().await?;
        let (grants, change) = api
            .vos
            .add_grants(&mut tx, vo, &body.role, (&body.tool, &body.tasks), &condition)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        let view = |(id, task): (crate::id::GrantId, String)| GrantView {
            id: id.to_string(),
            role: body.role.clone(),
            tool: body.tool.clone(),
            task,
            condition: condition.as_str().to_owned(),
        };
        let warning = warning(&body);
        Ok(GrantList {
            warning,
            grants: grants.into_iter().zip(body.tasks).map(view).collect(),
            next: None,
        })
    }
}

/// Tool, tasks and condition must be there and fit each other.
fn check(api: &Api, vo: VoId, body: &GrantAdd, condition: &Condition) -> Result<(), Problem> {
    let tools = api.wrapped();
    let tool = if body.tool == OWN_TOOL {
        Some(tools.own().clone())
    } else {
        tools.get(vo, &body.tool).cloned()
    };
    let tool =
        tool.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no tool `{}` here", body.tool)))?;
    for name in &body.tasks {
        let task = grantable(&tool, name)?;
        // SECURITY: what the VO was not given it does not pass on; that the grant would not hold either is for those before.
        let within = api.authorize.check_ceiling(vo, &tool, task);
        within.map_err(|outside| problem(*outside))?;
        api.authorize
            .check_condition(vo, &tool, name, condition.as_str())
            .map_err(problem)?;
    }
    Ok(())
}

/// What whoever grants such a task should know: its holders can give themselves any role of the VO.
fn warning(body: &GrantAdd) -> Option<String> {
    let name = RISING
        .iter()
        .find(|name| body.tool == OWN_TOOL && body.tasks.iter().any(|task| task == *name))?;
    (body.role != VO_ADMINISTRATOR).then(|| {
        format!(
            "whoever holds `{}` can do `{name}`, and with it make herself an administrator of this virtual organisation",
            body.role
        )
    })
}

fn grantable<'a>(tool: &'a Tool, name: &str) -> Result<&'a Task, Problem> {
    let Some(task) = tool.task(name) else {
        let detail = format!("the tool `{}` has no task `{name}`", tool.name);
        return Err(Problem::new(Kind::NotFound, detail));
    };
    // SECURITY: an administrator of a VO passes on what is hers to do, never what is the gateway's.
    let hers = match task.audience {
        Audience::Granted(roles) => {
            tool.name != OWN_TOOL || roles.is_empty() || roles.contains(&VO_ADMINISTRATOR)
        }
        Audience::Everyone | Audience::AnySession | Audience::AnyPerson => false,
    };
    if hers {
        return Ok(task);
    }
    let detail = format!("the task `{name}` is not for roles of a virtual organisation to have");
    Err(Problem::new(Kind::Invalid, detail))
}
