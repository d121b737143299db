//! `vo.show`: one VO, for its members and for system administrators.

use super::{VoView, may_see, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, stranger, task};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = VoView;
    const SUMMARY: &'static str = "One of your virtual organisations";

    fn task() -> Task {
        task(
            "vo.show",
            "GET /api/v1/vos/{vo:slug}",
            tool::Kind::Read,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<VoView, Problem> {
        let (directory, person) = (api.directory(), call.person()?.id);
        call.vo
            .as_ref()
            .and_then(|vo| directory.vo(vo.id))
            .filter(|vo| may_see(api, &directory, vo, person))
            .map(|vo| view(api, &directory, vo, person))
            // The same answer for one that does not exist.
            .ok_or_else(|| stranger(call))
    }
}
