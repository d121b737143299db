//! `case.list`: the cases of a VO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, problem};
use crate::delegate::provider::{Case, names};
use crate::problem::Problem;
use crate::tool::{self, Task};

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

/// Cases, newest first, at most 1,000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaseList {
    /// The cases.
    pub cases: Vec<CaseView>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = CaseList;
    const SUMMARY: &'static str = "The cases that resource providers opened, newest first";

    fn task() -> Task {
        Task {
            query: Some(vec!["state".into()]),
            ..task(
                "case.list",
                "GET /api/v1/vos/{vo:slug}/cases",
                tool::Kind::Read,
                VO,
            )
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<CaseList, Problem> {
        let state = call.query("state")?;
        let cases = api.providers.cases(call.vo()?.id, None).await.map_err(problem)?;
        let wanted = |case: &Case| state.is_none_or(|state| state == case.state.as_str());
        let cases = cases.into_iter().filter(wanted);
        Ok(CaseList {
            cases: cases.map(|case| view(api, case)).collect(),
        })
    }
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
