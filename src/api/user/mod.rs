//! People of a VO.

pub mod add;
pub mod edit;
pub mod find;
mod hand_over;
pub mod list;
pub mod remove;
pub mod reset_password;
pub mod resume;
pub mod show;
pub mod suspend;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, problem};
use crate::id::VoId;
use crate::problem::{Kind, Problem};
use crate::vo::{CardFields, Directory, GATEWAY, Person, PersonState};

/// A member of a VO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Opaque id.
    pub id: String,
    /// User name.
    pub username: String,
    /// `active`, `suspended` or `ended`.
    pub state: String,
    /// Whose administrators reset the account: a VO's name, or `countersign` for the gateway itself.
    pub home: String,
    /// Name.
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Roles in this VO, with their ends.
    pub roles: Vec<HeldRole>,
}

/// A role that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldRole {
    /// Name of the role.
    pub role: String,
    /// When it ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

pub(super) const fn state(state: PersonState) -> &'static str {
    match state {
        PersonState::Active => "active",
        PersonState::Suspended => "suspended",
        PersonState::Ended => "ended",
    }
}

pub(super) fn home(directory: &Directory, home: VoId) -> String {
    directory
        .vo(home)
        .map_or_else(|| GATEWAY.to_owned(), |vo| vo.name.clone())
}

/// A person as an administrator of `vo` sees her.
async fn view(api: &Api, vo: VoId, person: &Person) -> Result<UserView, Problem> {
    let card = api.vos.card(person.id).await.map_err(problem)?;
    let fields = card.map(|card| card.fields).unwrap_or_default();
    let directory = api.directory();
    let mut roles: Vec<HeldRole> = directory
        .assignments(vo, person.id, api.now())
        .filter_map(|held| {
            Some(HeldRole {
                role: directory.role(held.role)?.name.clone(),
                until: held.until.map(|until| until.to_string()),
            })
        })
        .collect();
    roles.sort_by(|a, b| a.role.cmp(&b.role));
    Ok(UserView {
        id: person.id.to_string(),
        username: person.username.clone(),
        state: state(person.state).into(),
        home: home(&directory, person.home),
        name: fields.name,
        mail: fields.mail,
        organisation: fields.organisation,
        roles,
    })
}

/// An account by user name.
pub(super) fn named(api: &Api, username: &str) -> Result<Arc<Person>, Problem> {
    api.directory()
        .person_named(username)
        .cloned()
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no user `{username}`")))
}

/// The fields of a card, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardInput {
    /// Name.
    #[schema(max_length = 200)]
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub organisation: Option<String>,
}

impl From<CardInput> for CardFields {
    fn from(input: CardInput) -> Self {
        Self {
            name: input.name,
            mail: input.mail,
            organisation: input.organisation,
        }
    }
}
