//! `provider.remove`: a member traces the proxies of a tool no more.

use super::{on_tool, role};
use crate::api::operation::{Call, Nothing, Operation, VO, member, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes the right to trace the proxies of a tool away";

    fn task() -> Task {
        let task = task(
            "provider.remove",
            "DELETE /api/v1/vos/{vo:slug}/providers/{tool:slug}/{person:uuid}",
            tool::Kind::Delete,
            VO,
        );
        reasoned(Task {
            resource: on_tool(),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let role = role(call.parameter("tool")?);
        let mut tx = api.begin().await?;
        let ended = api.vos.unassign(&mut tx, call.vo()?.id, &role, person.id).await;
        api.commit(call, tx, vec![ended.map_err(problem)?]).await?;
        Ok(Nothing {})
    }
}
