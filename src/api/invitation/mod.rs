//! Invitations: an administrator offers an account with roles, as a mail or as a link that is shown once. Whoever has the link
//! chooses user name and password herself.

pub mod create;
pub mod list;
pub mod revoke;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::vo::Enrolment;

/// An invitation that nobody has taken yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    /// Id.
    pub id: String,
    /// Where it was sent, or for whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Name of whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The roles that it gives.
    pub roles: Vec<String>,
    /// When those end by themselves (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// User name of who invites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was made (RFC 3339).
    pub created: String,
    /// Until when it can be taken (RFC 3339).
    pub expires: String,
}

fn view(api: &Api, enrolment: Enrolment) -> InvitationView {
    let directory = api.directory();
    let by = enrolment.made_by.and_then(|by| directory.person(by));
    InvitationView {
        id: enrolment.id.to_string(),
        mail: enrolment.mail,
        name: enrolment.name,
        roles: enrolment.roles,
        until: enrolment.roles_until.map(|until| until.to_string()),
        by: by.map(|person| person.username.clone()),
        created: enrolment.created.to_string(),
        expires: enrolment.expires.to_string(),
    }
}
