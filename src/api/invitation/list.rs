//! `invitation.list`: the invitations of a VO that nobody has taken yet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InvitationView, view};
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::api::{Api, problem};
use crate::id::EnrolmentId;
use crate::problem::Problem;
use crate::tool::Task;
use crate::vo::EnrolmentKind;

/// Invitations, oldest first; also those that can be taken no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationList {
    /// The invitations.
    pub invitations: Vec<InvitationView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = InvitationList;
    const SUMMARY: &'static str = "The invitations that nobody has taken yet";

    fn task() -> Task {
        list("invitation.list", "GET /api/v1/vos/{vo:slug}/invitations", VO)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<InvitationList, Problem> {
        let after: Option<EnrolmentId> = call.query_as("after", "what `next` was")?;
        let limit = call.limit()?;
        let of = (call.vo()?.id, EnrolmentKind::Invitation);
        let found = api
            .vos
            .enrolments(of, "open", (after, limit + 1))
            .await
            .map_err(problem)?;
        let more = found.len() > limit;
        let invitations: Vec<_> = found.into_iter().take(limit).map(|one| view(api, one)).collect();
        let last = invitations.last().filter(|_| more);
        Ok(InvitationList {
            next: last.map(|last| last.id.clone()),
            invitations,
        })
    }
}
