//! How many requests a network may make without anybody being signed in.
//!
//! Every permitted request leaves its records, also that of a stranger for the login page. A flood of them must not fill
//! the disk that failing closed depends on (their refusals are counted, not written one by one).

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::authenticate::Source;
use crate::clock::Timestamp;
use crate::id::PersonId;
use crate::problem::{Kind, Problem};

/// Requests of one network at once: a lecture hall opens the login page.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
/// After that, in a second.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
/// Networks that are forgotten are looked for once in so many requests.
const SWEEP: u64 = 4_096;

/// People that are remembered in a minute for having knocked.
const KNOCKS: usize = 10_000;

/// The limit of strangers, per network (/24, /56), and who of those who are not let in has a record of her own already.
pub(super) struct Strangers {
    limiter: DefaultKeyedRateLimiter<String>,
    calls: AtomicU64,
    knocks: Mutex<Knocks>,
}

/// Who was refused for what in a minute.
#[derive(Default)]
struct Knocks {
    minute: i64,
    seen: HashSet<(PersonId, Kind)>,
}

impl Default for Strangers {
    fn default() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self {
            limiter: RateLimiter::keyed(quota),
            calls: AtomicU64::new(0),
            knocks: Mutex::default(),
        }
    }
}

impl Strangers {
    /// Whether this is the first time in this minute that a certificate of hers is refused for this. Only that leaves a
    /// record of its own: a certificate costs nothing to show again, unlike a password, which is slowed down.
    pub(super) fn is_first_knock(&self, person: PersonId, refused: Kind, now: Timestamp) -> bool {
        let minute = now.secs().div_euclid(60);
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        if knocks.minute != minute {
            *knocks = Knocks {
                minute,
                seen: HashSet::new(),
            };
        }
        knocks.seen.len() < KNOCKS && knocks.seen.insert((person, refused))
    }

    /// Lets one more request of a stranger in, or says when to come back.
    pub(super) fn admit(&self, source: Source) -> Result<(), Problem> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&source.network()).map_err(|_| {
            Problem::new(
                Kind::TooManyAttempts,
                "too many requests without a sign-in from this network",
            )
            .retry_after(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::HandClock;
    use crate::id::{Ids, SystemSource};

    #[test]
    fn a_certificate_that_keeps_knocking_has_one_record_a_minute() {
        let ids = Ids::new(
            Arc::new(HandClock::new(Timestamp::from_secs(60))),
            Arc::new(SystemSource::new()),
        );
        let strangers = Strangers::default();
        let (john, mary): (PersonId, PersonId) = (ids.next().unwrap(), ids.next().unwrap());
        let first = |person, kind, at| {
            let now = Timestamp::from_secs(60).plus(Duration::from_secs(at));
            strangers.is_first_knock(person, kind, now)
        };
        assert!(first(john, Kind::WrongCredential, 0));
        assert!(!(1..60).any(|at| first(john, Kind::WrongCredential, at)));
        // Somebody else, and another reason, are news.
        assert!(first(mary, Kind::WrongCredential, 59) && first(john, Kind::NotAMember, 59));
        assert!(first(john, Kind::WrongCredential, 60));
        // However many people there are, what is remembered is bounded.
        let people = (0..2 * KNOCKS).map(|_| ids.next().unwrap());
        assert!(
            people
                .filter(|one| first(*one, Kind::WrongCredential, 60))
                .count()
                < KNOCKS
        );
        assert_eq!(strangers.knocks.lock().unwrap().seen.len(), KNOCKS);
    }

    #[test]
    fn a_flood_of_strangers_is_slowed_and_another_network_is_not() {
        let strangers = Strangers::default();
        let flood = Source::Ip("192.0.2.1".parse().unwrap());
        let refused = (0..2_000).filter(|_| strangers.admit(flood).is_err()).count();
        assert!(refused > 1_000, "{refused}");
        assert!(
            strangers
                .admit(Source::Ip("198.51.100.1".parse().unwrap()))
                .is_ok()
        );
    }
}
