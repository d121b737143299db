//! `request.explain_own`: the same for one's own requests, without the policies.

use super::explain::{Explanation, explained, made, records, unknown};
use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, task};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};

pub(in crate::api) struct ExplainOwn;

impl Operation for ExplainOwn {
    type Body = Nothing;
    type Answer = Explanation;
    const SUMMARY: &'static str = "Why a request of your own was permitted or refused";

    fn task() -> Task {
        task(
            "request.explain_own",
            "GET /api/v1/requests/{request:uuid}",
            tool::Kind::Read,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Explanation, Problem> {
        let person = call.person()?.id;
        let (id, records) = records(api, call).await?;
        // SECURITY: somebody else's request looks like none.
        let (first, entry) = made(&records)
            .filter(|(_, entry)| entry.subject.person == Some(person))
            .ok_or_else(|| unknown(id))?;
        explained(api, first, entry, &records).await
    }
}
