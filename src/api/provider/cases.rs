//! `provider.cases`: what became of the cases about proxies of a provider's tool.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ShownPerson, on_tool, shown};
use crate::api::audit::prove::RecordProof;
use crate::api::case::list::page;
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::api::proxy::trace::mint_proof;
use crate::api::{Api, problem};
use crate::delegate::provider::{Case, CaseState};
use crate::id::CaseId;
use crate::problem::Problem;
use crate::tool::Task;

/// A case, as its provider sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderCase {
    /// Id.
    pub id: String,
    /// `open`, `answered` or `declined`.
    pub state: String,
    /// Serial of the proxy in decimal.
    pub serial: String,
    /// When it was asked (RFC 3339).
    pub opened: String,
    /// What the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was answered (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// What the VO says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The person, once it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<ShownPerson>,
    /// The `mint` record with the proof that it is in the audit log, once it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RecordProof>,
}

/// Cases, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderCases {
    /// The cases.
    pub cases: Vec<ProviderCase>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct Cases;

impl Operation for Cases {
    type Body = Nothing;
    type Answer = ProviderCases;
    const SUMMARY: &'static str = "For resource providers: the cases about proxies of their own tool, newest first; with `case`, one with its proof";

    fn task() -> Task {
        let address = "GET /api/v1/vos/{vo:slug}/tools/{tool:slug}/cases";
        let mut task = list("provider.cases", address, VO);
        task.query
            .get_or_insert_default()
            .extend(["case".into(), "state".into()]);
        Task {
            resource: on_tool(),
            ..task
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProviderCases, Problem> {
        let (vo, tool) = (call.vo()?.id, call.parameter("tool")?);
        let wanted: Option<CaseId> = call.query_as("case", "an id")?;
        let (cases, next) = match wanted {
            Some(wanted) => {
                let case = api.providers.case(vo, wanted).await.map_err(problem)?;
                // SECURITY: a provider sees the cases of its own tool only.
                (case.into_iter().filter(|case| case.tool == tool).collect(), None)
            }
            None => page(api, call, Some(tool)).await?,
        };
        let mut views = Vec::with_capacity(cases.len());
        for case in cases {
            views.push(view(api, case, wanted.is_some()).await?);
        }
        Ok(ProviderCases { cases: views, next })
    }
}

async fn view(api: &Api, case: Case, with_proof: bool) -> Result<ProviderCase, Problem> {
    let (mut person, mut proof) = (None, None);
    // SECURITY: nothing of the person before an administrator has answered, and then what she chose to show.
    if case.state == CaseState::Answered
        && let Some(proxy) = api
            .delegate
            .proxy(case.issuer, case.serial)
            .await
            .map_err(problem)?
    {
        person = Some(shown(api, &proxy, &case.shows).await?);
        if with_proof {
            proof = mint_proof(api, &proxy).await?;
        }
    }
    Ok(ProviderCase {
        id: case.id.to_string(),
        state: case.state.as_str().to_owned(),
        serial: case.serial.to_string(),
        opened: case.opened.to_string(),
        note: case.note,
        answered: case.answered.map(|at| at.to_string()),
        text: case.text,
        person,
        proof,
    })
}
