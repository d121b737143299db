//! `idp.suspend`: lets nobody sign in with an identity provider until it is resumed. Sessions that have begun go on.

use super::{IdpView, of, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Suspend;

impl Operation for Suspend {
    type Body = Nothing;
    type Answer = IdpView;
    const SUMMARY: &'static str = "Lets nobody sign in with an identity provider until it is resumed";

    fn task() -> Task {
        reasoned(task(
            "idp.suspend",
            "POST /api/v1/idps/{idp:slug}/suspend",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdpView, Problem> {
        let mut tx = api.begin().await?;
        let name = call.parameter("idp")?;
        let change = api.authenticate.set_idp_active(&mut tx, name, false).await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, call, &of(api, call).await?))
    }
}
