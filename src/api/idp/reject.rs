//! `idp.reject`: says no to somebody who came from an identity provider and waits for an account.

use super::identities::{IdentityView, view};
use super::of;
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, reasoned, task};
use crate::authenticate::Standing;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};

pub(in crate::api) struct Reject;

impl Operation for Reject {
    type Body = Nothing;
    type Answer = IdentityView;
    const SUMMARY: &'static str = "Says no to somebody who waits for an account";

    fn task() -> Task {
        reasoned(task(
            "idp.reject",
            "POST /api/v1/idps/{idp:slug}/identities/{identity:uuid}/reject",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdentityView, Problem> {
        let idp = of(api, call).await?;
        let id = call.id_of("identity")?;
        let mut tx = api.begin().await?;
        let before = api.authenticate.identity(&mut tx, &idp, id).await?;
        if before.standing != Standing::Pending {
            let detail = format!(
                "`{id}` is {}; only who waits can be rejected",
                before.standing.as_str()
            );
            return Err(Problem::new(Kind::Conflict, detail)
                .instead("`countersign user suspend` stops an account that is there."));
        }
        let after = before.clone().rejected();
        let put = api
            .authenticate
            .put_identity(&mut tx, "idp.reject", Some(&before), &after);
        let change = put.await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, after))
    }
}
