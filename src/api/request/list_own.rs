//! `request.list_own`: one's own requests, newest first, from the log itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::explain::named_reason;
use crate::api::audit::QueryPosition;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::api::{Api, problem};
use crate::audit::index::Query;
use crate::id::PersonId;
use crate::problem::Problem;
use crate::record::{Entry, Event, Record};
use crate::tool::{self, Audience, Task};
use crate::vo::OWN_TOOL;

/// How often the log is asked for one page, where most of what it finds is not to be listed.
const ROUNDS: usize = 5;

/// A request of your own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnRequest {
    /// Its id.
    pub request: String,
    /// When (RFC 3339).
    pub time: String,
    /// The VO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vo: Option<String>,
    /// The tool; `countersign` for the gateway itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The task; absent when none names the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Method and path.
    pub asked: String,
    /// What it acted on, as `type/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether it was permitted.
    pub permit: bool,
    /// `granted`, or a problem name such as `no_grant`.
    pub reason: String,
}

/// Requests, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestList {
    /// The requests.
    pub requests: Vec<OwnRequest>,
    /// What to give as `after` for older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct ListOwn;

impl Operation for ListOwn {
    type Body = Nothing;
    type Answer = RequestList;
    const SUMMARY: &'static str = "Your own requests, newest first: to tools, changes, and refusals; with `permit=false` the refusals alone. What \
         you only looked at in the gateway itself is left out";

    fn task() -> Task {
        let task = task(
            "request.list_own",
            "GET /api/v1/requests",
            tool::Kind::Read,
            Audience::AnyPerson,
        );
        Task {
            query: Some(["after", "limit", "permit"].map(Into::into).to_vec()),
            ..task
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<RequestList, Problem> {
        let (person, limit) = (call.person()?.id, call.limit()?);
        let mut query = Query {
            person: Some(person),
            permit: call.query_as("permit", "true or false")?,
            before: call.query("after")?.map(QueryPosition::parse).transpose()?,
            limit: u32::try_from(limit).unwrap_or(100),
            ..Query::default()
        };
        let mut list = RequestList::default();
        for _ in 0..ROUNDS {
            let page = api.audit.search().search_for(&query, &call.gone).await;
            let page = page.map_err(problem)?;
            let own = page.records.iter().filter_map(|record| own(record, person));
            list.requests.extend(own);
            list.next = page.next.map(QueryPosition::text);
            let Some(next) = page.next.filter(|_| list.requests.len() < limit) else {
                break;
            };
            query.limit = u32::try_from(limit - list.requests.len()).unwrap_or(1);
            query.go_on(next);
        }
        Ok(list)
    }
}

/// A request of the person, if the record is one and is to be listed.
///
/// SECURITY: the index only finds; the record itself says whose request it is.
fn own(record: &Record, person: PersonId) -> Option<OwnRequest> {
    let (entry, refused): (&Entry, Option<&str>) = match &record.event {
        Event::Intent(entry) => (entry, None),
        Event::Refused(refused) => (&refused.entry, Some(&refused.problem)),
        _ => return None,
    };
    let place = &entry.place;
    let looked = matches!(place.kind.as_deref(), Some("read" | "asset"));
    let unlisted = refused.is_none() && looked && place.tool.as_deref() == Some(OWN_TOOL);
    if entry.subject.person != Some(person) || unlisted {
        return None;
    }
    Some(OwnRequest {
        request: entry.request.to_string(),
        time: record.time.to_string(),
        vo: place.vo.clone(),
        tool: place.tool.clone(),
        task: place.task.clone(),
        asked: format!("{} {}", place.method, place.path.as_deref().unwrap_or_default()),
        resource: entry
            .resource
            .as_ref()
            .map(|resource| format!("{}/{}", resource.kind, resource.id)),
        permit: refused.is_none(),
        reason: refused.map_or_else(|| named_reason(entry), str::to_owned),
    })
}
