//! `user.clear_certificate`: a certificate that was marked as compromised can be linked again. For system administrators.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Clear;

impl Operation for Clear {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Lifts the mark as compromised from names and key of a certificate";

    fn task() -> Task {
        // SECURITY: whoever may link and unlink cannot wash the mark off with it.
        reasoned(task(
            "user.clear_certificate",
            "DELETE /api/v1/compromised-certificates/{certificate:uuid}",
            tool::Kind::Delete,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let id = call.id_of("certificate")?;
        let mut tx = api.begin().await?;
        let change = api.authenticate.clear(&mut tx, id).await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(Nothing {})
    }
}
