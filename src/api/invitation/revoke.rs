//! `invitation.revoke`: takes an invitation back that nobody has taken yet.

use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::EnrolmentKind;

pub(in crate::api) struct Revoke;

impl Operation for Revoke {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes an invitation back that nobody has taken yet";

    fn task() -> Task {
        reasoned(task(
            "invitation.revoke",
            "DELETE /api/v1/vos/{vo:slug}/invitations/{invitation:uuid}",
            tool::Kind::Delete,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let (vo, by) = (call.vo()?.id, call.person()?.id);
        let mut tx = api.db.begin_write().await.map_err(problem)?;
        let of = (vo, EnrolmentKind::Invitation);
        let found = api.vos.enrolment(&mut tx, of, call.id_of("invitation")?).await;
        let found = found.map_err(problem)?;
        if found.state != "open" {
            return Err(Problem::new(
                Kind::Conflict,
                format!("the invitation is {}", found.state),
            ));
        }
        let revoked = ("revoked", "invitation.revoke");
        let change = api
            .vos
            .settle_enrolment(&mut tx, &found, revoked, (by, None))
            .await;
        api.commit_aside(call, tx, vec![change.map_err(problem)?]).await?;
        Ok(Nothing {})
    }
}
