//! `user.list`: the members of a VO, all of them or those that are looked for.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{UserView, view};
use crate::api::operation::{Call, Nothing, Operation, VO, list};
use crate::api::{Api, problem};
use crate::id::{PersonId, VoId};
use crate::problem::{Kind, Problem};
use crate::tool::Task;
use crate::vo::{Directory, Person};

/// Longest text that is looked for, in characters.
const LONGEST: usize = 200;
const STATES: [&str; 6] = ["active", "suspended", "pending", "rejected", "expired", "deleted"];

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
    const SUMMARY: &'static str = "The members of a virtual organisation: with `username` the one of that name, with `text` those \
         whose user name, name, mail address or organisation has it, with `state` and `role` those in it";

    fn task() -> Task {
        Task {
            query: Some(
                ["after", "limit", "username", "text", "state", "role"]
                    .map(Into::into)
                    .into(),
            ),
            // A name is personal data: records show its keyed hash.
            sensitive: ["username", "after", "text"].map(Into::into).into(),
            ..list("user.list", "GET /api/v1/vos/{vo:slug}/users", VO)
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserList, Problem> {
        let vo = call.vo()?.id;
        let directory = api.directory();
        let wanted = Wanted::read(api, call, vo).await?;
        let people = directory
            .members(vo)
            .filter_map(|membership| directory.person(membership.person))
            .filter(|person| wanted.includes(api, &directory, vo, person))
            .collect();
        let (people, next) = call.page(people, |person| person.username.clone())?;
        let mut users = Vec::with_capacity(people.len());
        for person in people {
            users.push(view(api, vo, person).await?);
        }
        Ok(UserList { users, next })
    }
}

/// Which members are looked for.
struct Wanted<'a> {
    username: Option<&'a str>,
    with_text: Option<HashSet<PersonId>>,
    state: Option<&'a str>,
    role: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    async fn read(api: &Api, call: &'a Call, vo: VoId) -> Result<Self, Problem> {
        let with_text = match call.query("text")? {
            Some(text) if text.chars().count() > LONGEST => {
                return Err(Problem::new(
                    Kind::Invalid,
                    format!("`text` has more than {LONGEST} characters"),
                ));
            }
            Some(text) => Some(api.vos.people_with(vo, text).await.map_err(problem)?),
            None => None,
        };
        let state = call.query("state")?;
        if let Some(other) = state.filter(|state| !STATES.contains(state)) {
            let detail = format!(
                "`{other}` is no state of an account; accepted: {}",
                STATES.join(", ")
            );
            return Err(Problem::new(Kind::Invalid, detail));
        }
        Ok(Self {
            username: call.query("username")?,
            with_text,
            state,
            role: call.query("role")?,
        })
    }

    fn includes(&self, api: &Api, directory: &Directory, vo: VoId, person: &Person) -> bool {
        let holds = |name: &str| {
            let mut held = directory.assignments(vo, person.id, api.now());
            held.any(|held| directory.role(held.role).is_some_and(|role| role.name == name))
        };
        self.username.is_none_or(|wanted| person.username == wanted)
            && self
                .with_text
                .as_ref()
                .is_none_or(|found| found.contains(&person.id))
            && self
                .state
                .is_none_or(|wanted| person.standing(api.now()).as_str() == wanted)
            && self.role.is_none_or(holds)
    }
}
