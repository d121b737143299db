//! `grant.list`: the grants of a VO, of one role or of one tool.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::problem::Problem;
use crate::tool::Task;

/// A role's hold on a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Id.
    pub id: String,
    /// Name of the role.
    pub role: String,
    /// Name of the tool; `countersign` for the gateway's own tasks.
    pub tool: String,
    /// Name of the task.
    pub task: String,
    /// `always`, `own`, or a Cedar expression.
    pub condition: String,
}

/// Grants by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantList {
    /// The grants.
    pub grants: Vec<GrantView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What to know about a grant that was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = GrantList;
    const SUMMARY: &'static str =
        "The grants of a virtual organisation, of one role, of one tool or of one task";

    fn task() -> Task {
        let query = ["after", "limit", "role", "tool", "task"];
        Task {
            query: Some(query.map(Into::into).to_vec()),
            ..list("grant.list", "GET /api/v1/vos/{vo:slug}/grants", VO)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<GrantList, Problem> {
        let directory = api.directory();
        let (role, tool, task) = (call.query("role")?, call.query("tool")?, call.query("task")?);
        let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let grants = directory
            .grants_of_vo(call.vo()?.id)
            .filter_map(|grant| {
                Some(GrantView {
                    id: grant.id.to_string(),
                    role: directory.role(grant.role)?.name.clone(),
                    tool: grant.tool.clone(),
                    task: grant.task.clone(),
                    condition: grant.condition.as_str().to_owned(),
                })
            })
            .filter(|grant| fits(role, &grant.role) && fits(tool, &grant.tool) && fits(task, &grant.task))
            .collect();
        let (grants, next) = call.page(grants, |grant| grant.id.clone())?;
        Ok(GrantList {
            grants,
            next,
            warning: None,
        })
    }
}
