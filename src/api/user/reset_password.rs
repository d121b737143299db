//! `user.reset_password`: a new one-time password, in the account's home. All its sessions end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, exposed, member, on_person, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::record::Event;
use crate::secret::Secret;
use crate::tool::{self, Task};

/// The one-time password. It opens nothing but the choice of a password of her own.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PasswordReset {
    /// To give to the person, over a way that is safe.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub one_time_password: Secret<String>,
}

pub(in crate::api) struct ResetPassword;

impl Operation for ResetPassword {
    type Body = Nothing;
    type Answer = PasswordReset;
    const SUMMARY: &'static str = "Gives an account a one-time password and ends all its sessions";

    fn task() -> Task {
        let task = task(
            "user.reset_password",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/reset-password",
            tool::Kind::Update,
            VO,
        );
        Task {
            // SECURITY: who resets a password can be that person; only the account's home may.
            home_only: true,
            ..on_person(task)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<PasswordReset, Problem> {
        let person = member(api, call)?;
        let one_time = api.authenticate.one_time_password().await.map_err(problem)?;
        let mut tx = api.begin().await?;
        let reset = api
            .authenticate
            .reset_password(&mut tx, &person, one_time, call.id)
            .await
            .map_err(problem)?;
        let further = reset.ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call.id, tx, vec![reset.change], further).await?;
        api.forget(reset.ended.as_ref()).await?;
        Ok(PasswordReset {
            one_time_password: reset.password,
        })
    }
}
