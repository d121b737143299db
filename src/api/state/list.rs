//! `state.list`: what was changed past the gateway.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DoubtView, view};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, list};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::Task;

/// What is in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doubts {
    /// Levels in doubt.
    pub doubts: Vec<DoubtView>,
    /// What to give as `after` for more; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = Doubts;
    const SUMMARY: &'static str =
        "Holds the store against the log, and lists what was changed past the gateway";

    fn task() -> Task {
        list("state.list", "GET /api/v1/states", SYSTEM)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Doubts, Problem> {
        // Whatever tool is out of service is the start's to report.
        api.states.load().await.map_err(problem)?;
        let doubts = api.states.doubts().iter().map(view).collect();
        let (doubts, next) = call.page(doubts, |doubt: &DoubtView| doubt.id.clone())?;
        Ok(Doubts { doubts, next })
    }
}
