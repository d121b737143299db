//! `token.list`: the own personal access tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, list};
use crate::problem::Problem;
use crate::tool::{Audience, Task};

/// A personal access token. Its text is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Id, by which records name it.
    pub id: String,
    /// What you call it.
    pub name: String,
    /// What it is for: VOs, tools, tasks.
    pub scopes: Vec<String>,
    /// Of these only what changes nothing.
    pub read_only: bool,
    /// It also gets your proxies.
    pub myproxy: bool,
    /// Since when (RFC 3339).
    pub created: String,
    /// When it was last used (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// When it ends (RFC 3339).
    pub expires: String,
}

/// Tokens, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = TokenList;
    const SUMMARY: &'static str = "Your personal access tokens";

    fn task() -> Task {
        list("token.list", "GET /api/v1/me/tokens", Audience::AnyPerson)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<TokenList, Problem> {
        let alive = api.authenticate.tokens_of(call.person()?.id);
        let views = alive.into_iter().filter_map(|(session, seen)| {
            let personal = session.kind.personal()?;
            Some(TokenView {
                id: session.id.to_string(),
                name: personal.name.clone(),
                scopes: personal.scope.parts.iter().map(ToString::to_string).collect(),
                read_only: personal.scope.read_only,
                myproxy: personal.scope.myproxy,
                created: session.created.to_string(),
                used: (seen > session.created).then(|| seen.to_string()),
                expires: session.expires.to_string(),
            })
        });
        // Ids begin with their time, so that their order is that in which the tokens were made.
        let (tokens, next) = call.page(views.collect(), |token: &TokenView| token.id.clone())?;
        Ok(TokenList { tokens, next })
    }
}
