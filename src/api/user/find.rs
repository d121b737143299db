//! `user.find`: the opaque id behind a user name, for whoever belongs to the VO.
//!
//! Paths, and so records, hold the id and never the name. Everyone who belongs to a VO may turn a name into the id, so
//! that a task is refused as what it is, and not as the look-up before it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Operation, stranger, task};
use crate::api::provider::is_provider;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task};
use crate::vo::{Directory, SYSTEM_ADMINISTRATOR};

/// Who is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserFind {
    /// The whole user name.
    #[schema(max_length = 40)]
    pub username: String,
}

/// The id behind a user name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserFound {
    /// Opaque id.
    pub id: String,
}

pub(in crate::api) struct Find;

impl Operation for Find {
    type Body = UserFind;
    type Answer = UserFound;
    const SUMMARY: &'static str = "The id of a member, by user name";

    fn task() -> Task {
        task(
            "user.find",
            "POST /api/v1/vos/{vo:slug}/users/find",
            tool::Kind::Read,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, body: UserFind) -> Result<UserFound, Problem> {
        let (directory, caller) = (api.directory(), call.person()?);
        let unknown = || {
            let detail = format!(
                "nobody with the user name `{}` belongs to this virtual organisation",
                body.username
            );
            Problem::new(Kind::NotFound, detail)
        };
        // SECURITY: from outside a VO nothing is learned about who belongs to it, nor whether it is there.
        let vo = call.vo.as_ref().ok_or_else(|| stranger(call))?;
        let system = directory.holders(Directory::gateway(), SYSTEM_ADMINISTRATOR, api.now());
        if !directory.is_member(vo.id, caller.id) && !system.contains(&caller.id) {
            return Err(stranger(call));
        }
        let found = directory.person_named(&body.username).ok_or_else(unknown)?;
        // SECURITY: providers see opaque ids, and who that is only where the VO shows it: they may not try names.
        if found.id != caller.id && is_provider(api, call)? {
            return Err(unknown());
        }
        if !directory.is_member(vo.id, found.id) {
            return Err(unknown());
        }
        Ok(UserFound {
            id: found.id.to_string(),
        })
    }
}
