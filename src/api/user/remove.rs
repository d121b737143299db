//! `user.remove`: ends a membership and its roles, and revokes what was minted for it. The account stays.

use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::delegate::{Which, Why};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str =
        "Ends a membership with its roles and revokes its proxies; the account stays";

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
        let vo = call.vo()?.id;
        let change = api.vos.leave(&mut tx, vo, person.id).await.map_err(problem)?;
        // SECURITY: what was minted for her in this VO acts for it, in others' hands, until it is revoked.
        let hers = Which {
            vo: Some(vo),
            ..Which::all_of(person.id)
        };
        let revoked = api
            .delegate
            .revoke(&mut tx, &hers, Why::Revoked, Some("the membership ended"))
            .await
            .map_err(problem)?;
        let changes = std::iter::once(change).chain(revoked.changes).collect();
        api.commit(call, tx, changes).await?;
        api.delegate.forget_proxies(&revoked.serials);
        Ok(Nothing {})
    }
}
