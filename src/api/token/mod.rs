//! Personal access tokens: what a script shows in the place of its person.

pub mod create;
pub mod list;
pub mod revoke;

use super::Api;
use super::operation::{Asked, Nothing, Operation};
use crate::problem::Problem;

/// Makes a token, for a page that was permitted as a task of its own.
///
/// # Errors
/// A [`Problem`].
pub async fn create_on_page(
    api: &Api,
    asked: &Asked,
    body: create::TokenCreate,
) -> Result<create::TokenCreated, Problem> {
    create::Create::run(api, &asked.0, body).await
}

/// The tokens of whoever asks, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn list_on_page(api: &Api, asked: &Asked) -> Result<list::TokenList, Problem> {
    list::List::run(api, &asked.0, Nothing {}).await
}

/// Revokes a token of whoever asks, for a page.
///
/// # Errors
/// A [`Problem`].
pub async fn revoke_on_page(api: &Api, asked: &Asked, id: &str) -> Result<(), Problem> {
    let id = id.parse().map_err(|_| revoke::none(id))?;
    revoke::revoke(api, &asked.0, id).await
}
