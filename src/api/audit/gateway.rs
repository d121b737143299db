//! `audit.search_gateway`: the records of the gateway's own level, for system administrators. Those of the VOs belong to
//! the VOs.

use super::{AuditPage, QUERY, of_vo, page_of, query};
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::api::{Api, problem};
use crate::audit::index::{Level, Query};
use crate::problem::Problem;
use crate::tool::{self, Task};
use crate::vo::Directory;

pub(in crate::api) struct SearchGateway;

impl Operation for SearchGateway {
    type Body = Nothing;
    type Answer = AuditPage;
    const LONG: bool = true;
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
        // SECURITY: pages are made of the gateway's own records only. If those of a VO counted, where a page ends would
        // tell whether a text stands in them.
        let query = Query {
            level: Some(Level::Gateway(Directory::gateway())),
            ..query(call)?
        };
        let found = api.audit.search().search_for(&query, &call.gone);
        let mut page = found.await.map_err(problem)?;
        let records = of_vo(api, std::mem::take(&mut page.records), None).await?;
        page_of(api, &page, records).await
    }
}
