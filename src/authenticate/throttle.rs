//! Slows guessing by (account, address) and by network, so that nobody is locked out by others.
//!
//! Every attempt takes one cell before its password is looked at; a right password gives it back. Somebody else's wrong
//! attempts from elsewhere never use up the cells of the person herself. Codes of second factors are slowed by (person, address), by
//! the session they are shown in, and, as far as somebody could guess them at sign-in, by person.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use super::config::Config;
use super::subject::Source;
use crate::clock::Clock;
use crate::id::{PersonId, SessionId};
use crate::record::Hash;

/// Keys that one table remembers; when it is full, keys that are at rest go first, then any.
const CAPACITY: usize = 50_000;
/// From so many addresses at once codes of one person may be tried as from one.
const PLACES: u32 = 4;

/// Limits attempts to sign in.
#[derive(Debug)]
pub(super) struct Throttle {
    accounts: Limiter,
    sources: Limiter,
    /// Codes of second factors, by person and address, or by session: who gets here knows the password or has the session.
    codes: Limiter,
    /// Requests for accounts by network, and by the mail address that they name.
    asked_from: Limiter,
    asked_for: Limiter,
    /// Links of requests and invitations by network.
    links: Limiter,
    /// Codes of authenticators at sign-in, by person and from wherever.
    totals: Limiter,
}

/// Where a code is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// At sign-in, from there.
    SignIn(Source),
    /// In a session that has begun.
    Session(SessionId),
}

/// What a code looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeKind {
    /// One that an authenticator shows.
    Authenticator,
    /// A recovery code.
    Recovery,
}

/// The cells that a code took.
#[derive(Debug)]
#[must_use = "a right code gives its cells back with `Throttle::forgive_code`"]
pub(super) struct CodeAttempt {
    own: Hash,
    total: Option<Hash>,
}

/// The cells that an attempt took.
#[derive(Debug)]
#[must_use = "a right password gives its cells back with `Throttle::forgive`"]
pub(super) struct Attempt {
    account: Hash,
    source: Hash,
}

impl Throttle {
    /// Limits as configured, measured by the clock's monotonic time.
    #[must_use]
    pub(super) fn new(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        Self {
            accounts: Limiter::new(config.account_burst, config.account_period, clock),
            sources: Limiter::new(config.source_burst, config.source_period, clock),
            codes: Limiter::new(config.account_burst, config.account_period, clock),
            totals: Limiter::new(
                config.account_burst.saturating_mul(PLACES),
                config.account_period / PLACES,
                clock,
            ),
            asked_from: Limiter::new(30, Duration::from_secs(60), clock),
            asked_for: Limiter::new(3, Duration::from_secs(3_600), clock),
            links: Limiter::new(60, Duration::from_secs(5), clock),
        }
    }

    /// Takes a cell for a request for an account (with its mail address), or for a look at a link.
    ///
    /// # Errors
    /// Seconds to wait when there is none left.
    pub(super) fn enrolment(&self, source: Source, mail: Option<&str>) -> Result<(), u32> {
        let from = Hash::of(source.network().as_bytes());
        match mail {
            None => self.links.take(from),
            Some(mail) => {
                self.asked_from.take(from)?;
                self.asked_for.take(Hash::of(mail.to_lowercase().as_bytes()))
            }
        }
    }

    /// Takes a cell for a code of a person.
    ///
    /// # Errors
    /// Seconds to wait when there is none left.
    pub(super) fn code(&self, person: PersonId, shown: Shown, kind: CodeKind) -> Result<CodeAttempt, u32> {
        let attempt = CodeAttempt {
            own: of_code(person, shown),
            // SECURITY: what is shown in a session is charged to that session alone, and a recovery code, which nobody guesses, to
            // where it comes from: so whoever knows the password keeps nobody out of a session, and none with such a code out.
            total: matches!((shown, kind), (Shown::SignIn(_), CodeKind::Authenticator))
                .then(|| of_person(person)),
        };
        self.codes.take(attempt.own)?;
        if let Some(total) = attempt.total
            && let Err(wait) = self.totals.take(total)
        {
            self.codes.give_back(attempt.own);
            return Err(wait);
        }
        Ok(attempt)
    }

    /// The code was right: forgets the wrong ones from there. Those from elsewhere stay counted.
    pub(super) fn forgive_code(&self, attempt: &CodeAttempt) {
        self.codes.forget(attempt.own);
        if let Some(total) = attempt.total {
            self.totals.give_back(total);
        }
    }

    /// Gives back the cells of a code that was never judged.
    pub(super) fn undo_code(&self, attempt: &CodeAttempt) {
        self.codes.give_back(attempt.own);
        if let Some(total) = attempt.total {
            self.totals.give_back(total);
        }
    }

    /// Takes a cell for an attempt at `account` from `source`.
    ///
    /// # Errors
    /// Seconds to wait when there is none left.
    pub(super) fn attempt(&self, account: &str, source: Source) -> Result<Attempt, u32> {
        let attempt = Attempt {
            account: Hash::of(format!("{}\n{account}", address(source)).as_bytes()),
            source: Hash::of(source.network().as_bytes()),
        };
        self.accounts.take(attempt.account)?;
        if let Err(wait) = self.sources.take(attempt.source) {
            self.accounts.give_back(attempt.account);
            return Err(wait);
        }
        Ok(attempt)
    }

    /// Gives the cells of a successful attempt back, and forgets the wrong ones for this account from there.
    pub(super) fn forgive(&self, attempt: &Attempt) {
        self.accounts.forget(attempt.account);
        self.sources.give_back(attempt.source);
    }

    /// Gives back the cells of an attempt that was never judged (the gateway was busy or failed).
    pub(super) fn undo(&self, attempt: &Attempt) {
        self.accounts.give_back(attempt.account);
        self.sources.give_back(attempt.source);
    }
}

fn of_person(person: PersonId) -> Hash {
    Hash::of(person.uuid().as_bytes())
}

fn of_code(person: PersonId, shown: Shown) -> Hash {
    let place = match shown {
        Shown::SignIn(source) => address(source),
        Shown::Session(session) => format!("session {session}"),
    };
    Hash::of(format!("{}\n{place}", person.uuid()).as_bytes())
}

/// The address that an account's attempts are counted under: one IPv4 address, or the /64 of an IPv6 one.
fn address(source: Source) -> String {
    match source {
        Source::Ip(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_none() => {
            Ipv6Addr::from(u128::from(ip) & (u128::MAX << 64)).to_string()
        }
        Source::Ip(ip) => ip.to_canonical().to_string(),
        Source::Local => "local".into(),
    }
}

type Inner = RateLimiter<Hash, Table, Monotonic, NoOpMiddleware<Duration>>;

struct Limiter {
    limiter: Inner,
    table: Table,
    clock: Monotonic,
    period: Duration,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

impl Limiter {
    fn new(burst: u32, period: Duration, clock: &Arc<dyn Clock>) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let clock = Monotonic(Arc::clone(clock));
        let table = Table::default();
        Self {
            limiter: RateLimiter::new(quota, table.clone(), clock.clone()),
            table,
            clock,
            period,
        }
    }

    fn take(&self, key: Hash) -> Result<(), u32> {
        self.table.make_room(self.clock.now());
        self.limiter.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            u32::try_from(wait.as_millis().div_ceil(1_000))
                .unwrap_or(u32::MAX)
                .max(1)
        })
    }

    fn give_back(&self, key: Hash) {
        let period = Nanos::from(self.period);
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arrival) = table.get_mut(&key) {
            *arrival = arrival.saturating_sub(period);
        }
    }

    fn forget(&self, key: Hash) {
        self.table
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
    }
}

/// The limiter's state: theoretical arrival time per key, since the limiter's start.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Mutex<HashMap<Hash, Nanos>>>);

impl Table {
    fn make_room(&self, now: Duration) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() < CAPACITY {
            return;
        }
        // Arrival times count from the limiter's start, which is not later than the clock's zero plus its age: a key
        // whose arrival lies before now is like one that was never seen.
        table.retain(|_, arrival| Duration::from(*arrival) > now);
        while table.len() >= CAPACITY {
            let Some(any) = table.keys().next().copied() else {
                return;
            };
            table.remove(&any);
        }
    }
}

impl StateStore for Table {
    type Key = Hash;

    fn measure_and_replace<T, F, E>(&self, key: &Hash, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, arrival) = f(table.get(key).copied())?;
        table.insert(*key, arrival);
        Ok(outcome)
    }
}

/// Our clock, as governor reads one.
#[derive(Clone, Debug)]
struct Monotonic(Arc<dyn Clock>);

impl GovernorClock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{HandClock, Timestamp};

    fn throttle() -> (Throttle, Arc<HandClock>) {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let shared: Arc<dyn Clock> = clock.clone();
        (Throttle::new(&Config::default(), &shared), clock)
    }

    fn from(ip: &str) -> Source {
        Source::Ip(ip.parse().unwrap())
    }

    #[test]
    fn the_sixth_wrong_attempt_waits_and_nobody_else_does() {
        let (throttle, clock) = throttle();
        for _ in 0..5 {
            let _ = throttle.attempt("john", from("192.0.2.1")).unwrap();
        }
        let wait = throttle.attempt("john", from("192.0.2.1")).unwrap_err();
        assert_eq!(wait, 20);
        let _ = throttle.attempt("john", from("192.0.2.2")).unwrap();
        let _ = throttle.attempt("mary", from("192.0.2.1")).unwrap();
        clock.advance(Duration::from_secs(20));
        let _ = throttle.attempt("john", from("192.0.2.1")).unwrap();
        assert!(throttle.attempt("john", from("192.0.2.1")).is_err());
    }

    #[test]
    fn right_passwords_use_nothing_up() {
        let (throttle, _clock) = throttle();
        for _ in 0..500 {
            let attempt = throttle.attempt("john", from("2001:db8::1")).unwrap();
            throttle.forgive(&attempt);
        }
        for _ in 0..500 {
            let attempt = throttle.attempt("john", from("2001:db8::1")).unwrap();
            throttle.undo(&attempt);
        }
    }

    #[test]
    fn codes_from_elsewhere_use_up_the_cells_of_nobody_else_until_there_are_very_many() {
        let (throttle, clock) = throttle();
        let john = PersonId::from(uuid::Uuid::from_u128(1));
        let at = |n: usize| Shown::SignIn(from(&format!("192.0.2.{n}")));
        let code = |shown| throttle.code(john, shown, CodeKind::Authenticator);
        for n in 1..=3 {
            for _ in 0..5 {
                let _ = code(at(n)).unwrap();
            }
            assert_eq!(code(at(n)).unwrap_err(), 20);
        }
        let right = code(at(4)).unwrap();
        throttle.forgive_code(&right);
        for _ in 0..5 {
            let _ = code(at(5)).unwrap();
        }
        // Now the person's own are used up, but not those of a session, nor those of who has a recovery code.
        assert_eq!(code(at(4)).unwrap_err(), 5);
        let session = Shown::Session(uuid::Uuid::from_u128(2).into());
        for _ in 0..5 {
            let _ = code(session).unwrap();
            let _ = throttle.code(john, at(6), CodeKind::Recovery).unwrap();
        }
        assert!(code(session).is_err());
        assert!(throttle.code(john, at(6), CodeKind::Recovery).is_err());
        clock.advance(Duration::from_secs(5));
        let _ = code(at(4)).unwrap();
        assert!(code(at(7)).is_err());
    }

    #[test]
    fn many_accounts_from_one_network_are_slowed_by_the_network() {
        let (throttle, _clock) = throttle();
        let refused = (0..150)
            .filter(|n| throttle.attempt(&format!("user{n}"), from("192.0.2.1")).is_err())
            .count();
        assert_eq!(refused, 50);
        let _ = throttle.attempt("user1", from("198.51.100.1")).unwrap();
    }

    #[test]
    fn the_table_stays_bounded() {
        let (throttle, _clock) = throttle();
        for n in 0..CAPACITY + 100 {
            let _ = throttle.accounts.take(Hash::of(&n.to_le_bytes()));
        }
        assert!(throttle.accounts.table.0.lock().unwrap().len() <= CAPACITY);
    }
}
