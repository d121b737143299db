//! `session.step_up`: a second factor, shown in a session that has begun (RFC 9470). A new session comes in its place.

use http::StatusCode;

use super::create::{SessionCreated, begin};
use crate::api::factor::{FactorCode, tell_of_recovery};
use crate::api::operation::{Call, Operation, task};
use crate::api::{Api, problem};
use crate::authenticate::SessionKind;
use crate::problem::{Kind, Problem};
use crate::tool::{self, Audience, Task, TokenRule};

pub(in crate::api) struct StepUp;

impl Operation for StepUp {
    type Body = FactorCode;
    type Answer = SessionCreated;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SECRET: bool = true;
    const LIMIT: usize = 8 * 1024;
    const SUMMARY: &'static str =
        "Shows a second factor: a new session with more assurance, in the place of this one";

    fn task() -> Task {
        Task {
            tokens: TokenRule::Never,
            strict: true,
            max_body: Some(Self::LIMIT as u64),
            ..task(
                "session.step_up",
                "POST /api/v1/sessions/current/step-up",
                tool::Kind::Create,
                Audience::AnyPerson,
            )
        }
    }

    async fn run(api: &Api, call: &Call, body: FactorCode) -> Result<SessionCreated, Problem> {
        // A browser's token is its cookie, which no answer of the API sets.
        if call.session()?.kind == SessionKind::Browser {
            let detail = "a browser shows its second factor on the page `/step-up`";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let signed = api
            .authenticate
            .step_up(&call.subject, &body.code, call.id)
            .await?;
        // INVARIANT: on record before the new token is worth anything.
        api.audit.write_all(signed.events()).await.map_err(problem)?;
        let opened = begin(api, &signed.login, signed.result?).await?;
        api.forget(signed.ended.as_ref()).await?;
        if signed.change.is_some() {
            tell_of_recovery(api, call.id, call.person()?).await;
        }
        Ok(SessionCreated::of(opened))
    }
}
