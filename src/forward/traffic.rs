//! Bodies under way: counted, bounded in time, with trailers that claim nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::response::clean_trailers;
use crate::body::{Body, BoxError};

/// What has gone through in each direction so far. Shared with whoever writes the outcome.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    pieces_in: AtomicU64,
    in_broke: AtomicBool,
}

impl Traffic {
    /// Bytes of the request's body that were handed to the tool's connection.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of the answer's body that were handed on.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Pieces of the request's body so far: while this grows, the tool is not late.
    pub(super) fn pieces_in(&self) -> u64 {
        self.pieces_in.load(Ordering::Relaxed)
    }

    /// Whether the client's body broke off.
    pub(super) fn in_broke(&self) -> bool {
        self.in_broke.load(Ordering::Relaxed)
    }
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Nothing came for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing came for {0} s")]
pub struct Stalled(u64);

/// A body that is counted and must keep moving.
pub(super) struct Moving {
    inner: Body,
    way: Way,
    traffic: Arc<Traffic>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Moving {
    pub(super) fn new(inner: Body, way: Way, traffic: Arc<Traffic>, idle: Duration) -> Self {
        Self {
            inner,
            way,
            traffic,
            idle,
            timer: None,
        }
    }

    fn count(&self, bytes: u64) {
        let counter = match self.way {
            Way::In => &self.traffic.bytes_in,
            Way::Out => &self.traffic.bytes_out,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        if self.way == Way::In {
            self.traffic.pieces_in.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Stalled(idle.as_secs()).into())))
    }
}

impl http_body::Body for Moving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => self.wait(cx),
            ready => ready,
        };
        let item = ready!(polled);
        if let Some(timer) = self.timer.as_mut() {
            let next = Instant::now() + self.idle;
            timer.as_mut().reset(next);
        }
        Poll::Ready(match item {
            Some(Ok(frame)) => Some(Ok(self.passed(frame))),
            Some(Err(error)) => {
                if self.way == Way::In {
                    self.traffic.in_broke.store(true, Ordering::Relaxed);
                }
                Some(Err(error))
            }
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
        match frame.into_trailers() {
            Ok(mut trailers) => {
                clean_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => {
                self.count(frame.data_ref().map_or(0, |data| data.remaining() as u64));
                frame
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_ends_in_an_error() {
        let pieces = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let traffic = Arc::new(Traffic::default());
        let mut body = Moving::new(
            StreamBody::new(pieces).boxed_unsync(),
            Way::In,
            traffic.clone(),
            Duration::from_secs(7),
        );
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "nothing came for 7 s");
        assert!(traffic.in_broke());
    }

    #[tokio::test]
    async fn bytes_are_counted_and_trailers_claim_nothing() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-countersign-user", "root".parse().unwrap());
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = vec![
            Ok(Frame::data(Bytes::from_static(b"abc"))),
            Ok(Frame::data(Bytes::from_static(b"de"))),
            Ok(Frame::trailers(trailers)),
        ];
        let traffic = Arc::new(Traffic::default());
        let body = Moving::new(
            StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync(),
            Way::Out,
            traffic.clone(),
            Duration::from_secs(7),
        );
        let whole = body.collect().await.unwrap();
        let left: Vec<&str> = whole.trailers().unwrap().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["grpc-status"]);
        assert_eq!((traffic.bytes_out(), traffic.bytes_in()), (5, 0));
    }
}
