//! `user.remove_certificate`: a certificate lets a member in no more. For administrators of the account's home.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Ends a member's sign-in with a grid certificate";

    fn task() -> Task {
        let task = task(
            "user.remove_certificate",
            "DELETE /api/v1/vos/{vo:slug}/users/{person:uuid}/certificates/{certificate:uuid}",
            tool::Kind::Delete,
            VO,
        );
        reasoned(Task {
            home_only: true,
            ..on_person(task)
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let id = call.id_of("certificate")?;
        let mut tx = api.begin().await?;
        let change = api.authenticate.unlink(&mut tx, &person, id).await?;
        super::shut(api, call, &person, tx, change).await?;
        Ok(Nothing {})
    }
}
