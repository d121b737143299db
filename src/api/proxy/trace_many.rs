//! `proxy.trace_many`: many traces at once, for incident teams.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TRACERS;
use super::trace::{TracedProxy, found, parse, persons, tell, view};
use crate::api::operation::{Call, Operation, task};
use crate::api::{Api, problem};
use crate::delegate::Found;
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task};

/// Most queries at once.
pub const MOST: usize = 500;
/// Room for so many chains.
const BODY: usize = 4 * 1024 * 1024;
/// Most requests in the answer for one proxy.
const REQUESTS: u32 = 20;

/// What somebody found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceManyInput {
    /// Each as in a single trace.
    #[schema(min_items = 1, max_items = 500)]
    pub queries: Vec<String>,
}

/// What each query leads to, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceManyResult {
    /// One for each query.
    pub traces: Vec<TracedQuery>,
    /// The audit log's newest checkpoint: kept with the case, it pins every record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// What one query leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedQuery {
    /// What was looked for, as the record of the trace has it: a hash or serials. Absent for what could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The proxies of this VO, each with its newest 20 requests; none when it is not one of them.
    pub proxies: Vec<TracedProxy>,
    /// Whether there may be more, as in a single trace.
    #[serde(default)]
    pub more: bool,
}

pub(in crate::api) struct TraceMany;

impl Operation for TraceMany {
    type Body = TraceManyInput;
    type Answer = TraceManyResult;
    const LIMIT: usize = BODY;
    const LONG: bool = true;
    const SUMMARY: &'static str =
        "Finds the persons behind up to 500 proxies; each trace is recorded by itself";

    fn task() -> Task {
        Task {
            max_body: Some(BODY as u64),
            ..task(
                "proxy.trace_many",
                "POST /api/v1/vos/{vo:slug}/traces",
                tool::Kind::Read,
                TRACERS,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: TraceManyInput) -> Result<TraceManyResult, Problem> {
        let vo = call.vo()?.id;
        if !(1..=MOST).contains(&body.queries.len()) {
            let detail = format!("`queries` must have 1 to {MOST} of them");
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let mut answers: Vec<Result<(String, Found), Problem>> = Vec::new();
        let mut events = Vec::new();
        for text in &body.queries {
            let query = match parse(text) {
                Ok(query) => query,
                Err(problem) => {
                    answers.push(Err(problem));
                    continue;
                }
            };
            let found = found(api, vo, &query).await?;
            events.push(Event::Trace(Box::new(query.event(call.id, &found.proxies))));
            answers.push(Ok((query.shown(), found)));
        }
        // INVARIANT: whoever is named, it is on record before the answer says so.
        if !events.is_empty() {
            api.audit.write_all(events).await.map_err(problem)?;
        }
        tell(
            api,
            call,
            &persons(answers.iter().flatten().flat_map(|(_, found)| &found.proxies)),
        )
        .await?;
        let mut traces = Vec::with_capacity(answers.len());
        for answer in answers {
            traces.push(match answer {
                Ok((query, found)) => traced(api, query, found).await?,
                Err(problem) => TracedQuery {
                    error: Some(problem.detail),
                    ..TracedQuery::default()
                },
            });
        }
        let checkpoint = api.audit.checkpoint().map(|newest| newest.note);
        Ok(TraceManyResult { traces, checkpoint })
    }
}

async fn traced(api: &Api, query: String, found: Found) -> Result<TracedQuery, Problem> {
    let mut proxies = Vec::with_capacity(found.proxies.len());
    for traced in found.proxies {
        proxies.push(view(api, traced, REQUESTS).await?);
    }
    Ok(TracedQuery {
        query: Some(query),
        error: None,
        proxies,
        more: found.cut,
    })
}
