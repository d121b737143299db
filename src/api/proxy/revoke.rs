//! `proxy.revoke`: the own proxies; `user.revoke_proxies`: those of a member, for administrators. They are on the VO's
//! revocation list from then on, and the gateway uses them for nothing more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Operation, VO, member, on_person, reasoned, task};
use crate::api::user::certificate::mark::Compromised;
use crate::api::{Api, problem};
use crate::delegate::{Which, Why};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task};

/// Serials that one request may name.
const MOST: usize = 1_000;

/// Which proxies are not to be trusted any more, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyRevoke {
    /// Serials in decimal; without them, all that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000)]
    pub serials: Option<Vec<String>>,
    /// Says that they are in the wrong hands, and what is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<Compromised>,
}

/// What was revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxiesRevoked {
    /// Serials in decimal; none when nothing was left to revoke.
    pub serials: Vec<String>,
}

async fn revoke(
    api: &Api,
    call: &Call,
    (person, vo): (PersonId, Option<VoId>),
    body: &ProxyRevoke,
) -> Result<ProxiesRevoked, Problem> {
    let serials = body.serials.as_deref().map(numbers).transpose()?;
    let note = body.compromised.as_ref().map(Compromised::note).transpose()?;
    let why = if note.is_some() {
        Why::Compromised
    } else {
        Why::Revoked
    };
    if let Some(serials) = &serials {
        let valid = api.delegate.valid_proxies(person, vo).await.map_err(problem)?;
        let known = |serial: &u64| valid.iter().any(|listed| listed.proxy.serial == *serial);
        if let Some(unknown) = serials.iter().find(|serial| !known(serial)) {
            let detail = format!("there is no proxy `{unknown}` of this person that has not ended");
            return Err(Problem::new(Kind::NotFound, detail));
        }
    }
    let which = Which {
        person,
        vo,
        serials: serials.as_deref(),
    };
    let mut tx = api.begin().await?;
    let revoked = api
        .delegate
        .revoke(&mut tx, &which, why, note)
        .await
        .map_err(problem)?;
    let revoked = revoked.or_nothing(&which, why, note);
    api.commit(call, tx, revoked.changes).await?;
    api.delegate.forget_proxies(&revoked.serials);
    Ok(ProxiesRevoked {
        serials: revoked.serials.iter().map(u64::to_string).collect(),
    })
}

fn numbers(serials: &[String]) -> Result<Vec<u64>, Problem> {
    if serials.len() > MOST {
        let detail = format!("`serials` may have at most {MOST}; without it, all are revoked");
        return Err(Problem::new(Kind::Invalid, detail));
    }
    let number = |serial: &String| {
        let wrong = || {
            Problem::new(
                Kind::Invalid,
                format!("`{serial}` is no serial; accepted: decimal digits"),
            )
        };
        serial.parse::<u64>().map_err(|_| wrong())
    };
    serials.iter().map(number).collect()
}

pub(in crate::api) struct Revoke;

impl Operation for Revoke {
    type Body = ProxyRevoke;
    type Answer = ProxiesRevoked;
    const SUMMARY: &'static str = "Revokes your proxies";

    fn task() -> Task {
        task(
            "proxy.revoke",
            "POST /api/v1/proxies/revoke",
            tool::Kind::Update,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, body: ProxyRevoke) -> Result<ProxiesRevoked, Problem> {
        revoke(api, call, (call.person()?.id, None), &body).await
    }
}

pub(in crate::api) struct RevokeOf;

impl Operation for RevokeOf {
    type Body = ProxyRevoke;
    type Answer = ProxiesRevoked;
    const SUMMARY: &'static str = "Revokes a member's proxies of this VO";

    fn task() -> Task {
        reasoned(on_person(task(
            "user.revoke_proxies",
            "POST /api/v1/vos/{vo:slug}/members/{person:uuid}/proxies/revoke",
            tool::Kind::Update,
            VO,
        )))
    }

    async fn run(api: &Api, call: &Call, body: ProxyRevoke) -> Result<ProxiesRevoked, Problem> {
        let person = member(api, call)?;
        // SECURITY: what acts for another VO is for that VO's administrators to revoke.
        revoke(api, call, (person.id, Some(call.vo()?.id)), &body).await
    }
}
