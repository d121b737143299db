//! Signing in with a password, and beginning the session.

use std::sync::Arc;

use super::credential::{TOKEN_PREFIX, fresh};
use super::session::Live;
use super::store::{self, Stored};
use super::subject::{Session, SessionKind, Source};
use super::{Authenticate, AuthenticateError};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, SessionId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Hash, Login, SessionEnded};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::vo::{Person, PersonState};

/// Level of assurance of a password alone (SP 800-63B-4 AAL1).
pub(super) const ACR_PASSWORD: &str = "aal1";
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
    /// What to open.
    pub opening: Opening,
    /// Where it comes from.
    pub source: Source,
    /// The request.
    pub request: RequestId,
}

/// The result of an attempt to sign in. Record `login` before anything else, then [`Authenticate::begin`] what is there.
#[derive(Debug)]
#[must_use = "the login must be recorded, right or wrong"]
pub struct SignedIn {
    /// For the log.
    pub login: Login,
    /// A session that can begin, or the answer to the client.
    pub result: Result<Prepared, Problem>,
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

/// What must still hold when the session begins.
#[derive(Debug)]
pub(super) enum Ground {
    /// The password is unchanged since it was judged.
    Password {
        version: i64,
        one_time: bool,
        rehashed: Option<String>,
    },
    /// The parent is alive.
    Parent(SessionId),
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
    Right { one_time: bool, rehash: bool },
    Wrong,
    Throttled(u32),
    Expired,
    Used,
    Suspended,
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Right { .. } => "ok",
            Self::Wrong => "wrong",
            Self::Throttled(_) => "throttled",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Suspended => "suspended",
        }
    }

    /// The answer. Everything that is not right is answered alike, except to somebody who knows the password.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Throttled(wait) => Problem::new(
                Kind::TooManyAttempts,
                "too many wrong passwords for this account from here",
            )
            .retry_after(*wait),
            Self::Suspended => Problem::new(Kind::Suspended, "the account is suspended"),
            _ => wrong(),
        }
    }
}

/// The one answer to a name or password that is not right.
pub(super) fn wrong() -> Problem {
    Problem::new(
        Kind::WrongCredential,
        "the user name or the password is not right",
    )
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
    /// Judges a user name and password.
    ///
    /// # Errors
    /// A [`Problem`] when it cannot be judged: busy, or the store does not answer. Nothing is counted then.
    pub async fn sign_in(&self, asked: SignIn<'_>) -> Result<SignedIn, Problem> {
        let checked = self.check(asked.username, asked.password, asked.source).await?;
        let mut login = Login {
            request: asked.request,
            person: checked.attempted.as_ref().map(|person| person.id),
            card: checked.attempted.as_ref().map(|person| person.card),
            session: None,
            methods: vec!["pwd".into()],
            result: checked.verdict.word().into(),
            count: 0,
            source: asked.source.network(),
            certificate: None,
        };
        let (Verdict::Right { one_time, rehash }, Some(person)) = (&checked.verdict, &checked.person) else {
            let result = Err(checked.verdict.problem());
            return Ok(SignedIn { login, result });
        };
        let problem = |error: AuthenticateError| error.as_problem();
        let rehashed = match rehash {
            true => Some(
                self.0
                    .hasher
                    .hash(asked.password)
                    .await
                    .map_err(|e| problem(e.into()))?,
            ),
            false => None,
        };
        let ground = Ground::Password {
            version: checked.version,
            one_time: *one_time,
            rehashed,
        };
        let prepared = self.prepare(person, &asked, *one_time, ground).map_err(problem)?;
        login.session = Some(prepared.session.id);
        login.count = self
            .logins(person.id)
            .await
            .map_err(|e| problem(e.into()))?
            .logins
            + 1;
        Ok(SignedIn {
            login,
            result: Ok(prepared),
        })
    }

    fn prepare(
        &self,
        person: &Person,
        asked: &SignIn<'_>,
        must_change: bool,
        ground: Ground,
    ) -> Result<Prepared, AuthenticateError> {
        let (kind, lifetime, prefix) = match asked.opening {
            Opening::Browser => (SessionKind::Browser, self.0.config.browser_lifetime, ""),
            Opening::Token => (SessionKind::Token, self.0.config.token_lifetime, TOKEN_PREFIX),
        };
        let now = self.now();
        let (token, hash) = fresh(&**self.0.ids.random(), prefix)?;
        Ok(Prepared {
            request: asked.request,
            session: Session {
                id: self.0.ids.next()?,
                person: person.id,
                kind,
                created: now,
                expires: now.plus(lifetime),
                methods: vec!["pwd".into()],
                acr: ACR_PASSWORD.into(),
                must_change,
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
        let began = self.write(&prepared).await.map_err(|error| error.as_problem())?;
        if !began {
            return Err(match prepared.ground {
                Ground::Password { .. } => wrong(),
                Ground::Parent(_) => Problem::new(Kind::WrongCredential, "the session has ended meanwhile"),
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
        // use of a one-time password or a logout that came between leaves nothing alive.
        let holds = match &prepared.ground {
            Ground::Password {
                version,
                one_time: true,
                ..
            } => store::use_up(&mut tx, person, *version, session.created).await?,
            Ground::Password { version, .. } => store::is_unchanged(&mut tx, person, *version).await?,
            Ground::Parent(parent) => store::is_alive(&mut tx, *parent).await?,
        };
        if !holds {
            return Ok(false);
        }
        store::insert_session(&mut tx, session, prepared.home, Some(prepared.hash)).await?;
        if let Ground::Password {
            version,
            one_time,
            rehashed,
        } = &prepared.ground
        {
            store::count_login(&mut tx, person, prepared.home, session.created).await?;
            if let (Some(hash), false) = (rehashed, one_time) {
                store::rehash(&mut tx, person, hash, *version).await?;
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Looks at a name and a password: throttle, one computation, the same for everybody.
    pub(super) async fn check(
        &self,
        username: &str,
        password: &Secret<String>,
        source: Source,
    ) -> Result<Checked, Problem> {
        let username = username.trim().to_lowercase();
        let person = (username.len() <= MAX_USERNAME)
            .then(|| self.0.directory.load().person_named(&username).cloned())
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
        let judged = self.judge_password(person.as_deref(), password).await;
        let (verdict, version) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                self.0.throttle.undo(&attempt);
                return Err(error.as_problem());
            }
        };
        if let Verdict::Right { .. } = verdict {
            self.0.throttle.forgive(&attempt);
        }
        Ok(Checked {
            person: person
                .clone()
                .filter(|_| matches!(verdict, Verdict::Right { .. })),
            verdict,
            attempted: person,
            version,
        })
    }

    async fn judge_password(
        &self,
        person: Option<&Person>,
        password: &Secret<String>,
    ) -> Result<(Verdict, i64), AuthenticateError> {
        // SECURITY: an unknown account takes the same way: one row looked up, one computation, one row written.
        let id = person.map_or_else(|| PersonId::from(uuid::Uuid::nil()), |person| person.id);
        let stored = store::password(&self.0.db, id).await?;
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
                right_password(stored, person, self.now(), compared.rehash)
            }
            _ => Verdict::Wrong,
        };
        if !matches!(verdict, Verdict::Right { .. }) {
            let mut tx = self.0.db.begin_write().await?;
            let home = person.map_or_else(crate::vo::Directory::gateway, |person| person.home);
            store::count_failure(&mut tx, id, home, self.now()).await?;
            tx.commit().await?;
        }
        Ok((verdict, stored.map_or(0, |stored| stored.version)))
    }
}

fn right_password(stored: &Stored, person: &Person, now: Timestamp, rehash: bool) -> Verdict {
    if person.state != PersonState::Active {
        return Verdict::Suspended;
    }
    if stored.one_time && stored.used {
        return Verdict::Used;
    }
    if stored.expires.is_some_and(|expires| now >= expires) {
        return Verdict::Expired;
    }
    Verdict::Right {
        one_time: stored.one_time,
        rehash,
    }
}
