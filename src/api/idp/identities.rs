//! `idp.identities`: who came from an identity provider, and what became of it: the queue of those who wait for an administrator
//! among them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::of;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, list};
use crate::api::{Api, problem};
use crate::authenticate::Identity;
use crate::problem::Problem;
use crate::tool::Task;

/// Who somebody is at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityView {
    /// Id.
    pub id: String,
    /// Issuer.
    pub issuer: String,
    /// Subject there. Issuer and subject are what she is known by, and nothing else.
    pub subject: String,
    /// `pending` (an administrator has yet to say), `active`, `lapsed` (the approval is over) or `rejected`.
    pub state: String,
    /// Opaque id of the person, where she has an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Her user name here; else the one that the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Name, as the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address, as the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Affiliations, as the provider says.
    pub affiliation: Vec<String>,
    /// Groups, as the provider says.
    pub groups: Vec<String>,
    /// Until when the approval is good (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// When she first came (RFC 3339).
    pub created: String,
    /// When she last came (RFC 3339).
    pub seen: String,
}

pub(in crate::api) fn view(api: &Api, identity: Identity) -> IdentityView {
    let directory = api.directory();
    let person = identity.person.and_then(|id| directory.person(id));
    let state = match identity.has_lapsed(api.now()) {
        true => "lapsed",
        false => identity.standing.as_str(),
    };
    let said = identity.attributes;
    IdentityView {
        id: identity.id.to_string(),
        issuer: identity.issuer,
        subject: identity.subject,
        state: state.to_owned(),
        person: identity.person.map(|id| id.to_string()),
        username: person.map(|person| person.username.clone()).or(said.username),
        name: said.name,
        mail: said.mail,
        affiliation: said.affiliation,
        groups: said.groups,
        valid_until: identity.valid_until.map(|at| at.to_string()),
        created: identity.created.to_string(),
        seen: identity.seen.to_string(),
    }
}

/// Identities, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityList {
    /// The identities.
    pub identities: Vec<IdentityView>,
    /// What to give as `after` for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub(in crate::api) struct Identities;

impl Operation for Identities {
    type Body = Nothing;
    type Answer = IdentityList;
    const SUMMARY: &'static str = "Who came from an identity provider, and who waits for an administrator";

    fn task() -> Task {
        list("idp.identities", "GET /api/v1/idps/{idp:slug}/identities", SYSTEM)
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<IdentityList, Problem> {
        let idp = of(api, call).await?;
        let after = call.query_as("after", "what `next` said")?;
        let page = api.authenticate.identities(&idp, after, call.limit()?).await;
        let page = page.map_err(problem)?;
        Ok(IdentityList {
            identities: page
                .identities
                .into_iter()
                .map(|identity| view(api, identity))
                .collect(),
            next: page.next.map(|next| next.to_string()),
        })
    }
}
