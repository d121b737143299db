//! Terms of use: those of the gateway and of each VO, and what somebody has yet to accept.

pub mod accept;
pub mod owed;
pub mod set;
pub mod show;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operation::{Asked, Call};
use super::{Api, problem};
use crate::authenticate::Terms;
use crate::id::VoId;
use crate::problem::Problem;
use crate::vo::GATEWAY;

/// Terms of use that are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TermsView {
    /// Whose: name of a virtual organisation, or `countersign` for the gateway itself.
    pub vo: String,
    /// Version, from 1.
    pub version: i64,
    /// SHA-256 of the text, in hexadecimal digits.
    pub digest: String,
    /// Since when they are in force (RFC 3339).
    pub since: String,
    /// The text.
    pub text: String,
}

fn view(api: &Api, terms: Terms) -> TermsView {
    TermsView {
        vo: name(api, terms.vo),
        version: terms.version,
        digest: terms.digest.to_string(),
        since: terms.since.to_string(),
        text: terms.text,
    }
}

fn name(api: &Api, vo: VoId) -> String {
    let directory = api.directory();
    let named = directory.vo(vo).map(|vo| vo.name.clone());
    named.unwrap_or_else(|| GATEWAY.to_owned())
}

/// What who asks has yet to accept.
async fn owed(api: &Api, call: &Call) -> Result<Vec<TermsView>, Problem> {
    let owed = api.authenticate.owed(call.person()?.id).await.map_err(problem)?;
    Ok(owed.into_iter().map(|terms| view(api, terms)).collect())
}

/// The same, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn owed_on_page(api: &Api, asked: &Asked) -> Result<Vec<TermsView>, Problem> {
    owed(api, &asked.0).await
}

/// Accepts terms, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn accept_on_page(
    api: &Api,
    asked: &Asked,
    body: accept::TermsAccept,
) -> Result<owed::TermsOwed, Problem> {
    accept::accept(api, &asked.0, &body).await
}
