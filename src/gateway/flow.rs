//! Bodies in motion: counted on the way in, bounded when read whole, passed frame by frame with back-pressure.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::body::{self, Body, BoxError};
use crate::problem::{Kind, Problem};

/// A request body that is counted, and ends with an error past its limit.
pub(super) struct Counted {
    inner: Body,
    count: Arc<AtomicU64>,
    limit: Option<u64>,
}

/// The request body is larger than the task takes.
#[derive(Debug, thiserror::Error)]
#[error("the request body is larger than {0} bytes")]
pub(super) struct TooLarge(pub(super) u64);

impl Counted {
    pub(super) fn new(inner: Body, count: Arc<AtomicU64>, limit: Option<u64>) -> Self {
        Self { inner, count, limit }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
        {
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let total = self.count.fetch_add(size, Ordering::Relaxed).saturating_add(size);
            if let Some(limit) = self.limit
                && total > limit
            {
                return Poll::Ready(Some(Err(Box::new(TooLarge(limit)))));
            }
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads a tool's answer whole, up to `limit` bytes.
pub(super) async fn collect(mut body: Body, limit: u64) -> Result<(Bytes, Option<HeaderMap>), Problem> {
    let mut whole = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(
                Kind::ToolUnreachable,
                "the tool broke off in the middle of its answer",
            )
        })?;
        match frame.into_data() {
            Ok(data) => {
                if u64::try_from(whole.len() + data.len()).unwrap_or(u64::MAX) > limit {
                    let detail =
                        format!("the tool's answer is larger than the {limit} bytes that can be checked");
                    return Err(Problem::new(Kind::ToolAnswer, detail));
                }
                whole.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((whole.freeze(), trailers))
}

/// A body that is at hand, with its trailers.
pub(super) fn whole(bytes: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => body::full(bytes),
        Some(trailers) => http_body_util::Full::new(bytes)
            .with_trailers(std::future::ready(Some(Ok(trailers))))
            .map_err(|never: std::convert::Infallible| match never {})
            .boxed_unsync(),
    }
}

/// What passes from a tool to a client. A body that stops without [`Part::End`] was broken off, and ends as an error.
pub(super) enum Part {
    /// A frame, or the error that ends the body.
    Frame(Result<Frame<Bytes>, BoxError>),
    /// The body's clean end.
    End,
}

/// The sending half; `None` once the client is gone.
pub(super) type Client = Option<mpsc::Sender<Part>>;

/// A body that is fed through a channel.
pub(super) fn channel(parts: mpsc::Receiver<Part>) -> Body {
    Channel { parts, ended: false }.boxed_unsync()
}

struct Channel {
    parts: mpsc::Receiver<Part>,
    ended: bool,
}

/// The part that fed a body went away before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off in the gateway")]
struct BrokeOff;

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let part = ready!(self.parts.poll_recv(cx));
        match part {
            Some(Part::Frame(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Some(Part::Frame(Err(error))) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(Part::End) => {
                self.ended = true;
                Poll::Ready(None)
            }
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(Box::new(BrokeOff))))
            }
        }
    }
}

/// Passes one part to the client; forgets the client when it is gone.
pub(super) async fn pass(client: &mut Client, part: Part) {
    if let Some(to) = client
        && to.send(part).await.is_err()
    {
        *client = None;
    }
}
