//! Wrapped tools.

pub mod add;
pub mod import;
pub mod list;
pub mod remove;
pub mod set_credential;
pub mod show;
pub mod try_request;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::Call;
use super::{Api, etag, problem};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::settings::Flaws;
use crate::tool::{Manifest, Tool, ToolTarget};

/// A wrapped tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    /// Id of the registration.
    pub id: String,
    /// Name.
    pub name: String,
    /// Version of the registration, to name when it is changed.
    pub version: i64,
    /// Upstream.
    pub upstream: String,
    /// Host names for browsers.
    pub hosts: Vec<String>,
    /// How it is given authority.
    pub delegation: String,
    /// Its tasks, in the manifest's order.
    pub tasks: Vec<TaskView>,
}

/// A task of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Name.
    pub name: String,
    /// `read`, `create`, ...
    pub kind: String,
    /// Requests that it names.
    pub matches: Vec<String>,
    /// What a request must show besides, in words: query values, headers, body, and the task that it is within.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<String>,
    /// Type of the resource that it acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

fn view(tool: &Tool) -> ToolView {
    ToolView {
        id: tool.id.to_string(),
        name: tool.name.clone(),
        version: tool.version,
        upstream: match &tool.target {
            ToolTarget::Upstream(name) => name.clone(),
            ToolTarget::Local(name) => (*name).to_owned(),
        },
        hosts: tool.hosts.clone(),
        delegation: tool.delegation.as_str().to_owned(),
        tasks: tool
            .tasks
            .iter()
            .map(|task| TaskView {
                name: task.name.clone(),
                kind: task.kind.as_str().to_owned(),
                matches: task.matches.clone(),
                demands: task.shown(),
                resource: task.resource.as_ref().map(|rule| rule.kind.clone()),
            })
            .collect(),
    }
}

/// A tool of a VO by name.
fn named(api: &Api, vo: VoId, name: &str) -> Result<Arc<Tool>, Problem> {
    api.wrapped()
        .get(vo, name)
        .cloned()
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no tool `{name}` here")))
}

/// The tag of a tool: each registration has a version of its own.
fn tag(name: &str, version: i64) -> Option<String> {
    etag::tag(&(name, version))
}

/// Reads a manifest; the problem lists every flaw.
fn parsed(file: Option<&str>, text: &str) -> Result<Manifest, Problem> {
    let file: String = file
        .unwrap_or("manifest")
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Manifest::parse(&file, text).map_err(|Flaws(flaws)| {
        let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        Problem::new(Kind::Invalid, "the manifest is not accepted").with("errors", flaws)
    })
}

/// Whether the VO of `call` may have this tool: all that can be said before it is registered, the same when it is tried.
fn check(api: &Api, call: &Call, tool: &Tool) -> Result<(), Problem> {
    refuse_own_host(call, tool)?;
    api.tools.check(call.vo()?.id, tool).map_err(problem)
}

/// SECURITY: a tool under the gateway's own host would share the origin of console and API.
fn refuse_own_host(call: &Call, tool: &Tool) -> Result<(), Problem> {
    let base: http::Uri = call
        .base
        .parse()
        .map_err(|_| Problem::new(Kind::Internal, "the gateway's origin cannot be read"))?;
    let own = base.host().unwrap_or_default();
    match tool.hosts.iter().find(|host| host.eq_ignore_ascii_case(own)) {
        Some(host) => Err(Problem::new(
            Kind::Invalid,
            format!("the host `{host}` is the gateway's own"),
        )),
        None => Ok(()),
    }
}

/// What a tool's author should think about, and what is still to be done before the tool can be called.
fn warnings(api: &Api, call: &Call, tool: &Tool, read: Vec<String>) -> Result<Vec<String>, Problem> {
    let vo = call.vo()?;
    let flaws = api.authorize.flaws(vo.id, tool);
    let lacking = api.delegate.lacks(vo, tool);
    Ok(read
        .into_iter()
        .chain(flaws.into_iter().map(|flaw| flaw.message))
        .chain(lacking.map(|error| format!("the tool cannot be called yet: {error}")))
        .chain(api.delegate.refusals(vo, tool))
        .collect())
}
