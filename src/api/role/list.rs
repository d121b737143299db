//! `role.list`: the roles of a VO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::problem::Problem;
use crate::tool::Task;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// How many people hold it now.
    pub members: usize,
    /// How many tasks it is granted.
    pub grants: usize,
}

/// Roles by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleList {
    /// The roles.
    pub roles: Vec<RoleView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = RoleList;
    const SUMMARY: &'static str = "The roles of a virtual organisation";

    fn task() -> Task {
        list("role.list", "GET /api/v1/vos/{vo:slug}/roles", VO)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<RoleList, Problem> {
        let (vo, directory, now) = (call.vo()?.id, api.directory(), api.now());
        let roles = directory
            .roles_of_vo(vo)
            .map(|role| RoleView {
                id: role.id.to_string(),
                name: role.name.clone(),
                members: directory.holders(vo, &role.name, now).len(),
                grants: directory
                    .grants_of_vo(vo)
                    .filter(|grant| grant.role == role.id)
                    .count(),
            })
            .collect();
        let (roles, next) = call.page(roles, |role| role.name.clone())?;
        Ok(RoleList { roles, next })
    }
}
