//! `vo.create`: a new VO with the shipped roles and its first administrator.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{VoView, view};
use crate::api::operation::{Call, Operation, SYSTEM, reasoned, task};
use crate::api::{Api, problem, user};
use crate::problem::{Kind, Problem};
use crate::tool::{self, Task};

/// What the VO is called and who administers it first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoCreate {
    /// Name: `[a-z0-9-]`, 1 to 40.
    #[schema(max_length = 40)]
    pub name: String,
    /// User name of the first administrator, who has an account; yourself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub administrator: Option<String>,
}

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = VoCreate;
    type Answer = VoView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Makes a virtual organisation with its first administrator";

    fn task() -> Task {
        reasoned(task("vo.create", "POST /api/v1/vos", tool::Kind::Create, SYSTEM))
    }

    async fn run(api: &Api, call: &Call, body: VoCreate) -> Result<VoView, Problem> {
        let administrator = match &body.administrator {
            None => call.person()?.id,
            Some(username) => user::named(api, username)?.id,
        };
        let mut tx = api.begin().await?;
        let (id, change) = api
            .vos
            .create_vo(&mut tx, &body.name, administrator)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        let directory = api.directory();
        let vo = directory
            .vo(id)
            .ok_or_else(|| Problem::new(Kind::Internal, "the new VO is not there"))?;
        Ok(view(api, &directory, vo, call.person()?.id))
    }
}
