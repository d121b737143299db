//! `administrator.list`: who administers the gateway.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, SYSTEM, list};
use crate::api::{Api, user};
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::tool::Task;
use crate::vo::{Assignment, Directory, SYSTEM_ADMINISTRATOR};

/// A system administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdministratorView {
    /// Opaque id.
    pub id: String,
    /// User name.
    pub username: String,
    /// One of the states of accounts, such as `active` or `suspended`.
    pub state: String,
    /// Whose administrators reset the account: a VO's name, or `countersign` for the gateway itself.
    pub home: String,
    /// When the role ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// System administrators by user name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdministratorList {
    /// They.
    pub administrators: Vec<AdministratorView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = AdministratorList;
    const SUMMARY: &'static str = "The system administrators of the gateway";

    fn task() -> Task {
        list("administrator.list", "GET /api/v1/administrators", SYSTEM)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<AdministratorList, Problem> {
        let directory = api.directory();
        let now = api.now();
        let held = directory.assignments_of_vo(Directory::gateway());
        let held = held.filter(|held| held.until.is_none_or(|until| now < until));
        let administrators = held.filter_map(|held| view((&directory, now), held)).collect();
        let (administrators, next) = call.page(administrators, |one| one.username.clone())?;
        Ok(AdministratorList { administrators, next })
    }
}

pub(super) fn view(
    (directory, now): (&Directory, Timestamp),
    held: &Assignment,
) -> Option<AdministratorView> {
    if directory.role(held.role)?.name != SYSTEM_ADMINISTRATOR {
        return None;
    }
    let person = directory.person(held.person)?;
    Some(AdministratorView {
        id: person.id.to_string(),
        username: person.username.clone(),
        state: person.standing(now).as_str().into(),
        home: user::home(directory, person.home),
        until: held.until.map(|until| until.to_string()),
    })
}
