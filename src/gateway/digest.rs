//! SHA-256 of a body as it passes: nothing is kept of it but the hash.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

use crate::record::{BodyDigest, Hash};

/// The digest of one body, shared between whoever passes it on and whoever writes the outcome.
#[derive(Clone)]
pub(super) struct Digest(Arc<Mutex<State>>);

struct State {
    hash: Context,
    begun: bool,
    whole: bool,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            hash: Context::new(&SHA256),
            begun: false,
            whole: false,
        })))
    }

    /// The body goes on.
    pub(super) fn add(&self, data: &[u8]) {
        self.with(|state| {
            state.begun = true;
            state.hash.update(data);
        });
    }

    /// The body has ended as its sender meant it to.
    pub(super) fn end(&self) {
        self.with(|state| {
            state.begun = true;
            state.whole = true;
        });
    }

    /// What passed until now; `None` when nothing of the body was looked for.
    pub(super) fn so_far(&self) -> Option<BodyDigest> {
        self.with(|state| {
            state.begun.then(|| {
                let mut sha256 = Hash::default();
                sha256.0.copy_from_slice(state.hash.clone().finish().as_ref());
                BodyDigest {
                    sha256,
                    whole: state.whole,
                }
            })
        })
    }

    fn with<T>(&self, then: impl FnOnce(&mut State) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_what_passed_and_says_whether_that_is_all() {
        let digest = Digest::new();
        assert_eq!(digest.so_far(), None);
        digest.add(b"a");
        digest.add(b"bc");
        let part = digest.so_far().unwrap();
        assert_eq!((part.sha256, part.whole), (Hash::of(b"abc"), false));
        digest.end();
        let whole = digest.so_far().unwrap();
        assert_eq!((whole.sha256, whole.whole), (Hash::of(b"abc"), true));
    }
}
