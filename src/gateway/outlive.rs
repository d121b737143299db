//! Work that outlives whoever waits for it.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use super::acts::{Acts, Going};

/// Work that is done by the task that waits for its first result, and goes on in a task of its own when that result is
/// there or nobody waits any more.
///
/// Most requests end with their first result, and need no second task then.
pub(super) struct Outliving {
    work: Option<BoxFuture<'static, ()>>,
    going: Going,
}

impl Outliving {
    /// Counted among `acts` from now on, until it has ended.
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static, acts: &Acts) -> Self {
        // A panic ends the work alone: whoever waits sees that the result was never sent.
        let work = AssertUnwindSafe(work).catch_unwind().map(|_| ()).boxed();
        Self {
            work: Some(work),
            going: acts.begin(),
        }
    }

    /// Works until `result` comes, or cannot come any more.
    pub(super) async fn until<T>(mut self, mut result: oneshot::Receiver<T>) -> Result<T, RecvError> {
        poll_fn(|cx| {
            if self
                .work
                .as_mut()
                .is_some_and(|work| work.as_mut().poll(cx).is_ready())
            {
                self.work = None;
            }
            Pin::new(&mut result).poll(cx)
        })
        .await
    }
}

impl Drop for Outliving {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.going.go_on(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    /// Work that sends a result, waits to be told, and says that it has ended.
    fn work() -> (
        Outliving,
        oneshot::Receiver<u8>,
        Arc<Notify>,
        oneshot::Receiver<()>,
    ) {
        let (first, result) = oneshot::channel();
        let (last, ended) = oneshot::channel();
        let go_on = Arc::new(Notify::new());
        let told = go_on.clone();
        let work = Outliving::new(
            async move {
                let _ = first.send(7);
                told.notified().await;
                let _ = last.send(());
            },
            &Acts::default(),
        );
        (work, result, go_on, ended)
    }

    #[tokio::test]
    async fn work_goes_on_after_its_first_result() {
        let (work, result, go_on, ended) = work();
        assert_eq!(work.until(result).await, Ok(7));
        go_on.notify_one();
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_any_more() {
        let (work, result, go_on, ended) = work();
        let mut waiting = Box::pin(work.until(result));
        // Polled once at most, or never: both end with the waiter going away.
        drop(futures_util::poll!(waiting.as_mut()));
        drop(waiting);
        go_on.notify_one();
        assert_eq!(ended.await, Ok(()));

        let (work, _result, go_on, ended) = self::work();
        drop(work);
        go_on.notify_one();
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_is_a_result_that_never_comes() {
        let (_sender, result) = oneshot::channel::<u8>();
        let (sender, never) = oneshot::channel::<u8>();
        let work = Outliving::new(
            async move {
                let _held = sender;
                panic!("on purpose");
            },
            &Acts::default(),
        );
        assert!(work.until(never).await.is_err());
        drop(result);
    }
}
