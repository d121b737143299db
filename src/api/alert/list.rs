//! `alert.list`: the alerts of a VO, newest first, from the log itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::audit::{QueryPosition, vo_of};
use crate::api::operation::{Call, Nothing, Operation, VO, task};
use crate::api::{Api, problem};
use crate::audit::index::Query;
use crate::problem::Problem;
use crate::record::{Event, Record};
use crate::tool::{self, Task};

/// An episode of repeated denials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Id of the episode.
    pub episode: String,
    /// When it became an alert (RFC 3339).
    pub time: String,
    /// Opaque id of the person who was refused.
    pub person: String,
    /// Her user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The task; `no_task` where none matched.
    pub task: String,
    /// How often she had been refused by then.
    pub count: u32,
    /// The refused requests.
    pub requests: Vec<String>,
}

/// Alerts, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertList {
    /// The alerts.
    pub alerts: Vec<AlertView>,
    /// What to give as `after` for older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = AlertList;
    const SUMMARY: &'static str = "The alerts of a virtual organisation, newest first";

    fn task() -> Task {
        let task = task(
            "alert.list",
            "GET /api/v1/vos/{vo:slug}/alerts",
            tool::Kind::Read,
            VO,
        );
        Task {
            query: Some(vec!["after".into(), "limit".into()]),
            ..task
        }
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<AlertList, Problem> {
        let vo = call.vo()?.id;
        let query = Query {
            vo: Some(vo.to_string()),
            event: Some("alert".into()),
            before: call.query("after")?.map(QueryPosition::parse).transpose()?,
            limit: u32::try_from(call.limit()?).unwrap_or(100),
            fresh: true,
            ..Query::default()
        };
        let page = api.audit.search().search(&query).await.map_err(problem)?;
        Ok(AlertList {
            alerts: page
                .records
                .iter()
                .filter(|record| vo_of(record) == Some(vo))
                .filter_map(|record| view(api, record))
                .collect(),
            next: page.next.map(QueryPosition::text),
        })
    }
}

fn view(api: &Api, record: &Record) -> Option<AlertView> {
    let Event::Alert(alert) = &record.event else {
        return None;
    };
    Some(AlertView {
        episode: alert.episode.to_string(),
        time: record.time.to_string(),
        person: alert.person.to_string(),
        username: api
            .directory()
            .person(alert.person)
            .map(|person| person.username.clone()),
        tool: alert.tool.clone(),
        task: alert.task.clone(),
        count: alert.count,
        requests: alert.requests.iter().map(ToString::to_string).collect(),
    })
}
