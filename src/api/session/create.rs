//! `session.create`: user name and password for a bearer token.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Operation, exposed, task};
use crate::api::{Api, problem};
use crate::authenticate::{Opening, SignIn};
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::secret::Secret;
use crate::tool::{self, Audience, Task};

/// A user name and a password.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCreate {
    /// User name.
    #[schema(max_length = 256)]
    pub username: String,
    /// Password, or the one-time password that an administrator gave.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String, max_length = 1024)]
    pub password: Secret<String>,
}

/// A session that has begun. The token is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Id of the session.
    pub session: String,
    /// To send as `Authorization: Bearer TOKEN`.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub token: Secret<String>,
    /// Opaque id of the person.
    pub person: String,
    /// When the session ends (RFC 3339).
    pub expires: String,
    /// Signed in with a one-time password: nothing is open but the change of the password.
    pub must_change: bool,
}

/// Longest password that is looked at, in bytes.
const LONGEST: usize = 1024;

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = SessionCreate;
    type Answer = SessionCreated;
    const STATUS: StatusCode = StatusCode::CREATED;
    /// Strangers may send this one.
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str = "Signs in: user name and password for a bearer token";

    fn task() -> Task {
        Task {
            strict: true,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                "session.create",
                "POST /api/v1/sessions",
                tool::Kind::Create,
                Audience::Everyone,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: SessionCreate) -> Result<SessionCreated, Problem> {
        if body.password.expose().len() > LONGEST {
            return Err(Problem::new(
                Kind::Invalid,
                "`password` may have at most 1024 bytes",
            ));
        }
        let attempt = SignIn {
            username: &body.username,
            password: &body.password,
            opening: Opening::Token,
            source: call.subject.source(),
            request: call.id,
        };
        let signed_in = api.authenticate.sign_in(attempt).await?;
        // INVARIANT: the login, right or wrong, is on record before its token is worth anything.
        api.audit
            .write(Event::Login(signed_in.login))
            .await
            .map_err(problem)?;
        let opened = api.authenticate.begin(signed_in.result?).await?;
        if let Some(surplus) = opened.surplus {
            api.end(surplus).await?;
        }
        Ok(SessionCreated {
            session: opened.session.id.to_string(),
            token: opened.token,
            person: opened.session.person.to_string(),
            expires: opened.session.expires.to_string(),
            must_change: opened.session.must_change,
        })
    }
}
