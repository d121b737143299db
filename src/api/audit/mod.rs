//! Searching the audit log, and proving what stands in it.

pub mod gateway;
pub mod prove;
pub mod search;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::operation::{Call, aside};
use super::{Api, problem};
use crate::audit::index::{Page, Position, Query};
use crate::id::{RequestId, VoId};
use crate::problem::{Kind, Problem};
use crate::record::{Event, Hash, Record};
use crate::vo::Directory;

/// Parameters of a search.
const QUERY: &[&str] = &[
    "person", "tool", "task", "resource", "permit", "event", "request", "serial", "trace", "from", "to",
    "before", "limit", "text", "onward", "fresh",
];
/// Longest text that is searched for, in bytes.
const LONGEST: usize = 200;

/// Records, newest first (or with `onward` oldest first), with the names of those they speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The records, as they stand in the log.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Value>,
    /// Who is behind the cards in these records, by the card's hash.
    pub people: BTreeMap<String, NamedPerson>,
    /// What to give as `before` for older ones, with `onward` as `onward` for newer ones; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Behind the newest record that this search could find: what to give as `onward` for those that come later.
    #[serde(default)]
    pub head: String,
    /// Durable records that the index has not reached yet, of all VOs: this answer may lack some of them.
    #[serde(default)]
    pub lag: u64,
    /// Records older than this were dropped from the log, because they had been kept for long enough; absent where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
}

/// A person as her card says, at the time of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedPerson {
    /// Opaque id.
    pub id: String,
    /// User name.
    pub username: String,
    /// Name.
    pub name: String,
}

/// The search that a request asks for, without its VO.
fn query(call: &Call) -> Result<Query, Problem> {
    let text = |name: &str| call.query(name).map(|value| value.map(str::to_owned));
    let position = |name: &str| call.query(name)?.map(QueryPosition::parse).transpose();
    let wanted = text("text")?;
    if wanted
        .as_ref()
        .is_some_and(|text| !(1..=LONGEST).contains(&text.len()))
    {
        let detail = format!("`text` must have 1 to {LONGEST} bytes");
        return Err(Problem::new(Kind::Invalid, detail));
    }
    Ok(Query {
        person: call.query_as("person", "an id")?,
        tool: text("tool")?,
        task: text("task")?,
        resource: text("resource")?,
        permit: call.query_as("permit", "true or false")?,
        event: event(call)?,
        request: call.query_as("request", "an id")?,
        serial: text("serial")?,
        trace: call.query_as("trace", "32 hexadecimal digits")?,
        from: call.moment("from")?,
        to: call.moment("to")?,
        text: wanted,
        before: position("before")?,
        onward: position("onward")?,
        limit: u32::try_from(call.limit()?).unwrap_or(100),
        fresh: call.query_as("fresh", "true or false")?.unwrap_or(false),
        vo: None,
        level: None,
    })
}

/// The kind of record that is searched for. A name that no record can have would find nothing, and say so of everything.
fn event(call: &Call) -> Result<Option<String>, Problem> {
    let Some(name) = call.query("event")? else {
        return Ok(None);
    };
    if Event::NAMES.contains(&name) {
        return Ok(Some(name.to_owned()));
    }
    let shown: String = name.chars().take(40).collect();
    let detail = format!("`event` is `{shown}`; accepted: {}", Event::NAMES.join(", "));
    Err(Problem::new(Kind::Invalid, detail))
}

/// A place in the log, as pages name it: `EPOCH.SEQ`.
pub(super) struct QueryPosition;

impl QueryPosition {
    /// Reads what [`QueryPosition::text`] wrote.
    pub(super) fn parse(text: &str) -> Result<Position, Problem> {
        text.split_once('.')
            .and_then(|(epoch, seq)| {
                Some(Position {
                    epoch: epoch.parse().ok()?,
                    seq: seq.parse().ok()?,
                })
            })
            .ok_or_else(|| Problem::new(Kind::Invalid, "not the `next` of the page before"))
    }

    /// How it is written.
    pub(super) fn text(position: Position) -> String {
        format!("{}.{}", position.epoch, position.seq)
    }
}

/// The answer with `page` of the index, of which `records` may be shown.
async fn page_of(api: &Api, page: &Page, records: Vec<Record>) -> Result<AuditPage, Problem> {
    let people = people(api, &records).await?;
    let values = move || records.iter().map(serde_json::to_value).collect::<Result<_, _>>();
    let records = aside(values)
        .await?
        .map_err(|_| Problem::new(Kind::Internal, "a record cannot be written"))?;
    Ok(AuditPage {
        records,
        people,
        next: page.next.map(QueryPosition::text),
        head: QueryPosition::text(page.head),
        lag: page.lag,
        dropped: page.dropped.map(|before| before.to_string()),
    })
}

/// The VO that a record belongs to: `None` for the gateway's own, and for records that name none.
pub(super) fn vo_of(record: &Record) -> Option<VoId> {
    let vo = match &record.event {
        Event::Intent(entry) => entry.place.vo_id,
        Event::Refused(refused) => refused.entry.place.vo_id,
        Event::Change(change) => Some(change.change.vo),
        Event::Mint(mint) => Some(mint.vo),
        Event::RevocationList(list) => Some(list.vo),
        Event::Alert(alert) => Some(alert.vo),
        Event::OwnershipConflict(conflict) => Some(conflict.claimed.vo),
        Event::StateForeignChange(changed) => Some(changed.vo),
        _ => None,
    };
    vo.filter(|vo| *vo != Directory::gateway())
}

/// Those of `records` that belong to `vo`: `None` for the gateway's own level.
///
/// SECURITY: the index only finds; the record itself says whose it is, and for one that names only its request the intent of that.
async fn of_vo(api: &Api, records: Vec<Record>, vo: Option<VoId>) -> Result<Vec<Record>, Problem> {
    let request = |record: &Record| match &record.event {
        Event::Outcome(outcome) => Some(outcome.request),
        Event::Lease(lease) => Some(lease.request),
        Event::Trace(trace) => Some(trace.request),
        _ => None,
    };
    let requests: Vec<RequestId> = records.iter().filter_map(request).collect();
    let intents = api.audit.search().intents(&requests).await.map_err(problem)?;
    let belongs = |record: &Record| match request(record) {
        Some(request) => intents.get(&request).is_some_and(|intent| vo_of(intent) == vo),
        None => vo_of(record) == vo,
    };
    Ok(records.into_iter().filter(belongs).collect())
}

/// The people behind the cards that records name.
pub(super) async fn people(api: &Api, records: &[Record]) -> Result<BTreeMap<String, NamedPerson>, Problem> {
    let hashes: BTreeSet<Hash> = records.iter().filter_map(card_of).collect();
    let hashes: Vec<Hash> = hashes.into_iter().collect();
    let cards = api.vos.cards(&hashes).await.map_err(problem)?;
    Ok(cards
        .into_values()
        .map(|card| {
            let person = NamedPerson {
                id: card.person.to_string(),
                username: card.username,
                name: card.fields.name,
            };
            (card.hash.to_string(), person)
        })
        .collect())
}

fn card_of(record: &Record) -> Option<Hash> {
    match &record.event {
        Event::Intent(entry) => entry.subject.card,
        Event::Refused(refused) => refused.entry.subject.card,
        Event::Login(login) => login.card,
        Event::Mint(mint) => Some(mint.card),
        _ => None,
    }
}
