//! `person.factor.reset`: takes all second factors of an account away, in its home. All its sessions end.

use super::tell;
use crate::alert::Happened;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task, TokenRule};

pub(in crate::api) struct ResetFactors;

impl Operation for ResetFactors {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes all second factors of an account away and ends all its sessions";

    fn task() -> Task {
        let task = task(
            "person.factor.reset",
            "POST /api/v1/vos/{vo:slug}/users/{person:uuid}/reset-factors",
            tool::Kind::Update,
            VO,
        );
        reasoned(Task {
            // SECURITY: who resets factor and password can be that person; only the account's home may.
            home_only: true,
            tokens: TokenRule::Never,
            ..on_person(task)
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let person = member(api, call)?;
        let mut tx = api.begin().await?;
        let reset = api.authenticate.reset_factors(&mut tx, &person, call.id).await;
        let Some(reset) = reset.map_err(problem)? else {
            return Err(Problem::new(Kind::Conflict, "the account has no second factor"));
        };
        tell(api, call, &mut tx, Happened::FactorsReset, &person).await?;
        let further = reset.ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call, tx, reset.changes, further).await?;
        api.forget(reset.ended.as_ref()).await?;
        Ok(Nothing {})
    }
}
