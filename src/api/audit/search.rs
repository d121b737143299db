//! `audit.search`: the records of one VO.

use super::{AuditPage, QUERY, page_of, people, query, vo_of};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, problem};
use crate::audit::index::Query;
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Search;

impl Operation for Search {
    type Body = Nothing;
    type Answer = AuditPage;
    const SUMMARY: &'static str = "Searches the records of a virtual organisation, newest first";

    fn task() -> Task {
        let task = task(
            "audit.search",
            "GET /api/v1/vos/{vo:slug}/audit",
            tool::Kind::Read,
            VO,
        );
        Task {
            query: Some(QUERY.iter().map(|name| (*name).to_owned()).collect()),
            ..task
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<AuditPage, Problem> {
        let vo = call.vo()?.id;
        let query = Query {
            vo: Some(vo.to_string()),
            ..query(call)?
        };
        let mut page = api.audit.search().search(&query).await.map_err(problem)?;
        // SECURITY: the index only finds; the record itself says whose it is.
        page.records.retain(|record| vo_of(record) == Some(vo));
        page_of(&page.records, page.next, people(api, &page.records).await?)
    }
}
