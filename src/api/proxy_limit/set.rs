//! `proxy_limit.set`: limits how long proxies live in a VO, or those of a role's holders.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::ProxyLimitList;
use super::views;
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, etag, problem};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};

/// A limit to set, or to take away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyLimitSet {
    /// Name of the role; absent for everybody in the virtual organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub role: Option<String>,
    /// Longest life in seconds, 300 or more; absent to take the limit away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
}

pub(in crate::api) struct Set;

impl Operation for Set {
    type Body = ProxyLimitSet;
    type Answer = ProxyLimitList;
    const SUMMARY: &'static str =
        "Limits how long proxies live in a virtual organisation, or those of a role";
    const EDITS: bool = true;
    const TAGGED: bool = true;

    fn tag(answer: &ProxyLimitList) -> Option<String> {
        etag::tag(&answer.limits)
    }

    fn task() -> Task {
        reasoned(task(
            "proxy_limit.set",
            "PUT /api/v1/vos/{vo:slug}/proxy-limits",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: ProxyLimitSet) -> Result<ProxyLimitList, Problem> {
        let vo = call.vo()?.id;
        let directory = api.directory();
        let role =
            match &body.role {
                None => None,
                Some(name) => Some(directory.role_named(vo, name).ok_or_else(|| {
                    Problem::new(Kind::NotFound, format!("there is no role `{name}` here"))
                })?),
            };
        let limit = body.lifetime.map(Duration::from_secs);
        let mut tx = api.begin().await?;
        call.unchanged(api, etag::tag(&views(api, vo)).as_deref())?;
        let set = api
            .delegate
            .set_limit(&mut tx, vo, role.map(|role| &**role), limit);
        let change = set.await.map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        api.delegate.load().await.map_err(problem)?;
        Ok(ProxyLimitList {
            most: api.delegate.max_lifetime().as_secs(),
            limits: views(api, vo),
        })
    }
}
