//! Bodies under way: bounded in time, with trailers that claim nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::response::clean_trailers;
use crate::body::{Body, BoxError};

/// How far a request's body has come, for whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pieces: AtomicU64,
    broke: Mutex<Option<BoxError>>,
}

impl Progress {
    /// Pieces so far: while this grows, the tool is not late.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
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

/// A body that must keep moving, and whose trailers claim nothing.
pub(super) struct Moving {
    inner: Body,
    /// Who is told how far it came; `None` for answers.
    progress: Option<Arc<Progress>>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Moving {
    pub(super) const fn new(inner: Body, progress: Option<Arc<Progress>>, idle: Duration) -> Self {
        Self {
            inner,
            progress,
            idle,
            timer: None,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let idle = self.idle;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Stalled(idle).into())))
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
        let next = Instant::now() + self.idle;
        if let Some(timer) = self.timer.as_mut() {
            timer.as_mut().reset(next);
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
    fn passed(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(progress) = &self.progress {
            progress.pieces.fetch_add(1, Ordering::Relaxed);
        }
        match frame.into_trailers() {
            Ok(mut trailers) => {
                clean_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    /// Keeps the cause for whoever answers; the connection to the tool only learns that there is no more.
    fn broke(&self, error: BoxError) -> BoxError {
        let Some(progress) = &self.progress else {
            return error;
        };
        let word = error.to_string();
        if let Ok(mut broke) = progress.broke.lock() {
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
    async fn a_body_that_stands_still_ends_in_an_error() {
        let pieces = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let progress = Arc::new(Progress::default());
        let idle = Duration::from_millis(5);
        let inner = StreamBody::new(pieces).boxed_unsync();
        let mut body = Moving::new(inner, Some(progress.clone()), idle);
        assert_eq!(
            body.frame().await.unwrap().unwrap_err().to_string(),
            "nothing came for 5ms"
        );
        assert!(progress.take_broke().unwrap().is::<Stalled>());
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
        let body = Moving::new(inner, Some(progress.clone()), Duration::from_secs(60));
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
