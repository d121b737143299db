//! `idp.edit`: says something else of an identity provider. Sign-ins that are under way are judged by it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IdpSaid, IdpView, of, view};
use crate::api::Api;
use crate::api::operation::{Call, Operation, SYSTEM, exposed_if, reasoned, task};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::tool::{self, Task};

/// What is to be another; the rest is as it was.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdpEdit {
    /// Another client secret.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub client_secret: Option<Secret<String>>,
    /// The rest.
    #[serde(default)]
    pub settings: IdpSaid,
}

pub(in crate::api) struct Edit;

impl Operation for Edit {
    type Body = IdpEdit;
    type Answer = IdpView;
    const LIMIT: usize = 128 * 1024;
    const SUMMARY: &'static str = "Changes what is said of an identity provider; what is absent is as it was";

    fn task() -> Task {
        let task = task(
            "idp.edit",
            "PATCH /api/v1/idps/{idp:slug}",
            tool::Kind::Update,
            SYSTEM,
        );
        reasoned(Task {
            max_body: Some(Self::LIMIT as u64),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, body: IdpEdit) -> Result<IdpView, Problem> {
        let mut tx = api.begin().await?;
        let before = of(api, call).await?;
        let mut settings = before.settings;
        body.settings.onto(&mut settings)?;
        let secret = body.client_secret.as_ref();
        let changed = api.authenticate.edit_idp(&mut tx, &before.name, settings, secret);
        let change = changed.await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, call, &of(api, call).await?))
    }
}
