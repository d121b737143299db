//! What goes on after an intent is durable, and must come to an outcome before the log closes.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The acts of all requests under way; shared by all clones, so that a reload loses none.
#[derive(Clone, Debug, Default)]
pub struct Acts {
    tasks: TaskTracker,
    /// The gateway begins to stop: what has no end of its own ends.
    stopping: CancellationToken,
    /// It has waited long enough: everything ends, each with its outcome.
    ending: CancellationToken,
    /// What has not ended even so is dropped.
    cut: CancellationToken,
}

/// How long the last ones may take to write their outcomes.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Acts {
    /// Counts one that begins, in the task of the request.
    pub(super) fn begin(&self) -> Going {
        Going {
            token: self.tasks.token(),
            cut: self.cut.clone(),
        }
    }

    /// Connections that were switched to another protocol have no end of their own, and are ended now.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    pub(super) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// How many go on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none goes on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for all of them, for at most `left`, and ends the rest. Every one has its outcome in the log's queue when
    /// this returns. Gives the number of those that did not end by themselves.
    pub async fn finish(&self, left: Duration) -> usize {
        self.stop();
        self.tasks.close();
        if tokio::time::timeout(left, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.tasks.len();
        self.ending.cancel();
        if tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
        cut
    }
}

/// One act under way: counted for as long as this is held.
pub(super) struct Going {
    token: TaskTrackerToken,
    cut: CancellationToken,
}

impl Going {
    /// Lets it go on in a task of its own. When it is cut, it is dropped, and its receipt says `abandoned`.
    pub(super) fn go_on(&self, act: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is ending, and the log's recovery says the rest.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (token, cut) = (self.token.clone(), self.cut.clone());
        runtime.spawn(async move {
            let _counted = token;
            tokio::select! {
                biased;
                () = act => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_does_not_end_in_time_is_dropped_before_the_end() {
        let (acts, held) = (Acts::default(), Arc::new(()));
        for endless in [false, true, true] {
            let held = held.clone();
            acts.begin().go_on(async move {
                let _held = held;
                if endless {
                    std::future::pending::<()>().await;
                }
            });
        }
        assert_eq!(acts.finish(Duration::from_millis(20)).await, 2);
        assert!(acts.is_empty());
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(Acts::default().finish(Duration::from_secs(3_600)).await, 0);
    }
}
