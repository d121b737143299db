//! `gateway.reload`: reads settings, certificates, people, roles and tools anew.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::problem::Problem;
use crate::tool::{self, Task};

/// What a reload took up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReloaded {
    /// SHA-256 of the settings file before.
    pub before: String,
    /// SHA-256 of the settings file that holds now.
    pub after: String,
    /// SHA-256 of the server's certificate that is shown from now on.
    pub certificate: String,
    /// Settings that have changed and take effect at the next start only.
    pub restart: Vec<String>,
    /// Tools that are out of service, since their manifests are not accepted.
    pub broken: Vec<String>,
}

pub(in crate::api) struct Run;

impl Operation for Run {
    type Body = Nothing;
    type Answer = GatewayReloaded;
    const SUMMARY: &'static str =
        "Reads settings, certificates, people, roles and tools anew; a flaw changes nothing";

    fn task() -> Task {
        task(
            "gateway.reload",
            "POST /api/v1/reload",
            tool::Kind::Update,
            SYSTEM,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<GatewayReloaded, Problem> {
        api.reload.run(call.id).await
    }
}
