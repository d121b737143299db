//! `administrator.remove`: takes the gateway's own role away; one who holds it for good always remains.

use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};
use crate::vo::{Directory, SYSTEM_ADMINISTRATOR};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes the role of system administrator away; one always remains";

    fn task() -> Task {
        reasoned(task(
            "administrator.remove",
            "DELETE /api/v1/administrators/{person:uuid}",
            tool::Kind::Delete,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .unassign(
                &mut tx,
                Directory::gateway(),
                SYSTEM_ADMINISTRATOR,
                call.id_of("person")?,
            )
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
