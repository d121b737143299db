//! A future beside a busy one in the same task: looked at when it has something to say, and not whenever the other has.
//!
//! A connection is polled several times for each request. Looking each time whether the gateway stops, too, would take a
//! lock that all connections share.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only after it has asked for it.
pub(super) struct Seldom<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The bell, as the future gets it.
    rings: Waker,
    /// Whom the bell wakes.
    wakes: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    wakes: Mutex<Option<Waker>>,
}

impl<F: Future> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            wakes: Mutex::default(),
        });
        Self {
            future: Box::pin(future),
            rings: Waker::from(bell.clone()),
            bell,
            wakes: None,
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        // INVARIANT: the waker stays, so that whoever registered it once is woken each time.
        let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = wakes {
            waker.wake();
        }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let known = this
            .wakes
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            let waker = cx.waker().clone();
            *this.bell.wakes.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
            this.wakes = Some(waker);
        }
        // After the waker was left: whoever rings from here on finds it.
        if !this.bell.rung.load(Ordering::Acquire) || !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.future.as_mut().poll(&mut Context::from_waker(&this.rings))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;
    use futures_util::future::poll_fn;
    use tokio::sync::oneshot;

    use super::*;

    /// Counts how often it is polled.
    fn counted<F: Future>(future: F, polls: Arc<AtomicUsize>) -> impl Future<Output = F::Output> {
        let mut future = Box::pin(future);
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            future.poll_unpin(cx)
        })
    }

    #[tokio::test]
    async fn it_is_polled_once_and_when_it_asks_for_it() {
        let (send, answer) = oneshot::channel();
        let polls = Arc::new(AtomicUsize::new(0));
        let mut seldom = Seldom::new(counted(answer, polls.clone()));
        for _ in 0..5 {
            assert!((&mut seldom).now_or_never().is_none());
        }
        // In another task: only whom it wakes is another.
        let waits = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        send.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_waits_is_woken_however_often_it_rings() {
        for round in 0..1_000 {
            let (send, mut items) = tokio::sync::mpsc::unbounded_channel();
            let reads = async move {
                let mut seen = 0;
                while items.recv().await.is_some() {
                    seen += 1;
                }
                seen
            };
            let waits = tokio::spawn(Seldom::new(reads));
            let writes = tokio::task::spawn_blocking(move || {
                for _ in 0..round % 7 {
                    send.send(()).unwrap();
                    std::thread::yield_now();
                }
            });
            writes.await.unwrap();
            assert_eq!(waits.await.unwrap(), round % 7);
        }
    }
}
