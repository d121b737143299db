//! `user.suspend`: stops an account everywhere until it is resumed. For its home and for system administrators.

use super::{STOP, UserView, stoppable, tell, view};
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::delegate::{Which, Why};
use crate::problem::Problem;
use crate::record::Event;
use crate::tool::{self, Task};

pub(in crate::api) struct Suspend;

impl Operation for Suspend {
    type Body = Nothing;
    type Answer = UserView;
    const SUMMARY: &'static str = "Stops an account everywhere until it is resumed";

    fn task() -> Task {
        let task = task(
            "user.suspend",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/suspend",
            tool::Kind::Update,
            STOP,
        );
        // SECURITY: not `home_only`: that spares accounts with roles elsewhere, and nobody may become unstoppable.
        reasoned(on_person(task))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserView, Problem> {
        let person = stoppable(api, call)?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .suspend_person(&mut tx, person.id)
            .await
            .map_err(problem)?;
        let all = Which::all_of(person.id);
        // SECURITY: what was minted for her is in others' hands; resuming the account does not bring it back.
        let revoked = api.delegate.revoke(&mut tx, &all, Why::Suspended, None).await;
        let revoked = revoked.map_err(problem)?;
        tell(api, call, &mut tx, Happened::Suspended, &person).await?;
        let ended = api
            .authenticate
            .ending_all(person.id, None, "suspended", Some(call.id));
        let further = ended.iter().cloned().map(Event::SessionEnded).collect();
        let changes = std::iter::once(change).chain(revoked.changes).collect();
        api.commit_with(call, tx, changes, further).await?;
        let done = match ended {
            Some(ended) => api.end_recorded(&ended).await,
            None => Ok(()),
        };
        api.delegate.forget_proxies(&revoked.serials);
        done?;
        view(api, call.vo()?.id, &*stoppable(api, call)?).await
    }
}
