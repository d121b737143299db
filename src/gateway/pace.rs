//! Bodies that must move on: a request's at a least rate, and over HTTP/2 an answer's as well.
//!
//! Over HTTP/1.1 the guard sees every byte of one body at a time. Over HTTP/2 many share a connection, and only who reads
//! or is read from sees each of them.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::config::Bounds;
use crate::body::{Body, BoxError};

/// It is the tool's turn: the client waits.
const TOOLS_TURN: u64 = u64::MAX;
/// A client may leave one answer for this many times as long as all of them: it may have paused one and read another.
const PATIENCE: u32 = 10;

/// A request's body, of which at least [`Bounds::body_bytes`] must come within each [`Bounds::body_timeout`] in which it
/// is read.
///
/// Over HTTP/2 what is left of it when nobody reads it any more is read on for a moment, and thrown away: a client whose
/// stream is reset while it still sends may lose the answer (curl 7.88 does), although it was told to keep it (RFC 9113
/// section 8.1). Over HTTP/1.1 the guard does the same.
pub(super) struct Asked {
    /// `None` when it has been left to [`read_on`].
    body: Option<Incoming>,
    bounds: Arc<Bounds>,
    /// Until when, and how much came since.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
    /// Set when the answer has begun: from then on it is a conversation, in which the client may be silent.
    answered: Arc<AtomicBool>,
    stream: bool,
}

/// How much of a body that nobody reads any more is still taken, and for how long.
const READ_ON_BYTES: usize = 4 << 20;
const READ_ON_TIME: Duration = Duration::from_secs(1);

impl Asked {
    /// `answered` is set when the answer begins; `stream` says that others share the connection (HTTP/2).
    pub(super) const fn new(
        body: Incoming,
        bounds: Arc<Bounds>,
        answered: Arc<AtomicBool>,
        stream: bool,
    ) -> Self {
        Self {
            body: Some(body),
            bounds,
            waiting: None,
            answered,
            stream,
        }
    }

    fn came(&mut self, bytes: usize) {
        let Some((timer, came)) = &mut self.waiting else {
            return;
        };
        *came = came.saturating_add(bytes);
        // A deadline that passed unnoticed passed while nobody read: that delay was ours, not the client's.
        if *came >= self.bounds.body_bytes || timer.deadline() <= Instant::now() {
            self.waiting = None;
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let left = self
            .body
            .take()
            .filter(|body| self.stream && !http_body::Body::is_end_stream(body));
        if let (Some(left), Ok(runtime)) = (left, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(READ_ON_TIME, read_on(left)));
        }
    }
}

/// Takes the rest of a body, within bounds.
async fn read_on(mut body: impl http_body::Body<Data = Bytes> + Unpin) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > READ_ON_BYTES {
            return;
        }
    }
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let bytes = match &frame {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                    _ => 0,
                };
                self.came(bytes);
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            // The lease and the idle time towards the tool bound it then.
            Poll::Pending if self.answered.load(Ordering::Relaxed) => {
                self.waiting = None;
                Poll::Pending
            }
            Poll::Pending => {
                let limit = self.bounds.body_timeout;
                let (timer, _) = self
                    .waiting
                    .get_or_insert_with(|| (Box::pin(tokio::time::sleep(limit)), 0));
                timer.as_mut().poll(cx).map(|()| {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "the client is too slow");
                    Some(Err(error.into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(http_body::Body::size_hint)
            .unwrap_or_default()
    }
}

/// How the answers of one connection are taken.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    /// When any answer last moved, in milliseconds from the start.
    moved: AtomicU64,
    /// Since when each answer waits for the client, or [`TOOLS_TURN`].
    answers: Mutex<HashMap<u64, Arc<AtomicU64>>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            moved: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }
}

impl Pace {
    /// Whether the client leaves an answer: for `limit` while it takes nothing else, or for [`PATIENCE`] times that.
    pub(super) fn is_stuck(&self, limit: Duration) -> bool {
        self.is_stuck_at(self.now(), limit)
    }

    fn is_stuck_at(&self, now: u64, limit: Duration) -> bool {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = answers.values().map(|since| since.load(Ordering::Relaxed)).min() else {
            return false;
        };
        let moved = self.moved.load(Ordering::Relaxed);
        let longer = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) >= limit.as_millis();
        since != TOOLS_TURN
            && longer(since, limit)
            && (longer(moved, limit) || longer(since, limit.saturating_mul(PATIENCE)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(TOOLS_TURN - 1)
    }

    fn begin(&self, number: u64) -> Arc<AtomicU64> {
        let since = Arc::new(AtomicU64::new(self.now()));
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, since.clone());
        since
    }

    fn end(&self, number: u64) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
    }
}

/// An answer's body, which keeps `W` for as long as the client takes it.
pub(super) struct Taken<W> {
    body: Body,
    watched: Option<Watched>,
    _way: W,
}

struct Watched {
    pace: Arc<Pace>,
    number: u64,
    since: Arc<AtomicU64>,
}

impl<W> Taken<W> {
    /// `number` is the request's on its connection.
    pub(super) fn new(body: Body, pace: Option<&Arc<Pace>>, number: u64, way: W) -> Self {
        let watched = pace.map(|pace| Watched {
            pace: pace.clone(),
            number,
            since: pace.begin(number),
        });
        Self {
            body,
            watched,
            _way: way,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pace.end(self.number);
    }
}

impl<W: Unpin> http_body::Body for Taken<W> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(watched) = &this.watched else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        // The client made room, or this would not be asked for.
        let now = watched.pace.now();
        watched.pace.moved.store(now, Ordering::Relaxed);
        // INVARIANT: set before the tool is asked, so that a wake in between is not overwritten.
        watched.since.store(TOOLS_TURN, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(Woken {
            pace: watched.pace.clone(),
            since: watched.since.clone(),
            inner: cx.waker().clone(),
        }));
        let polled = Pin::new(&mut this.body).poll_frame(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            watched.since.store(now, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Notes that the tool sent something, from when on it is the client's turn again.
struct Woken {
    pace: Arc<Pace>,
    since: Arc<AtomicU64>,
    inner: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _ =
            self.since
                .compare_exchange(TOOLS_TURN, self.pace.now(), Ordering::Relaxed, Ordering::Relaxed);
        self.inner.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const LIMIT: Duration = Duration::from_secs(30);
    const LIMIT_MS: u64 = 30_000;

    #[tokio::test]
    async fn of_a_body_that_nobody_reads_only_so_much_is_taken() {
        let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = taken.clone();
        let frames = futures_util::stream::iter((0..10).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[0; 1 << 20])))
        }));
        read_on(http_body_util::StreamBody::new(frames)).await;
        // The frame that is too much has come already.
        assert_eq!(taken.load(Ordering::Relaxed), READ_ON_BYTES / (1 << 20) + 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_left_is_stuck_and_one_that_the_tool_owes_is_not() {
        let pace = Arc::new(Pace::default());
        let far = LIMIT_MS * 100;
        assert!(!pace.is_stuck_at(far, LIMIT));
        let left = Taken::new(crate::body::full("x"), Some(&pace), 0, ());
        let since = left.watched.as_ref().unwrap().since.load(Ordering::Relaxed);
        assert!(!pace.is_stuck_at(since + LIMIT_MS - 1, LIMIT));
        assert!(pace.is_stuck_at(since + LIMIT_MS, LIMIT));
        drop(left);
        assert!(!pace.is_stuck_at(far, LIMIT));
        let (send, tool) = tokio::sync::oneshot::channel::<()>();
        let frames = futures_util::stream::once(async move {
            let _ = tool.await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))
        });
        let slow = http_body_util::StreamBody::new(frames).boxed_unsync();
        let mut owed = Taken::new(slow, Some(&pace), 1, ());
        assert!(owed.frame().now_or_never().is_none());
        assert!(!pace.is_stuck_at(far, LIMIT));
        // The tool has answered; now it is the client that does not take it.
        send.send(()).unwrap();
        assert!(pace.is_stuck_at(far, LIMIT));
    }

    #[tokio::test]
    async fn an_answer_beside_one_that_moves_is_left_for_longer_but_not_for_ever() {
        let pace = Arc::new(Pace::default());
        let left = Taken::new(crate::body::full("x"), Some(&pace), 0, ());
        let since = left.watched.as_ref().unwrap().since.load(Ordering::Relaxed);
        for round in 1..u64::from(PATIENCE) {
            pace.moved.store(since + LIMIT_MS * round, Ordering::Relaxed);
            assert!(!pace.is_stuck_at(since + LIMIT_MS * round, LIMIT), "{round}");
        }
        assert!(pace.is_stuck_at(since + LIMIT_MS * u64::from(PATIENCE), LIMIT));
    }
}
