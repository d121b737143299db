//! `case.show`: one case, with the proxy that it is about.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::case_of;
use super::list::{CaseView, view};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::proxy::trace::{TracedProxy, view as proxy_view};
use crate::api::{Api, problem};
use crate::delegate::Traced;
use crate::problem::Problem;
use crate::tool::{self, Task};

/// Requests in the answer.
const REQUESTS: u32 = 100;

/// A case with what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaseShown {
    /// The case.
    pub case: CaseView,
    /// The proxy, with the person and its newest 100 requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<TracedProxy>,
}

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = CaseShown;
    const SUMMARY: &'static str = "One case, with the proxy that it is about";

    fn task() -> Task {
        task(
            "case.show",
            "GET /api/v1/vos/{vo:slug}/cases/{case:uuid}",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<CaseShown, Problem> {
        let case = case_of(api, call).await?;
        let proxy = api.delegate.proxy(case.issuer, case.serial).await;
        let proxy = match proxy.map_err(problem)? {
            Some(proxy) => {
                let shown = case.shown;
                Some(proxy_view(api, Traced { shown, proxy }, REQUESTS).await?)
            }
            None => None,
        };
        Ok(CaseShown {
            case: view(api, case),
            proxy,
        })
    }
}
