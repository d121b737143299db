//! `account.list`: the requests for accounts of a VO that wait for a decision, or were decided.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountRequest, view};
use crate::api::operation::{Call, Nothing, Operation, VO, list as listing};
use crate::api::{Api, problem};
use crate::id::{EnrolmentId, VoId};
use crate::problem::{Kind, Problem};
use crate::tool::Task;
use crate::vo::EnrolmentKind;

const STATES: [&str; 3] = ["pending", "approved", "rejected"];

/// Requests, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountList {
    /// The requests.
    pub accounts: Vec<AccountRequest>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = AccountList;
    const SUMMARY: &'static str = "The requests for accounts that wait for a decision; with `state`, those that were `approved` or `rejected`";

    fn task() -> Task {
        Task {
            query: Some(["after", "limit", "state"].map(Into::into).into()),
            ..listing("account.list", "GET /api/v1/vos/{vo:slug}/account-requests", VO)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<AccountList, Problem> {
        let state = call.query("state")?.unwrap_or("pending");
        if !STATES.contains(&state) {
            let detail = format!(
                "`{state}` is no state of a request; accepted: {}",
                STATES.join(", ")
            );
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let after: Option<EnrolmentId> = call.query_as("after", "what `next` was")?;
        let limit = call.limit()?;
        let mut accounts = list(api, call.vo()?.id, state, (after, limit + 1)).await?;
        let more = accounts.len() > limit;
        accounts.truncate(limit);
        let last = accounts.last().filter(|_| more);
        Ok(AccountList {
            next: last.map(|last| last.id.clone()),
            accounts,
        })
    }
}

pub(super) async fn list(
    api: &Api,
    vo: VoId,
    state: &str,
    page: (Option<EnrolmentId>, usize),
) -> Result<Vec<AccountRequest>, Problem> {
    let found = api
        .vos
        .enrolments((vo, EnrolmentKind::Request), state, page)
        .await;
    let mut accounts = Vec::new();
    for enrolment in found.map_err(problem)? {
        accounts.push(view(api, enrolment).await?);
    }
    Ok(accounts)
}
