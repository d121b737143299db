//! `user.suspend`: stops an account everywhere until it is resumed. For its home and for system administrators.

use super::{STOP, UserView, stop, stoppable, view};
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Suspend;

impl Operation for Suspend {
    type Body = Nothing;
    type Answer = UserView;
    const SUMMARY: &'static str = "Stops an account everywhere until it is resumed";

    fn task() -> Task {
        let task = task(
            "user.suspend",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/suspend",
            tool::Kind::Update,
            STOP,
        );
        // SECURITY: not `home_only`: that spares accounts with roles elsewhere, and nobody may become unstoppable.
        reasoned(on_person(task))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserView, Problem> {
        let person = stoppable(api, call)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .suspend_person(&mut tx, person.id)
            .await
            .map_err(problem)?;
        stop(api, call, tx, change, (&person, Happened::Suspended)).await?;
        view(api, call.vo()?.id, &*stoppable(api, call)?).await
    }
}
