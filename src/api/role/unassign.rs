//! `role.unassign`: takes a role away from a member.

use crate::api::operation::{Call, Nothing, Operation, VO, member, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Unassign;

impl Operation for Unassign {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes a role away from a member";

    fn task() -> Task {
        reasoned(task(
            "role.unassign",
            "DELETE /api/v1/vos/{vo:slug}/roles/{role:slug}/members/{person:uuid}",
            tool::Kind::Delete,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .unassign(&mut tx, call.vo()?.id, call.parameter("role")?, person.id)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
