//! `idp.approve`: gives somebody who came from an identity provider an account, or renews the approval of the one she has.

use super::arrive::{admitted, renewed};
use super::identities::{IdentityView, view};
use super::of;
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Approve;

impl Operation for Approve {
    type Body = Nothing;
    type Answer = IdentityView;
    const SUMMARY: &'static str =
        "Gives somebody who came from an identity provider an account, or renews its approval";

    fn task() -> Task {
        reasoned(task(
            "idp.approve",
            "POST /api/v1/idps/{idp:slug}/identities/{identity:uuid}/approve",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdentityView, Problem> {
        let idp = of(api, call).await?;
        let id = call.id_of("identity")?;
        let mut tx = api.begin().await?;
        let before = api.authenticate.identity(&mut tx, &idp, id).await?;
        let (after, changes) = match before.person {
            None => admitted(api, &mut tx, &idp, Some(&before), before.clone()).await?,
            Some(_) => renewed(api, &mut tx, &idp, &before).await?,
        };
        api.commit(call, tx, changes).await?;
        Ok(view(api, after))
    }
}
