//! `tool.show`: one tool with its manifest.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ToolView, named, tag, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// A tool and its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolShown {
    /// It.
    pub tool: ToolView,
    /// The manifest as it was registered.
    pub manifest: String,
}

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = ToolShown;
    const SUMMARY: &'static str = "One tool with its manifest";
    const TAGGED: bool = true;

    fn tag(answer: &ToolShown) -> Option<String> {
        tag(&answer.tool.name, answer.tool.version)
    }

    fn task() -> Task {
        task(
            "tool.show",
            "GET /api/v1/vos/{vo:slug}/tools/{tool:slug}",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ToolShown, Problem> {
        let tool = named(api, call.vo()?.id, call.parameter("tool")?)?;
        Ok(ToolShown {
            tool: view(&tool),
            manifest: tool.manifest.clone(),
        })
    }
}
