//! Sessions in memory: looked up by the hash of their token, by id, and by person; written through to the store by
//! the service.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::subject::{Session, SessionKind};
use crate::clock::Timestamp;
use crate::id::{IdpId, PersonId, SessionId};
use crate::record::Hash;

/// A session with what only this process knows of it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: Arc<Session>,
    pub(super) token: Option<Hash>,
    /// When it was last used, in microseconds.
    seen: AtomicI64,
    /// Which `seen` the store has.
    written: AtomicI64,
    revoked: Arc<CancellationToken>,
}

/// Tells whoever works for a session that it was revoked: ended by somebody, not merely by time.
#[derive(Clone, Debug)]
pub struct SessionWatch(Option<Arc<CancellationToken>>);

impl SessionWatch {
    /// What ends with no session: the gateway's own jobs, and strangers.
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// Comes back when the session was revoked; never where there is none.
    pub async fn revoked(&self) {
        match &self.0 {
            Some(revoked) => revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Live {
    pub(super) fn new(session: Arc<Session>, token: Option<Hash>, seen: Timestamp) -> Self {
        Self {
            session,
            token,
            seen: AtomicI64::new(seen.micros()),
            written: AtomicI64::new(seen.micros()),
            revoked: Arc::default(),
        }
    }

    pub(super) fn seen(&self) -> Timestamp {
        Timestamp(self.seen.load(Ordering::Relaxed))
    }
}

/// How long sessions of each kind may rest.
#[derive(Clone, Copy, Debug)]
struct Idle {
    browser: Duration,
    token: Duration,
}

/// All sessions that have not ended.
#[derive(Debug)]
pub(super) struct Sessions {
    idle: Idle,
    per_person: usize,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<SessionId, Arc<Live>>,
    by_token: HashMap<Hash, Arc<Live>>,
    by_person: HashMap<PersonId, Vec<SessionId>>,
    children: HashMap<SessionId, Vec<SessionId>>,
    /// Sessions whose time is over while something still works for them.
    outlived: HashMap<PersonId, Vec<Weak<CancellationToken>>>,
}

impl Sessions {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            idle: Idle {
                browser: config.browser_idle,
                token: config.token_idle,
            },
            per_person: config.sessions_per_person,
            table: RwLock::default(),
        }
    }

    /// The session of a token, if it is alive at `now`; marks it (and its parent) as used.
    ///
    /// The table is found by a hash, so nothing of the token leaks through the time of the look-up.
    pub(super) fn by_token(&self, token: &Hash, now: Timestamp) -> Option<Arc<Session>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let live = table.by_token.get(token)?;
        self.touch(&table, live, now).then(|| Arc::clone(&live.session))
    }

    /// The session with this id, if it is alive; marks it as used.
    pub(super) fn by_id(&self, id: SessionId, now: Timestamp) -> Option<Arc<Session>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let live = table.by_id.get(&id)?;
        self.touch(&table, live, now).then(|| Arc::clone(&live.session))
    }

    fn touch(&self, table: &Table, live: &Live, now: Timestamp) -> bool {
        if !self.is_alive(table, live, now) {
            return false;
        }
        live.seen.fetch_max(now.micros(), Ordering::Relaxed);
        if let SessionKind::Child { parent, .. } = &live.session.kind
            && let Some(parent) = table.by_id.get(parent)
        {
            parent.seen.fetch_max(now.micros(), Ordering::Relaxed);
        }
        true
    }

    fn is_alive(&self, table: &Table, live: &Live, now: Timestamp) -> bool {
        // INVARIANT: a child never outlives its parent.
        let parent_alive = match &live.session.kind {
            SessionKind::Child { parent, .. } => table
                .by_id
                .get(parent)
                .is_some_and(|parent| now < parent.session.expires && !self.is_idle(parent, now)),
            _ => true,
        };
        parent_alive && now < live.session.expires && !self.is_idle(live, now)
    }

    fn is_idle(&self, live: &Live, now: Timestamp) -> bool {
        let limit = match live.session.kind {
            SessionKind::Browser => self.idle.browser,
            // A child rests as long as it likes within its parent: using a neighbour keeps them all.
            SessionKind::Child { .. } | SessionKind::Basic | SessionKind::Certificate => return false,
            // A script may run once a month.
            SessionKind::Personal(_) => return false,
            SessionKind::Token => self.idle.token,
        };
        now.since(live.seen()) >= limit
    }

    /// Adds a session.
    pub(super) fn insert(&self, live: Live) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(Arc::new(live));
    }

    /// The oldest sessions of a person that have to go, with their children, because `id` is one too many.
    pub(super) fn surplus(&self, person: PersonId, id: SessionId) -> Vec<SessionId> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        // Tokens have a bound of their own, so that signing in often ends no script.
        let is_token = |id: &SessionId| {
            let live = table.by_id.get(id);
            live.is_some_and(|live| live.session.kind.personal().is_some())
        };
        let own = table.by_person.get(&person).into_iter().flatten();
        let own: Vec<SessionId> = own.copied().filter(|id| !is_token(id)).collect();
        let surplus = own.len().saturating_sub(self.per_person);
        // Ids sort by the time at which they were made.
        let parent = table.by_id.get(&id).and_then(|live| match &live.session.kind {
            SessionKind::Child { parent, .. } => Some(*parent),
            _ => None,
        });
        let stays = |other: &SessionId| *other == id || Some(*other) == parent;
        let mut oldest: Vec<SessionId> = own.iter().copied().filter(|other| !stays(other)).collect();
        oldest.sort_unstable();
        oldest.truncate(surplus);
        let children: Vec<SessionId> = oldest
            .iter()
            .filter_map(|gone| table.children.get(gone))
            .flatten()
            .copied()
            .filter(|child| !oldest.contains(child))
            .collect();
        oldest.extend(children);
        oldest
    }

    /// The session and its children.
    pub(super) fn family(&self, id: SessionId) -> Vec<SessionId> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut family = vec![id];
        family.extend(table.children.get(&id).into_iter().flatten());
        family
    }

    /// Everything of a person, except one family.
    pub(super) fn of_person_except(&self, person: PersonId, except: Option<SessionId>) -> Vec<SessionId> {
        let kept: HashSet<SessionId> = except
            .map(|id| self.family(id))
            .unwrap_or_default()
            .into_iter()
            .collect();
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let own = table.by_person.get(&person).into_iter().flatten();
        own.copied().filter(|id| !kept.contains(id)).collect()
    }

    /// The sessions of a person that are alive at `now`, oldest first, with when each was last used.
    pub(super) fn of_person(&self, person: PersonId, now: Timestamp) -> Vec<(Arc<Session>, Timestamp)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let own = table.by_person.get(&person).into_iter().flatten();
        let mut alive: Vec<_> = own
            .filter_map(|id| table.by_id.get(id))
            .filter(|live| self.is_alive(&table, live, now))
            .map(|live| (Arc::clone(&live.session), live.seen()))
            .collect();
        alive.sort_unstable_by_key(|(session, _)| session.id);
        alive
    }

    /// Those that began by an identity of this provider, by person.
    pub(super) fn of_idp(&self, idp: IdpId) -> HashMap<PersonId, Vec<SessionId>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: HashMap<PersonId, Vec<SessionId>> = HashMap::new();
        for live in table.by_id.values() {
            let by = live.session.identity.as_ref();
            if by.is_some_and(|by| by.entry.provider == idp) {
                found
                    .entry(live.session.person)
                    .or_default()
                    .push(live.session.id);
            }
        }
        found
    }

    /// A session by id, alive or about to be swept, without marking it as used.
    pub(super) fn peek(&self, id: SessionId) -> Option<Arc<Session>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_id.get(&id).map(|live| Arc::clone(&live.session))
    }

    /// Watches a session. One that is not known counts as revoked.
    pub(super) fn watch(&self, id: SessionId) -> SessionWatch {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let revoked = table.by_id.get(&id).map(|live| Arc::clone(&live.revoked));
        SessionWatch(Some(revoked.unwrap_or_else(|| {
            let gone = CancellationToken::new();
            gone.cancel();
            Arc::new(gone)
        })))
    }

    /// Forgets sessions: from now on their tokens are unknown, and what works for them is told.
    pub(super) fn remove(&self, ids: &[SessionId]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if let Some(live) = table.remove(*id) {
                live.revoked.cancel();
            }
        }
    }

    /// Forgets sessions whose time is over; what works for them may go on until it is ended by other means.
    pub(super) fn expire(&self, ids: &[SessionId]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let Some(live) = table.remove(*id) else { continue };
            let outlived = table.outlived.entry(live.session.person).or_default();
            outlived.retain(|watched| watched.strong_count() > 0);
            outlived.push(Arc::downgrade(&live.revoked));
        }
    }

    /// Whether anything still works for sessions of a person whose time was over.
    pub(super) fn has_outlived(&self, person: PersonId) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut outlived = table.outlived.get(&person).into_iter().flatten();
        outlived.any(|watched| watched.strong_count() > 0)
    }

    /// Revokes what still works for sessions of a person whose time was over.
    pub(super) fn revoke_outlived(&self, person: PersonId) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for watched in table.outlived.remove(&person).into_iter().flatten() {
            if let Some(revoked) = watched.upgrade() {
                revoked.cancel();
            }
        }
    }

    /// Those whose time is over at `now`, with their children, by person.
    pub(super) fn expired(&self, now: Timestamp) -> HashMap<PersonId, Vec<SessionId>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut expired: HashMap<PersonId, Vec<SessionId>> = HashMap::new();
        for live in table.by_id.values() {
            if !self.is_alive(&table, live, now) {
                expired
                    .entry(live.session.person)
                    .or_default()
                    .push(live.session.id);
            }
        }
        expired
    }

    /// Sessions that were used at least `step` after what the store knows; they count as written from now on.
    pub(super) fn unwritten(&self, step: Duration) -> Vec<(SessionId, Timestamp)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for live in table.by_id.values() {
            let seen = live.seen();
            if seen.since(Timestamp(live.written.load(Ordering::Relaxed))) >= step {
                live.written.store(seen.micros(), Ordering::Relaxed);
                due.push((live.session.id, seen));
            }
        }
        due
    }

    /// Takes over what the store has: new sessions come in, ended ones go.
    pub(super) fn reconcile(&self, rows: Vec<Live>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let there: HashSet<SessionId> = rows.iter().map(|row| row.session.id).collect();
        let gone: Vec<SessionId> = table
            .by_id
            .keys()
            .filter(|id| !there.contains(id))
            .copied()
            .collect();
        for id in gone {
            // Ended by another node or an administrator; what time ended is swept by `expire`.
            if let Some(live) = table.remove(id) {
                live.revoked.cancel();
            }
        }
        for row in rows {
            match table.by_id.get(&row.session.id) {
                Some(known) => {
                    known.seen.fetch_max(row.seen().micros(), Ordering::Relaxed);
                }
                None => table.insert(Arc::new(row)),
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .len()
    }
}

impl Table {
    fn insert(&mut self, live: Arc<Live>) {
        let session = &live.session;
        self.by_person.entry(session.person).or_default().push(session.id);
        if let SessionKind::Child { parent, .. } = &session.kind {
            self.children.entry(*parent).or_default().push(session.id);
        }
        if let Some(token) = live.token {
            self.by_token.insert(token, Arc::clone(&live));
        }
        self.by_id.insert(session.id, live);
    }

    fn remove(&mut self, id: SessionId) -> Option<Arc<Live>> {
        let live = self.by_id.remove(&id)?;
        if let Some(token) = &live.token {
            self.by_token.remove(token);
        }
        drop_from(&mut self.by_person, live.session.person, id);
        if let SessionKind::Child { parent, .. } = &live.session.kind {
            drop_from(&mut self.children, *parent, id);
        }
        self.children.remove(&id);
        Some(live)
    }
}

fn drop_from<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, Vec<SessionId>>, key: K, id: SessionId) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|other| *other != id);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn sid(n: u128) -> SessionId {
        SessionId::from(uuid::Uuid::from_u128(n))
    }

    fn live(n: u128, person: u128, kind: SessionKind) -> Live {
        let session = Session {
            id: sid(n),
            person: PersonId::from(uuid::Uuid::from_u128(person)),
            kind,
            created: NOW,
            expires: NOW.plus(Duration::from_secs(3_600 * 12)),
            methods: vec!["pwd".into()],
            acr: String::new(),
            must_change: false,
            identity: None,
        };
        Live::new(Arc::new(session), Some(Hash::of(&n.to_le_bytes())), NOW)
    }

    fn child(n: u128, of: u128) -> Live {
        let kind = SessionKind::Child {
            parent: sid(of),
            host: "tool.gw.localhost".into(),
        };
        live(n, 1, kind)
    }

    fn token(n: u128) -> Hash {
        Hash::of(&n.to_le_bytes())
    }

    #[test]
    fn a_session_ends_at_its_time_and_when_it_rests_too_long() {
        let sessions = Sessions::new(&Config::default());
        sessions.insert(live(1, 1, SessionKind::Browser));
        sessions.insert(live(2, 1, SessionKind::Token));
        let hour = Duration::from_secs(3_600);
        assert!(sessions.by_token(&token(1), NOW.plus(hour)).is_some());
        assert!(sessions.by_token(&token(1), NOW.plus(3 * hour)).is_none());
        assert!(sessions.by_token(&token(2), NOW.plus(3 * hour)).is_some());
        assert!(sessions.by_token(&token(2), NOW.plus(12 * hour)).is_none());
        assert_eq!(
            sessions
                .expired(NOW.plus(12 * hour))
                .values()
                .map(Vec::len)
                .sum::<usize>(),
            2
        );
    }

    #[test]
    fn a_child_keeps_its_parent_awake_and_ends_with_it() {
        let sessions = Sessions::new(&Config::default());
        sessions.insert(live(1, 1, SessionKind::Browser));
        sessions.insert(child(2, 1));
        let hour = Duration::from_secs(3_600);
        for n in 1..=5 {
            assert!(sessions.by_token(&token(2), NOW.plus(n * hour)).is_some());
        }
        assert!(sessions.by_token(&token(1), NOW.plus(6 * hour)).is_some());
        let mut family = sessions.family(sid(1));
        family.sort_unstable();
        assert_eq!(family, [sid(1), sid(2)]);
        sessions.remove(&[sid(1)]);
        assert!(sessions.by_token(&token(2), NOW.plus(6 * hour)).is_none());
    }

    #[test]
    fn a_person_has_a_bounded_number_and_the_oldest_goes() {
        let config = Config {
            sessions_per_person: 2,
            ..Config::default()
        };
        let sessions = Sessions::new(&config);
        let person = PersonId::from(uuid::Uuid::from_u128(1));
        for n in [1, 2] {
            sessions.insert(live(n, 1, SessionKind::Token));
            assert!(sessions.surplus(person, sid(n)).is_empty());
        }
        sessions.insert(live(3, 2, SessionKind::Token));
        sessions.insert(live(4, 1, SessionKind::Token));
        assert_eq!(sessions.surplus(person, sid(4)), [sid(1)]);
    }

    #[test]
    fn what_goes_for_a_new_session_takes_its_children_along_and_is_never_its_parent() {
        let config = Config {
            sessions_per_person: 3,
            ..Config::default()
        };
        let sessions = Sessions::new(&config);
        let person = PersonId::from(uuid::Uuid::from_u128(1));
        sessions.insert(live(1, 1, SessionKind::Browser));
        sessions.insert(live(2, 1, SessionKind::Browser));
        sessions.insert(child(3, 2));
        sessions.insert(child(4, 1));
        assert_eq!(sessions.surplus(person, sid(4)), [sid(2), sid(3)]);
    }

    #[test]
    fn reconciling_takes_ended_ones_away_and_keeps_when_each_was_used() {
        let sessions = Sessions::new(&Config::default());
        sessions.insert(live(1, 1, SessionKind::Token));
        sessions.insert(live(2, 1, SessionKind::Token));
        let later = NOW.plus(Duration::from_secs(100));
        assert!(sessions.by_token(&token(1), later).is_some());
        sessions.reconcile(vec![
            live(1, 1, SessionKind::Token),
            live(3, 1, SessionKind::Token),
        ]);
        assert_eq!(sessions.len(), 2);
        assert!(sessions.by_token(&token(2), later).is_none());
        assert_eq!(
            sessions
                .of_person(PersonId::from(uuid::Uuid::from_u128(1)), later)
                .len(),
            2
        );
        assert_eq!(sessions.unwritten(Duration::from_secs(60)), [(sid(1), later)]);
        assert!(sessions.unwritten(Duration::from_secs(60)).is_empty());
    }

    #[tokio::test]
    async fn what_works_for_a_session_is_told_of_its_end_but_not_of_its_time() {
        use futures_util::FutureExt as _;
        let told = |watch: &SessionWatch| watch.revoked().now_or_never().is_some();
        let sessions = Sessions::new(&Config::default());
        for n in 1..=3 {
            sessions.insert(live(n, 1, SessionKind::Token));
        }
        let [one, two, three] = [1, 2, 3].map(|n| sessions.watch(sid(n)));
        assert!(!told(&one) && !told(&SessionWatch::never()));
        sessions.remove(&[sid(1)]);
        assert!(told(&one) && !told(&two));
        // Unknown sessions count as ended.
        assert!(told(&sessions.watch(sid(1))));
        let person = PersonId::from(uuid::Uuid::from_u128(1));
        assert!(!sessions.has_outlived(person));
        sessions.expire(&[sid(2), sid(3)]);
        assert!(!told(&two) && !told(&three) && sessions.has_outlived(person));
        drop(three);
        sessions.revoke_outlived(person);
        assert!(told(&two) && !sessions.has_outlived(person));
    }

    #[test]
    fn all_but_one_family_can_be_named() {
        let sessions = Sessions::new(&Config::default());
        sessions.insert(live(1, 1, SessionKind::Browser));
        sessions.insert(child(2, 1));
        sessions.insert(live(3, 1, SessionKind::Token));
        let person = PersonId::from(uuid::Uuid::from_u128(1));
        assert_eq!(sessions.of_person_except(person, Some(sid(1))), [sid(3)]);
        assert_eq!(sessions.of_person_except(person, None).len(), 3);
        assert!(sessions.peek(sid(2)).is_some());
    }
}
