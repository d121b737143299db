//! `user.export`: what is held on a member, for the administrators of the account's home: the account, and what of it belongs
//! to their virtual organisation.

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, task};
use crate::api::person::export::{PersonExport, export};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Export;

impl Operation for Export {
    type Body = Nothing;
    type Answer = PersonExport;
    const SUMMARY: &'static str = "All that is held on a member in this virtual organisation";

    fn task() -> Task {
        let task = task(
            "user.export",
            "GET /api/v1/vos/{vo:slug}/users/{person:uuid}/export",
            tool::Kind::Download,
            VO,
        );
        on_person(Task {
            query: Some(vec!["before".into(), "limit".into()]),
            home_only: true,
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<PersonExport, Problem> {
        let person = member(api, call)?;
        export(api, call, person.id, Some(call.vo()?.id)).await
    }
}
