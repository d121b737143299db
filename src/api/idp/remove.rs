//! `idp.remove`: removes an identity provider. Its identities end, and the sessions that began by them; the accounts stay.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::problem::Problem;
use crate::record::Event;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Removes an identity provider; sessions that began there end";

    fn task() -> Task {
        reasoned(task(
            "idp.remove",
            "DELETE /api/v1/idps/{idp:slug}",
            tool::Kind::Delete,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let mut tx = api.begin().await?;
        let name = call.parameter("idp")?;
        let (change, ended) = api.authenticate.remove_idp(&mut tx, name, call.id).await?;
        let further = ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call, tx, vec![change], further).await?;
        for ended in &ended {
            api.end_recorded(ended).await?;
        }
        Ok(Nothing {})
    }
}
