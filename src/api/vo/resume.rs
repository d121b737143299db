//! `vo.resume`: opens a suspended VO again. For system administrators.

use super::{VoView, changed};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Resume;

impl Operation for Resume {
    type Body = Nothing;
    type Answer = VoView;
    const SUMMARY: &'static str = "Opens a suspended virtual organisation again";

    fn task() -> Task {
        // SECURITY: judged at the gateway's level, so that it works while the VO is suspended and no role in it gives it.
        reasoned(task(
            "vo.resume",
            "POST /api/v1/vos/{vo:slug}/resume",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<VoView, Problem> {
        let vo = call.vo()?.id;
        let mut tx = api.begin().await?;
        let change = api.vos.resume_vo(&mut tx, vo).await.map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        changed(api, call)
    }
}
