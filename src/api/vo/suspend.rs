//! `vo.suspend`: stops everything in a VO until it is resumed, and revokes what was minted in it. For system administrators.

use super::{VoView, changed};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Suspend;

impl Operation for Suspend {
    type Body = Nothing;
    type Answer = VoView;
    const SUMMARY: &'static str =
        "Stops everything in a virtual organisation until it is resumed, and revokes its proxies";

    fn task() -> Task {
        // SECURITY: judged at the gateway's level, so that it works while the VO is suspended and no role in it gives it.
        reasoned(task(
            "vo.suspend",
            "POST /api/v1/vos/{vo:slug}/suspend",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<VoView, Problem> {
        let vo = call.vo()?.id;
        let mut tx = api.begin().await?;
        let change = api.vos.suspend_vo(&mut tx, vo).await.map_err(problem)?;
        // SECURITY: its proxies are in others' hands; resuming the VO does not bring them back.
        let note = Some("the virtual organisation was suspended");
        let revoked = api.delegate.revoke_vo(&mut tx, vo, note).await.map_err(problem)?;
        let changes = std::iter::once(change).chain(revoked.changes).collect();
        api.commit(call, tx, changes).await?;
        api.delegate.forget_proxies(&revoked.serials);
        changed(api, call)
    }
}
