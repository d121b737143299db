//! `role.end`: ends a role with its grants and everyone's hold on it.

use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct End;

impl Operation for End {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Ends a role with its grants and everyone's hold on it";

    fn task() -> Task {
        reasoned(task(
            "role.end",
            "DELETE /api/v1/vos/{vo:slug}/roles/{role:slug}",
            tool::Kind::Delete,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .end_role(&mut tx, call.vo()?.id, call.parameter("role")?)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
