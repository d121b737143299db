//! One-time passwords by time (RFC 6238): HMAC-SHA-1, six digits, steps of 30 s, which is what every authenticator takes.

use aws_lc_rs::hmac;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::clock::Timestamp;

/// Length of a secret in bytes (RFC 4226 section 4, R6).
pub(super) const SECRET: usize = 20;
/// Length of a step in seconds.
pub(in crate::authenticate) const PERIOD: i64 = 30;
/// Digits of a code.
pub(super) const DIGITS: usize = 6;
/// Steps before and after the present one of which a code is taken (RFC 6238 section 5.2).
const WINDOW: i64 = 1;

/// The step that a moment is in.
fn step(now: Timestamp) -> i64 {
    now.secs().div_euclid(PERIOD)
}

/// The code of a step (RFC 4226 section 5.3).
pub(in crate::authenticate) fn code(secret: &[u8], step: i64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
    let mut number = [0; 4];
    for (to, from) in number.iter_mut().zip(tag.iter().skip(offset)) {
        *to = *from;
    }
    (u32::from_be_bytes(number) & 0x7fff_ffff) % 1_000_000
}

/// The step, later than `after` and near `now`, whose code was given; `None` when there is none.
pub(super) fn matching(secret: &[u8], given: &str, now: Timestamp, after: i64) -> Option<i64> {
    let given = number(given)?;
    let mut found = -1_i64;
    // SECURITY: every step of the window is computed and compared, whichever is the right one.
    for step in step(now) - WINDOW..=step(now) + WINDOW {
        found.conditional_assign(&step, code(secret, step).ct_eq(&given));
    }
    // SECURITY: a code is taken once, and none that is older than one that was taken (RFC 6238 section 5.2).
    (found > after).then_some(found)
}

/// Six digits; spaces between them are as people copy them.
fn number(given: &str) -> Option<u32> {
    let digits: String = given.chars().filter(|c| *c != ' ').collect();
    let fits = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B (SHA-1), the last six of its eight digits.
    const VECTORS: [(i64, &str); 6] = [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ];
    const KEY: &[u8] = b"12345678901234567890";

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        for (at, code) in VECTORS {
            let now = Timestamp::from_secs(at);
            assert_eq!(matching(KEY, code, now, -1), Some(at / PERIOD), "{at}");
        }
    }

    #[test]
    fn a_code_is_taken_one_step_early_or_late_and_not_two() {
        let (at, code) = (1_234_567_890, "005924");
        for (off, taken) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
            let now = Timestamp::from_secs(at + off);
            assert_eq!(matching(KEY, code, now, -1).is_some(), taken, "{off}");
        }
    }

    #[test]
    fn a_code_is_not_taken_twice_nor_one_before_it() {
        let (now, step) = (Timestamp::from_secs(1_234_567_890), 1_234_567_890 / PERIOD);
        assert_eq!(matching(KEY, "005 924", now, step - 1), Some(step));
        assert_eq!(matching(KEY, "005924", now, step), None);
        assert_eq!(matching(KEY, "005924", now, step + 1), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_not_six_digits_is_no_code(text in "\\PC{0,12}") {
            let digits: String = text.chars().filter(|c| *c != ' ').collect();
            let fits = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit());
            proptest::prop_assert_eq!(number(&text).is_some(), fits);
        }
    }
}
