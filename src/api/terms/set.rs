//! `terms.set` and `terms.set_gateway`: puts terms of use in force, or takes them away. Whom they bind accepts them before a session
//! of hers opens anything else: those of a VO shut that VO, those of the gateway everything.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, SYSTEM, VO, reasoned, task};
use crate::api::{Api, problem};
use crate::id::VoId;
use crate::problem::Problem;
use crate::tool::{self, Task};
use crate::vo::Directory;

/// Terms of use to put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsSet {
    /// The text, as plain text; absent to take away what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub text: Option<String>,
}

pub(in crate::api) struct Set;

impl Operation for Set {
    type Body = TermsSet;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Puts terms of use of a virtual organisation in force; its members accept them before anything else there";

    fn task() -> Task {
        reasoned(task(
            "terms.set",
            "PUT /api/v1/vos/{vo:slug}/terms",
            tool::Kind::Update,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: TermsSet) -> Result<Nothing, Problem> {
        set(api, call, call.vo()?.id, &body).await
    }
}

pub(in crate::api) struct SetGateway;

impl Operation for SetGateway {
    type Body = TermsSet;
    type Answer = Nothing;
    const SUMMARY: &'static str =
        "Puts terms of use of the gateway in force; everybody accepts them before anything else";

    fn task() -> Task {
        reasoned(task(
            "terms.set_gateway",
            "PUT /api/v1/terms",
            tool::Kind::Update,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, body: TermsSet) -> Result<Nothing, Problem> {
        set(api, call, Directory::gateway(), &body).await
    }
}

async fn set(api: &Api, call: &Call, vo: VoId, body: &TermsSet) -> Result<Nothing, Problem> {
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    let text = body.text.as_deref();
    let change = api.authenticate.set_terms(&mut tx, vo, text).await?;
    api.commit_aside(call, tx, vec![change]).await?;
    api.authenticate.refresh_terms().await.map_err(problem)?;
    Ok(Nothing {})
}
