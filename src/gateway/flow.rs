//! Bodies in motion: counted on the way in, bounded when read whole, passed frame by frame with back-pressure, and both
//! stopped at once when their request may not go on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::digest::Digest;
use crate::body::{self, Body, BoxError};
use crate::problem::{Kind, Problem};

/// Frames that may wait between the tool and the client.
const FRAMES: usize = 8;
/// How much of an answer is still read after the client went away.
const READ_ON_BYTES: u64 = 1024 * 1024;
/// How long.
const READ_ON_TIME: Duration = Duration::from_secs(30);

/// Open while the bodies of a request may move.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    /// Breaks both bodies off, whoever waits for whom.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// A request body that is counted, and ends with an error past its limit or when its gate closes.
pub(super) struct Counted {
    inner: Body,
    count: Arc<AtomicU64>,
    limit: Option<u64>,
    gate: Arc<Gate>,
    digest: Option<Digest>,
}

/// The request body is larger than the task takes.
#[derive(Debug, thiserror::Error)]
#[error("the request body is larger than {0} bytes")]
pub(super) struct TooLarge(pub(super) u64);

impl Counted {
    pub(super) fn new(inner: Body, count: Arc<AtomicU64>, limit: Option<u64>, gate: Arc<Gate>) -> Self {
        Self {
            inner,
            count,
            limit,
            gate,
            digest: None,
        }
    }

    /// Takes the digest of what passes, too.
    pub(super) fn digested(mut self, digest: Option<Digest>) -> Self {
        self.digest = digest;
        self.ended();
        self
    }

    /// Whoever passes a body on need not ask for what comes behind its end.
    fn ended(&self) {
        if let Some(digest) = &self.digest
            && self.inner.is_end_stream()
        {
            digest.end();
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // INVARIANT: registered before the gate is looked at, so that its closing is not missed.
        self.gate.waiting.register(cx.waker());
        if self.gate.is_closed() {
            return Poll::Ready(Some(Err(Box::new(BrokeOff))));
        }
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
            if let Some(digest) = &self.digest {
                digest.add(data);
            }
        }
        match (&next, &self.digest) {
            (None, Some(digest)) => digest.end(),
            (Some(Ok(_)), Some(_)) => self.ended(),
            _ => {}
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
enum Part {
    /// A frame, or the error that ends the body.
    Frame(Result<Frame<Bytes>, BoxError>),
    /// The body's clean end.
    End,
}

/// Passes a tool's answer on to the client, each frame as soon as it comes, and reads no further than the client does.
pub(super) struct Relay {
    body: Body,
    /// `None` once the client is gone.
    client: Option<mpsc::Sender<Part>>,
    received: Arc<AtomicU64>,
    digest: Option<Digest>,
    /// What must not leave before the outcome is durable.
    held: Option<Frame<Bytes>>,
    awaited: bool,
    /// How much is still to come, where that is known.
    left: Option<u64>,
    read_on: u64,
}

/// How a relay ended.
pub(super) enum Passed {
    /// With the answer's end.
    Whole,
    /// The tool broke off.
    Broke(BoxError),
    /// The client went away, and what was read on was not the rest.
    Left,
}

impl Relay {
    /// A relay and the body that it feeds. Where the outcome is `awaited`, what ends the answer is held back: its last
    /// bytes where the length is known, else its trailers or its end.
    pub(super) fn new(body: Body, awaited: bool, received: Arc<AtomicU64>, gate: Arc<Gate>) -> (Self, Body) {
        let (client, parts) = mpsc::channel(FRAMES);
        let left = body.size_hint().exact();
        let relay = Self {
            body,
            client: Some(client),
            received,
            digest: None,
            held: None,
            awaited,
            left,
            read_on: 0,
        };
        let channel = Channel {
            parts,
            ended: false,
            gate,
        };
        (relay, channel.boxed_unsync())
    }

    /// Takes the digest of what passes, too.
    pub(super) fn digested(mut self, digest: Option<Digest>) -> Self {
        self.digest = digest;
        self
    }

    /// Nobody takes the answer.
    pub(super) fn lose(&mut self) {
        self.client = None;
    }

    /// Passes everything on, but for what is held back.
    pub(super) async fn run(&mut self) -> Passed {
        let mut until = None;
        loop {
            let next = match &self.client {
                Some(client) => tokio::select! {
                    biased;
                    next = self.body.frame() => next,
                    () = client.closed() => {
                        self.client = None;
                        continue;
                    }
                },
                None => {
                    let until = *until.get_or_insert_with(|| Instant::now() + READ_ON_TIME);
                    match tokio::time::timeout_at(until, self.body.frame()).await {
                        Ok(next) if self.read_on < READ_ON_BYTES => next,
                        _ => return Passed::Left,
                    }
                }
            };
            match next {
                Some(Ok(frame)) => self.came(frame).await,
                Some(Err(error)) => return Passed::Broke(error),
                None => {
                    self.digest.iter().for_each(Digest::end);
                    return Passed::Whole;
                }
            }
        }
    }

    async fn came(&mut self, frame: Frame<Bytes>) {
        let size = frame
            .data_ref()
            .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        self.received.fetch_add(size, Ordering::Relaxed);
        if let (Some(digest), Some(data)) = (&self.digest, frame.data_ref()) {
            digest.add(data);
        }
        if self.client.is_none() {
            self.read_on = self.read_on.saturating_add(size);
            return;
        }
        self.left = self.left.map(|left| left.saturating_sub(size));
        // INVARIANT: an awaited outcome is durable before a client can see that the answer has ended.
        let is_end = frame.is_trailers() || self.left == Some(0);
        if self.awaited && is_end {
            self.held = Some(frame);
        } else {
            self.pass(Part::Frame(Ok(frame))).await;
        }
    }

    /// Passes on what was held back, and the end.
    pub(super) async fn finish(mut self) {
        if let Some(frame) = self.held.take() {
            self.pass(Part::Frame(Ok(frame))).await;
        }
        self.pass(Part::End).await;
    }

    /// Breaks the answer off: the client sees that it is not whole.
    pub(super) async fn abort(mut self, error: BoxError) {
        self.pass(Part::Frame(Err(error))).await;
    }

    async fn pass(&mut self, part: Part) {
        if let Some(client) = &self.client
            && client.send(part).await.is_err()
        {
            self.client = None;
        }
    }
}

struct Channel {
    parts: mpsc::Receiver<Part>,
    ended: bool,
    gate: Arc<Gate>,
}

/// A body was broken off by the gateway itself.
#[derive(Debug, thiserror::Error)]
#[error("the transfer was broken off by the gateway")]
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
        // SECURITY: what waits for a slow client is not handed out any more once it may not go on.
        if self.gate.is_closed() {
            self.ended = true;
            return Poll::Ready(Some(Err(Box::new(BrokeOff))));
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
