//! `person.me`: who am I, and what may I do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, task};
use crate::api::{Api, problem, role, user};
use crate::authorize::Allowed;
use crate::id::VoId;
use crate::problem::Problem;
use crate::tool::{self, Audience, Task, Tool};
use crate::vo::Directory;

/// The person who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// Opaque id, as tools see it.
    pub id: String,
    /// User name.
    pub username: String,
    /// Name.
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Whose administrators reset the account.
    pub home: String,
    /// Id of the session that asks.
    pub session: String,
    /// When that session ends (RFC 3339).
    pub expires: String,
    /// Level of assurance of that session: `aal1` with one factor, `aal2` with two.
    #[serde(default)]
    pub acr: String,
    /// How you showed who you are in it (RFC 8176).
    #[serde(default)]
    pub amr: Vec<String>,
    /// Signed in with a one-time password, or with one that has become too short: nothing is open but the change of the
    /// password.
    pub must_change: bool,
    /// Roles at the gateway's level.
    pub roles: Vec<String>,
    /// Her VOs.
    pub vos: Vec<MyVo>,
}

/// What somebody is in a VO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MyVo {
    /// Name of the VO.
    pub vo: String,
    /// Roles.
    pub roles: Vec<String>,
    /// What they allow.
    pub may: Vec<MayView>,
}

/// A task that somebody's roles allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MayView {
    /// Name of the tool.
    pub tool: String,
    /// Name of the task.
    pub task: String,
    /// One of these must hold: `always`, `own`, or a Cedar expression.
    pub conditions: Vec<String>,
    /// The roles that allow it.
    pub roles: Vec<String>,
}

pub(in crate::api) struct Me;

impl Operation for Me {
    type Body = Nothing;
    type Answer = MeView;
    const SUMMARY: &'static str = "Who am I, and what may I do";

    fn task() -> Task {
        task(
            "person.me",
            "GET /api/v1/me",
            tool::Kind::Read,
            Audience::AnySession,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<MeView, Problem> {
        let (person, session) = (call.person()?, call.session()?);
        let card = api.vos.card(person.id).await.map_err(problem)?;
        let fields = card.map(|card| card.fields).unwrap_or_default();
        let directory = api.directory();
        let mut vos: Vec<MyVo> = directory
            .vos_of(person.id)
            .filter_map(|vo| directory.vo(vo))
            .map(|vo| MyVo {
                vo: vo.name.clone(),
                roles: role::names(api, &directory, vo.id, person.id),
                may: may(api, call, vo.id),
            })
            .collect();
        vos.sort_by(|a, b| a.vo.cmp(&b.vo));
        Ok(MeView {
            id: person.id.to_string(),
            username: person.username.clone(),
            name: fields.name,
            mail: fields.mail,
            home: user::home(&directory, person.home),
            session: session.id.to_string(),
            expires: session.expires.to_string(),
            acr: session.acr.clone(),
            amr: session.methods.clone(),
            must_change: session.must_change,
            roles: role::names(api, &directory, Directory::gateway(), person.id),
            vos,
        })
    }
}

fn may(api: &Api, call: &Call, vo: VoId) -> Vec<MayView> {
    let tools: Vec<Arc<Tool>> = api.wrapped().all(vo).cloned().collect();
    let view = |allowed: Allowed| MayView {
        tool: allowed.tool,
        task: allowed.task,
        conditions: allowed
            .conditions
            .iter()
            .map(|condition| condition.as_str().to_owned())
            .collect(),
        roles: allowed.roles,
    };
    api.authorize
        .may(&call.subject, Some(vo), &tools)
        .into_iter()
        .map(view)
        .collect()
}
