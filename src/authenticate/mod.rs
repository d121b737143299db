//! From credentials to a [`Subject`]: passwords, second factors, sessions, tokens, grid certificates.
//!
//! Every way in is a *session* with an id, a start and an end. [`Authenticate::subject`] tells who asks: no credential
//! means anonymous, a bad one is a challenge and never silently anonymous. Sessions live in memory, written through to
//! the store, and are looked up by the hash of their token; ending one is seen by the next request.
//!
//! Promises: an unknown account costs the same one Argon2id computation and gets the same answer as a wrong password;
//! guessing is slowed by account and source, and nobody is locked out by others; a one-time password opens nothing but
//! the choice of a new one, once; the session of a tool's host is of no use anywhere else and ends with its parent.
//!
//! This module never writes to the audit log. What begins, ends or changes is handed to the caller as
//! [`Login`](crate::record::Login), [`SessionEnded`] or [`Change`](crate::record::Change) **before** it takes effect
//! ([`Prepared`], [`Authenticate::ending`], [`Journal`], `&mut Tx`), so that the record can lead.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

mod basic;
mod certificate;
mod change;
mod config;
mod credential;
mod enter;
mod erase;
mod factor;
mod federation;
mod held;
mod login;
mod password;
mod personal;
mod possession;
mod recognise;
mod restore;
mod scope;
mod second;
mod session;
mod store;
mod strength;
mod subject;
mod terms;
#[cfg(test)]
mod tests;
mod throttle;

pub use basic::Journal;
pub use certificate::{Link, Presented, is_login};
pub use change::{NewPassword, OneTime, PasswordChange, Reset};
pub use config::{Config, Cost};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use credential::fuzz_credential;
pub use credential::{
    COOKIE, CredentialError, LOGIN_COOKIE, NONCE_COOKIE, TOKEN_PREFIX, clear_cookie, is_navigation,
    login_cookie, nonce, set_cookie,
};
pub use enter::{EnterStart, Entered, is_local_path, percent};
pub use factor::{Factor, FactorChange, Guessed, NewFactor, Offer, Used};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use federation::token::fuzz_token;
pub use federation::{
    Approval, Arrived, Attributes, Claims, FederatedRefusal, FederatedStart, Identity, Idp, IdpError,
    IdpSettings, ManyIdentities, Mapping, NewIdp, Returned, SignedInBy, Standing,
};
pub use held::HeldSession;
pub use login::{Opened, Opening, Prepared, SignIn, SignedIn, not_begun};
pub use password::HashError;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use personal::fuzz as fuzz_personal;
pub use personal::{NewToken, Personal, TokenAsk};
pub use possession::Account;
pub use recognise::Refusal;
pub use restore::{AllEnded, end_all};
pub use scope::{SCOPE_PARTS, Scope, ScopeError, ScopePart};
pub use second::SecondStep;
pub use session::SessionWatch;
pub use store::LoginCount;
pub use strength::{Blocklist, MIN_BESIDE_FACTOR, MIN_CHARACTERS, Weakness};
pub use subject::{Agent, Session, SessionKind, Source, Subject, Who};
pub use terms::Terms;

use crate::clock::Timestamp;
use crate::id::{Ids, PersonId, RandomError, RequestId, SessionId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::SessionEnded;
use crate::store::{Db, StoreError, Tx};
use crate::trust::seal::{SealError, SealingKey};
use crate::vo::{DirectoryHandle, Person};

/// Why a session ended that nobody ended.
const EXPIRED: &str = "expired";
/// Why a session ended whose person left it.
const LOGOUT: &str = "logout";
/// How much later than the store a session must have been used before that is written down.
const SEEN_STEP: std::time::Duration = std::time::Duration::from_secs(300);

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    directory: DirectoryHandle,
    ids: Ids,
    config: Config,
    hasher: password::Hasher,
    blocklist: Blocklist,
    throttle: throttle::Throttle,
    claims: factor::Claims,
    sessions: session::Sessions,
    basic: basic::Kept,
    certificates: certificate::Certificates,
    codes: enter::Codes,
    federation: federation::Federation,
    terms: terms::Table,
    /// What seals the secrets of second factors; not there while the gateway is sealed.
    seals: std::sync::OnceLock<SealingKey>,
    // INVARIANT: held from before the store is read or written until memory says the same.
    changing: tokio::sync::Mutex<()>,
}

/// Why the service cannot start or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password hash cannot be computed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl AsProblem for AuthenticateError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Store(error) => error.as_problem(),
            Self::Hash(error) => error.as_problem(),
            Self::Random(_) => Problem::new(Kind::Internal, "no random bytes can be had"),
            Self::Seal(error) => error.as_problem(),
        }
    }
}

impl Authenticate {
    /// Starts the service with the sessions that the store has.
    ///
    /// # Errors
    /// [`AuthenticateError`] when the store cannot be read, the cost is not possible, or there are no random bytes.
    pub async fn open(
        db: Db,
        directory: DirectoryHandle,
        ids: Ids,
        config: Config,
    ) -> Result<Self, AuthenticateError> {
        let service = Self(Arc::new(Inner {
            hasher: password::Hasher::new(&config, Arc::clone(ids.random()))?,
            blocklist: Blocklist::shipped(),
            throttle: throttle::Throttle::new(&config, ids.clock()),
            claims: factor::Claims::default(),
            sessions: session::Sessions::new(&config),
            basic: basic::Kept::new(&**ids.random())?,
            certificates: certificate::Certificates::default(),
            codes: enter::Codes::default(),
            federation: federation::Federation::default(),
            terms: terms::Table::default(),
            seals: std::sync::OnceLock::new(),
            changing: tokio::sync::Mutex::default(),
            db,
            directory,
            ids,
            config,
        }));
        service.refresh().await?;
        Ok(service)
    }

    /// Makes memory say what the store says. Other nodes' logins and logouts become known by this.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _changing = self.0.changing.lock().await;
        let rows = store::alive(&self.0.db).await?;
        self.0.sessions.reconcile(rows);
        self.0.terms.refresh(&self.0.db).await
    }

    /// Starts a transaction on the store that passwords and sessions are in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_write(&self) -> Result<Tx, StoreError> {
        self.0.db.begin_write().await
    }

    /// Whether a change of state that `request` made was committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn was_applied(&self, request: RequestId) -> Result<bool, StoreError> {
        self.0.db.was_applied(request).await
    }

    /// Whether an account has a one-time password that its person has not replaced by one of her own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn awaits_own_password(&self, person: PersonId) -> Result<bool, StoreError> {
        let stored = store::password(&self.0.db, person).await?;
        Ok(stored.is_some_and(|stored| stored.one_time))
    }

    /// A job of the gateway itself, as a subject.
    #[must_use]
    pub const fn service(&self, name: &'static str) -> Subject {
        Subject::service(name)
    }

    /// A job of the gateway itself that acts for a person, as she asked in a session that may have ended.
    #[must_use]
    pub const fn acting(&self, person: Arc<Person>, agent: Agent) -> Subject {
        Subject::acting(person, agent)
    }

    /// The sessions of a person that are alive, oldest first, with when each was last used.
    #[must_use]
    pub fn sessions_of(&self, person: PersonId) -> Vec<(Arc<Session>, Timestamp)> {
        self.0.sessions.of_person(person, self.now())
    }

    /// A session by id.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.0.sessions.peek(id)
    }

    /// How often and when an account signed in, or failed to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn logins(&self, person: PersonId) -> Result<LoginCount, StoreError> {
        store::login_count(&self.0.db, person).await
    }

    /// What ending a session (with its children) would end; `None` when there is no such session.
    ///
    /// Record it, then call [`Authenticate::end`].
    #[must_use]
    pub fn ending(&self, id: SessionId, reason: &str, request: Option<RequestId>) -> Option<SessionEnded> {
        let session = self.0.sessions.peek(id)?;
        Some(SessionEnded {
            request,
            person: session.person,
            sessions: self.0.sessions.family(id),
            reason: reason.to_owned(),
        })
    }

    /// What ending everything of a person (except one session and its children) would end; `None` when that is nothing.
    #[must_use]
    pub fn ending_all(
        &self,
        person: PersonId,
        except: Option<SessionId>,
        reason: &str,
        request: Option<RequestId>,
    ) -> Option<SessionEnded> {
        let sessions = self.0.sessions.of_person_except(person, except);
        // What outlived its session ends with the others.
        let outlived = self.0.sessions.has_outlived(person);
        (outlived || !sessions.is_empty()).then(|| SessionEnded {
            request,
            person,
            sessions,
            reason: reason.to_owned(),
        })
    }

    /// What ending every session of a person that a certificate let in would end; `None` when that is nothing.
    #[must_use]
    pub fn ending_certificates(&self, person: PersonId, request: Option<RequestId>) -> Option<SessionEnded> {
        let sessions: Vec<SessionId> = self
            .sessions_of(person)
            .into_iter()
            .filter(|(session, _)| session.kind == SessionKind::Certificate)
            .map(|(session, _)| session.id)
            .collect();
        (!sessions.is_empty()).then(|| SessionEnded {
            request,
            person,
            sessions,
            reason: "certificate_ended".into(),
        })
    }

    /// Ends the sessions that were recorded. From then on their tokens are worth nothing.
    ///
    /// # Errors
    /// [`StoreError`]: then they have ended in this process, and it is not known whether they have in the store.
    pub async fn end(&self, ended: &SessionEnded) -> Result<(), StoreError> {
        let _changing = self.0.changing.lock().await;
        self.take_out(ended);
        let now = self.now();
        let mut tx = self.0.db.begin_write().await?;
        for id in &ended.sessions {
            store::end_session(&mut tx, *id, &ended.reason, now).await?;
        }
        tx.commit().await
    }

    /// After a transaction that ended sessions was committed: forgets them here too.
    ///
    /// # Errors
    /// [`StoreError`]; those that are named have gone all the same.
    pub async fn forget(&self, ended: &SessionEnded) -> Result<(), StoreError> {
        self.take_out(ended);
        self.refresh().await
    }

    fn take_out(&self, ended: &SessionEnded) {
        if ended.reason == EXPIRED {
            self.0.sessions.expire(&ended.sessions);
        } else {
            self.0.sessions.remove(&ended.sessions);
            // Signing out of one session, or raising it, or revoking a token says nothing about the others; a reset or a
            // suspension is about all.
            if ![LOGOUT, second::STEP_UP, personal::REVOKED].contains(&ended.reason.as_str()) {
                self.0.sessions.revoke_outlived(ended.person);
            }
        }
        self.0.basic.clear();
    }

    /// Watches the session of a subject for what may outlive its time: it is told when the session is revoked (signed
    /// out, reset, suspended), not when it expires. Subjects without a session are never told.
    #[must_use]
    pub fn watch(&self, subject: &Subject) -> SessionWatch {
        match subject.session() {
            Some(session) => self.0.sessions.watch(session.id),
            None => SessionWatch::never(),
        }
    }

    /// Sessions whose time is over. Record each, then call [`Authenticate::end`]. Also writes down when sessions were
    /// last used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep(&self) -> Result<Vec<SessionEnded>, StoreError> {
        let due = self.0.sessions.unwritten(SEEN_STEP);
        if !due.is_empty() {
            let mut tx = self.0.db.begin_write().await?;
            for (id, seen) in due {
                store::seen(&mut tx, id, seen).await?;
            }
            tx.commit().await?;
        }
        let expired = self.0.sessions.expired(self.now());
        Ok(expired
            .into_iter()
            .map(|(person, sessions)| SessionEnded {
                request: None,
                person,
                sessions,
                reason: EXPIRED.into(),
            })
            .collect())
    }

    /// Judges a new password of at least `least` characters for an account; `words` are what anybody would try there besides
    /// the user name, the VOs and the product's name.
    ///
    /// # Errors
    /// The [`Weakness`].
    pub fn judge(
        &self,
        person: PersonId,
        password: &str,
        least: usize,
        words: &[String],
    ) -> Result<(), Weakness> {
        let directory = self.0.directory.load();
        let mut context = vec!["countersign".to_owned()];
        context.extend(directory.person(person).map(|person| person.username.clone()));
        context.extend(
            directory
                .vos_of(person)
                .filter_map(|vo| directory.vo(vo))
                .map(|vo| vo.name.clone()),
        );
        context.extend_from_slice(words);
        let password = password::one_spelling(password);
        self.0
            .blocklist
            .judge(password.expose(), least, context.iter().map(String::as_str))
    }

    /// How many password hashes were computed since the start.
    #[must_use]
    pub fn password_hashes(&self) -> &Counter {
        self.0.hasher.computed()
    }

    /// Registers `password_hashes_total`.
    pub fn register(&self, registry: &mut Registry) {
        crate::telemetry::family::register(registry, "password_hashes", self.password_hashes().clone());
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    fn now(&self) -> Timestamp {
        self.0.ids.clock().now()
    }
}
