//! How many requests a network may make without anybody being signed in.
//!
//! Every permitted request leaves its records, also that of a stranger for the login page. A flood of them must not fill
//! the disk that failing closed depends on (their refusals are counted, not written one by one).

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::authenticate::Source;
use crate::problem::{Kind, Problem};

/// Requests of one network at once: a lecture hall opens the login page.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
/// After that, in a second.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
/// Networks that are forgotten are looked for once in so many requests.
const SWEEP: u64 = 4_096;

/// The limit of strangers, per network (/24, /56).
pub(super) struct Strangers {
    limiter: DefaultKeyedRateLimiter<String>,
    calls: AtomicU64,
}

impl Default for Strangers {
    fn default() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self {
            limiter: RateLimiter::keyed(quota),
            calls: AtomicU64::new(0),
        }
    }
}

impl Strangers {
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
    use super::*;

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
