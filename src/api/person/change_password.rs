//! `user.change_own_password`: the own one, never somebody else's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, exposed, exposed_if, task};
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::secret::Secret;
use crate::tool::{self, Audience, Task, TokenRule};

/// The present password and the new one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present password; not needed after signing in with a one-time password.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>, max_length = 1024)]
    pub current: Option<Secret<String>>,
    /// The new one: at least 15 characters, or 8 where a second factor is bound.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, min_length = 8, max_length = 1024)]
    pub new: Secret<String>,
}

/// Longest password in bytes.
const LONGEST: usize = 1024;

pub(in crate::api) struct ChangePassword;

impl Operation for ChangePassword {
    type Body = PasswordChange;
    type Answer = Nothing;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str = "Changes your own password; your other sessions end";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            ..task(
                "user.change_own_password",
                "POST /api/v1/me/password",
                tool::Kind::Update,
                Audience::AnySession,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: PasswordChange) -> Result<Nothing, Problem> {
        let too_long = |secret: &Secret<String>| secret.expose().len() > LONGEST;
        if too_long(&body.new) || body.current.as_ref().is_some_and(too_long) {
            return Err(Problem::new(
                Kind::Invalid,
                "a password may have at most 1024 bytes",
            ));
        }
        let words = words(api, call).await?;
        let new = api
            .authenticate
            .new_password(&call.subject, body.current.as_ref(), &body.new, &words)
            .await?;
        let mut turn = 0;
        let (tx, done) = loop {
            let mut tx = api.begin().await?;
            let done = api.authenticate.change_password(&mut tx, new.clone(), call.id);
            let done = done.await;
            if !Api::yields(&done, &mut turn) {
                break (tx, done?);
            }
        };
        let further = done.ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call, tx, vec![done.change], further).await?;
        api.forget(done.ended.as_ref()).await?;
        Ok(Nothing {})
    }
}

/// What anybody would try for this account: her name and the names of the tools she uses.
async fn words(api: &Api, call: &Call) -> Result<Vec<String>, Problem> {
    let person = call.person()?.id;
    let card = api.vos.card(person).await.map_err(problem)?;
    let fields = card.map(|card| card.fields).unwrap_or_default();
    let mut words: Vec<String> = fields.name.split_whitespace().map(str::to_owned).collect();
    words.extend(fields.organisation);
    words.extend(fields.mail);
    let tools = api.wrapped();
    for vo in api.directory().vos_of(person) {
        words.extend(tools.all(vo).map(|tool| tool.name.clone()));
    }
    Ok(words)
}
