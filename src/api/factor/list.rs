//! `factor.list`: the own second factors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FactorView;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};

/// Second factors, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactorList {
    /// The factors.
    pub factors: Vec<FactorView>,
    /// How many recovery codes are left.
    pub recovery_codes_left: usize,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = FactorList;
    const SUMMARY: &'static str = "Your second factors";

    fn task() -> Task {
        task(
            "factor.list",
            "GET /api/v1/me/factors",
            tool::Kind::Read,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<FactorList, Problem> {
        let person = call.person()?.id;
        let (factors, left) = api.authenticate.factors(person).await.map_err(problem)?;
        Ok(FactorList {
            factors: factors.into_iter().map(FactorView::from).collect(),
            recovery_codes_left: left,
        })
    }
}
