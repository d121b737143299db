//! Lanes: a runtime of one thread for each processor core.
//!
//! A connection is served in one lane from its first byte to its last, with everything that its requests need: connections
//! to tools, answers of the log, timers. Nothing of it moves to another core, and no core wakes another for it
//! ([decision 8](../../docs/decisions/0008-a-lane-for-each-core.md)).
//!
//! Code in a lane must not compute for long: whoever else is in it waits. Passwords and files go to threads of their own
//! (`spawn_blocking`).

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most lanes that there are.
pub const MOST: usize = 64;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Number of the lane that runs this code, from 1 to [`MOST`]; 0 outside of lanes.
#[must_use]
pub fn number() -> usize {
    NUMBER.get()
}

/// As many lanes as there are cores.
#[must_use]
pub fn usual() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(MOST)
}

/// All lanes. When they are dropped, so is everything that runs in them.
#[derive(Debug)]
pub struct Lanes(Vec<Running>);

#[derive(Debug)]
struct Running {
    lane: Lane,
    thread: JoinHandle<()>,
    _end: DropGuard,
}

/// One lane.
#[derive(Clone, Debug)]
pub struct Lane {
    runtime: Handle,
    inside: Arc<AtomicUsize>,
}

impl Lanes {
    /// Starts `count` lanes (1 to [`MOST`]).
    ///
    /// # Errors
    /// When the system has no thread, or no descriptor for its events.
    pub fn start(count: usize) -> io::Result<Self> {
        (1..=count.clamp(1, MOST))
            .map(Running::start)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The lane with the fewest inside.
    #[must_use]
    pub fn emptiest(&self) -> Option<Lane> {
        let lanes = self.0.iter().map(|running| &running.lane);
        lanes
            .min_by_key(|lane| lane.inside.load(Ordering::Relaxed))
            .cloned()
    }

    /// Comes when every lane has run something that was given to it now.
    pub fn answer(&self) -> impl Future<Output = ()> + Send + use<> {
        let asked = self.0.iter().map(|running| running.lane.runtime.spawn(async {}));
        let asked: Vec<_> = asked.collect();
        async move {
            for answer in asked {
                // One that ends answers too.
                let _ = answer.await;
            }
        }
    }

    /// Ends all lanes, and waits until they have. What still runs in them is dropped.
    pub fn end(self) {
        let threads: Vec<_> = self.0.into_iter().map(|Running { thread, .. }| thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a lane ended badly");
            }
        }
    }
}

impl Lane {
    /// Its runtime, to spawn on.
    #[must_use]
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Counts as one more inside, until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> Inside {
        self.inside.fetch_add(1, Ordering::Relaxed);
        Inside(self.inside.clone())
    }
}

/// How often a lane looks at its clock by itself: more often than any timer that requests set and seldom need.
const BEAT: Duration = Duration::from_millis(250);

/// Keeps one timer in a lane that is due before the requests' own. Whoever sets the earliest timer of a runtime wakes its
/// thread, by a system call, also from within that thread; nearly every request would.
async fn beat() {
    loop {
        tokio::time::sleep(BEAT).await;
    }
}

impl Running {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let end = CancellationToken::new();
        let lane = Lane {
            runtime: runtime.handle().clone(),
            inside: Arc::default(),
        };
        let ended = end.clone();
        let thread = std::thread::Builder::new()
            .name(format!("lane-{number}"))
            .spawn(move || {
                NUMBER.set(number);
                runtime.spawn(beat());
                runtime.block_on(ended.cancelled());
                // What a password or a file still does is waited for by nobody.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            lane,
            thread,
            _end: end.drop_guard(),
        })
    }
}

/// Something that a lane serves.
#[derive(Debug)]
pub struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_spawned_in_a_lane_stays_in_it() {
        let lanes = Lanes::start(3).unwrap();
        assert_eq!((number(), lanes.count()), (0, 3));
        let mut seen = Vec::new();
        let mut inside = Vec::new();
        for _ in 0..3 {
            let lane = lanes.emptiest().unwrap();
            inside.push(lane.enter());
            let nested = async {
                let outer = number();
                tokio::task::yield_now().await;
                let inner = tokio::spawn(async { number() }).await.unwrap();
                assert_eq!(outer, inner);
                outer
            };
            seen.push(lane.runtime().spawn(nested).await.unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "each time another lane was the emptiest");
        inside.pop();
        tokio::task::spawn_blocking(|| lanes.end()).await.unwrap();
    }

    #[tokio::test]
    async fn a_lane_that_hangs_does_not_answer() {
        let lanes = Lanes::start(2).unwrap();
        lanes.answer().await;
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let hangs = async move {
            let _ = held.recv();
        };
        drop(lanes.emptiest().unwrap().runtime().spawn(hangs));
        let mut answer = std::pin::pin!(lanes.answer());
        // The other lane has answered long before this one is asked again.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(futures_util::poll!(answer.as_mut()).is_pending());
        }
        drop(hold);
        answer.await;
    }

    #[tokio::test]
    async fn what_runs_in_lanes_ends_with_them() {
        let lanes = Lanes::start(1).unwrap();
        let lane = lanes.emptiest().unwrap();
        let task = lane.runtime().spawn(std::future::pending::<()>());
        drop(lanes);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
