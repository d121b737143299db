//! `user.resume`: lets a suspended person in again. For its home and for system administrators.

use super::{STOP, UserView, stoppable, tell, view};
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Resume;

impl Operation for Resume {
    type Body = Nothing;
    type Answer = UserView;
    const SUMMARY: &'static str = "Lets a suspended person in again";

    fn task() -> Task {
        let task = task(
            "user.resume",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/resume",
            tool::Kind::Update,
            STOP,
        );
        // SECURITY: not `home_only`: that spares accounts with roles elsewhere, and nobody may become unstoppable.
        reasoned(on_person(task))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserView, Problem> {
        let person = stoppable(api, call)?;
        let mut tx = api.begin().await?;
        let change = api.vos.resume_person(&mut tx, person.id).await.map_err(problem)?;
        tell(api, call, &mut tx, Happened::Resumed, &person).await?;
        api.commit(call, tx, vec![change]).await?;
        view(api, call.vo()?.id, &*stoppable(api, call)?).await
    }
}
