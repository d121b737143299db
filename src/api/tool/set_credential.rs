//! `tool.set_credential`: the static credential of a tool, sealed before it is stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, VO, exposed, task};
use crate::api::{Api, problem};
use crate::delegate::StaticCredential;
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Delegation, Task};

/// How the credential is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialScheme {
    /// HTTP Basic: `user` and the secret as password.
    Basic,
    /// A bearer token.
    Bearer,
    /// The header's whole value.
    Key,
}

/// A static credential.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSet {
    /// How it is presented.
    pub scheme: CredentialScheme,
    /// User name, for `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub user: Option<String>,
    /// The password, token or key.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 8192)]
    pub secret: Secret<String>,
}

pub(in crate::api) struct SetCredential;

impl Operation for SetCredential {
    type Body = CredentialSet;
    type Answer = Nothing;
    const LIMIT: usize = 16 * 1024;
    const SUMMARY: &'static str = "Sets the static credential that a tool gets";

    fn task() -> Task {
        task(
            "tool.set_credential",
            "PUT /api/v1/vos/{vo:slug}/tools/{tool:slug}/credential",
            tool::Kind::Update,
            VO,
        )
    }

    async fn run(api: &Api, call: &Call, body: CredentialSet) -> Result<Nothing, Problem> {
        let (vo, name) = (call.vo()?.id, call.parameter("tool")?);
        let tools = api.wrapped();
        let tool = tools
            .get(vo, name)
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no tool `{name}` here")))?;
        if tool.delegation != Delegation::Static {
            let detail = format!(
                "the tool `{name}` gets `{}`, not a static credential",
                tool.delegation.as_str()
            );
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let credential = match (body.scheme, body.user) {
            (CredentialScheme::Basic, Some(user)) => StaticCredential::Basic {
                user,
                password: body.secret,
            },
            (CredentialScheme::Bearer, None) => StaticCredential::Bearer(body.secret),
            (CredentialScheme::Key, None) => StaticCredential::Key(body.secret),
            _ => {
                return Err(Problem::new(
                    Kind::Invalid,
                    "`user` belongs to the scheme `basic`, and to no other",
                ));
            }
        };
        let mut tx = api.begin().await?;
        let change = api
            .delegate
            .set_static(&mut tx, vo, name, &credential)
            .await
            .map_err(problem)?;
        api.commit(call, tx, vec![change]).await?;
        api.delegate.load().await.map_err(problem)?;
        Ok(Nothing {})
    }
}
