//! `token.revoke`: ends one of the own personal access tokens. A token may revoke itself, and no other.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::id::SessionId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task, TokenRule};

pub(in crate::api) struct Revoke;

impl Operation for Revoke {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Revokes one of your personal access tokens";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Itself("token"),
            ..task(
                "token.revoke",
                "DELETE /api/v1/me/tokens/{token:uuid}",
                tool::Kind::Delete,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        revoke(api, call, call.id_of("token")?).await?;
        Ok(Nothing {})
    }
}

pub(super) async fn revoke(api: &Api, call: &Call, id: SessionId) -> Result<(), Problem> {
    // SECURITY: somebody else's token looks like none.
    let ended = api.authenticate.revoking(call.person()?.id, id, call.id);
    api.end(ended.ok_or_else(|| none(&id.to_string()))?).await
}

pub(super) fn none(id: &str) -> Problem {
    let id: String = id.chars().take(40).collect();
    Problem::new(Kind::NotFound, format!("you have no access token `{id}`"))
}
