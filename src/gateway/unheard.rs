//! Requests over HTTP/2 that end below anything that could answer them.
//!
//! The parser resets a stream whose head is malformed (RFC 9113 section 8.1.1), refuses one that is too many, and ends a
//! connection whose frames make no sense; no handler hears of it. The frames of both directions tell
//! ([`frames`](super::frames)), and what was opened but never handed over is noted here, so that it goes on record like every
//! other refusal.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::problem::Kind;

/// The word under which requests are counted that nobody looked at before their connection ended.
pub(super) const UNHEARD: &str = "unheard";

/// The requests of one connection, by how far they came. All of it happens in the connection's own task.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// Their head came whole.
    opened: AtomicU64,
    /// They were handed over, and leave their own records.
    heard: AtomicU64,
    /// They were not, and are noted.
    noted: AtomicU64,
    reset: AtomicU64,
    refused: AtomicU64,
    answered: AtomicU64,
    broke: AtomicBool,
}

impl Unheard {
    /// A request's head came whole.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is handed over.
    pub(super) fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// The parser reset a stream: head or body are malformed.
    pub(super) fn reset(&self) {
        self.reset.fetch_add(1, Ordering::Relaxed);
    }

    /// The parser refused a stream: too many are open.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A bare status was answered: by the parser, if no handler did (431, the head is too large to be read).
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection is broken: its frames make no sense, or there are too many of them.
    pub(super) fn broke(&self) {
        self.broke.store(true, Ordering::Relaxed);
    }

    /// What is to go on record since the last call, as words and numbers; after the last one (`over`), whatever is left.
    ///
    /// INVARIANT: called when everything that came was handed over, so what was reset and is not among the heard was never
    /// heard. (While answers do not flow off, something may lie unread; then only what tells of itself is noted.)
    pub(super) fn note(&self, over: bool) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut left = of(&self.opened).saturating_sub(of(&self.heard) + of(&self.noted));
        let mut take = |count: u64| {
            let taken = count.min(left);
            left -= taken;
            self.noted.fetch_add(taken, Ordering::Relaxed);
            taken
        };
        let mut tell = |count: &AtomicU64| take(count.swap(0, Ordering::Relaxed));
        let (refused, reset, answered) = (tell(&self.refused), tell(&self.reset), tell(&self.answered));
        let broke = over && self.broke.swap(false, Ordering::Relaxed);
        // What broke the connection need not be a whole request; if it was one, it is this one.
        let broken = u64::from(broke);
        take(broken);
        let rest = if over { take(u64::MAX) } else { 0 };
        [
            (Kind::Busy.name(), refused),
            (Kind::Malformed.name(), reset + broken),
            (Kind::HeadersTooLarge.name(), answered),
            (UNHEARD, rest),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(unheard: &Unheard, over: bool) -> Vec<(&'static str, u64)> {
        unheard.note(over).collect()
    }

    #[test]
    fn what_was_handed_over_is_not_noted_whatever_becomes_of_it() {
        let unheard = Unheard::default();
        unheard.opened();
        unheard.heard();
        // A body that is longer than its length.
        unheard.reset();
        assert_eq!(noted(&unheard, false), []);
        unheard.opened();
        assert_eq!(noted(&unheard, false), [], "it may not have been read yet");
        unheard.reset();
        assert_eq!(noted(&unheard, false), [("malformed", 1)]);
        assert_eq!(noted(&unheard, true), []);
    }

    #[test]
    fn every_request_that_was_not_heard_is_noted_once_as_what_became_of_it() {
        let unheard = Unheard::default();
        for _ in 0..6 {
            unheard.opened();
        }
        unheard.heard();
        unheard.refused();
        unheard.reset();
        unheard.answered();
        let first = [("busy", 1), ("malformed", 1), ("headers_too_large", 1)];
        assert_eq!(noted(&unheard, false), first);
        assert_eq!(noted(&unheard, false), []);
        unheard.broke();
        assert_eq!(noted(&unheard, false), [], "while it is open, more may come");
        assert_eq!(noted(&unheard, true), [("malformed", 1), ("unheard", 1)]);
        // Frames outside any request break a connection as well.
        let unheard = Unheard::default();
        unheard.broke();
        assert_eq!(noted(&unheard, true), [("malformed", 1)]);
    }
}
