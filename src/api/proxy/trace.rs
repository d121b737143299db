//! `proxy.trace`: from a proxy to the person it was minted for, and to what it was used for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TRACERS;
use crate::alert::TracedNotice;
use crate::api::audit::prove::{self, RecordProof};
use crate::api::operation::{Asked, Call, Operation, task};
use crate::api::{Api, problem, unposted};
use crate::audit::index::Query;
use crate::delegate::{Found, Mapped, TraceQuery, Traced};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::{Event, Record};
use crate::tool::{self, Task};
use crate::vo::Card;

/// Most requests in the answer for one proxy.
const REQUESTS: u32 = 1_000;

/// What somebody found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceInput {
    /// A certificate or chain in PEM (or DER in base64), its public key in PEM, a serial, a SHA-256 of certificate or public
    /// key, or a distinguished name.
    pub query: String,
    /// Whether each proxy comes with its `mint` record and the proof that it is in the audit log.
    #[serde(default)]
    pub proof: bool,
}

/// What a query leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceResult {
    /// The proxies of this VO; none when it is not one of them.
    pub proxies: Vec<TracedProxy>,
    /// Whether there may be more: a key or serial leads to more than 100 proxies, or names hold more than 32 numbers.
    #[serde(default)]
    pub more: bool,
    /// The audit log's newest checkpoint: kept with the case, it pins every record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A proxy and the one person it was minted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedProxy {
    /// By what it was found: `certificate`, `public_key`, `serial`, `subject`.
    pub by: String,
    /// Whether all that was shown can only have come from this proxy, or from others of this answer; a serial or a name is
    /// somebody's word.
    pub proved: bool,
    /// What is proved, in words.
    #[serde(default)]
    pub says: String,
    /// Whether its public key leads to proxies of several persons, not all of them of this VO perhaps.
    #[serde(default)]
    pub several: bool,
    /// How many of the other certificates that were shown come from it, each signed with the key of the one above.
    #[serde(default)]
    pub delegated: u32,
    /// How many of the other certificates come from no proxy of ours, as far as their signatures say.
    #[serde(default)]
    pub beside: u32,
    /// Serial in decimal.
    pub serial: String,
    /// SHA-256 of the certificate (DER); absent when it was never signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// SHA-256 of the VO certificate that issued it (DER).
    pub issuer: String,
    /// Subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The person it was minted for.
    pub person: TracedPerson,
    /// The VO.
    pub vo: String,
    /// The session.
    pub session: String,
    /// The tool that got it.
    pub tool: String,
    /// `client-certificate`, `pem`, `myproxy`, `download` or `arc`.
    pub way: String,
    /// Begin of its validity (RFC 3339).
    pub not_before: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
    /// When it was revoked (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// The requests it was used for, newest first, at most 1,000.
    pub requests: Vec<TracedRequest>,
    /// Whether there are more of them.
    #[serde(default)]
    pub more_requests: bool,
    /// The `mint` record with the proof that it is in the audit log, where that was asked for and the log still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RecordProof>,
}

/// The person behind a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedPerson {
    /// Opaque id.
    pub id: String,
    /// User name; absent when the card was destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Whether this is her present card: the one of when the proxy was minted has been destroyed since.
    #[serde(default)]
    pub present: bool,
}

/// A request that a proxy was used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedRequest {
    /// Its id.
    pub request: String,
    /// When (RFC 3339).
    pub time: String,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What it acted on, as `type/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

pub(in crate::api) struct Trace;

impl Operation for Trace {
    type Body = TraceInput;
    type Answer = TraceResult;
    const SUMMARY: &'static str =
        "Finds the person behind a proxy, and what it was used for; the trace is recorded";

    fn task() -> Task {
        task(
            "proxy.trace",
            "POST /api/v1/vos/{vo:slug}/trace",
            tool::Kind::Read,
            TRACERS,
        )
    }

    async fn run(api: &Api, call: &Call, body: TraceInput) -> Result<TraceResult, Problem> {
        let vo = call.vo()?.id;
        let query = parse(&body.query)?;
        let Found { proxies: found, cut } = found(api, vo, &query).await?;
        // INVARIANT: whoever is named, it is on record before the answer says so.
        let event = Event::Trace(Box::new(query.event(call.id, &found)));
        api.audit.write(event).await.map_err(problem)?;
        tell(api, call, &persons(&found)).await?;
        let mut proxies = Vec::with_capacity(found.len());
        for traced in found {
            let proof = match body.proof {
                true => mint_proof(api, &traced.proxy).await?,
                false => None,
            };
            let proxy = view(api, traced, REQUESTS).await?;
            proxies.push(TracedProxy { proof, ..proxy });
        }
        // The newest one was signed before the trace itself was written down; the next one covers that too.
        let checkpoint = api.audit.checkpoint().map(|newest| newest.note);
        Ok(TraceResult {
            proxies,
            more: cut,
            checkpoint,
        })
    }
}

/// Does what the operation does, for a page.
///
/// # Errors
/// As the operation: what is looked for cannot be read, or log or store fail.
pub async fn trace(api: &Api, asked: &Asked, input: TraceInput) -> Result<TraceResult, Problem> {
    Trace::run(api, &asked.0, input).await
}

/// Reads what is looked for.
pub(in crate::api) fn parse(query: &str) -> Result<TraceQuery, Problem> {
    TraceQuery::parse(query.as_bytes()).map_err(|error| Problem::new(Kind::Invalid, error.to_string()))
}

/// Tells the other administrators of the VO whose proxies were traced.
pub(in crate::api) async fn tell(api: &Api, call: &Call, persons: &[PersonId]) -> Result<(), Problem> {
    let (vo, by, directory) = (call.vo()?, call.person()?, api.directory());
    if persons.is_empty() {
        return Ok(());
    }
    let name = |person: &PersonId| {
        let account = directory
            .person(*person)
            .filter(|known| !known.username.is_empty());
        account.map_or_else(|| person.to_string(), |known| known.username.clone())
    };
    let usernames: Vec<String> = persons.iter().map(name).collect();
    let notice = TracedNotice {
        usernames: &usernames,
        by: by.id,
        by_username: &by.username,
        vo_name: &vo.name,
        request: call.id,
    };
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    let told = api.alert.notify_traced(&mut tx, vo.id, &notice).await;
    told.map_err(|error| unposted(&error))?;
    tx.commit().await.map_err(problem)
}

/// The proxies of this VO that a query leads to.
pub(in crate::api) async fn found(api: &Api, vo: VoId, query: &TraceQuery) -> Result<Found, Problem> {
    // SECURITY: an administrator traces the proxies of her own VO only.
    let may = |proxy: &Mapped| proxy.vo == vo;
    api.delegate.trace_within(query, &may).await.map_err(problem)
}

/// Whom these proxies were minted for, each once.
pub(in crate::api) fn persons<'a>(found: impl IntoIterator<Item = &'a Traced>) -> Vec<PersonId> {
    let mut persons: Vec<PersonId> = found.into_iter().map(|traced| traced.proxy.person).collect();
    persons.sort_unstable();
    persons.dedup();
    persons
}

/// The record that ties a proxy to its person, with the proof that it is in the log.
pub(in crate::api) async fn mint_proof(api: &Api, proxy: &Mapped) -> Result<Option<RecordProof>, Problem> {
    let serial = proxy.serial.to_string();
    let right = |record: &Record| match &record.event {
        Event::Mint(mint) => mint.serial == serial && mint.issuer == proxy.issuer,
        _ => false,
    };
    prove::of(api, proxy.request, right).await
}

/// The card that a proxy was minted under; where that has been destroyed, the present one of the same person.
pub(in crate::api) async fn card(api: &Api, proxy: &Mapped) -> Result<Option<Card>, Problem> {
    let mut cards = api.vos.cards(&[proxy.card]).await.map_err(problem)?;
    if let Some(card) = cards.remove(&proxy.card) {
        return Ok(Some(card));
    }
    api.vos.card(proxy.person).await.map_err(problem)
}

/// A proxy with its person and at most `most` requests.
pub(in crate::api) async fn view(api: &Api, traced: Traced, most: u32) -> Result<TracedProxy, Problem> {
    let Traced { shown, proxy } = traced;
    let card = card(api, &proxy).await?;
    let (requests, more_requests) = requests(api, &proxy, most).await?;
    Ok(TracedProxy {
        by: shown.by.as_str().to_owned(),
        proved: shown.proves(),
        says: shown.words(),
        several: shown.several,
        delegated: shown.delegated,
        beside: shown.beside,
        serial: proxy.serial.to_string(),
        certificate: proxy.certificate.map(|hash| hash.to_string()),
        issuer: proxy.issuer.to_string(),
        subject: proxy.subject.clone(),
        person: person(&proxy, card.as_ref()),
        vo: vo_name(api, proxy.vo),
        session: proxy.session.to_string(),
        requests,
        more_requests,
        tool: proxy.tool,
        way: proxy.way,
        not_before: proxy.not_before.to_string(),
        not_after: proxy.not_after.to_string(),
        revoked: proxy.revoked.map(|at| at.to_string()),
        proof: None,
    })
}

pub(in crate::api) fn vo_name(api: &Api, vo: VoId) -> String {
    api.directory()
        .vo(vo)
        .map_or_else(|| vo.to_string(), |vo| vo.name.clone())
}

fn person(proxy: &Mapped, card: Option<&Card>) -> TracedPerson {
    TracedPerson {
        id: proxy.person.to_string(),
        username: card.map(|card| card.username.clone()),
        name: card.map(|card| card.fields.name.clone()),
        mail: card.and_then(|card| card.fields.mail.clone()),
        organisation: card.and_then(|card| card.fields.organisation.clone()),
        present: card.is_some_and(|card| card.hash != proxy.card),
    }
}

/// The requests that a proxy was used for, newest first, and whether there are more.
pub(in crate::api) async fn requests(
    api: &Api,
    proxy: &Mapped,
    most: u32,
) -> Result<(Vec<TracedRequest>, bool), Problem> {
    let query = Query {
        vo: Some(proxy.vo.to_string()),
        event: Some("intent".into()),
        serial: Some(proxy.serial.to_string()),
        limit: most,
        fresh: true,
        ..Query::default()
    };
    let page = api.audit.search().search(&query).await.map_err(problem)?;
    let view = |record: Record| match record.event {
        Event::Intent(entry) => Some(TracedRequest {
            request: entry.request.to_string(),
            time: record.time.to_string(),
            task: entry.place.task.clone(),
            resource: entry
                .resource
                .as_ref()
                .map(|resource| format!("{}/{}", resource.kind, resource.id)),
        }),
        _ => None,
    };
    let more = page.next.is_some();
    Ok((page.records.into_iter().filter_map(view).collect(), more))
}
