//! `user.reset_password`: a new one-time password, in the account's home. All its sessions end, and with them its proxies.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hand_over::HandOver;
use crate::api::operation::{Call, Nothing, Operation, VO, exposed_if, member, on_person, task};
use crate::api::{Api, problem};
use crate::delegate::{RESET, Which, Why};
use crate::problem::Problem;
use crate::record::Event;
use crate::secret::Secret;
use crate::tool::{self, Task, TokenRule};

/// A reset that was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PasswordReset {
    /// The one-time password, to give to the person over a way that is safe; absent when it went to her by mail. It
    /// opens nothing but the choice of a password of her own.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>)]
    pub one_time_password: Option<Secret<String>>,
}

pub(in crate::api) struct ResetPassword;

impl Operation for ResetPassword {
    type Body = Nothing;
    type Answer = PasswordReset;
    const SUMMARY: &'static str =
        "Gives an account a one-time password, ends all its sessions and revokes its proxies";

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
            tokens: TokenRule::Never,
            query: Some(vec!["show_password".into()]),
            ..on_person(task)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<PasswordReset, Problem> {
        let person = member(api, call)?;
        let show = call.query_as("show_password", "true or false")?.unwrap_or(false);
        let card = api.vos.card(person.id).await.map_err(problem)?;
        let mail = card.and_then(|card| card.fields.mail);
        let mut turn = 0;
        let (mut tx, mut reset) = loop {
            let one_time = api.authenticate.one_time_password().await.map_err(problem)?;
            let mut tx = api.begin().await?;
            let reset = api
                .authenticate
                .reset_password(&mut tx, &person, one_time, call.id);
            let reset = reset.await.map_err(problem);
            if !Api::yields(&reset, &mut turn) {
                break (tx, reset?);
            }
        };
        let hand_over = HandOver {
            vo: call.vo()?.id,
            vo_name: &call.vo()?.name,
            base: &call.base,
            username: &person.username,
            mail: mail.as_deref(),
            show,
        };
        let shown = hand_over
            .run(api, &mut tx, reset.password, &mut reset.change)
            .await?;
        // SECURITY: whoever had the password may have had proxies made; what she needs is made anew.
        let revoked = api
            .delegate
            .revoke(&mut tx, &Which::all_of(person.id), Why::Revoked, Some(RESET))
            .await
            .map_err(problem)?;
        let further = reset.ended.iter().cloned().map(Event::SessionEnded).collect();
        let changes = std::iter::once(reset.change).chain(revoked.changes).collect();
        api.commit_with(call, tx, changes, further).await?;
        let forgotten = api.forget(reset.ended.as_ref()).await;
        api.delegate.forget_proxies(&revoked.serials);
        forgotten?;
        Ok(PasswordReset {
            one_time_password: shown,
        })
    }
}
