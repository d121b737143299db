//! `factor.add`: binds what was offered, once the authenticator shows that it has it. Other sessions of the person end.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{done, tell};
use crate::alert::Happened;
use crate::api::Api;
use crate::api::operation::{Call, Operation, exposed, exposed_all, task};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::tool::{self, Audience, Task, TokenRule};

/// What was offered, with the first code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorAdd {
    /// `binding` of the offer.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 1024)]
    pub binding: Secret<String>,
    /// Code that the authenticator shows.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 64)]
    pub code: Secret<String>,
    /// What you call it.
    #[serde(default)]
    #[schema(max_length = 60)]
    pub name: String,
}

/// A factor that was bound.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FactorAdded {
    /// Its id.
    pub id: String,
    /// With the first factor: recovery codes, shown this once. Each is good once, in the place of a code.
    #[serde(serialize_with = "exposed_all")]
    #[schema(value_type = Vec<String>)]
    pub recovery_codes: Vec<Secret<String>>,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = FactorAdd;
    type Answer = FactorAdded;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SECRET: bool = true;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str = "Binds a second factor; your other sessions end";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                "factor.add",
                "POST /api/v1/me/factors",
                tool::Kind::Create,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: FactorAdd) -> Result<FactorAdded, Problem> {
        let authenticate = &api.authenticate;
        let new = authenticate
            .add_factor(&call.subject, &body.binding, &body.code, &body.name)
            .await?;
        let mut turn = 0;
        let (mut tx, change) = loop {
            let mut tx = api.begin().await?;
            let bound = authenticate.bind_factor(&mut tx, &call.subject, new.clone(), call.id);
            let bound = bound.await;
            if !Api::yields(&bound, &mut turn) {
                break (tx, bound?);
            }
        };
        tell(api, call.id, &mut tx, Happened::FactorAdded, call.person()?).await?;
        done(api, call, tx, &change).await?;
        let id = change.changes.first().map(|change| change.target.clone());
        Ok(FactorAdded {
            id: id.unwrap_or_default(),
            recovery_codes: change.recovery_codes,
        })
    }
}
