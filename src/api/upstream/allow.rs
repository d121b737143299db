//! `upstream.allow`: gives an address to a VO.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{UpstreamView, view};
use crate::api::operation::{Call, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Delegation, Task, Tool, ToolTarget};
use crate::vo::{NewUpstream, VoError};

/// An address for a VO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamAllow {
    /// Name within the VO.
    #[schema(max_length = 40)]
    pub name: String,
    /// `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`.
    #[schema(max_length = 300)]
    pub url: String,
    /// PEM of the authorities that may sign for it; the system's when absent. With `https` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Name expected in its certificate, when it is not the host. With `https` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 253)]
    pub expected_name: Option<String>,
    /// Whether it is spoken to in HTTP/2, as gRPC needs: over TLS it must choose that, else it is told so at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
}

pub(in crate::api) struct Allow;

impl Operation for Allow {
    type Body = UpstreamAllow;
    type Answer = UpstreamView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Gives an address to a virtual organisation";

    fn task() -> Task {
        reasoned(task(
            "upstream.allow",
            "POST /api/v1/vos/{vo:slug}/upstreams",
            tool::Kind::Create,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, body: UpstreamAllow) -> Result<UpstreamView, Problem> {
        let vo = call.vo()?.id;
        let new = NewUpstream {
            name: body.name,
            url: body.url,
            ca: body.ca,
            expected: body.expected_name,
            http2: body.http2,
        };
        refuse(api, vo, &new)?;
        let mut tx = api.begin().await?;
        let change = api.vos.allow_upstream(&mut tx, vo, &new).await.map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        let directory = api.directory();
        directory
            .upstream(vo, &new.name)
            .map(|upstream| view(upstream))
            .ok_or_else(|| Problem::new(Kind::Internal, "the new upstream is not there"))
    }
}

/// Refuses what could be registered and would never work: the gateway itself, and an address that does not fit the tools
/// that are wrapped there already.
fn refuse(api: &Api, vo: VoId, new: &NewUpstream) -> Result<(), Problem> {
    let address = new.address().map_err(|error| problem(VoError::from(error)))?;
    if api.own.include(&address) {
        let detail = format!(
            "`{}` is where this gateway itself is reached, and would call itself; give the address of the tool",
            new.url
        );
        return Err(Problem::new(Kind::Invalid, detail));
    }
    let wrapped = api.wrapped();
    let shows = |tool: &&Arc<Tool>| {
        tool.delegation == Delegation::ClientCertificate
            && tool.target == ToolTarget::Upstream(new.name.clone())
    };
    match wrapped.all(vo).find(shows).filter(|_| !address.is_tls()) {
        Some(tool) => {
            let detail = format!(
                "the tool `{}` at `{}` gets a client certificate, which needs an `https://` address, not `{}`",
                tool.name, new.name, new.url
            );
            Err(Problem::new(Kind::Invalid, detail))
        }
        None => Ok(()),
    }
}
