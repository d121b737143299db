//! `grant.remove`: ends a grant; the next request is decided without it.

use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Ends a grant";

    fn task() -> Task {
        reasoned(task(
            "grant.remove",
            "DELETE /api/v1/vos/{vo:slug}/grants/{grant:uuid}",
            tool::Kind::Delete,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .end_grant(&mut tx, call.vo()?.id, call.id_of("grant")?)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
