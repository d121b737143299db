//! `upstream.list`: the addresses of a VO. Its administrators may look, since a manifest names one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, list};
use crate::problem::Problem;
use crate::tool::{Audience, Task};
use crate::vo::{SYSTEM_ADMINISTRATOR, Upstream, UpstreamAddress, VO_ADMINISTRATOR};

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamView {
    /// Id.
    pub id: String,
    /// Name within the VO.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Whether it trusts authorities of its own instead of the system's.
    pub own_ca: bool,
    /// Name expected in its certificate, when it is not the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_name: Option<String>,
    /// Whether it may be on this machine or a local network.
    pub local: bool,
    /// Whether it is spoken to in HTTP/2.
    #[serde(default)]
    pub http2: bool,
}

pub(super) fn view(upstream: &Upstream) -> UpstreamView {
    let (own_ca, expected_name) = match &upstream.address {
        UpstreamAddress::Tls { ca, name, .. } => (ca.is_some(), name.clone()),
        UpstreamAddress::Tcp(..) | UpstreamAddress::Unix(_) => (false, None),
    };
    UpstreamView {
        id: upstream.id.to_string(),
        name: upstream.name.clone(),
        url: upstream.url.clone(),
        own_ca,
        expected_name,
        local: upstream.allow_local,
        http2: upstream.http2,
    }
}

/// Upstreams by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamList {
    /// The upstreams.
    pub upstreams: Vec<UpstreamView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = UpstreamList;
    const SUMMARY: &'static str = "The addresses that a virtual organisation has";

    fn task() -> Task {
        list(
            "upstream.list",
            "GET /api/v1/vos/{vo:slug}/upstreams",
            Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]),
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UpstreamList, Problem> {
        let directory = api.directory();
        let upstreams = directory
            .upstreams_of_vo(call.vo()?.id)
            .map(|upstream| view(upstream))
            .collect();
        let (upstreams, next) = call.page(upstreams, |upstream| upstream.name.clone())?;
        Ok(UpstreamList { upstreams, next })
    }
}
