//! `account.reject`: decides against a request for an account. The applicant is told why by mail; it can still be approved.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountRequest, letters, requested, view};
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::id::EnrolmentId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};
use crate::vo::{Enrolment, check_text};

/// What the applicant is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountReject {
    /// Why, in the mail to the applicant.
    #[schema(max_length = 1000)]
    pub message: String,
}

pub(in crate::api) struct Reject;

impl Operation for Reject {
    type Body = AccountReject;
    type Answer = AccountRequest;
    const SUMMARY: &'static str = "Refuses a request for an account; the applicant is told why by mail";

    fn task() -> Task {
        reasoned(task(
            "account.reject",
            "POST /api/v1/vos/{vo:slug}/account-requests/{account:uuid}/reject",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: AccountReject) -> Result<AccountRequest, Problem> {
        reject(api, call, call.id_of("account")?, &body.message).await
    }
}

pub(super) async fn reject(
    api: &Api,
    call: &Call,
    id: EnrolmentId,
    message: &str,
) -> Result<AccountRequest, Problem> {
    check_text("message", message).map_err(problem)?;
    let (vo, by) = (call.vo()?, call.person()?.id);
    let mut tx = api.begin().await?;
    let asked = requested(api, &mut tx, (vo.id, id)).await?;
    let person = asked
        .person
        .ok_or_else(|| Problem::new(Kind::NotFound, "there is no such request"))?;
    let refused = api
        .vos
        .decide_person(&mut tx, person, false)
        .await
        .map_err(problem)?;
    let decided = ("rejected", "account.rejected");
    let settled = api
        .vos
        .settle_enrolment(&mut tx, &asked, decided, (by, Some(message)))
        .await
        .map_err(problem)?;
    letters::rejected(api, &mut tx, (vo.id, &vo.name), (person, message)).await?;
    api.commit(call, tx, vec![refused, settled]).await?;
    let message = Some(message.to_owned());
    view(
        api,
        Enrolment {
            state: decided.0.into(),
            message,
            ..asked
        },
    )
    .await
}
