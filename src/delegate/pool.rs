//! RSA keys for proxies, made in advance: one takes a tenth of a second to make, which no request can wait for.
//!
//! A thread of low priority keeps a bounded number of them in memory. Each is given out once, and none is ever stored.
//! The thread begins when the first key is wanted, and ends with the pool: a gateway whose tools need no RSA makes none.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::mint::{KeyPair, MintError};

/// How much the thread steps back behind those that serve requests. With 19 it would make no keys on a busy machine, and
/// requests would wait for it.
const NICE: i32 = 10;

/// The keys that are ready.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    size: usize,
    /// Told when there is room for a key, or the pool ends.
    room: Condvar,
    /// Told when there is a key.
    made: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<KeyPair>,
    filling: bool,
    ended: bool,
}

impl Pool {
    /// A pool of at most `size` keys, empty.
    pub(super) fn new(size: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            size: size.max(1),
            room: Condvar::new(),
            made: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Begins to make keys, if that has not begun.
    pub(super) fn fill(&self) {
        let mut state = self.shared.lock();
        if state.filling {
            return;
        }
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("proxy-keys".to_owned());
        match thread.spawn(move || shared.run()) {
            Ok(_) => state.filling = true,
            Err(error) => tracing::error!("no keys for proxies can be made in advance: {error}"),
        }
    }

    /// A key that nobody had before.
    ///
    /// # Errors
    /// [`MintError::NoKeyReady`]: then [`Pool::made`] tells when there is one.
    pub(super) fn take(&self) -> Result<KeyPair, MintError> {
        self.fill();
        let key = self.shared.lock().ready.pop_front();
        self.shared.room.notify_one();
        key.ok_or(MintError::NoKeyReady)
    }

    /// Comes when a key is made after this call.
    pub(super) fn made(&self) -> Notified<'_> {
        self.shared.made.notified()
    }

    #[cfg(test)]
    pub(super) fn is_filling(&self) -> bool {
        self.shared.lock().filling
    }

    /// How many keys are ready.
    pub(super) fn len(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.room.notify_one();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {})", self.len(), self.shared.size)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // INVARIANT: nothing panics while the state is half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes keys until the pool is dropped.
    fn run(&self) {
        // On Linux a thread has a priority of its own.
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::warn!("keys for proxies are made with the usual priority: {error}");
        }
        while self.wait_for_room() {
            let Ok(key) = KeyPair::rsa2048() else {
                tracing::error!("no RSA key could be made");
                self.lock().filling = false;
                return;
            };
            self.lock().ready.push_back(key);
            self.made.notify_waiters();
        }
    }

    /// Whether there is room at last; `false` when the pool ended.
    fn wait_for_room(&self) -> bool {
        let full = |state: &mut State| !state.ended && state.ready.len() >= self.size;
        let state = self.room.wait_while(self.lock(), full);
        !state.unwrap_or_else(PoisonError::into_inner).ended
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A key, waited for.
    async fn next(pool: &Pool) -> KeyPair {
        loop {
            let made = pool.made();
            match pool.take() {
                Ok(key) => return key,
                Err(_) => made.await,
            }
        }
    }

    #[tokio::test]
    async fn every_key_is_given_out_once() {
        let pool = Pool::new(2);
        let mut seen = HashSet::new();
        for _ in 0..6 {
            assert!(seen.insert(next(&pool).await.spki().to_vec()));
        }
    }

    #[tokio::test]
    async fn nothing_is_made_before_the_first_key_is_wanted_and_never_more_than_fit() {
        let pool = Pool::new(2);
        assert!(!pool.is_filling() && pool.len() == 0);
        for _ in 0..4 {
            next(&pool).await;
            assert!(pool.len() <= 2);
        }
        let mut made = pool.made();
        while pool.len() < 2 {
            made.await;
            made = pool.made();
        }
        // Full: the thread waits for room.
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn an_empty_pool_says_so_at_once() {
        let error = Pool::new(1).take().unwrap_err();
        assert!(matches!(error, MintError::NoKeyReady), "{error}");
    }

    #[tokio::test]
    async fn the_thread_ends_with_its_pool() {
        let pool = Pool::new(1);
        next(&pool).await;
        let left = Arc::downgrade(&pool.shared);
        drop(pool);
        let gone = async {
            while left.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), gone)
            .await
            .unwrap();
    }
}
