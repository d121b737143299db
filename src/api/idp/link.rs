//! Several identities of one person: seeing them, adding one in the browser, taking one away.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::identities::{IdentityView, view};
use crate::api::operation::{Asked, Call, Nothing, Operation, task};
use crate::api::{Api, problem};
use crate::authenticate::Arrived;
use crate::id::IdentityId;
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Audience, Task};

/// Your identities, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnIdentities {
    /// The identities.
    pub identities: Vec<IdentityView>,
}

pub(in crate::api) struct List;

impl Operation for List {
    type Body = Nothing;
    type Answer = OwnIdentities;
    const SUMMARY: &'static str = "Who you are at identity providers";

    fn task() -> Task {
        task(
            "identity.list",
            "GET /api/v1/me/identities",
            tool::Kind::Read,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<OwnIdentities, Problem> {
        let person = call.person()?.id;
        let identities = api.authenticate.identities_of(person).await.map_err(problem)?;
        Ok(OwnIdentities {
            identities: identities.into_iter().map(|one| view(api, one)).collect(),
        })
    }
}

pub(in crate::api) struct Unlink;

impl Operation for Unlink {
    type Body = Nothing;
    type Answer = Nothing;
    const SUMMARY: &'static str = "Takes one of your identities away; the sessions that began by it end";

    fn task() -> Task {
        task(
            "identity.unlink",
            "DELETE /api/v1/me/identities/{identity:uuid}",
            tool::Kind::Delete,
            Audience::AnyPerson,
        )
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<Nothing, Problem> {
        unlink(api, call, call.id_of("identity")?).await?;
        Ok(Nothing {})
    }
}

async fn unlink(api: &Api, call: &Call, id: IdentityId) -> Result<(), Problem> {
    let mut tx = api.begin().await?;
    let unlinked = api
        .authenticate
        .unlink_identity(&mut tx, &call.subject, id, call.id);
    let (change, ended) = unlinked.await?;
    let further = ended.iter().cloned().map(Event::SessionEnded).collect();
    api.commit_with(call, tx, vec![change], further).await?;
    match &ended {
        Some(ended) => api.end_recorded(ended).await,
        None => Ok(()),
    }
}

/// Takes the identity with this id away, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn unlink_on_page(api: &Api, asked: &Asked, id: &str) -> Result<(), Problem> {
    let id = id
        .parse()
        .map_err(|_| Problem::new(Kind::NotFound, "you have no such identity"))?;
    unlink(api, &asked.0, id).await
}

/// Your identities, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn list_on_page(api: &Api, asked: &Asked) -> Result<Vec<IdentityView>, Problem> {
    Ok(List::run(api, &asked.0, Nothing {}).await?.identities)
}

/// Links the identity of whoever came back from a provider to the person whose session set out.
///
/// # Errors
/// A [`Problem`]: see [`crate::authenticate::Authenticate::linked`]; log or store do not answer.
pub async fn link(api: &Api, asked: &Asked, arrived: &Arrived) -> Result<(), Problem> {
    let call = &asked.0;
    let identity = api.authenticate.linked(&call.subject, arrived)?;
    let mut tx = api.begin().await?;
    let put = api
        .authenticate
        .put_identity(&mut tx, "identity.link", None, &identity);
    let change = put.await?;
    api.commit(call, tx, vec![change]).await
}
