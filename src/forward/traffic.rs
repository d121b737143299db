//! Bodies under way: bounded in time, with trailers that claim nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::response::clean_trailers;
use crate::body::{Body, BoxError};

/// How far the bodies of an exchange have come: for whoever waits for the answer, and for the quieter of the two.
#[derive(Debug, Default)]
pub(super) struct Progress {
    asked: AtomicU64,
    answered: AtomicU64,
    broke: Mutex<Option<BoxError>>,
}

impl Progress {
    /// Pieces of the request so far: while this grows, the tool is not late.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Pieces in both directions.
    fn pieces(&self) -> u64 {
        self.asked().wrapping_add(self.answered.load(Ordering::Relaxed))
    }

    /// Why the client's body broke off, if it did.
    pub(super) fn take_broke(&self) -> Option<BoxError> {
        self.broke.lock().ok().and_then(|mut broke| broke.take())
    }
}

/// Nothing came for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing came for {0:?}")]
pub(super) struct Stalled(Duration);

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the tool.
    Asked,
    /// From the tool.
    Answered,
}

/// A body that must keep moving, or at least the other one of its exchange, and whose trailers claim nothing.
pub(super) struct Moving {
    inner: Body,
    way: Way,
    progress: Arc<Progress>,
    idle: Duration,
    /// Until when, and how far both bodies were when it was set.
    timer: Option<(Pin<Box<Sleep>>, u64)>,
    trailers: bool,
}

impl Moving {
    pub(super) const fn new(inner: Body, way: Way, progress: Arc<Progress>, idle: Duration) -> Self {
        Self {
            inner,
            way,
            progress,
            idle,
            timer: None,
            trailers: true,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let idle = self.idle;
        let (timer, pieces) = self
            .timer
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(idle)), self.progress.pieces()));
        loop {
            ready!(timer.as_mut().poll(cx));
            // One side of a conversation may be silent for long.
            let now = self.progress.pieces();
            if now == *pieces {
                return Poll::Ready(Some(Err(Stalled(idle).into())));
            }
            *pieces = now;
            timer.as_mut().reset(Instant::now() + idle);
        }
    }
}

impl http_body::Body for Moving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => self.wait(cx),
            ready => ready,
        };
        let item = ready!(polled);
        let (next, came) = (Instant::now() + self.idle, self.progress.pieces());
        if let Some((timer, pieces)) = self.timer.as_mut() {
            timer.as_mut().reset(next);
            *pieces = came;
        }
        Poll::Ready(match item {
            Some(Ok(frame)) => Some(Ok(self.passed(frame))),
            Some(Err(error)) => Some(Err(self.broke(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Moving {
    /// The same, and none of its trailers goes on unless `allowed`.
    pub(super) fn trailers(self, allowed: bool) -> Self {
        Self {
            trailers: allowed,
            ..self
        }
    }

    fn passed(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let count = match self.way {
            Way::Asked => &self.progress.asked,
            Way::Answered => &self.progress.answered,
        };
        count.fetch_add(1, Ordering::Relaxed);
        match frame.into_trailers() {
            Ok(_) if !self.trailers => Frame::trailers(HeaderMap::new()),
            Ok(mut trailers) => {
                clean_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    /// Keeps the cause for whoever answers; the connection to the tool only learns that there is no more.
    fn broke(&self, error: BoxError) -> BoxError {
        if self.way == Way::Answered {
            return error;
        }
        let word = error.to_string();
        if let Ok(mut broke) = self.progress.broke.lock() {
            *broke = Some(error);
        }
        word.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    #[tokio::test]
    async fn trailers_go_on_only_where_they_are_allowed() {
        for allowed in [true, false] {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-op", "delete".parse().unwrap());
            let frames = [Ok::<_, BoxError>(Frame::trailers(trailers))];
            let inner = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            let body = Moving::new(inner, Way::Asked, Arc::default(), Duration::from_secs(9));
            let collected = body.trailers(allowed).collect().await.unwrap();
            let passed = collected
                .trailers()
                .is_some_and(|trailers| trailers.contains_key("x-op"));
            assert_eq!(passed, allowed);
        }
    }

    #[tokio::test]
    async fn a_body_that_stands_still_ends_in_an_error() {
        let pieces = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let progress = Arc::new(Progress::default());
        let idle = Duration::from_millis(5);
        let inner = StreamBody::new(pieces).boxed_unsync();
        let mut body = Moving::new(inner, Way::Asked, progress.clone(), idle);
        assert_eq!(
            body.frame().await.unwrap().unwrap_err().to_string(),
            "nothing came for 5ms"
        );
        assert!(progress.take_broke().unwrap().is::<Stalled>());
    }

    #[tokio::test]
    async fn one_side_of_a_conversation_may_be_silent() {
        use futures_util::FutureExt as _;
        let progress = Arc::new(Progress::default());
        let (began, idle) = (Instant::now(), Duration::from_millis(20));
        let quiet = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let quiet = StreamBody::new(quiet).boxed_unsync();
        let mut quiet = Moving::new(quiet, Way::Asked, progress.clone(), idle);
        assert!(quiet.frame().now_or_never().is_none());
        let talks = crate::body::full("x");
        let mut talks = Moving::new(talks, Way::Answered, progress, idle);
        assert!(talks.frame().await.unwrap().is_ok());
        assert!(quiet.frame().await.unwrap().is_err());
        assert!(
            began.elapsed() >= 2 * idle,
            "the other side moved, so it had that time once more"
        );
    }

    #[tokio::test]
    async fn trailers_claim_nothing() {
        let mut trailers = http::HeaderMap::new();
        for name in [
            "x-countersign-user",
            "set-cookie",
            "content-length",
            "transfer-encoding",
            "grpc-status",
        ] {
            trailers.insert(name, "0".parse().unwrap());
        }
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = vec![
            Ok(Frame::data(Bytes::from_static(b"abc"))),
            Ok(Frame::trailers(trailers)),
        ];
        let progress = Arc::new(Progress::default());
        let inner = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let body = Moving::new(inner, Way::Asked, progress.clone(), Duration::from_secs(60));
        let whole = body.collect().await.unwrap();
        let left: Vec<&str> = whole
            .trailers()
            .unwrap()
            .keys()
            .map(http::HeaderName::as_str)
            .collect();
        assert_eq!(left, ["grpc-status"]);
        assert_eq!(progress.pieces(), 2);
    }
}
