//! `audit.search_gateway`: the records of the gateway's own level, for system administrators. Those of the VOs belong to
//! the VOs.

use super::{AuditPage, QUERY, of_vo, page_of, query};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::api::{Api, problem};
use crate::audit::index::Page;
use crate::problem::{Kind, Problem};
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
        let (page, records) = own(api, call).await?;
        page_of(api, &page, &records).await
    }
}

async fn own(api: &Api, call: &Call) -> Result<(Page, Vec<Record>), Problem> {
    let mut query = query(call)?;
    let limit = call.limit()?;
    let mut found = Vec::new();
    let mut head = None;
    for pages in 1.. {
        let mut page = api.audit.search().search(&query).await.map_err(problem)?;
        found.extend(of_vo(api, std::mem::take(&mut page.records), None).await?);
        // A record that came meanwhile is for the next search.
        page.head = *head.get_or_insert(page.head);
        if query.onward.is_some() {
            query.before = query.before.or(head);
        }
        match page.next {
            Some(next) if found.len() < limit && pages < MOST_PAGES => query.go_on(next),
            _ => return Ok((page, found)),
        }
    }
    Err(Problem::new(Kind::Internal, "the audit log does not end"))
}
