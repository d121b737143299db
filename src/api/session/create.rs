//! `session.create`: user name and password (and a code, where a second factor is bound) for a bearer token.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::factor::tell_of_recovery;
use crate::api::operation::{Call, Operation, exposed, exposed_if, task};
use crate::api::{Api, problem};
use crate::authenticate::{Opened, Opening, Prepared, SignIn, not_begun};
use crate::problem::{Kind, Problem};
use crate::record::Login;
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
    /// Code of your second factor, or a recovery code; needed where a second factor is bound.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub code: Option<Secret<String>>,
    /// Refuses a one-time password and leaves it as it is, where nobody could choose another one afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_password: bool,
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
    /// Signed in with a one-time password, or with one that has become too short: nothing is open but the change of the
    /// password.
    pub must_change: bool,
    /// There are terms of use that you have yet to accept: before that, what they bind is shut to you.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owes_terms: bool,
    /// Level of assurance: `aal1` with one factor, `aal2` with two.
    #[serde(default)]
    pub acr: String,
    /// How you showed who you are (RFC 8176): `pwd`, `otp`, `mfa`.
    #[serde(default)]
    pub amr: Vec<String>,
}

impl SessionCreated {
    pub(super) fn of(opened: Opened) -> Self {
        let session = &opened.session;
        Self {
            session: session.id.to_string(),
            person: session.person.to_string(),
            expires: session.expires.to_string(),
            must_change: session.must_change,
            owes_terms: false,
            acr: session.acr.clone(),
            amr: session.methods.clone(),
            token: opened.token,
        }
    }
}

/// Begins the session of a login that is on record; one that did not begin is on record as such.
pub(super) async fn begin(api: &Api, login: &Login, prepared: Prepared) -> Result<Opened, Problem> {
    let begun = api.authenticate.begin(prepared).await;
    if begun.is_err() {
        api.audit.write(not_begun(login)).await.map_err(problem)?;
    }
    begun
}

/// Longest password that is looked at, in bytes.
const LONGEST: usize = 1024;

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = SessionCreate;
    type Answer = SessionCreated;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SECRET: bool = true;
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
            code: body.code.as_ref(),
            opening: Opening::Token,
            source: call.subject.source(),
            request: call.id,
        };
        let mut signed_in = api.authenticate.sign_in(attempt).await?;
        if body.own_password && signed_in.result.as_ref().is_ok_and(Prepared::must_change) {
            signed_in.login.result = "one_time".into();
            (signed_in.login.session, signed_in.login.count) = (None, 0);
            // A recovery code beside it stays as it is, too.
            signed_in.change = None;
            signed_in.result = Err(Problem::new(
                Kind::PasswordChangeRequired,
                "this is a one-time password: choose your own first (`countersign login`)",
            ));
        }
        // INVARIANT: the login, right or wrong, is on record before its token is worth anything.
        api.audit.write_all(signed_in.events()).await.map_err(problem)?;
        let mut opened = begin(api, &signed_in.login, signed_in.result?).await?;
        if let Some(surplus) = opened.surplus.take() {
            api.end(surplus).await?;
        }
        let directory = api.directory();
        if signed_in.change.is_some()
            && let Some(person) = directory.person(opened.session.person)
        {
            tell_of_recovery(api, call.id, person).await;
        }
        let owes_terms = api.authenticate.owes(opened.session.person);
        Ok(SessionCreated {
            owes_terms,
            ..SessionCreated::of(opened)
        })
    }
}
