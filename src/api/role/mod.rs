//! Roles of a VO and who holds them.

pub mod assign;
pub mod create;
pub mod end;
pub mod list;
pub mod unassign;

use super::Api;
use crate::id::{PersonId, VoId};
use crate::vo::Directory;

/// Names of the roles that a person holds now.
pub(super) fn names(api: &Api, directory: &Directory, vo: VoId, person: PersonId) -> Vec<String> {
    let mut names: Vec<String> = directory
        .assignments(vo, person, api.now())
        .filter_map(|held| directory.role(held.role))
        .map(|role| role.name.clone())
        .collect();
    names.sort_unstable();
    names
}
