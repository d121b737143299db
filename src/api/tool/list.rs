//! `tool.list`: the tools of a VO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ToolView, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::problem::Problem;
use crate::tool::Task;

/// Tools by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolList {
    /// The tools.
    pub tools: Vec<ToolView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = ToolList;
    const SUMMARY: &'static str = "The tools of a virtual organisation";

    fn task() -> Task {
        list("tool.list", "GET /api/v1/vos/{vo:slug}/tools", VO)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ToolList, Problem> {
        let tools = api.wrapped().all(call.vo()?.id).map(|tool| view(tool)).collect();
        let (tools, next) = call.page(tools, |tool: &ToolView| tool.name.clone())?;
        Ok(ToolList { tools, next })
    }
}
