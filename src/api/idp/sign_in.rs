//! What anybody may know before signing in: with which home organisations that can be done, and how this API is asked
//! (RFC 9728).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, task};
use crate::api::{Api, problem};
use crate::problem::Problem;
use crate::tool::{self, Audience, Task};

/// A home organisation that people sign in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInWith {
    /// Its name in addresses.
    pub name: String,
    /// What people know it by.
    pub display_name: String,
    /// Where a browser begins.
    pub address: String,
}

/// How people sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignIn {
    /// Home organisations, by display name.
    pub providers: Vec<SignInWith>,
}

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = SignIn;
    const SUMMARY: &'static str = "The home organisations that people sign in with; for everybody";

    fn task() -> Task {
        task(
            "idp.sign_in",
            "GET /api/v1/sign-in",
            tool::Kind::Read,
            Audience::Everyone,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<SignIn, Problem> {
        let idps = api.authenticate.idps().await.map_err(problem)?;
        let mut providers: Vec<SignInWith> = idps
            .into_iter()
            .filter(|idp| idp.active)
            .map(|idp| SignInWith {
                address: format!("{}/login/with/{}", call.base, idp.name),
                name: idp.name,
                display_name: idp.settings.display_name,
            })
            .collect();
        providers.sort_by(|one, other| one.display_name.cmp(&other.display_name));
        Ok(SignIn { providers })
    }
}

/// What this API is, as a protected resource (RFC 9728 section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtectedResource {
    /// Its identifier.
    pub resource: String,
    /// Its name.
    pub resource_name: String,
    /// How tokens are sent.
    pub bearer_methods_supported: Vec<String>,
    /// Where it is described.
    pub resource_documentation: String,
}

pub(in crate::api) struct Resource;

impl Operation for Resource {
    type Body = Nothing;
    type Answer = ProtectedResource;
    const SUMMARY: &'static str = "How this API is asked (RFC 9728); for everybody";

    fn task() -> Task {
        task(
            "idp.resource",
            "GET /.well-known/oauth-protected-resource",
            tool::Kind::Read,
            Audience::Everyone,
        )
    }

    async fn run(_: &Api, call: &Call, _: Nothing) -> Result<ProtectedResource, Problem> {
        // No authorization server is named: tokens of others are not taken here, whoever people sign in with.
        Ok(ProtectedResource {
            resource: call.base.clone(),
            resource_name: "Countersign".to_owned(),
            bearer_methods_supported: vec!["header".to_owned()],
            resource_documentation: format!("{}/api/v1/openapi.json", call.base),
        })
    }
}
