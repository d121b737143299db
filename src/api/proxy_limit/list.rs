//! `proxy_limit.list`: how long proxies may live in a VO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ProxyLimitView, views};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, etag};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// Limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxyLimitList {
    /// Most seconds by the settings, whatever is set here.
    pub most: u64,
    /// The limits, the VO's own first.
    pub limits: Vec<ProxyLimitView>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = ProxyLimitList;
    const SUMMARY: &'static str = "How long proxies may live in a virtual organisation, and those of roles";
    const TAGGED: bool = true;

    fn tag(answer: &ProxyLimitList) -> Option<String> {
        etag::tag(&answer.limits)
    }

    fn task() -> Task {
        task(
            "proxy_limit.list",
            "GET /api/v1/vos/{vo:slug}/proxy-limits",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProxyLimitList, Problem> {
        Ok(ProxyLimitList {
            most: api.delegate.max_lifetime().as_secs(),
            limits: views(api, call.vo()?.id),
        })
    }
}
