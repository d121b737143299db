//! `audit.search_gateway`: the records of the gateway's own level, for system administrators. Those of the VOs belong to
//! the VOs.

use super::{AuditPage, QUERY, of_vo, page_of, people, query};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::api::{Api, problem};
use crate::audit::index::Position;
use crate::problem::Problem;
use crate::record::Record;
use crate::tool::{self, Task};

/// Pages of the index that one search looks at.
const MOST_PAGES: usize = 20;

pub(in crate::api) struct SearchGateway;

impl Operation for SearchGateway {
    type Body = Nothing;
    type Answer = AuditPage;
    const SUMMARY: &'static str = "Searches the records of the gateway's own level, newest first";

    fn task() -> Task {
        let task = task(
            "audit.search_gateway",
            "GET /api/v1/audit",
            tool::Kind::Read,
            SYSTEM,
        );
        Task {
            query: Some(QUERY.iter().map(|name| (*name).to_owned()).collect()),
            ..task
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<AuditPage, Problem> {
        let (records, next) = own(api, call).await?;
        page_of(&records, next, people(api, &records).await?)
    }
}

async fn own(api: &Api, call: &Call) -> Result<(Vec<Record>, Option<Position>), Problem> {
    let mut query = query(call)?;
    let limit = call.limit()?;
    let mut found = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = api.audit.search().search(&query).await.map_err(problem)?;
        query.before = page.next;
        found.extend(of_vo(api, page.records, None).await?);
        if page.next.is_none() || found.len() >= limit {
            break;
        }
    }
    Ok((found, query.before))
}
