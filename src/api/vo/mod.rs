//! Virtual organisations.

pub mod create;
pub mod list;
pub mod resume;
pub mod show;
pub mod suspend;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::operation::Call;
use crate::id::PersonId;
use crate::problem::{Kind, Problem};
use crate::vo::{Directory, SYSTEM_ADMINISTRATOR, Vo, VoState};

/// A virtual organisation, and what the person who asks is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoView {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `active`, `suspended`, or `in_doubt`: its state was changed past the gateway, and nothing is allowed in it.
    pub state: String,
    /// Version of its authorisation state.
    pub version: i64,
    /// Whether you are a member.
    pub member: bool,
    /// The roles you hold in it.
    pub roles: Vec<String>,
}

fn view(api: &Api, directory: &Directory, vo: &Vo, person: PersonId) -> VoView {
    VoView {
        id: vo.id.to_string(),
        name: vo.name.clone(),
        state: match vo.state {
            VoState::Active => "active",
            VoState::Suspended => "suspended",
            VoState::InDoubt => "in_doubt",
        }
        .into(),
        version: vo.version,
        member: directory.is_member(vo.id, person),
        roles: super::role::names(api, directory, vo.id, person),
    }
}

/// The VO in the path, after a change.
fn changed(api: &Api, call: &Call) -> Result<VoView, Problem> {
    let (directory, person) = (api.directory(), call.person()?.id);
    let vo = directory.vo(call.vo()?.id);
    vo.map(|vo| view(api, &directory, vo, person))
        .ok_or_else(|| Problem::new(Kind::Internal, "the VO is not there"))
}

/// SECURITY: a VO shows itself to its members and to system administrators, to nobody else.
fn may_see(api: &Api, directory: &Directory, vo: &Vo, person: PersonId) -> bool {
    directory.is_member(vo.id, person)
        || super::role::names(api, directory, Directory::gateway(), person)
            .iter()
            .any(|role| role == SYSTEM_ADMINISTRATOR)
}
