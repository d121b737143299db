//! `terms.owed`: the terms of use that one has yet to accept. Before that, a session opens nothing else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TermsView, owed};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};

/// What is yet to be accepted: the gateway's terms first, then those of virtual organisations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TermsOwed {
    /// The terms.
    pub owed: Vec<TermsView>,
}

pub(in crate::api) struct Owed;

impl Operation for Owed {
    type Body = Nothing;
    type Answer = TermsOwed;
    const SUMMARY: &'static str = "The terms of use that you have yet to accept";

    fn task() -> Task {
        task(
            "terms.owed",
            "GET /api/v1/me/terms",
            tool::Kind::Read,
            Audience::AnySession,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<TermsOwed, Problem> {
        Ok(TermsOwed {
            owed: owed(api, call).await?,
        })
    }
}
