//! `case.list`: the cases of a VO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::api::{Api, problem};
use crate::delegate::provider::{Case, CaseState, Wanted, names};
use crate::id::CaseId;
use crate::problem::{Kind, Problem};
use crate::tool::Task;

/// A case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaseView {
    /// Id.
    pub id: String,
    /// `open`, `answered` or `declined`.
    pub state: String,
    /// Tool that the proxy was minted for.
    pub tool: String,
    /// User name of the provider's account that asks.
    pub provider: String,
    /// User name of the person whose proxy it is; her id when the account has none any more.
    pub person: String,
    /// Serial of the proxy in decimal.
    pub serial: String,
    /// The request that asked.
    pub request: String,
    /// When it was asked (RFC 3339).
    pub opened: String,
    /// What the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was answered (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// User name of who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// Fields of the card that the answer shows.
    pub shows: Vec<String>,
    /// What the answer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Cases, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaseList {
    /// The cases.
    pub cases: Vec<CaseView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = CaseList;
    const SUMMARY: &'static str = "The cases that resource providers opened, newest first";

    fn task() -> Task {
        let mut task = list("case.list", "GET /api/v1/vos/{vo:slug}/cases", VO);
        task.query.get_or_insert_default().push("state".into());
        task
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<CaseList, Problem> {
        let (cases, next) = page(api, call, None).await?;
        let cases = cases.into_iter().map(|case| view(api, case));
        Ok(CaseList {
            cases: cases.collect(),
            next,
        })
    }
}

/// The part of the cases of a VO, or of one of its tools, that the query asks for; and what to give as `after` for more.
pub(in crate::api) async fn page(
    api: &Api,
    call: &Call,
    tool: Option<&str>,
) -> Result<(Vec<Case>, Option<String>), Problem> {
    let limit = call.limit()?;
    let state = call.query("state")?.map(state).transpose()?;
    let wanted = Wanted {
        tool,
        state,
        after: call.query_as::<CaseId>("after", "the id of a case")?,
        // One more shows whether there are more.
        limit: limit + 1,
    };
    let mut cases = api
        .providers
        .cases(call.vo()?.id, wanted)
        .await
        .map_err(problem)?;
    let more = cases.len() > limit;
    cases.truncate(limit);
    let next = cases.last().filter(|_| more).map(|case| case.id.to_string());
    Ok((cases, next))
}

fn state(name: &str) -> Result<CaseState, Problem> {
    CaseState::parse(name).ok_or_else(|| {
        let detail = "`state` must be `open`, `answered` or `declined`";
        Problem::new(Kind::Invalid, detail)
    })
}

pub(in crate::api) fn view(api: &Api, case: Case) -> CaseView {
    let directory = api.directory();
    let name = |id: crate::id::PersonId| {
        let known = directory.person(id).filter(|known| !known.username.is_empty());
        known.map_or_else(|| id.to_string(), |known| known.username.clone())
    };
    CaseView {
        id: case.id.to_string(),
        state: case.state.as_str().to_owned(),
        provider: name(case.provider),
        person: name(case.person),
        serial: case.serial.to_string(),
        request: case.request.to_string(),
        opened: case.opened.to_string(),
        answered: case.answered.map(|at| at.to_string()),
        answered_by: case.answered_by.map(name),
        shows: names(&case.shows),
        tool: case.tool,
        note: case.note,
        text: case.text,
    }
}
