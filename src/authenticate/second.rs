//! The second step: a code after a right password, for browsers that ask for one thing after the other; and a code in a
//! session that has begun (step-up, RFC 9470), which gives way to a new one.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use super::credential::{TOKEN_PREFIX, fresh};
use super::factor::{self, METHODS};
use super::login::{self, Attempted, Checked, Ground, Opening, Prepared, SignedIn, Verdict};
use super::subject::{Session, SessionKind, Source, Subject};
use super::throttle::Shown;
use super::{Authenticate, AuthenticateError, store};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Login, SessionEnded};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::tool::Assurance;
use crate::trust::seal::{Label, SealError};

/// Why a session ended in whose place one with more assurance came.
pub(super) const STEP_UP: &str = "step_up";
/// How long the code may take after the password.
const TICKET: Duration = Duration::from_secs(300);

/// The code that follows a right password.
#[derive(Clone, Debug)]
pub struct SecondStep<'a> {
    /// What the first step gave ([`SignedIn::ticket`]).
    pub ticket: &'a Secret<String>,
    /// The code.
    pub code: &'a Secret<String>,
    /// Where it comes from.
    pub source: Source,
    /// The request.
    pub request: RequestId,
}

fn label() -> Label {
    Label::new("sign-in ticket")
}

impl Authenticate {
    /// What says for a while that somebody knew the password of this version. Sealed: it says nothing, and cannot be made up.
    pub(super) fn ticket(&self, person: PersonId, version: i64) -> Result<Secret<String>, AuthenticateError> {
        let key = self.0.seals.get().ok_or(SealError::Sealed)?;
        let plain = [
            person.uuid().as_bytes().as_slice(),
            &version.to_be_bytes(),
            &self.now().plus(TICKET).micros().to_be_bytes(),
        ]
        .concat();
        let sealed = key.seal(&**self.0.ids.random(), &label(), &plain)?;
        Ok(Secret::new(BASE64URL_NOPAD.encode(&sealed)))
    }

    /// Person and version of the password, where the ticket is ours and still good.
    fn opened_ticket(&self, ticket: &Secret<String>) -> Option<(PersonId, i64)> {
        let sealed = BASE64URL_NOPAD.decode(ticket.expose().as_bytes()).ok()?;
        let plain = self.0.seals.get()?.open(&label(), &sealed).ok()?;
        let (person, rest) = plain.expose().split_first_chunk::<16>()?;
        let (version, until) = rest.split_first_chunk::<8>()?;
        let until = Timestamp(i64::from_be_bytes(until.try_into().ok()?));
        let person = PersonId::from(uuid::Uuid::from_bytes(*person));
        (self.now() < until).then(|| (person, i64::from_be_bytes(*version)))
    }

    /// Judges the code that follows a right password, for a browser session.
    ///
    /// # Errors
    /// A [`Problem`] when it cannot be judged: the store does not answer. Nothing is counted then.
    pub async fn second_step(&self, asked: SecondStep<'_>) -> Result<SignedIn, Problem> {
        let ticket = self.opened_ticket(asked.ticket);
        let checked = match ticket {
            Some((person, version)) => self.check_code(person, version, &asked).await?,
            None => nobody(Verdict::Expired),
        };
        let attempt = Attempted {
            opening: Opening::Browser,
            source: asked.source,
            request: asked.request,
            with_code: true,
            rehashed: None,
        };
        self.judged(checked, attempt).await
    }

    async fn check_code(
        &self,
        id: PersonId,
        version: i64,
        asked: &SecondStep<'_>,
    ) -> Result<Checked, Problem> {
        let failed = |error: StoreError| error.as_problem();
        let Some(person) = self.0.directory.load().person(id).cloned() else {
            return Ok(nobody(Verdict::Expired));
        };
        let checked = |verdict: Verdict| Checked {
            person: matches!(verdict, Verdict::Right { .. }).then(|| person.clone()),
            verdict,
            attempted: Some(person.clone()),
            version,
        };
        let attempt = match self.0.throttle.attempt(&person.username, asked.source) {
            Ok(attempt) => attempt,
            Err(wait) => return Ok(checked(Verdict::Throttled(wait))),
        };
        let stored = store::password(&self.0.db, id).await.map_err(failed)?;
        let bound = factor::store::bound(&self.0.db, id).await.map_err(failed)?;
        let verdict = match &stored {
            // SECURITY: the ticket stands for a password that was right for as long as that is the password, and for an
            // account that has a factor.
            Some(stored) if stored.version == version && !bound.is_empty() => {
                let right = login::right_password(stored, &person, self.now(), false);
                let code = (Some(asked.code), Shown::SignIn(asked.source));
                let judged = self.with_code(right, &person, &bound, code).await;
                judged.map_err(failed)?
            }
            _ => Verdict::Expired,
        };
        self.settle(&attempt, &verdict);
        if verdict.is_failure() {
            self.failed(id, person.home).await.map_err(failed)?;
        }
        Ok(checked(verdict))
    }

    /// Judges a code that is shown in a session: what begins then comes in the place of that session, with the same end. Record
    /// the events, [`Authenticate::begin`] it, then end the old session here too ([`Authenticate::forget`]).
    ///
    /// # Errors
    /// A [`Problem`]: the session is of a kind that cannot be stepped up, no factor is bound, sealed, too many attempts.
    pub async fn step_up(
        &self,
        subject: &Subject,
        code: &Secret<String>,
        request: RequestId,
    ) -> Result<SignedIn, Problem> {
        let (Some(person), Some(old)) = (subject.as_person(), subject.session()) else {
            return Err(Problem::new(Kind::NoCredential, "nobody is signed in"));
        };
        let prefix = match old.kind {
            SessionKind::Browser => "",
            SessionKind::Token => TOKEN_PREFIX,
            _ => return Err(unfit(&old.kind)),
        };
        let mut methods = old.methods.clone();
        methods.retain(|method| !METHODS.contains(&method.as_str()));
        methods.extend(METHODS.map(str::to_owned));
        let mut login = Login {
            request,
            person: Some(person.id),
            card: Some(person.card),
            session: None,
            methods: vec![METHODS[0].to_owned()],
            result: "wrong_code".into(),
            count: 0,
            source: subject.source().network(),
            certificate: None,
            federated: None,
        };
        let Some(used) = self.shown(person, old, code).await? else {
            return Ok(SignedIn::refused(login, factor::wrong_code()));
        };
        if !self.claim(person.id, &used) {
            let failed = self.failed(person.id, person.home).await;
            failed.map_err(|error| error.as_problem())?;
            return Ok(SignedIn::refused(login, factor::wrong_code()));
        }
        let problem = |error: AuthenticateError| error.as_problem();
        let (token, hash) = fresh(&**self.0.ids.random(), prefix).map_err(|error| problem(error.into()))?;
        let session = Session {
            id: self.0.ids.next().map_err(|error| problem(error.into()))?,
            created: self.now(),
            methods,
            acr: Assurance::Aal2.as_str().into(),
            ..Session::clone(old)
        };
        login.session = Some(session.id);
        login.methods.clone_from(&session.methods);
        login.result = "ok".into();
        let count = self.logins(person.id).await;
        login.count = count.map_err(|error| error.as_problem())?.logins;
        Ok(SignedIn {
            login,
            change: used.change(person),
            ended: Some(SessionEnded {
                request: Some(request),
                person: person.id,
                sessions: self.0.sessions.family(old.id),
                reason: STEP_UP.into(),
            }),
            ticket: None,
            result: Ok(Prepared {
                request,
                session,
                home: person.home,
                token,
                hash,
                ground: Ground::StepUp(old.id, used),
            }),
        })
    }
}

const fn nobody(verdict: Verdict) -> Checked {
    Checked {
        verdict,
        person: None,
        attempted: None,
        version: 0,
    }
}

fn unfit(kind: &SessionKind) -> Problem {
    let detail = format!(
        "a session of the kind `{}` cannot be given more assurance; accepted: browser, token",
        kind.as_str()
    );
    Problem::new(Kind::Invalid, detail).instead("Sign in with password and code: `countersign login`.")
}
