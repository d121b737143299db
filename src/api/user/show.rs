//! `user.show`: one member of a VO.

use super::{UserView, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = UserView;
    const SUMMARY: &'static str = "One member of a virtual organisation";

    fn task() -> Task {
        on_person(task(
            "user.show",
            "GET /api/v1/vos/{vo:slug}/users/{person:uuid}",
            tool::Kind::Read,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserView, Problem> {
        view(api, call.vo()?.id, &*member(api, call)?).await
    }
}
