//! `user.list`: the members of a VO; with `username`, the one of that name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{UserView, view};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::problem::Problem;
use crate::tool::Task;

/// Members by user name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// The members.
    pub users: Vec<UserView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = UserList;
    const SUMMARY: &'static str =
        "The members of a virtual organisation; with `username`, the one of that name";

    fn task() -> Task {
        Task {
            query: Some(vec!["after".into(), "limit".into(), "username".into()]),
            // A user name is personal data: records show its keyed hash.
            sensitive: vec!["username".into(), "after".into()],
            ..list("user.list", "GET /api/v1/vos/{vo:slug}/users", VO)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserList, Problem> {
        let vo = call.vo()?.id;
        let directory = api.directory();
        let wanted = call.query("username")?;
        let people = directory
            .members(vo)
            .filter_map(|membership| directory.person(membership.person))
            .filter(|person| wanted.is_none_or(|wanted| person.username == wanted))
            .collect();
        let (people, next) = call.page(people, |person| person.username.clone())?;
        let mut users = Vec::with_capacity(people.len());
        for person in people {
            users.push(view(api, vo, person).await?);
        }
        Ok(UserList { users, next })
    }
}
