//! Argon2id password hashes: one computation per attempt, a bounded number at once, off the async threads.
//!
//! What is hashed is the password in one spelling ([`one_spelling`]), whatever keyboard or system it was typed on.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use super::config::{Config, Cost};
use crate::id::{Random, RandomError, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::secret::Secret;

/// Longest password that is looked at, in bytes.
pub(super) const MAX_BYTES: usize = 1_024;
/// Letters and digits that are not mistaken for each other when read aloud or copied by hand.
const UNAMBIGUOUS: &[u8] = b"abcdefghjkmnpqrstuvwxyzACDEFGHJKLMNPQRTUVWXYZ2346789";
/// Length of a one-time password: 20 characters of 52 are 114 bits.
pub(super) const ONE_TIME_LENGTH: usize = 20;

/// A password in the one spelling of RFC 8265 section 4.2.2 (OpaqueString): every space is the ASCII space, and the
/// whole is in Unicode normalization form C, so that an accented letter is the same as a letter with its accent after it.
/// Nothing else is changed: case, width and what looks alike stay apart. (SP 800-63B-4 section 3.1.1.2 names the forms KC
/// and KD, which take such characters for one another; the RFC keeps them apart.)
pub(super) fn one_spelling(password: &str) -> Secret<String> {
    // Room for the longest form from the start, so that no piece of it is left behind by growing.
    let mut spelt = String::with_capacity(password.len().saturating_mul(3));
    spelt.extend(password.chars().map(plain_space).nfc());
    Secret::new(spelt)
}

/// The ASCII space for any other (general category `Zs`).
const fn plain_space(c: char) -> char {
    match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

/// Why no hash was computed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Others are being computed and this one did not get its turn in time.
    #[error("too many logins at once")]
    Busy,
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The parameters or a stored hash cannot be used.
    #[error("the password hash cannot be computed")]
    Unusable,
}

impl AsProblem for HashError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Busy => Problem::new(Kind::Busy, "too many logins at once").retry_after(2),
            Self::Random(_) | Self::Unusable => {
                Problem::new(Kind::Internal, "the password cannot be checked")
            }
        }
    }
}

/// What comparing a password with a hash gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether it is the right one.
    pub(super) right: bool,
    /// Whether the hash was made at a cost lower or other than today's.
    pub(super) rehash: bool,
}

/// Computes and compares password hashes.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    cost: Cost,
    argon2: Argon2<'static>,
    dummy: Arc<str>,
    random: Arc<dyn Random>,
    turns: Arc<Semaphore>,
    wait: Duration,
    computed: Counter,
}

impl Hasher {
    /// A hasher of the configured cost.
    ///
    /// # Errors
    /// [`HashError::Unusable`] when Argon2 does not take the cost.
    pub(super) fn new(config: &Config, random: Arc<dyn Random>) -> Result<Self, HashError> {
        let cost = config.cost;
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|_| HashError::Unusable)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // The dummy's value is never compared with success; only its cost counts, which is today's.
        let dummy = phc(
            cost,
            &random_bytes::<16>(&*random)?,
            &random_bytes::<32>(&*random)?,
        );
        Ok(Self {
            cost,
            argon2,
            dummy: dummy.into(),
            random,
            turns: Arc::new(Semaphore::new(config.hashes_at_once)),
            wait: config.hash_wait,
            computed: Counter::default(),
        })
    }

    /// How many hashes were computed since the start (`password_hashes_total`).
    #[must_use]
    pub(super) const fn computed(&self) -> &Counter {
        &self.computed
    }

    /// The hash of a new password, as a PHC string.
    ///
    /// # Errors
    /// [`HashError`].
    pub(super) async fn hash(&self, password: &Secret<String>) -> Result<String, HashError> {
        let (argon2, password) = (self.argon2.clone(), one_spelling(password.expose()));
        let salt = random_bytes::<16>(&*self.random)?;
        self.in_turn(move || {
            let hash: argon2::password_hash::phc::PasswordHash = argon2
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map_err(|_| HashError::Unusable)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Compares `password` with `stored`. Without a stored hash (unknown account) the same computation is made against
    /// a dummy, and the answer is no.
    ///
    /// # Errors
    /// [`HashError`].
    pub(super) async fn verify(
        &self,
        password: &Secret<String>,
        stored: Option<&str>,
    ) -> Result<Verdict, HashError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or(&self.dummy).to_owned();
        let (argon2, password, cost) = (self.argon2.clone(), one_spelling(password.expose()), self.cost);
        self.in_turn(move || {
            let hash = PasswordHash::new(&stored).map_err(|_| HashError::Unusable)?;
            // SECURITY: the crate compares in constant time; `known` keeps the dummy from ever being right.
            let right = argon2
                .verify_password(password.expose().as_bytes(), &hash)
                .is_ok()
                && known;
            Ok(Verdict {
                right,
                rehash: !same_cost(&hash, cost),
            })
        })
        .await
    }

    /// A random one-time password.
    ///
    /// # Errors
    /// [`RandomError`].
    pub(super) fn one_time(&self) -> Result<Secret<String>, RandomError> {
        let mut text = String::with_capacity(ONE_TIME_LENGTH + 3);
        let mut letters = 0;
        while letters < ONE_TIME_LENGTH {
            let [byte] = random_bytes::<1>(&*self.random)?;
            // 208 = 4 * 52: bytes above would favour the first letters.
            let Some(letter) = UNAMBIGUOUS
                .get(usize::from(byte) % UNAMBIGUOUS.len())
                .filter(|_| byte < 208)
            else {
                continue;
            };
            text.push(char::from(*letter));
            letters += 1;
        }
        Ok(Secret::new(text))
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| HashError::Busy)?
            .map_err(|_| HashError::Busy)?;
        self.computed.inc();
        tokio::task::spawn_blocking(move || {
            // The turn is held by the computation itself: a client that goes away frees nothing early.
            let _turn = turn;
            work()
        })
        .await
        .map_err(|_| HashError::Unusable)?
    }
}

fn phc(cost: Cost, salt: &[u8], output: &[u8]) -> String {
    let base64 = |bytes: &[u8]| data_encoding::BASE64_NOPAD.encode(bytes);
    format!(
        "$argon2id$v=19$m={},t={},p={}${}${}",
        cost.memory_kib,
        cost.passes,
        cost.lanes,
        base64(salt),
        base64(output)
    )
}

fn same_cost(hash: &PasswordHash, cost: Cost) -> bool {
    let is = |name: &str, wanted: u32| hash.params.get_decimal(name) == Some(wanted);
    hash.algorithm.as_str() == "argon2id"
        && is("m", cost.memory_kib)
        && is("t", cost.passes)
        && is("p", cost.lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SystemSource;

    fn hasher(memory_kib: u32) -> Hasher {
        let config = Config {
            cost: Cost {
                memory_kib,
                passes: 1,
                lanes: 1,
            },
            ..Config::default()
        };
        Hasher::new(&config, Arc::new(SystemSource::new())).unwrap()
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_matches_and_the_hash_is_argon2id_with_its_own_salt() {
        let hasher = hasher(64);
        let first = hasher.hash(&secret("correct horse battery")).await.unwrap();
        let second = hasher.hash(&secret("correct horse battery")).await.unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{first}");
        assert_ne!(first, second);
        let verdict = hasher
            .verify(&secret("correct horse battery"), Some(&first))
            .await
            .unwrap();
        assert_eq!(
            verdict,
            Verdict {
                right: true,
                rehash: false
            }
        );
        assert!(
            !hasher
                .verify(&secret("correct horse batterz"), Some(&first))
                .await
                .unwrap()
                .right
        );
    }

    #[tokio::test]
    async fn an_unknown_account_costs_one_computation_and_is_never_right() {
        let hasher = hasher(64);
        let before = hasher.computed().get();
        assert!(!hasher.verify(&secret("whatever"), None).await.unwrap().right);
        assert_eq!(hasher.computed().get(), before + 1);
    }

    #[tokio::test]
    async fn every_spelling_of_the_same_characters_is_the_same_password() {
        let hasher = hasher(64);
        let right = async |set: &str, given: &str| {
            let stored = hasher.hash(&secret(set)).await.unwrap();
            hasher.verify(&secret(given), Some(&stored)).await.unwrap().right
        };
        let (composed, decomposed) = (
            "caf\u{e9} \u{ac00} \u{c5}ngstr\u{f6}m",
            "cafe\u{301} \u{1100}\u{1161} A\u{30a}ngstro\u{308}m",
        );
        assert!(right(composed, decomposed).await && right(decomposed, composed).await);
        // The Angstrom sign is the letter; a space of another width is a space.
        assert!(right("\u{212b}ngstrom", "\u{c5}ngstrom").await);
        assert!(right("one\u{a0}two\u{3000}three", "one two three").await);
        for (set, other) in [
            ("Caf\u{e9}", "caf\u{e9}"),
            ("\u{ff41}", "a"),
            ("\u{fb01}", "fi"),
            ("cafe", "caf\u{e9}"),
        ] {
            assert!(!right(set, other).await, "{set} {other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn one_spelling_of_one_spelling_changes_nothing_and_plain_text_stays(text in "\\PC{0,40}") {
            let once = one_spelling(&text);
            let twice = one_spelling(once.expose());
            proptest::prop_assert_eq!(twice.expose(), once.expose());
            proptest::prop_assert!(once.expose().len() <= text.len() * 3);
            if text.is_ascii() {
                proptest::prop_assert_eq!(once.expose(), &text);
            }
        }
    }

    #[tokio::test]
    async fn a_raised_cost_asks_for_a_new_hash() {
        let old = hasher(64).hash(&secret("correct horse battery")).await.unwrap();
        let verdict = hasher(128)
            .verify(&secret("correct horse battery"), Some(&old))
            .await
            .unwrap();
        assert_eq!(
            verdict,
            Verdict {
                right: true,
                rehash: true
            }
        );
    }

    #[tokio::test]
    async fn who_does_not_get_a_turn_in_time_is_told_busy() {
        let config = Config {
            hashes_at_once: 1,
            hash_wait: Duration::from_millis(1),
            ..Config::default()
        };
        let hasher = Hasher::new(&config, Arc::new(SystemSource::new())).unwrap();
        let _held = Arc::clone(&hasher.turns).acquire_owned().await.unwrap();
        assert!(matches!(
            hasher.verify(&secret("x"), None).await,
            Err(HashError::Busy)
        ));
        assert_eq!(hasher.computed().get(), 0);
    }

    #[test]
    fn one_time_passwords_differ_and_have_no_ambiguous_letter() {
        let hasher = hasher(64);
        let (one, two) = (hasher.one_time().unwrap(), hasher.one_time().unwrap());
        assert!(one != two);
        assert_eq!(one.expose().chars().count(), ONE_TIME_LENGTH);
        assert!(
            !one.expose()
                .contains(['0', 'O', 'o', '1', 'l', 'I', 'i', '5', 'S', 'B'].as_slice())
        );
        assert_eq!(208 % UNAMBIGUOUS.len(), 0);
    }
}
