//! `user.delete`: ends an account for good, in every VO. For its home and for system administrators. What was done with it stays
//! on record, and its card for tracing; `person.erase` takes that away.

use super::{STOP, stop, stoppable};
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Delete;

impl Operation for Delete {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str =
        "Ends an account for good, with all its memberships, roles, sessions and proxies";

    fn task() -> Task {
        let task = task(
            "user.delete",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/delete",
            tool::Kind::Delete,
            STOP,
        );
        // SECURITY: not `home_only`, like `user.suspend`.
        reasoned(on_person(task))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = stoppable(api, call)?;
        let mut tx = api.begin().await?;
        let change = api.vos.end_person(&mut tx, person.id).await.map_err(problem)?;
        stop(api, call, tx, change, (&person, Happened::Deleted)).await?;
        Ok(Nothing {})
    }
}
