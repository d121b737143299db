//! `user.remove`: ends a membership and its roles. The account stays.

use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Ends a membership with its roles; the account stays";

    fn task() -> Task {
        reasoned(on_person(task(
            "user.remove",
            "DELETE /api/v1/vos/{vo:slug}/users/{person:uuid}",
            tool::Kind::Delete,
            VO,
        )))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .leave(&mut tx, call.vo()?.id, person.id)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
