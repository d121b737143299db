//! `tool.add`: wraps a tool, or puts a new manifest in the place of one.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ToolView, check, named, parsed, view, warnings};
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// A manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolAdd {
    /// The manifest's text (TOML).
    pub manifest: String,
    /// Name of its file, for errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub file: Option<String>,
    /// The version that it replaces; 0 or absent for a new tool.
    #[serde(default)]
    pub version: i64,
}

/// A tool that was added, with what its author should think about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolAdded {
    /// It.
    pub tool: ToolView,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = ToolAdd;
    type Answer = ToolAdded;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Wraps a tool by a manifest, or replaces the manifest of one";

    fn task() -> Task {
        reasoned(task(
            "tool.add",
            "POST /api/v1/vos/{vo:slug}/tools",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: ToolAdd) -> Result<ToolAdded, Problem> {
        let vo = call.vo()?.id;
        let manifest = parsed(body.file.as_deref(), &body.manifest)?;
        check(api, call, &manifest.tool)?;
        let mut tx = api.begin().await?;
        api.vos.touch(&mut tx, vo).await.map_err(problem)?;
        let change = api
            .tools
            .add(&mut tx, vo, &manifest, body.version)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        api.resources.forget();
        let tool = named(api, vo, &manifest.tool.name)?;
        let warnings = warnings(api, call, &tool, manifest.warnings)?;
        Ok(ToolAdded {
            tool: view(&tool),
            warnings,
        })
    }
}
