//! Second factors of one's own: adding, looking, removing; and recovery codes.

pub mod add;
pub mod list;
pub mod offer;
pub mod remove;
pub mod renew;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::{Asked, Call, Operation, exposed, exposed_all};
use super::{Api, unposted, user};
use crate::alert::{Happened, Notice};
use crate::authenticate::{Factor, FactorChange};
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Event;
use crate::secret::Secret;
use crate::state::Begun;
use crate::store::Tx;
use crate::vo::Person;

/// A second factor that is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactorView {
    /// Id.
    pub id: String,
    /// `totp`: one-time passwords by time (RFC 6238).
    pub kind: String,
    /// What you call it.
    pub name: String,
    /// Since when (RFC 3339).
    pub created: String,
    /// When a code of it was last taken (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
}

impl From<Factor> for FactorView {
    fn from(factor: Factor) -> Self {
        Self {
            id: factor.id.to_string(),
            kind: "totp".to_owned(),
            name: factor.name,
            created: factor.created.to_string(),
            used: factor.used.map(|at| at.to_string()),
        }
    }
}

/// A code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorCode {
    /// Code that your authenticator shows, or a recovery code.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 64)]
    pub code: Secret<String>,
}

/// Recovery codes, shown this once. Each is good once, in the place of a code.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    #[serde(serialize_with = "exposed_all")]
    #[schema(value_type = Vec<String>)]
    pub recovery_codes: Vec<Secret<String>>,
}

/// Does an operation of this folder for a page that was permitted as a task of its own.
async fn as_page<O: Operation>(api: &Api, asked: &Asked, body: O::Body) -> Result<O::Answer, Problem> {
    O::run(api, &asked.0, body).await
}

/// Offers a secret, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn offer_on_page(
    api: &Api,
    asked: &Asked,
    body: offer::FactorAsk,
) -> Result<offer::FactorOffer, Problem> {
    as_page::<offer::Offer>(api, asked, body).await
}

/// Binds a factor, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn add_on_page(
    api: &Api,
    asked: &Asked,
    body: add::FactorAdd,
) -> Result<add::FactorAdded, Problem> {
    as_page::<add::Add>(api, asked, body).await
}

/// Removes the factor with this id, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn remove_on_page(api: &Api, asked: &Asked, id: &str, body: FactorCode) -> Result<(), Problem> {
    let id = id
        .parse()
        .map_err(|_| Problem::new(Kind::NotFound, "you have no such second factor"))?;
    remove::remove(api, &asked.0, id, &body).await
}

/// Makes new recovery codes, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn renew_on_page(api: &Api, asked: &Asked, body: FactorCode) -> Result<RecoveryCodes, Problem> {
    as_page::<renew::Renew>(api, asked, body).await
}

/// Tells somebody by mail what happened to her second factor, with the change that does it.
pub(super) async fn tell(
    api: &Api,
    request: RequestId,
    tx: &mut Tx,
    happened: Happened,
    person: &Person,
) -> Result<(), Problem> {
    let home = user::home(&api.directory(), person.home);
    let notice = Notice {
        happened,
        person: person.id,
        username: &person.username,
        by_username: &person.username,
        vo_name: &home,
        request,
    };
    let told = api.alert.notify_person(tx, person.home, &notice).await;
    told.map_err(|error| unposted(&error))
}

/// Tells by mail that a recovery code was taken in the place of a code, with the change that it allows.
async fn tell_of_use(api: &Api, call: &Call, tx: &mut Tx, by_recovery: bool) -> Result<(), Problem> {
    match by_recovery {
        true => tell(api, call.id, tx, Happened::RecoveryCodeUsed, call.person()?).await,
        false => Ok(()),
    }
}

/// Tells somebody by mail that a recovery code of hers let somebody in. The sign-in is done: what fails here is logged.
pub async fn tell_of_recovery(api: &Api, request: RequestId, person: &Person) {
    let told = async {
        let mut tx = api.db.begin_write().await.map_err(|error| error.as_problem())?;
        tell(api, request, &mut tx, Happened::RecoveryCodeUsed, person).await?;
        tx.commit().await.map_err(|error| error.as_problem())
    };
    if let Err(problem) = told.await {
        tracing::error!("the mail about a recovery code was not queued: {problem}");
    }
}

/// Writes the change down, commits it, and ends what it ends.
async fn done(api: &Api, call: &Call, tx: Begun, change: &FactorChange) -> Result<(), Problem> {
    let further = change.ended.iter().cloned().map(Event::SessionEnded).collect();
    api.commit_with(call, tx, change.changes.clone(), further).await?;
    api.forget(change.ended.as_ref()).await
}
