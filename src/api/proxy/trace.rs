//! `proxy.trace`: from a proxy to the person it was minted for, and to what it was used for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::alert::{Happened, Notice};
use crate::api::operation::{Call, Operation, VO, task};
use crate::api::{Api, problem, unposted};
use crate::audit::index::Query;
use crate::delegate::{TraceQuery, Traced};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::{Event, TraceEvent};
use crate::tool::{self, Task};

/// What somebody found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceInput {
    /// A certificate or chain in PEM, a serial, a SHA-256 of certificate or public key, or a distinguished name.
    pub query: String,
}

/// What a query leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceResult {
    /// The proxies of this VO; none when it is not one of them.
    pub proxies: Vec<TracedProxy>,
    /// The audit log's newest checkpoint: kept with the case, it pins every record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A proxy and the one person it was minted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedProxy {
    /// By what it was found: `certificate`, `public_key`, `serial`, `subject`.
    pub by: String,
    /// Whether what was shown can only have come from this proxy; a serial or a name is somebody's word.
    pub proved: bool,
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
    /// The person, as her card was when it was minted.
    pub person: TracedPerson,
    /// The VO.
    pub vo: String,
    /// The session.
    pub session: String,
    /// The tool that got it.
    pub tool: String,
    /// `client-certificate`, `pem` or `myproxy`.
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
}

/// A person at the time of a record.
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
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, body: TraceInput) -> Result<TraceResult, Problem> {
        let vo = call.vo()?.id;
        let query = TraceQuery::parse(body.query.as_bytes())
            .map_err(|error| Problem::new(Kind::Invalid, error.to_string()))?;
        let found = found(api, vo, &query).await?;
        // INVARIANT: whoever is named, it is on record before the answer says so.
        let event = Event::Trace(Box::new(TraceEvent {
            request: call.id,
            by: query.by().to_owned(),
            query: query.shown(),
            found: found
                .iter()
                .map(|traced| traced.proxy.serial.to_string())
                .collect(),
            persons: persons(&found),
        }));
        api.audit.write(event).await.map_err(problem)?;
        tell(api, call, &found).await?;
        let mut proxies = Vec::with_capacity(found.len());
        for traced in found {
            proxies.push(view(api, traced).await?);
        }
        // The newest one was signed before the trace itself was written down; the next one covers that too.
        let checkpoint = api.audit.checkpoint().map(|newest| newest.note);
        Ok(TraceResult { proxies, checkpoint })
    }
}

/// Tells the other administrators of the VO whose proxies were traced, once for each person.
async fn tell(api: &Api, call: &Call, found: &[Traced]) -> Result<(), Problem> {
    let (vo, by, directory) = (call.vo()?, call.person()?, api.directory());
    let persons = persons(found);
    if persons.is_empty() {
        return Ok(());
    }
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    for person in persons {
        let username = directory
            .person(person)
            .map_or_else(|| person.to_string(), |person| person.username.clone());
        let notice = Notice {
            happened: Happened::Traced,
            person,
            username: &username,
            by: by.id,
            by_username: &by.username,
            vo_name: &vo.name,
            request: call.id,
        };
        let told = api.alert.notify(&mut tx, vo.id, &notice).await;
        told.map_err(|error| unposted(&error))?;
    }
    tx.commit().await.map_err(problem)
}

async fn found(api: &Api, vo: VoId, query: &TraceQuery) -> Result<Vec<Traced>, Problem> {
    let mut found = api.delegate.trace(query).await.map_err(problem)?;
    // SECURITY: an administrator traces the proxies of her own VO only.
    found.retain(|traced| traced.proxy.vo == vo);
    Ok(found)
}

fn persons(found: &[Traced]) -> Vec<PersonId> {
    let mut persons: Vec<PersonId> = found.iter().map(|traced| traced.proxy.person).collect();
    persons.sort_unstable();
    persons.dedup();
    persons
}

async fn view(api: &Api, traced: Traced) -> Result<TracedProxy, Problem> {
    let proxy = traced.proxy;
    let card = api.vos.cards(&[proxy.card]).await.map_err(problem)?;
    let card = card.get(&proxy.card);
    let directory = api.directory();
    Ok(TracedProxy {
        by: traced.by.as_str().to_owned(),
        proved: traced.by.proves(),
        serial: proxy.serial.to_string(),
        certificate: proxy.certificate.map(|hash| hash.to_string()),
        issuer: proxy.issuer.to_string(),
        subject: proxy.subject.clone(),
        person: TracedPerson {
            id: proxy.person.to_string(),
            username: card.map(|card| card.username.clone()),
            name: card.map(|card| card.fields.name.clone()),
            mail: card.and_then(|card| card.fields.mail.clone()),
            organisation: card.and_then(|card| card.fields.organisation.clone()),
        },
        vo: directory
            .vo(proxy.vo)
            .map_or_else(|| proxy.vo.to_string(), |vo| vo.name.clone()),
        session: proxy.session.to_string(),
        requests: requests(api, &proxy.serial.to_string(), proxy.vo).await?,
        tool: proxy.tool,
        way: proxy.way,
        not_before: proxy.not_before.to_string(),
        not_after: proxy.not_after.to_string(),
        revoked: proxy.revoked.map(|at| at.to_string()),
    })
}

async fn requests(api: &Api, serial: &str, vo: VoId) -> Result<Vec<TracedRequest>, Problem> {
    let query = Query {
        vo: Some(vo.to_string()),
        event: Some("intent".into()),
        serial: Some(serial.to_owned()),
        limit: 1_000,
        fresh: true,
        ..Query::default()
    };
    let page = api.audit.search().search(&query).await.map_err(problem)?;
    let view = |record: crate::record::Record| match record.event {
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
    Ok(page.records.into_iter().filter_map(view).collect())
}
