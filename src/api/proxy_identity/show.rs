//! `proxy_identity.show`: what the proxies of a VO say of their person.

use super::ProxyIdentityView;
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, etag};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = ProxyIdentityView;
    const SUMMARY: &'static str = "What the proxies of a virtual organisation say of their person";
    const TAGGED: bool = true;

    fn tag(answer: &ProxyIdentityView) -> Option<String> {
        etag::tag(answer)
    }

    fn task() -> Task {
        task(
            "proxy_identity.show",
            "GET /api/v1/vos/{vo:slug}/proxy-identity",
            tool::Kind::Read,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<ProxyIdentityView, Problem> {
        Ok(ProxyIdentityView {
            tells: api.delegate.proxy_identity(call.vo()?.id).into(),
        })
    }
}
