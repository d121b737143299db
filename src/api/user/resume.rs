//! `user.resume`: lets a suspended person in again. Only in the account's home.

use super::{UserView, view};
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, task};
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
            VO,
        );
        Task {
            // SECURITY: an account works in every VO, so only its home decides whether it works at all.
            home_only: true,
            ..on_person(task)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserView, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let change = api.vos.resume_person(&mut tx, person.id).await.map_err(problem)?;
        api.commit(call.id, tx, vec![change]).await?;
        view(api, call.vo()?.id, &*member(api, call)?).await
    }
}
