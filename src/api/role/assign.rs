//! `role.assign`: gives a role to a member, for good or until a moment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, member, moment, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// For how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleAssign {
    /// When it ends by itself (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
}

pub(in crate::api) struct Assign;

impl Operation for Assign {
    type Body = RoleAssign;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Gives a role to a member, for good or until a moment";

    fn task() -> Task {
        reasoned(task(
            "role.assign",
            "PUT /api/v1/vos/{vo:slug}/roles/{role:slug}/members/{person:uuid}",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: RoleAssign) -> Result<Nothing, Problem> {
        let until = body.until.map(|text| moment("until", &text)).transpose()?;
        no_provider(call.parameter("role")?)?;
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .assign(&mut tx, call.vo()?.id, call.parameter("role")?, person.id, until)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
