//! `idp.list`: the identity providers, as system administrators see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IdpView, view};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, list};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::Task;

/// Identity providers by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdpList {
    /// The providers.
    pub idps: Vec<IdpView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = IdpList;
    const SUMMARY: &'static str = "The identity providers that people sign in with";

    fn task() -> Task {
        list("idp.list", "GET /api/v1/idps", SYSTEM)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdpList, Problem> {
        let idps = api.authenticate.idps().await.map_err(problem)?;
        let idps = idps.iter().map(|idp| view(api, call, idp)).collect();
        let (idps, next) = call.page(idps, |idp: &IdpView| idp.name.clone())?;
        Ok(IdpList { idps, next })
    }
}
