//! `session.list`: the own sessions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, list};
use crate::authenticate::SessionKind;
use crate::problem::Problem;
use crate::tool::{Audience, Task};

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Id.
    pub id: String,
    /// `browser`, `child`, `token`, `personal` (see `token.list`), `basic` or `certificate`.
    pub kind: String,
    /// The one host that a child is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Start (RFC 3339).
    pub created: String,
    /// When it was last used (RFC 3339).
    pub seen: String,
    /// End (RFC 3339).
    pub expires: String,
    /// Level of assurance: `aal1` with one factor, `aal2` with two.
    #[serde(default)]
    pub acr: String,
    /// How you showed who you are in it (RFC 8176): `pwd`, `otp`, `mfa`, `pop`; `token` for a personal access token.
    #[serde(default)]
    pub amr: Vec<String>,
    /// Whether it is the one that asks.
    pub this: bool,
}

/// Sessions, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = SessionList;
    const SUMMARY: &'static str = "Your sessions";

    fn task() -> Task {
        list("session.list", "GET /api/v1/sessions", Audience::AnyPerson)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<SessionList, Problem> {
        let this = call.session()?.id;
        let sessions = api.authenticate.sessions_of(call.person()?.id);
        let view = |(session, seen): (
            std::sync::Arc<crate::authenticate::Session>,
            crate::clock::Timestamp,
        )| SessionView {
            id: session.id.to_string(),
            kind: session.kind.as_str().to_owned(),
            host: match &session.kind {
                SessionKind::Child { host, .. } => Some(host.clone()),
                _ => None,
            },
            created: session.created.to_string(),
            seen: seen.to_string(),
            expires: session.expires.to_string(),
            acr: session.acr.clone(),
            amr: session.methods.clone(),
            this: session.id == this,
        };
        // Ids begin with their time, so that their order is that of the sessions' starts.
        let (sessions, next) = call.page(
            sessions.into_iter().map(view).collect(),
            |session: &SessionView| session.id.clone(),
        )?;
        Ok(SessionList { sessions, next })
    }
}
