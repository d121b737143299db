//! `provider.add`: lets a member trace the proxies of one tool.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::ProviderView;
use super::{ProviderChoice, TASKS, choice, condition, known_tool, role, role_for};
use crate::api::operation::{Call, Operation, VO, moment, reasoned, task};
use crate::api::user::named;
use crate::api::{Api, problem};
use crate::delegate::provider::names;
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::OWN_TOOL;

/// Who may trace which proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderAdd {
    /// Name of the tool whose proxies may be traced.
    #[schema(max_length = 40)]
    pub tool: String,
    /// User name of a member.
    #[schema(max_length = 40)]
    pub username: String,
    /// When it ends by itself (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
    /// What all providers of this tool see from now on; as it was when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<ProviderChoice>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = ProviderAdd;
    type Answer = ProviderView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Lets a member trace the proxies of one tool, and no others";

    fn task() -> Task {
        reasoned(task(
            "provider.add",
            "POST /api/v1/vos/{vo:slug}/providers",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: ProviderAdd) -> Result<ProviderView, Problem> {
        let vo = call.vo()?.id;
        let name = role_for(&body.tool)?;
        let asked = body.choice.as_ref().map(choice).transpose()?;
        let until = body.until.as_deref();
        let until = until.map(|text| moment("until", text)).transpose()?;
        let mut tx = api.begin().await?;
        // SECURITY: looked at once nobody else can change anything: a tool that is removed leaves no provider behind.
        known_tool(api, call, &body.tool)?;
        let person = member(api, vo, &body.username)?;
        let new = is_new(api, vo, &body.tool)?;
        let mut changes = Vec::new();
        if new {
            changes.push(api.vos.create_role(&mut tx, vo, &name).await.map_err(problem)?);
            let tasks = TASKS.map(str::to_owned);
            let granted = api
                .vos
                .add_grants(&mut tx, vo, &name, (OWN_TOOL, &tasks), &condition(&body.tool))
                .await;
            changes.push(granted.map_err(problem)?.1);
        }
        let assigned = api.vos.assign(&mut tx, vo, &name, person, until).await;
        changes.push(assigned.map_err(problem)?);
        let chosen = match asked {
            Some(asked) => {
                let change = api.providers.choose(&mut tx, vo, &body.tool, &asked).await;
                changes.push(change.map_err(problem)?);
                asked
            }
            None => api.providers.choice(vo, &body.tool).await.map_err(problem)?,
        };
        api.commit(call, tx, changes).await?;
        Ok(ProviderView {
            tool: body.tool,
            id: person.to_string(),
            username: body.username,
            until: until.map(|until| until.to_string()),
            answer: chosen.answered.as_str().to_owned(),
            shows: names(&chosen.shows),
        })
    }
}

fn member(api: &Api, vo: VoId, username: &str) -> Result<crate::id::PersonId, Problem> {
    let person = named(api, username).ok();
    let member = person.filter(|person| api.directory().is_member(vo, person.id));
    member.map(|person| person.id).ok_or_else(|| {
        let detail = format!(
            "`{username}` is not a member here; `user add` without roles makes an account for a provider"
        );
        Problem::new(Kind::NotFound, detail)
    })
}

/// Whether the role of the tool's providers is still to be made.
///
/// SECURITY: a role of that name that somebody made by hand for something else is given to no provider.
fn is_new(api: &Api, vo: VoId, tool: &str) -> Result<bool, Problem> {
    let (directory, name) = (api.directory(), role(tool));
    let own = api.wrapped().own().clone();
    for task in TASKS {
        api.authorize
            .check_condition(vo, &own, task, condition(tool).as_str())
            .map_err(problem)?;
    }
    let Some(role) = directory.role_named(vo, &name) else {
        return Ok(true);
    };
    let grants: Vec<_> = directory
        .grants_of_vo(vo)
        .filter(|grant| grant.role == role.id)
        .collect();
    let right = |task: &str| {
        let fits = |grant: &&crate::vo::Grant| {
            grant.tool == OWN_TOOL && grant.task == task && grant.condition == condition(tool)
        };
        grants.iter().filter(|grant| fits(grant)).count() == 1
    };
    if grants.len() == TASKS.len() && TASKS.iter().all(|task| right(task)) {
        return Ok(false);
    }
    let detail = format!(
        "the role `{name}` is there and is granted something else than what providers of `{tool}` are; end it first"
    );
    Err(Problem::new(Kind::Conflict, detail))
}
