//! Signing in with a password (and a code, where a second factor is bound), and beginning the session.

use std::sync::Arc;

use super::credential::{TOKEN_PREFIX, fresh};
use super::factor::store::Bound;
use super::factor::{self, Coded, METHODS, Used};
use super::session::Live;
use super::store::{self, Stored};
use super::subject::{Session, SessionKind, Source};
use super::throttle::Shown;
use super::{Authenticate, AuthenticateError, federation};
use crate::clock::Timestamp;
use crate::id::{IdentityId, IdpId, PersonId, RequestId, SessionId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, ChangeEvent, Event, Hash, Login, SessionEnded};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::tool::Assurance;
use crate::vo::{Person, PersonState};

/// Level of assurance of a password alone (SP 800-63B-4 AAL1).
pub(super) const ACR_PASSWORD: &str = Assurance::Aal1.as_str();
/// Longest user name that is looked at, in bytes.
const MAX_USERNAME: usize = 256;

/// What kind of session a login opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A browser session on the gateway's host; its token goes into the cookie.
    Browser,
    /// An opaque bearer token.
    Token,
}

/// A request to sign in.
#[derive(Clone, Debug)]
pub struct SignIn<'a> {
    /// User name, as typed.
    pub username: &'a str,
    /// Password.
    pub password: &'a Secret<String>,
    /// Code of a second factor, or a recovery code.
    pub code: Option<&'a Secret<String>>,
    /// What to open.
    pub opening: Opening,
    /// Where it comes from.
    pub source: Source,
    /// The request.
    pub request: RequestId,
}

/// The result of an attempt to sign in. Record its [`SignedIn::events`] before anything else, then [`Authenticate::begin`]
/// what is there.
#[derive(Debug)]
#[must_use = "the login must be recorded, right or wrong"]
pub struct SignedIn {
    /// For the log.
    pub login: Login,
    /// The use of a recovery code, for the log.
    pub change: Option<Change>,
    /// The session in whose place the new one comes, for the log; end it once the new one has begun.
    pub ended: Option<SessionEnded>,
    /// Where the password was right and a code is needed: what lets a browser go on with the code alone, for a while.
    pub ticket: Option<Secret<String>>,
    /// A session that can begin, or the answer to the client.
    pub result: Result<Prepared, Problem>,
}

impl SignedIn {
    pub(super) const fn refused(login: Login, problem: Problem) -> Self {
        Self {
            login,
            change: None,
            ended: None,
            ticket: None,
            result: Err(problem),
        }
    }

    /// All that is to be on record before the session begins.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let used =
            |change: &Change| Event::Change(Box::new(ChangeEvent::of(self.login.request, change.clone())));
        let login = std::iter::once(Event::Login(self.login.clone()));
        let used = self.change.iter().map(used);
        let ended = self.ended.iter().cloned().map(Event::SessionEnded);
        login.chain(used).chain(ended).collect()
    }
}

/// What is on record of a login whose session did not begin after all: what it rested on was changed or used up meanwhile.
#[must_use]
pub fn not_begun(login: &Login) -> Event {
    Event::Login(Login {
        session: None,
        count: 0,
        result: "not_begun".into(),
        ..login.clone()
    })
}

/// A session that has not begun: its token is worth nothing until [`Authenticate::begin`].
#[derive(Debug)]
pub struct Prepared {
    pub(super) request: RequestId,
    pub(super) session: Session,
    pub(super) home: VoId,
    pub(super) token: Secret<String>,
    pub(super) hash: Hash,
    pub(super) ground: Ground,
}

impl Prepared {
    /// Whether it rests on a one-time password, which is used up when it begins.
    #[must_use]
    pub const fn must_change(&self) -> bool {
        self.session.must_change
    }
}

/// What must still hold when the session begins.
#[derive(Debug)]
pub(super) enum Ground {
    /// The password is unchanged since it was judged.
    Password {
        version: i64,
        one_time: bool,
        rehashed: Option<String>,
        /// A code that is good once.
        used: Option<Used>,
    },
    /// The parent is alive.
    Parent(SessionId),
    /// The session in whose place the new one comes is alive, and the code is unused.
    StepUp(SessionId, Used),
    /// The identity has its account, and its provider is active.
    Federated(IdentityId, IdpId),
}

impl Ground {
    /// The code that it rests on, if it rests on one.
    const fn used(&self) -> Option<&Used> {
        match self {
            Self::Password { used, .. } => used.as_ref(),
            Self::StepUp(_, used) => Some(used),
            Self::Parent(_) | Self::Federated(..) => None,
        }
    }
}

/// A session that has begun.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Arc<Session>,
    /// Its token: shown once, to the client.
    pub token: Secret<String>,
    /// The oldest sessions of the same person, which are too many now. Record it, then call [`Authenticate::end`].
    pub surplus: Option<SessionEnded>,
}

/// What looking at a name and a password gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right {
        one_time: bool,
        /// The password was given by somebody else, or is too short where no factor stands beside it.
        must_change: bool,
        /// Also where a second factor stands beside it.
        insisted: bool,
        rehash: bool,
        used: Option<Used>,
    },
    /// The password is right; a code is needed beside it.
    CodeNeeded,
    /// The password is right, the code is not.
    WrongCode,
    /// The password is right, and no code can be checked.
    Sealed,
    Wrong,
    Throttled(u32),
    /// The password is right; after so many wrong codes none of an authenticator is taken any more.
    NoMoreCodes,
    Expired,
    Used,
    /// The password is right, and the account in a state that opens nothing.
    Stopped(PersonState),
}

impl Verdict {
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Right { .. } => "ok",
            Self::CodeNeeded => "code_needed",
            Self::WrongCode => "wrong_code",
            Self::Sealed => "sealed",
            Self::Wrong => "wrong",
            Self::Throttled(_) => "throttled",
            Self::NoMoreCodes => "stopped",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Stopped(PersonState::Expired) => "account_expired",
            Self::Stopped(state) => state.as_str(),
        }
    }

    /// Whether it is counted among the failed attempts.
    pub(super) const fn is_failure(&self) -> bool {
        !matches!(self, Self::Right { .. } | Self::CodeNeeded | Self::Sealed)
    }

    /// The answer. Everything that is not right is answered alike, except to somebody who knows the password.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Throttled(wait) => Problem::new(
                Kind::TooManyAttempts,
                "too many wrong passwords for this account from here",
            )
            .retry_after(*wait),
            Self::Stopped(state) => stopped(*state),
            Self::CodeNeeded => Problem::new(
                Kind::SecondFactorRequired,
                "a code of your second factor is needed beside the password",
            ),
            Self::Sealed => factor::sealed(),
            Self::NoMoreCodes => factor::stopped(),
            // SECURITY: a wrong code is answered as a wrong password is.
            _ => wrong(),
        }
    }
}

/// The answer to somebody who has shown that the account is hers, and whom it does not let in.
pub(super) fn stopped(state: PersonState) -> Problem {
    let detail = match state {
        PersonState::Pending => "the account is not approved yet",
        PersonState::Rejected => "the request for this account was refused",
        PersonState::Expired => "the account has expired",
        PersonState::Ended => "the account was deleted",
        PersonState::Active | PersonState::Suspended => "the account is suspended",
    };
    Problem::new(state.refusal().unwrap_or(Kind::Suspended), detail)
}

/// The one answer to a name, password or code that is not right.
pub(super) fn wrong() -> Problem {
    Problem::new(
        Kind::WrongCredential,
        "the user name or the password is not right (or the code, where one is needed)",
    )
}

/// An attempt whose credentials are judged.
pub(super) struct Attempted {
    pub(super) opening: Opening,
    pub(super) source: Source,
    pub(super) request: RequestId,
    /// Whether a code was given.
    pub(super) with_code: bool,
    pub(super) rehashed: Option<String>,
}

/// A judged name and password.
pub(super) struct Checked {
    pub(super) verdict: Verdict,
    /// The person, if the password was right and she may sign in.
    pub(super) person: Option<Arc<Person>>,
    /// The person whose name was given, right password or not.
    pub(super) attempted: Option<Arc<Person>>,
    /// Version of the password that was judged.
    pub(super) version: i64,
}

impl Authenticate {
    /// Judges a user name and password, and the code where a second factor is bound.
    ///
    /// # Errors
    /// A [`Problem`] when it cannot be judged: busy, or the store does not answer. Nothing is counted then.
    pub async fn sign_in(&self, asked: SignIn<'_>) -> Result<SignedIn, Problem> {
        let checked = self
            .check(asked.username, asked.password, asked.code, asked.source)
            .await?;
        let rehashed = match checked.verdict {
            Verdict::Right { rehash: true, .. } => {
                let hash = self.0.hasher.hash(asked.password).await;
                Some(hash.map_err(|error| error.as_problem())?)
            }
            _ => None,
        };
        let attempt = Attempted {
            opening: asked.opening,
            source: asked.source,
            request: asked.request,
            with_code: asked.code.is_some(),
            rehashed,
        };
        self.judged(checked, attempt).await
    }

    /// What a judged attempt leads to.
    pub(super) async fn judged(&self, mut checked: Checked, attempt: Attempted) -> Result<SignedIn, Problem> {
        let problem = |error: AuthenticateError| error.as_problem();
        if let (Verdict::Right { used: Some(used), .. }, Some(person)) = (&checked.verdict, &checked.person)
            && !self.claim(person.id, used)
        {
            self.failed(person.id, person.home)
                .await
                .map_err(|error| error.as_problem())?;
            checked.verdict = Verdict::WrongCode;
        }
        let mut methods = vec!["pwd".to_owned()];
        if attempt.with_code {
            methods.push(METHODS[0].to_owned());
        }
        let mut login = Login {
            request: attempt.request,
            person: checked.attempted.as_ref().map(|person| person.id),
            card: checked.attempted.as_ref().map(|person| person.card),
            session: None,
            methods,
            result: checked.verdict.word().into(),
            count: 0,
            source: attempt.source.network(),
            certificate: None,
            federated: None,
        };
        let (
            Verdict::Right {
                one_time,
                must_change,
                used,
                ..
            },
            Some(person),
        ) = (&checked.verdict, &checked.person)
        else {
            let mut refused = SignedIn::refused(login, checked.verdict.problem());
            if let (Verdict::CodeNeeded, Opening::Browser, Some(person)) =
                (&checked.verdict, attempt.opening, &checked.attempted)
            {
                refused.ticket = Some(self.ticket(person.id, checked.version).map_err(problem)?);
            }
            return Ok(refused);
        };
        let ground = Ground::Password {
            version: checked.version,
            one_time: *one_time,
            rehashed: attempt.rehashed.clone(),
            used: used.clone(),
        };
        let change = used.as_ref().and_then(|used| used.change(person));
        let prepared = self
            .prepare(person, &attempt, *must_change, ground)
            .map_err(problem)?;
        login.session = Some(prepared.session.id);
        login.methods.clone_from(&prepared.session.methods);
        login.count = self
            .logins(person.id)
            .await
            .map_err(|e| problem(e.into()))?
            .logins
            + 1;
        Ok(SignedIn {
            login,
            change,
            ended: None,
            ticket: None,
            result: Ok(prepared),
        })
    }

    fn prepare(
        &self,
        person: &Person,
        asked: &Attempted,
        must_change: bool,
        ground: Ground,
    ) -> Result<Prepared, AuthenticateError> {
        let (kind, lifetime, prefix) = match asked.opening {
            Opening::Browser => (SessionKind::Browser, self.0.config.browser_lifetime, ""),
            Opening::Token => (SessionKind::Token, self.0.config.token_lifetime, TOKEN_PREFIX),
        };
        let now = self.now();
        let (token, hash) = fresh(&**self.0.ids.random(), prefix)?;
        let with_factor = matches!(ground, Ground::Password { used: Some(_), .. });
        let mut methods = vec!["pwd".to_owned()];
        if with_factor {
            methods.extend(METHODS.map(str::to_owned));
        }
        Ok(Prepared {
            request: asked.request,
            session: Session {
                id: self.0.ids.next()?,
                person: person.id,
                kind,
                created: now,
                expires: now.plus(lifetime),
                methods,
                acr: factor::acr(with_factor).into(),
                must_change,
                identity: None,
            },
            home: person.home,
            token,
            hash,
            ground,
        })
    }

    /// Begins a session whose login was recorded.
    ///
    /// # Errors
    /// A [`Problem`] when the password was changed or used meanwhile, the parent ended, or the store does not answer.
    pub async fn begin(&self, prepared: Prepared) -> Result<Opened, Problem> {
        let _changing = self.0.changing.lock().await;
        let began = self.write(&prepared).await;
        if !matches!(began, Ok(true))
            && let Some(used) = prepared.ground.used()
        {
            self.0.claims.release(prepared.session.person, used);
        }
        if !began.map_err(|error| error.as_problem())? {
            return Err(match prepared.ground {
                Ground::Password { .. } => wrong(),
                Ground::StepUp(..) => factor::wrong_code(),
                Ground::Parent(_) => Problem::new(Kind::WrongCredential, "the session has ended meanwhile"),
                Ground::Federated(..) => Problem::new(
                    Kind::SignInRefused,
                    "the identity provider or the account was suspended or removed meanwhile",
                ),
            });
        }
        let session = Arc::new(prepared.session);
        let live = Live::new(Arc::clone(&session), Some(prepared.hash), session.created);
        self.0.sessions.insert(live);
        Ok(Opened {
            surplus: self.surplus(&session, prepared.request),
            session,
            token: prepared.token,
        })
    }

    /// What has to end because `session` began.
    pub(super) fn surplus(&self, session: &Session, request: RequestId) -> Option<SessionEnded> {
        let sessions = self.0.sessions.surplus(session.person, session.id);
        (!sessions.is_empty()).then(|| SessionEnded {
            request: Some(request),
            person: session.person,
            sessions,
            reason: "surplus".into(),
        })
    }

    async fn write(&self, prepared: &Prepared) -> Result<bool, StoreError> {
        let (session, person) = (&prepared.session, prepared.session.person);
        let mut tx = self.0.db.begin_write().await?;
        // SECURITY: whatever the login rested on is looked at again inside the transaction, so that a reset, a second
        // use of a one-time password or of a code, or a logout that came between leaves nothing alive.
        let holds = match &prepared.ground {
            Ground::Password {
                version,
                one_time: true,
                ..
            } => store::use_up(&mut tx, person, *version, session.created).await?,
            Ground::Password { version, .. } => store::is_unchanged(&mut tx, person, *version).await?,
            Ground::Parent(parent) | Ground::StepUp(parent, _) => store::is_alive(&mut tx, *parent).await?,
            Ground::Federated(identity, idp) => {
                federation::store::holds(&mut tx, (*identity, *idp), person, session.created).await?
            }
        };
        let used = prepared.ground.used();
        let unused = match used {
            Some(used) => factor::store::use_up(&mut tx, person, used, session.created).await?,
            None => true,
        };
        if !holds || !unused {
            return Ok(false);
        }
        if used.is_some_and(Used::is_recovery) {
            // The change that the log has of it was applied.
            tx.applied(prepared.request, session.created).await?;
        }
        store::insert_session(&mut tx, session, prepared.home, Some(prepared.hash)).await?;
        match &prepared.ground {
            Ground::Password {
                version,
                one_time,
                rehashed,
                ..
            } => {
                store::count_login(&mut tx, person, prepared.home, session.created).await?;
                if let (Some(hash), false) = (rehashed, one_time) {
                    store::rehash(&mut tx, person, hash, *version).await?;
                }
            }
            Ground::StepUp(old, _) => {
                store::end_session(&mut tx, *old, super::second::STEP_UP, session.created).await?;
            }
            Ground::Federated(..) => {
                store::count_login(&mut tx, person, prepared.home, session.created).await?;
            }
            Ground::Parent(_) => {}
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Looks at a name, a password and a code: throttle, one computation, the same for everybody.
    pub(super) async fn check(
        &self,
        username: &str,
        password: &Secret<String>,
        code: Option<&Secret<String>>,
        source: Source,
    ) -> Result<Checked, Problem> {
        let username = username.trim().to_lowercase();
        let person = (username.len() <= MAX_USERNAME)
            .then(|| {
                let directory = self.0.directory.load();
                // Who had the name last is told that the account is gone, if she knows its password.
                let person = directory.person_named(&username);
                person.or_else(|| directory.person_once_named(&username)).cloned()
            })
            .flatten();
        let attempt = match self.0.throttle.attempt(&username, source) {
            Ok(attempt) => attempt,
            Err(wait) => {
                return Ok(Checked {
                    verdict: Verdict::Throttled(wait),
                    person: None,
                    attempted: person,
                    version: 0,
                });
            }
        };
        let shown = Shown::SignIn(source);
        let judged = self
            .judge_password(person.as_deref(), password, (code, shown))
            .await;
        let (verdict, version) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                self.0.throttle.undo(&attempt);
                return Err(error.as_problem());
            }
        };
        self.settle(&attempt, &verdict);
        Ok(Checked {
            person: person
                .clone()
                .filter(|_| matches!(verdict, Verdict::Right { .. })),
            verdict,
            attempted: person,
            version,
        })
    }

    /// Gives back the cells of what was no wrong attempt.
    pub(super) fn settle(&self, attempt: &super::throttle::Attempt, verdict: &Verdict) {
        match verdict {
            Verdict::Right { .. } => self.0.throttle.forgive(attempt),
            // SECURITY: the password alone forgives nothing, else it would clear the way for the next wrong codes.
            Verdict::CodeNeeded | Verdict::Sealed => self.0.throttle.undo(attempt),
            // Who knows the password and is told to wait is not to wait for that, too.
            Verdict::Stopped(_) => self.0.throttle.undo(attempt),
            _ => {}
        }
    }

    async fn judge_password(
        &self,
        person: Option<&Person>,
        password: &Secret<String>,
        code: (Option<&Secret<String>>, Shown),
    ) -> Result<(Verdict, i64), AuthenticateError> {
        // SECURITY: an unknown account takes the same way: the same rows looked up, one computation, one row written.
        let id = person.map_or_else(|| PersonId::from(uuid::Uuid::nil()), |person| person.id);
        let stored = store::password(&self.0.db, id).await?;
        let bound = factor::store::bound(&self.0.db, id).await?;
        let too_long = password.expose().len() > super::password::MAX_BYTES;
        let against = stored
            .as_ref()
            .filter(|_| !too_long)
            .map(|stored| stored.hash.as_str());
        let empty = Secret::new(String::new());
        let looked_at = if too_long { &empty } else { password };
        let compared = self.0.hasher.verify(looked_at, against).await?;
        let verdict = match (&stored, person) {
            (Some(stored), Some(person)) if compared.right => {
                let right = right_password(stored, person, self.now(), compared.rehash);
                // SECURITY: only now, so that nobody without the password learns from the time whether there is a factor.
                self.with_code(right, person, &bound, code).await?
            }
            _ => Verdict::Wrong,
        };
        let version = stored.map_or(0, |stored| stored.version);
        if verdict.is_failure() {
            let home = person.map_or_else(crate::vo::Directory::gateway, |person| person.home);
            self.failed(id, home).await?;
        }
        Ok((verdict, version))
    }

    /// A right password with what becomes of the code.
    pub(super) async fn with_code(
        &self,
        right: Verdict,
        person: &Person,
        bound: &[Bound],
        code: (Option<&Secret<String>>, Shown),
    ) -> Result<Verdict, StoreError> {
        let Verdict::Right {
            one_time,
            insisted,
            rehash,
            ..
        } = right
        else {
            return Ok(right);
        };
        Ok(match self.judge_code(person, bound, code).await? {
            Coded::NotNeeded => right,
            Coded::Missing => Verdict::CodeNeeded,
            Coded::Sealed => Verdict::Sealed,
            Coded::Wrong => Verdict::WrongCode,
            Coded::Throttled(wait) => Verdict::Throttled(wait),
            Coded::Stopped => Verdict::NoMoreCodes,
            Coded::Right(used) => Verdict::Right {
                one_time,
                // Beside a factor a short password is long enough.
                must_change: insisted,
                insisted,
                rehash,
                used: Some(used),
            },
        })
    }

    /// Claims a code that was right, before anything is on record of it.
    pub(super) fn claim(&self, person: PersonId, used: &Used) -> bool {
        self.0.claims.take(person, used, self.0.ids.clock().monotonic())
    }

    /// Counts a failed attempt.
    pub(super) async fn failed(&self, person: PersonId, home: VoId) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin_write().await?;
        store::count_failure(&mut tx, person, home, self.now()).await?;
        tx.commit().await
    }
}

pub(super) fn right_password(stored: &Stored, person: &Person, now: Timestamp, rehash: bool) -> Verdict {
    let state = person.standing(now);
    if state != PersonState::Active {
        return Verdict::Stopped(state);
    }
    if stored.one_time && stored.used {
        return Verdict::Used;
    }
    if stored.expires.is_some_and(|expires| now >= expires) {
        return Verdict::Expired;
    }
    Verdict::Right {
        one_time: stored.one_time,
        must_change: stored.one_time || stored.short || stored.flagged,
        insisted: stored.one_time || stored.flagged,
        rehash,
        used: None,
    }
}
