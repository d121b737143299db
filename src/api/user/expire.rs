//! `user.expire`: says when an account expires by itself; at that second it lets nobody in any more. For its home and for system
//! administrators.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{STOP, UserView, stop, stoppable, view};
use crate::alert::Happened;
use crate::api::operation::{Call, Operation, moment, on_person, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// When an account expires.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserExpire {
    /// When (RFC 3339); at once where that has passed, never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
}

pub(in crate::api) struct Expire;

impl Operation for Expire {
    type Body = UserExpire;
    type Answer = UserView;
    const SUMMARY: &'static str = "Says when an account expires by itself; at once, where that has passed";

    fn task() -> Task {
        let task = task(
            "user.expire",
            "PUT /api/v1/vos/{vo:slug}/users/{person:uuid}/until",
            tool::Kind::Update,
            STOP,
        );
        // SECURITY: not `home_only`, like `user.suspend`.
        reasoned(on_person(task))
    }

    async fn run(api: &Api, call: &Call, body: UserExpire) -> Result<UserView, Problem> {
        let person = stoppable(api, call)?;
        let until = body
            .until
            .as_deref()
            .map(|text| moment("until", text))
            .transpose()?;
        let mut tx = api.begin().await?;
        let change = api
            .vos
            .expire_person(&mut tx, person.id, until)
            .await
            .map_err(problem)?;
        if until.is_some_and(|until| until <= api.now()) {
            stop(api, call, tx, change, (&person, Happened::Expired)).await?;
        } else {
            api.commit(call, tx, vec![change]).await?;
        }
        view(api, call.vo()?.id, &*stoppable(api, call)?).await
    }
}
