//! `terms.show` and `terms.show_gateway`: the terms of use that are in force.

use super::{TermsView, view};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, VO, task};
use crate::api::{Api, problem};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::Directory;

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = TermsView;
    const SUMMARY: &'static str = "The terms of use of a virtual organisation";

    fn task() -> Task {
        task(
            "terms.show",
            "GET /api/v1/vos/{vo:slug}/terms",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<TermsView, Problem> {
        show(api, call.vo()?.id).await
    }
}

pub(in crate::api) struct ShowGateway;

impl Operation for ShowGateway {
    type Body = Nothing;
    type Answer = TermsView;
    const SUMMARY: &'static str = "The terms of use of the gateway";

    fn task() -> Task {
        task(
            "terms.show_gateway",
            "GET /api/v1/terms",
            tool::Kind::Read,
            SYSTEM,
        )
    }

    async fn run(api: &Api, _: &Call, _: Nothing) -> Result<TermsView, Problem> {
        show(api, Directory::gateway()).await
    }
}

async fn show(api: &Api, vo: VoId) -> Result<TermsView, Problem> {
    let terms = api.authenticate.terms(vo).await.map_err(problem)?;
    let terms = terms.ok_or_else(|| Problem::new(Kind::NotFound, "there are no terms of use here"))?;
    Ok(view(api, terms))
}
