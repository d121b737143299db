//! `role.create`: a new role without grants.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::RoleView;
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// What the role is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleCreate {
    /// Name: `[a-z0-9-]`, 1 to 40.
    #[schema(max_length = 40)]
    pub name: String,
}

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = RoleCreate;
    type Answer = RoleView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Makes a role";

    fn task() -> Task {
        reasoned(task(
            "role.create",
            "POST /api/v1/vos/{vo:slug}/roles",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: RoleCreate) -> Result<RoleView, Problem> {
        no_provider(&body.name)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .create_role(&mut tx, call.vo()?.id, &body.name)
            .await
            .map_err(problem)?;
        let id = change.target.clone();
        api.commit(call, tx, vec![change]).await?;
        Ok(RoleView {
            id,
            name: body.name,
            members: 0,
            grants: 0,
        })
    }
}
