//! `request.settle`: gives an owner to what a request made, when nobody knows how it ended.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::explain::{made, records, unknown};
use crate::api::audit::vo_of;
use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::record::{Change, CreatedEntry, Ending, Entry, Event, Record};
use crate::tool::{self, Task, is_id};

/// What the request made, as an administrator found it in the tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSettle {
    /// Type, as the manifest names it.
    #[serde(rename = "type")]
    #[schema(max_length = 64)]
    pub kind: String,
    /// The tool's own id.
    #[schema(max_length = 256)]
    pub id: String,
}

pub(in crate::api) struct Settle;

impl Operation for Settle {
    type Body = RequestSettle;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Gives what a request made to whoever asked, when its outcome is unknown";

    fn task() -> Task {
        reasoned(task(
            "request.settle",
            "POST /api/v1/vos/{vo:slug}/requests/{request:uuid}/settle",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: RequestSettle) -> Result<Nothing, Problem> {
        let vo = call.vo()?.id;
        let (id, records) = records(api, call).await?;
        let (_, entry) = made(&records)
            .filter(|(record, _)| vo_of(record) == Some(vo))
            .ok_or_else(|| unknown(id))?;
        refuse_known_outcome(&records)?;
        let claim = claim(api, entry, &body)?;
        let mut tx = api.begin().await?;
        let conflicts = api
            .resources
            .created_in(&mut tx, id, std::slice::from_ref(&claim))
            .await
            .map_err(problem)?;
        if !conflicts.is_empty() {
            return Err(Problem::new(
                Kind::Conflict,
                format!("the {} `{}` has an owner already", body.kind, body.id),
            ));
        }
        let change = Change {
            action: "request.settle".into(),
            kind: "resource".into(),
            target: format!("{}/{}", body.kind, body.id),
            vo,
            person: claim.owner,
            before: None,
            after: Some(json!({ "request": id, "tool": claim.tool, "owner": claim.owner })),
        };
        api.commit(call, tx, vec![change]).await?;
        api.resources.forget();
        Ok(Nothing {})
    }
}

/// Only a request that may have made something without anybody learning what.
fn refuse_known_outcome(records: &[Record]) -> Result<(), Problem> {
    let ending = records.iter().find_map(|record| match &record.event {
        Event::Outcome(outcome) => Some(outcome.ending),
        _ => None,
    });
    let permitted = records
        .iter()
        .any(|record| matches!(record.event, Event::Intent(_)));
    match ending {
        _ if !permitted => Err(Problem::new(
            Kind::Conflict,
            "the request was refused and made nothing",
        )),
        None => Err(Problem::new(Kind::Conflict, "the request is still under way")),
        Some(
            Ending::Unknown | Ending::Abandoned | Ending::ToolFailed | Ending::Withheld | Ending::Revoked,
        ) => Ok(()),
        Some(_) => Err(Problem::new(
            Kind::Conflict,
            "the outcome of the request is known",
        )),
    }
}

/// What becomes whose: the owner is whoever made the request, nobody else.
fn claim(api: &Api, entry: &Entry, body: &RequestSettle) -> Result<CreatedEntry, Problem> {
    let invalid = |detail: String| Problem::new(Kind::Invalid, detail);
    let (Some(vo), Some(name), Some(task)) = (entry.place.vo_id, &entry.place.tool, &entry.place.task) else {
        return Err(invalid("the request was not made to a tool".into()));
    };
    let tool = api.wrapped().get(vo, name).cloned();
    let task = tool.as_ref().and_then(|tool| tool.task(task));
    let makes = task.is_some_and(|task| task.creates.iter().any(|creates| creates.kind == body.kind));
    if !makes {
        return Err(invalid(format!(
            "the request's task makes nothing of the type `{}`",
            body.kind
        )));
    }
    if !is_id(&body.id) {
        return Err(invalid(
            "`id` is not an id that a tool's answer could bear".into(),
        ));
    }
    let owner = entry
        .subject
        .person
        .ok_or_else(|| invalid("nobody known made the request".into()))?;
    Ok(CreatedEntry {
        vo,
        tool: name.clone(),
        kind: body.kind.clone(),
        id: tool.map_or_else(|| body.id.clone(), |tool| tool.id_of(&body.id)),
        owner: Some(owner),
        parent: None,
        attributes: std::collections::BTreeMap::new(),
    })
}
