//! `proxy_identity.set`: chooses what the proxies of a VO say of their person.

use super::ProxyIdentityView;
use crate::api::operation::{Call, Operation, VO, reasoned, task};
use crate::api::{Api, etag, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Set;

impl Operation for Set {
    type Body = ProxyIdentityView;
    type Answer = ProxyIdentityView;
    const SUMMARY: &'static str = "Chooses what the proxies of a virtual organisation say of their person";
    const EDITS: bool = true;
    const TAGGED: bool = true;

    fn tag(answer: &ProxyIdentityView) -> Option<String> {
        etag::tag(answer)
    }

    fn task() -> Task {
        // SECURITY: whose name leaves the VO is the VO's own choice: its administrators', on record, with a reason.
        reasoned(task(
            "proxy_identity.set",
            "PUT /api/v1/vos/{vo:slug}/proxy-identity",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: ProxyIdentityView) -> Result<ProxyIdentityView, Problem> {
        let vo = call.vo()?.id;
        let mut tx = api.begin().await?;
        let present = ProxyIdentityView {
            tells: api.delegate.proxy_identity(vo).into(),
        };
        call.unchanged(api, etag::tag(&present).as_deref())?;
        let set = api.delegate.set_proxy_identity(&mut tx, vo, body.tells.into());
        let change = set.await.map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        api.delegate.load().await.map_err(problem)?;
        Ok(ProxyIdentityView {
            tells: api.delegate.proxy_identity(vo).into(),
        })
    }
}
