//! `proxy.list`: the own proxies that have not ended; `user.list_proxies`: those of a member, for administrators.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, list, member, on_person};
use crate::api::{Api, problem};
use crate::delegate::Listed;
use crate::id::{PersonId, VoId};
use crate::problem::Problem;
use crate::tool::{Audience, Task};

/// A proxy that was minted for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxyView {
    /// Serial in decimal.
    pub serial: String,
    /// SHA-256 of the VO certificate that issued it (DER).
    pub issuer: String,
    /// The virtual organisation.
    pub vo: String,
    /// The tool that got it.
    pub tool: String,
    /// How the tool got it: `client-certificate`, `pem` and so on.
    pub way: String,
    /// Begin of its validity (RFC 3339).
    pub not_before: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
    /// `valid`, `revoked`, `compromised` or `suspended`.
    pub state: String,
    /// When it was revoked (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// What was noted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Proxies that have not ended by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxyList {
    /// The proxies.
    pub proxies: Vec<ProxyView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

fn view(api: &Api, listed: Listed) -> ProxyView {
    let directory = api.directory();
    let proxy = listed.proxy;
    let state = match proxy.revoked {
        None => "valid".to_owned(),
        Some(_) => listed.why.unwrap_or_else(|| "revoked".to_owned()),
    };
    ProxyView {
        serial: proxy.serial.to_string(),
        issuer: proxy.issuer.to_string(),
        vo: directory
            .vo(proxy.vo)
            .map_or_else(|| proxy.vo.to_string(), |vo| vo.name.clone()),
        tool: proxy.tool,
        way: proxy.way,
        not_before: proxy.not_before.to_string(),
        not_after: proxy.not_after.to_string(),
        state,
        revoked: proxy.revoked.map(|at| at.to_string()),
        note: listed.note,
    }
}

async fn answer(api: &Api, call: &Call, person: PersonId, vo: Option<VoId>) -> Result<ProxyList, Problem> {
    let valid = api.delegate.valid_proxies(person, vo).await.map_err(problem)?;
    let views = valid.into_iter().map(|listed| view(api, listed)).collect();
    // Serials have no order of their own; the end of validity gives the list one.
    let (proxies, next) = call.page(views, |proxy: &ProxyView| {
        format!("{} {}", proxy.not_after, proxy.serial)
    })?;
    Ok(ProxyList { proxies, next })
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = ProxyList;
    const SUMMARY: &'static str = "Your proxies that have not ended";

    fn task() -> Task {
        list("proxy.list", "GET /api/v1/proxies", Audience::AnyPerson)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProxyList, Problem> {
        answer(api, call, call.person()?.id, None).await
    }
}

pub(in crate::api) struct ListOf;

impl Operation for ListOf {
    type Body = Nothing;
    type Answer = ProxyList;
    const SUMMARY: &'static str = "A member's proxies of this VO that have not ended";

    fn task() -> Task {
        on_person(list(
            "user.list_proxies",
            "GET /api/v1/vos/{vo:slug}/members/{person:uuid}/proxies",
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProxyList, Problem> {
        let person = member(api, call)?;
        // SECURITY: an administrator sees the proxies that act for her own VO, and no other's.
        answer(api, call, person.id, Some(call.vo()?.id)).await
    }
}
