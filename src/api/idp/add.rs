//! `idp.add`: registers an identity provider; its people can sign in from then on.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IdpSaid, IdpView, view};
use crate::api::Api;
use crate::api::operation::{Call, Operation, SYSTEM, exposed, reasoned, task};
use crate::authenticate::{Approval, IdpSettings, Mapping, NewIdp};
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Task};
use crate::vo::Directory;

/// An identity provider to be registered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdpAdd {
    /// Name, as addresses and commands have it.
    #[schema(max_length = 40)]
    pub name: String,
    /// Issuer identifier: an `https` address, below which its OpenID Connect document lies.
    #[schema(max_length = 500)]
    pub issuer: String,
    /// The client's secret there.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 500)]
    pub client_secret: Secret<String>,
    /// Virtual organisation to which its people belong; the gateway itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub vo: Option<String>,
    /// The rest; display name and client id are needed.
    pub settings: IdpSaid,
}

pub(in crate::api) struct Add;

impl Operation for Add {
    type Body = IdpAdd;
    type Answer = IdpView;
    const STATUS: StatusCode = StatusCode::CREATED;
    const LIMIT: usize = 128 * 1024;
    const SUMMARY: &'static str = "Registers an identity provider that people sign in with";

    fn task() -> Task {
        let task = task("idp.add", "POST /api/v1/idps", tool::Kind::Create, SYSTEM);
        reasoned(Task {
            max_body: Some(Self::LIMIT as u64),
            ..task
        })
    }

    async fn run(api: &Api, call: &Call, body: IdpAdd) -> Result<IdpView, Problem> {
        let home = match &body.vo {
            None => Directory::gateway(),
            Some(vo) => api.directory().vo_named(vo).map(|vo| vo.id).ok_or_else(|| {
                let detail = format!("there is no virtual organisation `{vo}`");
                Problem::new(Kind::Invalid, detail).with("field", "vo")
            })?,
        };
        let mut settings = IdpSettings {
            display_name: String::new(),
            issuer: body.issuer,
            client_id: String::new(),
            scopes: BTreeSet::from(["profile", "email"].map(str::to_owned)),
            acr: BTreeMap::new(),
            mapping: Mapping::default(),
            approval: Approval::Manual,
            renewal: Approval::Manual,
            valid_days: 365,
            ca: None,
        };
        body.settings.onto(&mut settings)?;
        let name = body.name;
        let new = NewIdp {
            name: name.clone(),
            home,
            settings,
            secret: body.client_secret,
        };
        let mut tx = api.begin().await?;
        let change = api.authenticate.add_idp(&mut tx, new).await?;
        api.commit(call, tx, vec![change]).await?;
        Ok(view(api, call, &api.authenticate.idp(&name).await?))
    }
}
