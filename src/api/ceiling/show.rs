//! `ceiling.show`: what a virtual organisation may grant at all. Its administrators may look, since it refuses their grants.

use super::{CeilingList, list};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};
use crate::vo::{SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = CeilingList;
    const SUMMARY: &'static str =
        "What a virtual organisation may grant at all, and the grants that do not hold";

    fn task() -> Task {
        task(
            "ceiling.show",
            "GET /api/v1/vos/{vo:slug}/ceiling",
            tool::Kind::Read,
            Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]),
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<CeilingList, Problem> {
        Ok(list(api, &api.directory(), call.vo()?.id))
    }
}
