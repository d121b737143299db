//! `state.accept`: takes what the store holds of a level for what it must hold.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DoubtView, view};
use crate::api::operation::{Call, Operation, SYSTEM, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::record::Hash;
use crate::tool::{self, Task, unfit_reason};

/// What is accepted, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateAccept {
    /// Digest of what the store held when it was looked at; absent where it held nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub found: Option<String>,
    /// Why; it stands in the log.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

pub(in crate::api) struct Accept;

impl Operation for Accept {
    type Body = StateAccept;
    type Answer = DoubtView;
    const SUMMARY: &'static str = "Takes what was changed past the gateway for what is to be in force";

    fn task() -> Task {
        task(
            "state.accept",
            "POST /api/v1/states/{level:slug}/accept",
            tool::Kind::Update,
            SYSTEM,
        )
    }

    async fn run(api: &Api, call: &Call, body: StateAccept) -> Result<DoubtView, Problem> {
        if let Some(flaw) = unfit_reason(&body.reason) {
            return Err(Problem::new(Kind::Invalid, flaw));
        }
        let seen = match &body.found {
            None => None,
            Some(text) => Some(
                Hash::parse(text)
                    .ok_or_else(|| Problem::new(Kind::Invalid, "`found` must be 64 hexadecimal digits"))?,
            ),
        };
        let name = call.parameter("level")?;
        let mut tx = api.begin().await?;
        let doubt = api
            .states
            .doubts()
            .into_iter()
            .find(|doubt| doubt.name == name || doubt.vo.to_string() == name)
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("`{name}` is not in doubt")))?;
        // SECURITY: what was looked at is accepted, not what somebody made of it since.
        let doubt = tx.accept(doubt.vo, seen).await.map_err(problem)?;
        let change = doubt.accepted(body.reason.trim());
        api.apply((call.id, Some(&body.reason)), tx, vec![change], Vec::new())
            .await?;
        api.resources.forget();
        Ok(view(&doubt))
    }
}
