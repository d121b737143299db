//! `audit.search`: the records of one VO.

use super::{AuditPage, QUERY, of_vo, page_of, query};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, problem};
use crate::audit::index::{Level, Query};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Search;

impl Operation for Search {
    type Body = Nothing;
    type Answer = AuditPage;
    const LONG: bool = true;
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
            level: Some(Level::Vo(vo)),
            ..query(call)?
        };
        let found = api.audit.search().search_for(&query, &call.gone);
        let mut page = found.await.map_err(problem)?;
        let records = of_vo(api, std::mem::take(&mut page.records), Some(vo)).await?;
        page_of(api, &page, records).await
    }
}
