//! `session.end`: signs out, with all children of the session.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::id::SessionId;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task, TokenRule};

pub(in crate::api) struct End;

impl Operation for End {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Ends one of your sessions, with its children";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Itself("session"),
            ..task(
                "session.end",
                "DELETE /api/v1/sessions/{session:uuid}",
                tool::Kind::Delete,
                Audience::AnySession,
            )
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let id: SessionId = call.id_of("session")?;
        let person = call.person()?.id;
        // SECURITY: somebody else's session looks like none.
        let ended = api
            .authenticate
            .ending(id, "logout", Some(call.id))
            .filter(|ended| ended.person == person)
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("you have no session `{id}`")))?;
        api.end(ended).await?;
        Ok(Nothing {})
    }
}
