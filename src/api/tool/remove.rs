//! `tool.remove`: takes a tool out of service.

use super::{named, tag};
use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem, provider};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Remove;

impl Operation for Remove {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes a tool out of service, and ends what its providers may; with `version`, only that version of it";
    const EDITS: bool = true;

    fn task() -> Task {
        let task = task(
            "tool.remove",
            "DELETE /api/v1/vos/{vo:slug}/tools/{tool:slug}",
            tool::Kind::Delete,
            VO,
        );
        reasoned(Task {
            query: Some(vec!["version".into()]),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        let (vo, name) = (call.vo()?.id, call.parameter("tool")?);
        let seen = match call.query_as("version", "a number")? {
            Some(version) => version,
            None => named(api, vo, name)?.version,
        };
        let mut tx = api.begin().await?;
        // A version says as well what is meant.
        if call.query("version")?.is_none() {
            let present = named(api, vo, name)?;
            call.unchanged(api, tag(&present.name, present.version).as_deref())?;
        }
        api.vos.touch(&mut tx, vo).await.map_err(problem)?;
        let removed = api.tools.remove(&mut tx, vo, name, seen).await;
        let mut changes = vec![removed.map_err(problem)?];
        changes.extend(provider::dismiss(api, &mut tx, vo, name).await?);
        api.commit(call, tx, changes).await?;
        api.resources.forget();
        Ok(Nothing {})
    }
}
