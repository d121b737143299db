//! `idp.resume`: lets people sign in with an identity provider again.

use super::{IdpView, of, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Resume;

impl Operation for Resume {
    type Body = Nothing;
    type Answer = IdpView;
    const SUMMARY: &'static str = "Lets people sign in with an identity provider again";

    fn task() -> Task {
        reasoned(task(
            "idp.resume",
            "POST /api/v1/idps/{idp:slug}/resume",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdpView, Problem> {
        let mut tx = api.begin().await?;
        let name = call.parameter("idp")?;
        let change = api.authenticate.set_idp_active(&mut tx, name, true).await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, call, &of(api, call).await?))
    }
}
