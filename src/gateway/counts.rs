//! What monitoring is told of a listener's connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted of connections.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicU64,
    accepted: AtomicU64,
    full: AtomicU64,
    source: AtomicU64,
}

impl Counts {
    /// Open connections.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were taken in.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// A connection was closed at once, since there is no place left.
    pub fn refuse_full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed at once, since there are too many from its source.
    pub fn refuse_source(&self) {
        self.source.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections closed at once, by reason: `full` (no place left) and `source` (too many from one).
    #[must_use]
    pub fn refused(&self) -> [(&'static str, u64); 2] {
        [
            ("full", self.full.load(Ordering::Relaxed)),
            ("source", self.source.load(Ordering::Relaxed)),
        ]
    }
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub struct Open(Arc<Counts>);

impl Open {
    /// One more.
    #[must_use]
    pub fn count(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
