//! `user.flag_compromised`: others may know the password of an account. Its sessions end, and with them its proxies; the next
//! sign-in opens nothing but the choice of another password.

use super::tell_person;
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::delegate::{Which, Why};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task};

/// Noted with the proxies.
const NOTE: &str = "others may know the password";

pub(in crate::api) struct FlagCompromised;

impl Operation for FlagCompromised {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Makes an account choose another password at its next sign-in, because others may know the present one; ends its \
         sessions and revokes its proxies";

    fn task() -> Task {
        let task = task(
            "user.flag_compromised",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/flag-compromised",
            tool::Kind::Update,
            VO,
        );
        reasoned(Task {
            home_only: true,
            ..on_person(task)
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let flagged = api.authenticate.flag_password(&mut tx, &person, call.id).await;
        let flagged = flagged
            .map_err(problem)?
            .ok_or_else(|| Problem::new(Kind::Conflict, "the account has no password"))?;
        // SECURITY: whoever had the password may have had proxies made.
        let which = Which::all_of(person.id);
        let revoked = api
            .delegate
            .revoke(&mut tx, &which, Why::Revoked, Some(NOTE))
            .await;
        let revoked = revoked.map_err(problem)?;
        tell_person(api, call, &mut tx, Happened::PasswordFlagged, &person).await?;
        let further = flagged.ended.iter().cloned().map(Event::SessionEnded).collect();
        let changes = std::iter::once(flagged.change).chain(revoked.changes).collect();
        api.commit_with(call, tx, changes, further).await?;
        let forgotten = api.forget(flagged.ended.as_ref()).await;
        api.delegate.forget_proxies(&revoked.serials);
        forgotten?;
        Ok(Nothing {})
    }
}
