//! `person.find`: the id of an account, a member of some virtual organisation or of none. For system administrators.

use crate::api::operation::{Call, Operation, SYSTEM, task};
use crate::api::user::find::{UserFind, UserFound};
use crate::api::{Api, user};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Find;

impl Operation for Find {
    type Body = UserFind;
    type Answer = UserFound;
    const SUMMARY: &'static str = "The id of an account, by user name";

    fn task() -> Task {
        task(
            "person.find",
            "POST /api/v1/persons/find",
            tool::Kind::Read,
            SYSTEM,
        )
    }

    async fn run(api: &Api, _: &Call, body: UserFind) -> Result<UserFound, Problem> {
        let found = user::named(api, &body.username)?;
        Ok(UserFound {
            id: found.id.to_string(),
        })
    }
}
