//! `user.show`: one member of a VO; to those who look after the account also how often it was signed in to, and in vain.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{UserView, administers_gateway, tag, view};
use crate::api::operation::{Call, Nothing, Operation, VO, member, on_person, task};
use crate::api::{Api, problem};
use crate::id::PersonId;
use crate::problem::Problem;
use crate::tool::{self, Task};

/// A member of a VO, with what is known of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserShown {
    /// The member.
    #[serde(flatten)]
    pub user: UserView,
    /// How often the account was signed in to; for administrators of its home and of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_ins: Option<SignIns>,
}

/// How often an account was signed in to, since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignIns {
    /// How often.
    pub count: i64,
    /// When last (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// How often a wrong password was given. Attempts that were slowed down are not among them: no password was looked at.
    pub failed: i64,
    /// When last (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<String>,
}

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = UserShown;
    const SUMMARY: &'static str = "One member of a virtual organisation";
    const TAGGED: bool = true;

    fn tag(answer: &UserShown) -> Option<String> {
        tag(&answer.user)
    }

    fn task() -> Task {
        on_person(task(
            "user.show",
            "GET /api/v1/vos/{vo:slug}/users/{person:uuid}",
            tool::Kind::Read,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<UserShown, Problem> {
        let (vo, person) = (call.vo()?.id, member(api, call)?);
        // An account works in every VO; how it is used elsewhere is for those who look after it.
        let sign_ins = match person.home == vo || administers_gateway(api, call)? {
            true => Some(sign_ins(api, person.id).await?),
            false => None,
        };
        Ok(UserShown {
            user: view(api, vo, &person).await?,
            sign_ins,
        })
    }
}

async fn sign_ins(api: &Api, person: PersonId) -> Result<SignIns, Problem> {
    let counted = api.authenticate.logins(person).await.map_err(problem)?;
    Ok(SignIns {
        count: counted.logins,
        last: counted.last_login.map(|at| at.to_string()),
        failed: counted.failures,
        last_failed: counted.last_failure.map(|at| at.to_string()),
    })
}
