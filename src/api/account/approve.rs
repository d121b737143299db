//! `account.approve`: lets somebody in who asked for an account, as a member with roles. She is told by mail.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountRequest, letters, requested, view};
use crate::api::operation::{Call, Operation, VO, moment, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::id::EnrolmentId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::SCIENTIST;

/// What she gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountApprove {
    /// Roles; `scientist` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 50)]
    pub roles: Option<Vec<String>>,
    /// When the roles end by themselves (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
}

pub(in crate::api) struct Approve;

impl Operation for Approve {
    type Body = AccountApprove;
    type Answer = AccountRequest;
    const SUMMARY: &'static str =
        "Approves a request for an account: she becomes a member, with roles, and is told by mail";

    fn task() -> Task {
        reasoned(task(
            "account.approve",
            "POST /api/v1/vos/{vo:slug}/account-requests/{account:uuid}/approve",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: AccountApprove) -> Result<AccountRequest, Problem> {
        approve(api, call, call.id_of("account")?, &body).await
    }
}

pub(super) async fn approve(
    api: &Api,
    call: &Call,
    id: EnrolmentId,
    body: &AccountApprove,
) -> Result<AccountRequest, Problem> {
    let (vo, by) = (call.vo()?, call.person()?.id);
    let until = body
        .until
        .as_deref()
        .map(|text| moment("until", text))
        .transpose()?;
    let default = [SCIENTIST.to_owned()];
    let roles = body.roles.as_deref().unwrap_or(&default);
    for role in roles {
        no_provider(role)?;
    }
    let mut tx = api.begin().await?;
    let asked = requested(api, &mut tx, (vo.id, id)).await?;
    let person = asked
        .person
        .ok_or_else(|| Problem::new(Kind::NotFound, "there is no such request"))?;
    let mut changes = vec![
        api.vos
            .decide_person(&mut tx, person, true)
            .await
            .map_err(problem)?,
    ];
    changes.push(api.vos.join(&mut tx, vo.id, person).await.map_err(problem)?);
    for role in roles {
        let assigned = api.vos.assign(&mut tx, vo.id, role, person, until).await;
        changes.push(assigned.map_err(problem)?);
    }
    let decided = ("approved", "account.approved");
    let settled = api
        .vos
        .settle_enrolment(&mut tx, &asked, decided, (by, None))
        .await;
    changes.push(settled.map_err(problem)?);
    letters::approved(api, &mut tx, (vo.id, &vo.name, &call.base), person).await?;
    api.commit(call, tx, changes).await?;
    view(
        api,
        crate::vo::Enrolment {
            state: decided.0.into(),
            ..asked
        },
    )
    .await
}
