//! `user.edit`: a new card for a person, in the account's home.

use super::{CardInput, UserView, tag, view};
use crate::api::operation::{Call, Operation, VO, member, on_person, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Edit;

impl Operation for Edit {
    type Body = CardInput;
    type Answer = UserView;
    const SUMMARY: &'static str = "Changes a person's name, e-mail address and home organisation";
    const EDITS: bool = true;
    const TAGGED: bool = true;

    fn tag(answer: &UserView) -> Option<String> {
        tag(answer)
    }

    fn task() -> Task {
        let task = task(
            "user.edit",
            "PUT /api/v1/vos/{vo:slug}/users/{person:uuid}/card",
            tool::Kind::Update,
            VO,
        );
        Task {
            // SECURITY: whoever changes the address gets the one-time passwords.
            home_only: true,
            ..on_person(task)
        }
    }

    async fn run(api: &Api, call: &Call, body: CardInput) -> Result<UserView, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let present = view(api, call.vo()?.id, &person).await?;
        call.unchanged(api, tag(&present).as_deref())?;
        let change = api
            .vos
            .edit_card(&mut tx, person.id, &body.into())
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        view(api, call.vo()?.id, &*member(api, call)?).await
    }
}
