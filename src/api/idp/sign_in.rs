//! `idp.sign_in`: what anybody may know before signing in: with which home organisations that can be done.

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
