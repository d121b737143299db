//! HTTP Basic: the account's password with every request, where a tool allows it. It is verified once and then known
//! for a minute by a keyed hash that dies with the process.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use futures_util::future::BoxFuture;
use moka::sync::Cache;

use super::subject::{Session, SessionKind, Source};
use super::{Authenticate, login, store};
use crate::id::{Random, RandomError, RequestId, SessionId, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Event, Login};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::vo::Person;

const KEPT_AT_MOST: u64 = 10_000;

/// Takes down what begins and ends while somebody is recognised; nothing of it takes effect before it is written.
pub struct Journal<'a> {
    /// The request that is recognised.
    pub request: RequestId,
    /// Writes events, durable when it returns.
    pub write: &'a (dyn Fn(Vec<Event>) -> BoxFuture<'a, Result<(), Problem>> + Send + Sync),
}

/// Passwords that were right a moment ago.
pub(super) struct Kept {
    key: hmac::Key,
    cache: Cache<[u8; 32], (SessionId, Duration)>,
    // INVARIANT: held while a Basic session begins, so that a person's first requests at once make one and not several.
    beginning: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(..)")
    }
}

impl Kept {
    pub(super) fn new(random: &dyn Random) -> Result<Self, RandomError> {
        let key = Secret::new(random_bytes::<32>(random)?);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()),
            cache: Cache::new(KEPT_AT_MOST),
            beginning: tokio::sync::Mutex::default(),
        })
    }

    fn tag(&self, username: &str, password: &Secret<String>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&u64::try_from(username.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(username.as_bytes());
        context.update(password.expose().as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub(super) fn clear(&self) {
        self.cache.invalidate_all();
    }
}

/// Why Basic was not accepted.
pub(super) struct BasicRefused {
    pub(super) problem: Problem,
    pub(super) attempted: Option<Arc<Person>>,
}

impl From<Problem> for BasicRefused {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            attempted: None,
        }
    }
}

fn with_factor() -> Problem {
    Problem::new(
        Kind::SecondFactorRequired,
        "the account has a second factor, so HTTP Basic with its password is not accepted",
    )
    .instead("Send `Authorization: Bearer TOKEN`; `countersign login` asks for the code and gets one.")
}

fn to_be_changed() -> Problem {
    Problem::new(
        Kind::PasswordChangeRequired,
        "the password must be changed first: it is too short without a second factor, or others may know it",
    )
}

impl Authenticate {
    /// The Basic session of whoever has this name and password; one per person, begun when there is none.
    pub(super) async fn basic(
        &self,
        username: &str,
        password: &Secret<String>,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Arc<Session>, BasicRefused> {
        let tag = self.0.basic.tag(username, password);
        let mono = self.0.ids.clock().monotonic();
        if let Some((id, until)) = self.0.basic.cache.get(&tag)
            && mono < until
            && let Some(session) = self.0.sessions.by_id(id, self.now())
        {
            return Ok(session);
        }
        let checked = self.check(username, password, None, source).await?;
        let person = match checked.verdict {
            // SECURITY: a password that must be changed opens the change of the password and nothing else; with a second
            // factor a password alone opens nothing.
            login::Verdict::Right {
                must_change: false, ..
            } => checked.person,
            _ => None,
        };
        let Some(person) = person else {
            let problem = match checked.verdict {
                login::Verdict::CodeNeeded => with_factor(),
                login::Verdict::Right { one_time: false, .. } => to_be_changed(),
                other => other.problem(),
            };
            return Err(BasicRefused {
                problem,
                attempted: checked.attempted,
            });
        };
        let session = self
            .basic_session(&person, checked.version, source, journal)
            .await?;
        let until = mono.saturating_add(self.0.config.basic_kept);
        self.0.basic.cache.insert(tag, (session.id, until));
        Ok(session)
    }

    pub(super) async fn basic_session(
        &self,
        person: &Person,
        version: i64,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Arc<Session>, Problem> {
        let problem = |error: StoreError| error.as_problem();
        let _beginning = self.0.basic.beginning.lock().await;
        if let Some(session) = self.basic_session_of(person) {
            // SECURITY: looked up after the session was found: what changes the password from here on ends the session, and
            // a session of a newer password is none of this one's.
            let mut tx = self.0.db.begin_write().await.map_err(problem)?;
            let unchanged = store::is_unchanged(&mut tx, person.id, version)
                .await
                .map_err(problem)?;
            return unchanged.then_some(session).ok_or_else(login::wrong);
        }
        let now = self.now();
        let id = self.0.ids.next();
        let session = Session {
            id: id.map_err(|_| Problem::new(Kind::Internal, "no random bytes can be had"))?,
            person: person.id,
            kind: SessionKind::Basic,
            created: now,
            expires: now.plus(self.0.config.token_lifetime),
            methods: vec!["pwd".into()],
            acr: login::ACR_PASSWORD.into(),
            must_change: false,
            identity: None,
        };
        let login = Login {
            request: journal.request,
            person: Some(person.id),
            card: Some(person.card),
            session: Some(session.id),
            methods: session.methods.clone(),
            result: "ok".into(),
            count: self.logins(person.id).await.map_err(problem)?.logins + 1,
            source: source.network(),
            certificate: None,
            federated: None,
        };
        // INVARIANT: the login is on record before its session is worth anything.
        (journal.write)(vec![Event::Login(login)]).await?;
        let session = Arc::new(session);
        if !self
            .write_basic(&session, person, version)
            .await
            .map_err(problem)?
        {
            return Err(login::wrong());
        }
        if let Some(ended) = self.surplus(&session, journal.request) {
            (journal.write)(vec![Event::SessionEnded(ended.clone())]).await?;
            self.end(&ended).await.map_err(problem)?;
        }
        Ok(session)
    }

    fn basic_session_of(&self, person: &Person) -> Option<Arc<Session>> {
        let mut alive = self
            .sessions_of(person.id)
            .into_iter()
            .map(|(session, _)| session);
        alive.find(|session| session.kind == SessionKind::Basic)
    }

    /// Begins the session; false when the password was changed since it was judged.
    async fn write_basic(
        &self,
        session: &Arc<Session>,
        person: &Person,
        version: i64,
    ) -> Result<bool, StoreError> {
        let _changing = self.0.changing.lock().await;
        let mut tx = self.0.db.begin_write().await?;
        // SECURITY: a password that was changed since it was judged begins nothing.
        if !store::is_unchanged(&mut tx, person.id, version).await? {
            return Ok(false);
        }
        store::insert_session(&mut tx, session, person.home, None).await?;
        store::count_login(&mut tx, person.id, person.home, session.created).await?;
        tx.commit().await?;
        let live = super::session::Live::new(Arc::clone(session), None, session.created);
        self.0.sessions.insert(live);
        Ok(true)
    }
}
