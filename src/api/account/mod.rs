//! Accounts that are asked for, and accounts that are offered.
//!
//! A stranger asks on a page of a VO that takes requests, confirms her mail address and chooses a password; reviewers decide. Or
//! an administrator invites, and whoever has the link chooses name and password. Either way it is her own password from the
//! beginning, and no mail holds one.

pub mod approve;
pub mod enrol;
mod letters;
pub mod list;
pub mod reject;
pub mod take;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::{Asked, Call};
use super::{Api, problem};
use crate::id::{EnrolmentId, VoId};
use crate::problem::{Kind, Problem};
use crate::vo::{Enrolment, EnrolmentKind};

/// How long the code of a request is good.
pub(super) const CONFIRM_WITHIN: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// A request for an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountRequest {
    /// Id of the request.
    pub id: String,
    /// `pending`, `approved` or `rejected`.
    pub state: String,
    /// User name of the account.
    pub username: String,
    /// Opaque id of the account.
    pub person: String,
    /// Name.
    pub name: String,
    /// Mail address, which was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Why she asks.
    pub reason: String,
    /// User names of other accounts of this virtual organisation with the same mail address.
    #[serde(default)]
    pub same_mail: Vec<String>,
    /// When it was asked for (RFC 3339).
    pub asked: String,
    /// What the applicant was told, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

async fn view(api: &Api, enrolment: Enrolment) -> Result<AccountRequest, Problem> {
    let gone = || Problem::new(Kind::Internal, "the account of a request is not there");
    let id = enrolment.person.ok_or_else(gone)?;
    let directory = api.directory();
    let card = api.vos.card(id).await.map_err(problem)?;
    let fields = card.map(|card| card.fields).unwrap_or_default();
    let same_mail = match &fields.mail {
        Some(mail) => api
            .vos
            .others_with_mail(enrolment.vo, id, mail)
            .await
            .map_err(problem)?,
        None => Vec::new(),
    };
    Ok(AccountRequest {
        id: enrolment.id.to_string(),
        state: enrolment.state,
        username: directory
            .person(id)
            .map(|person| person.username.clone())
            .unwrap_or_default(),
        person: id.to_string(),
        name: fields.name,
        mail: fields.mail,
        organisation: fields.organisation,
        reason: enrolment.said.unwrap_or_default(),
        same_mail,
        asked: enrolment.created.to_string(),
        message: enrolment.message,
    })
}

/// The request in the path, as it is within the transaction of its decision.
async fn requested(
    api: &Api,
    tx: &mut crate::store::Tx,
    (vo, id): (VoId, EnrolmentId),
) -> Result<Enrolment, Problem> {
    let found = api.vos.enrolment(tx, (vo, EnrolmentKind::Request), id).await;
    let found = found.map_err(problem)?;
    match found.person {
        Some(_) => Ok(found),
        // Not confirmed yet: reviewers do not see it.
        None => Err(Problem::new(
            Kind::NotFound,
            format!("there is no request `{id}`"),
        )),
    }
}

/// Sends an invitation.
pub(super) async fn invite_by_mail(
    api: &Api,
    tx: &mut crate::store::Tx,
    of: (VoId, &str),
    sent: (&str, &crate::secret::Secret<String>, &str),
) -> Result<(), Problem> {
    letters::invited(api, tx, of, sent).await
}

/// The requests that wait, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn waiting_on_page(api: &Api, asked: &Asked) -> Result<Vec<AccountRequest>, Problem> {
    list::list(api, asked.0.vo()?.id, "pending", (None, 200)).await
}

/// Decides on a request, for a page; a message refuses it, none approves it.
///
/// # Errors
/// A [`Problem`].
pub async fn decide_on_page(
    api: &Api,
    asked: &Asked,
    (id, reason): (&str, &str),
    refused: Option<&str>,
) -> Result<AccountRequest, Problem> {
    let unknown = |_| Problem::new(Kind::NotFound, "there is no such request");
    let id: EnrolmentId = id.parse().map_err(unknown)?;
    let call: Call = asked.because(reason)?;
    match refused {
        None => approve::approve(api, &call, id, &approve::AccountApprove::default()).await,
        Some(message) => reject::reject(api, &call, id, message).await,
    }
}
