//! `upstream.end`: takes an address away from a VO; the next request to it fails.

use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct End;

impl Operation for End {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes an address away from a virtual organisation";

    fn task() -> Task {
        reasoned(task(
            "upstream.end",
            "DELETE /api/v1/vos/{vo:slug}/upstreams/{upstream:slug}",
            tool::Kind::Delete,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .end_upstream(&mut tx, call.vo()?.id, call.parameter("upstream")?)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
