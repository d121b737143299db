//! `idp.show`: one identity provider.

use super::{IdpView, of, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = IdpView;
    const SUMMARY: &'static str = "One identity provider, and what to register there";

    fn task() -> Task {
        task(
            "idp.show",
            "GET /api/v1/idps/{idp:slug}",
            tool::Kind::Read,
            SYSTEM,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdpView, Problem> {
        Ok(view(api, call, &of(api, call).await?))
    }
}
