//! `account.take_requests`: lets a VO take requests for accounts, or no more of them. None does unless its administrators say so.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// Whether a virtual organisation takes requests for accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakesRequests {
    /// Whether it does.
    pub open: bool,
    /// Where people ask; only in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub page: Option<String>,
}

pub(in crate::api) struct Take;

impl Operation for Take {
    type Body = TakesRequests;
    type Answer = TakesRequests;
    const SUMMARY: &'static str =
        "Lets a virtual organisation take requests for accounts, or no more of them";

    fn task() -> Task {
        reasoned(task(
            "account.take_requests",
            "PUT /api/v1/vos/{vo:slug}/takes-account-requests",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: TakesRequests) -> Result<TakesRequests, Problem> {
        let vo = call.vo()?;
        let mut tx = api.db.begin_write().await.map_err(problem)?;
        let change = api.vos.take_requests(&mut tx, vo.id, body.open).await;
        api.commit_aside(call, tx, vec![change.map_err(problem)?]).await?;
        Ok(TakesRequests {
            open: body.open,
            page: Some(format!("{}/vo/{}/join", call.base, vo.name)),
        })
    }
}
