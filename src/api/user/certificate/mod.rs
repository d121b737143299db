//! Grid certificates by which a member signs in.

pub mod add;
pub mod clear;
pub mod list;
pub mod mark;
pub mod remove;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use x509_parser::prelude::{FromDer, X509Name};

use crate::api::operation::Call;
use crate::api::{Api, problem};
use crate::authenticate::Link;
use crate::problem::Problem;
use crate::record::{Change, Event};
use crate::state::Begun;
use crate::vo::Person;

/// A certificate by which a person signs in: the names of its end entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCertificate {
    /// Opaque id.
    pub id: String,
    /// The subject, in words.
    pub subject: String,
    /// The issuer, in words.
    pub issuer: String,
    /// `active` or `compromised`.
    pub state: String,
    /// Since when it is linked (RFC 3339).
    pub created: String,
    /// When it was marked as compromised (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

pub(in crate::api) fn view(link: Link) -> UserCertificate {
    let words = |name: &[u8]| {
        X509Name::from_der(name).map_or_else(|_| "unreadable".to_owned(), |(_, name)| name.to_string())
    };
    UserCertificate {
        id: link.id.to_string(),
        subject: words(&link.subject),
        issuer: words(&link.issuer),
        state: if link.compromised.is_some() {
            "compromised"
        } else {
            "active"
        }
        .to_owned(),
        created: link.created.to_string(),
        compromised: link.compromised.map(|at| at.to_string()),
        note: link.note,
    }
}

/// Commits a change after which a certificate lets nobody in: the sessions that came by one end with it.
async fn shut(api: &Api, call: &Call, person: &Person, tx: Begun, change: Change) -> Result<(), Problem> {
    let ended = api.authenticate.ending_certificates(person.id, Some(call.id));
    let further = ended.iter().cloned().map(Event::SessionEnded).collect();
    api.commit_with(call, tx, vec![change], further).await?;
    match ended {
        Some(ended) => api.end_recorded(&ended).await,
        None => Ok(()),
    }
}

/// The person's certificates.
async fn of(api: &Api, person: &Person) -> Result<Vec<UserCertificate>, Problem> {
    let links = api.authenticate.links(person.id).await.map_err(problem)?;
    Ok(links.into_iter().map(view).collect())
}
