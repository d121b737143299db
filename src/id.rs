//! Typed ids and random bytes.
//!
//! An id is a UUIDv7 (RFC 9562 section 5.7) made from the [`Clock`] and a [`Random`] source, wrapped in a type of
//! its own, so that two kinds of id never mix.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::clock::Clock;

/// A source of random bytes.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `bytes` with random bytes fit for keys.
    ///
    /// # Errors
    /// [`RandomError`] when the system has none to give; the caller refuses what it was about to do.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;

    /// Fills `bytes` with random bytes that will be seen by others anyway (ids, salts) and of which many are needed. Never
    /// use them as a secret: the source may hold some ready.
    ///
    /// # Errors
    /// [`RandomError`], as above.
    fn fill_public(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.fill(bytes)
    }
}

/// The random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomError;

/// The system's random source (aws-lc-rs).
#[derive(Debug)]
pub struct SystemSource(SystemRandom);

impl SystemSource {
    /// The system's random source.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that opens the random source"
    )]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemSource {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemSource {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.fill(bytes).map_err(|_| RandomError)
    }

    /// One call of the system's source costs as much as kilobytes of it: each thread holds some ready.
    fn fill_public(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        READY.with_borrow_mut(|ready| {
            if ready.len() < bytes.len() {
                ready.resize(READY_BYTES.max(bytes.len()), 0);
                if let Err(error) = self.fill(ready) {
                    // Nothing that is not random is ever handed out.
                    ready.clear();
                    return Err(error);
                }
            }
            let rest = ready.len() - bytes.len();
            for (to, from) in bytes.iter_mut().zip(ready.drain(rest..)) {
                *to = from;
            }
            Ok(())
        })
    }
}

/// Bytes of one refill.
const READY_BYTES: usize = 1024;

thread_local! {
    static READY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `N` random bytes.
///
/// # Errors
/// [`RandomError`] when the source fails.
pub fn random_bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

/// Makes ids from a clock and a random source.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Ids {
    /// Ids whose time comes from `clock` and whose random part comes from `random`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random }
    }

    /// A new id.
    ///
    /// # Errors
    /// [`RandomError`] when the source fails.
    pub fn next<T: From<uuid::Uuid>>(&self) -> Result<T, RandomError> {
        let millis = u64::try_from(self.clock.now().micros() / 1_000).unwrap_or(0);
        let mut bytes = [0; 10];
        self.random.fill_public(&mut bytes)?;
        Ok(T::from(
            uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid(),
        ))
    }

    /// The random source behind these ids.
    #[must_use]
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// The clock behind these ids.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// The id as a UUID, for the store.
            #[must_use]
            pub const fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                uuid::Uuid::parse_str(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }
    )*};
}

ids! {
    /// A virtual organisation.
    VoId,
    /// A person with an account.
    PersonId,
    /// A membership of a person in a VO.
    MembershipId,
    /// A role of a VO or of the gateway.
    RoleId,
    /// A person's hold on a role.
    AssignmentId,
    /// A role's hold on a task.
    GrantId,
    /// What a VO may grant at all of some of its tools.
    CeilingId,
    /// An address given to a VO.
    UpstreamId,
    /// A wrapped tool.
    ToolId,
    /// A session (browser, token, Basic).
    SessionId,
    /// A request; the same id names its intent, its outcome and everything it caused.
    RequestId,
    /// A VO certificate.
    CertificateId,
    /// A certificate by which a person signs in.
    LinkId,
    /// A second factor of a person.
    FactorId,
    /// An identity provider that people sign in with.
    IdpId,
    /// Who somebody is at an identity provider.
    IdentityId,
    /// An account on its way: a request, or an invitation.
    EnrolmentId,
    /// A message in the outbox.
    MessageId,
    /// An episode of repeated denials.
    EpisodeId,
    /// A resource provider's question about a proxy.
    CaseId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{HandClock, Timestamp};

    #[test]
    fn public_bytes_are_handed_out_once_and_are_as_many_as_asked_for() {
        let source = SystemSource::new();
        let mut seen = std::collections::HashSet::new();
        for length in (8..40).cycle().take(2_000).chain([3 * READY_BYTES]) {
            let mut bytes = vec![0; length];
            source.fill_public(&mut bytes).unwrap();
            for piece in bytes.chunks_exact(8) {
                assert!(seen.insert(piece.to_vec()), "the same bytes twice");
            }
        }
    }

    #[test]
    fn ids_are_version_7_and_sort_by_time() {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let first: RequestId = ids.next().unwrap();
        clock.advance(std::time::Duration::from_millis(2));
        let second: RequestId = ids.next().unwrap();
        assert_eq!(first.uuid().get_version_num(), 7);
        assert!(first < second);
        assert_eq!(first.to_string().parse::<RequestId>().unwrap(), first);
    }
}
