//! `request.explain`: why a request was permitted or refused, long after roles have changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::audit::{NamedPerson, people, vo_of};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, problem};
use crate::id::RequestId;
use crate::problem::{Kind, Problem};
use crate::record::{DecisionEntry, Entry, Event, Outcome, Record};
use crate::tool::{self, Task};
use crate::vo::OWN_TOOL;

/// What became of a request, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The request.
    pub request: String,
    /// When (RFC 3339).
    pub time: String,
    /// One sentence.
    pub summary: String,
    /// What to do next, for a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<NamedPerson>,
    /// Level of assurance of the session that asked: `aal1`, `aal2`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acr: String,
    /// How who asked had shown who it is (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The VO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vo: Option<String>,
    /// The tool.
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
    /// Id of the owner at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who that is, as her card says now; for administrators, and for what is your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<NamedPerson>,
    /// Why it was made, in the words of who asked; only edits of who may do what have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Whether it was permitted.
    pub permit: bool,
    /// `granted`, or a problem name such as `no_grant`.
    pub reason: String,
    /// Roles that would have allowed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_allow: Vec<String>,
    /// Status that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it ended: `answered`, `tool_failed`, `unknown`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// The path that led to the decision; for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Policies that determined the decision; for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Policies that were considered; for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<String>,
    /// Errors of their evaluation; for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// All records of the request, in order; for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Value>,
}

pub(in crate::api) struct Explain;

impl Operation for Explain {
    type Body = Nothing;
    type Answer = Explanation;
    const SUMMARY: &'static str = "Why a request in a virtual organisation was permitted or refused";

    fn task() -> Task {
        task(
            "request.explain",
            "GET /api/v1/vos/{vo:slug}/requests/{request:uuid}",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Explanation, Problem> {
        let vo = call.vo()?.id;
        let (id, records) = records(api, call).await?;
        // SECURITY: an administrator sees the requests that were made in her own VO only.
        let (first, entry) = made(&records)
            .filter(|(record, _)| vo_of(record) == Some(vo))
            .ok_or_else(|| unknown(id))?;
        let mut explanation = explained(api, first, entry, &records).await?;
        let decision = entry.decision.as_deref().cloned().unwrap_or_default();
        explanation.owner_name = owner_name(api, entry).await?;
        explanation.path = decision.path;
        explanation.policies = decision.policies;
        explanation.considered = decision.considered;
        explanation.errors = decision.errors;
        explanation.records = records
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|_| Problem::new(Kind::Internal, "a record cannot be written"))?;
        Ok(explanation)
    }
}

pub(super) fn unknown(id: RequestId) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no request `{id}` here"))
}

/// All records of the request in the path.
pub(super) async fn records(api: &Api, call: &Call) -> Result<(RequestId, Vec<Record>), Problem> {
    let id = call.id_of("request")?;
    let records = api.audit.search().request(id).await.map_err(problem)?;
    Ok((id, records))
}

/// The record with which the request began.
pub(super) fn made(records: &[Record]) -> Option<(&Record, &Entry)> {
    records.iter().find_map(|record| match &record.event {
        Event::Intent(entry) => Some((record, &**entry)),
        Event::Refused(refused) => Some((record, &refused.entry)),
        _ => None,
    })
}

/// What the one who asked may know as well.
pub(super) async fn explained(
    api: &Api,
    first: &Record,
    entry: &Entry,
    records: &[Record],
) -> Result<Explanation, Problem> {
    let people = people(api, std::slice::from_ref(first)).await?;
    let decision = entry.decision.as_deref().cloned().unwrap_or_default();
    let refused = match &first.event {
        Event::Refused(refused) => Some((refused.status, refused.problem.clone())),
        _ => None,
    };
    let owner = entry.resource.as_ref().and_then(|resource| resource.owner);
    // SECURITY: whoever asked learns her own name from it, nobody else's.
    let owner_name = match owner {
        Some(owner) if entry.subject.person == Some(owner) => owner_name(api, entry).await?,
        _ => None,
    };
    let outcome = records.iter().find_map(|record| match &record.event {
        Event::Outcome(outcome) => Some(&**outcome),
        _ => None,
    });
    let reason = refused
        .as_ref()
        .map_or_else(|| decision.reason.clone(), |(_, problem)| problem.clone());
    let kind = Kind::ALL.iter().find(|kind| kind.name() == reason);
    Ok(Explanation {
        request: entry.request.to_string(),
        time: first.time.to_string(),
        summary: summary(entry, &decision, refused.as_ref().and(kind).copied(), outcome),
        next: refused.as_ref().and(kind).map(|kind| kind.next().to_owned()),
        person: people.into_values().next(),
        acr: entry.subject.acr.clone(),
        amr: entry.subject.methods.clone(),
        vo: entry.place.vo.clone(),
        tool: entry.place.tool.clone(),
        task: entry.place.task.clone(),
        asked: format!(
            "{} {}",
            entry.place.method,
            entry.place.path.as_deref().unwrap_or_default()
        ),
        resource: entry
            .resource
            .as_ref()
            .map(|resource| format!("{}/{}", resource.kind, resource.id)),
        owner: owner.map(|owner| owner.to_string()),
        owner_name,
        because: because(entry),
        permit: refused.is_none(),
        reason,
        would_allow: decision.would_allow,
        status: refused
            .map(|(status, _)| status)
            .or_else(|| outcome.and_then(|outcome| outcome.status)),
        ending: outcome.and_then(|outcome| {
            serde_json::to_value(outcome.ending)
                .ok()?
                .as_str()
                .map(str::to_owned)
        }),
        ..Explanation::default()
    })
}

/// What the decision of a request was for.
pub(super) fn named_reason(entry: &Entry) -> String {
    let decision = entry.decision.as_deref();
    decision
        .map(|decision| decision.reason.clone())
        .unwrap_or_default()
}

/// The reason that was given for an edit of who may do what.
fn because(entry: &Entry) -> Option<String> {
    let own = entry.place.tool.as_deref() == Some(OWN_TOOL);
    entry.parameters.get(tool::REASON).filter(|_| own).cloned()
}

/// The owner of what the request acted on, by name.
async fn owner_name(api: &Api, entry: &Entry) -> Result<Option<NamedPerson>, Problem> {
    let Some(owner) = entry.resource.as_ref().and_then(|resource| resource.owner) else {
        return Ok(None);
    };
    let card = api.vos.card(owner).await.map_err(problem)?;
    Ok(card.map(|card| NamedPerson {
        id: owner.to_string(),
        username: card.username,
        name: card.fields.name,
    }))
}

fn summary(
    entry: &Entry,
    decision: &DecisionEntry,
    refused: Option<Kind>,
    outcome: Option<&Outcome>,
) -> String {
    let task = entry.place.task.as_deref();
    let what = task.map_or_else(|| "the request".to_owned(), |task| format!("`{task}`"));
    let Some(kind) = refused else {
        let ended = match outcome {
            None => "its outcome is not on record yet".to_owned(),
            Some(outcome) => match outcome.status {
                Some(status) => format!("it was answered with {status}"),
                None => "nobody was answered".to_owned(),
            },
        };
        return format!("{what} was permitted and {ended}");
    };
    let mut summary = format!("{what} was refused: {}", kind.what());
    if !decision.would_allow.is_empty() {
        summary.push_str(&format!(
            " These roles would allow it: {}.",
            decision.would_allow.join(", ")
        ));
    }
    summary
}
