//! `case.answer`: what the provider learns, or that the VO does not say.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::case_of;
use super::list::{CaseView, view};
use crate::alert::CaseNotice;
use crate::api::operation::{Call, Operation, VO, task};
use crate::api::provider::{fields, words};
use crate::api::{Api, problem, unposted};
use crate::delegate::provider::{CaseAnswer, CaseState};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};

/// Longest answer, in characters.
const TEXT: usize = 2_000;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseAnswered {
    /// Fields of the person's card that the provider sees: `username`, `name`, `mail`, `organisation`. With an answer it
    /// always sees her opaque id.
    #[serde(default)]
    #[schema(max_items = 4)]
    pub shows: Vec<String>,
    /// What else it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2000)]
    pub text: Option<String>,
    /// Whether the case is closed without saying who it was.
    #[serde(default)]
    pub decline: bool,
}

pub(in crate::api) struct Answer;

impl Operation for Answer {
    type Body = CaseAnswered;
    type Answer = CaseView;
    const SUMMARY: &'static str = "Answers a case of a resource provider, or declines it";

    fn task() -> Task {
        task(
            "case.answer",
            "POST /api/v1/vos/{vo:slug}/cases/{case:uuid}/answer",
            tool::Kind::Update,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, body: CaseAnswered) -> Result<CaseView, Problem> {
        let (vo, by) = (call.vo()?, call.person()?);
        let shows = fields(&body.shows)?;
        if body.decline && !shows.is_empty() {
            let detail = "a case that is declined shows nothing of the person";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let answer = CaseAnswer {
            by: by.id,
            state: match body.decline {
                true => CaseState::Declined,
                false => CaseState::Answered,
            },
            shows,
            text: words("text", body.text, TEXT)?,
        };
        let case = case_of(api, call).await?;
        let mut tx = api.begin().await?;
        let answered = api.providers.answer(&mut tx, &case, &answer).await;
        let (case, change) = answered.map_err(problem)?.ok_or_else(|| {
            let detail = format!("the case `{}` was answered already", case.id);
            Problem::new(Kind::Conflict, detail)
        })?;
        let notice = CaseNotice {
            case: case.id,
            tool: &case.tool,
            vo_name: &vo.name,
            by_username: &by.username,
            note: None,
        };
        let told = api
            .alert
            .notify_answered(&mut tx, vo.id, case.provider, &notice)
            .await;
        told.map_err(|error| unposted(&error))?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, case))
    }
}
