//! `provider.choose`: what the providers of a tool see of a trace.

use super::{ProviderChoice, choice, on_tool, tool_of};
use crate::api::operation::{Call, Nothing, Operation, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Task};

pub(in crate::api) struct Choose;

impl Operation for Choose {
    type Body = ProviderChoice;
    type Answer = Nothing;
    const SUMMARY: &'static str =
        "Chooses what the providers of a tool see of a trace: the card's fields, or a case";

    fn task() -> Task {
        let task = task(
            "provider.choose",
            "PUT /api/v1/vos/{vo:slug}/providers/{tool:slug}",
            tool::Kind::Update,
            VO,
        );
        reasoned(Task {
            resource: on_tool(),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, body: ProviderChoice) -> Result<Nothing, Problem> {
        let asked = choice(&body)?;
        let mut tx = api.begin().await?;
        let (vo, tool) = (call.vo()?.id, tool_of(api, call)?);
        let change = api.providers.choose(&mut tx, vo, tool, &asked).await;
        api.commit(call, tx, vec![change.map_err(problem)?]).await?;
        Ok(Nothing {})
    }
}
