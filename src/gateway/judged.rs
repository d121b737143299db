//! Bodies that name the task: read once, bounded, after it is known who asks, and sent on as the same bytes.
//!
//! A stranger never makes the gateway read a body: who is nobody, or not a member of the tool's VO, is refused by what the
//! head says. What is held at once is bounded over all requests, and a body has only so long to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange::Exchange;
use super::hosts;
use super::pipeline::{Pipeline, Stop};
use crate::authenticate::Subject;
use crate::body::{Body, BoxError};
use crate::problem::{Kind, Problem};
use crate::tool::Place;

/// How much of bodies is held at once, in KiB.
const HELD: usize = 256 * 1024;
/// How long a body has to come.
const TIME: Duration = Duration::from_secs(30);

/// How much of bodies is held.
pub(super) struct Judging(Arc<Semaphore>);

impl Default for Judging {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD)))
    }
}

impl Judging {
    fn places(&self, count: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(count).map_err(|_| {
            let detail = "more bodies are being judged than the gateway holds at once";
            Problem::new(Kind::Busy, detail).retry_after(1)
        })
    }

    /// Reads a body of at most `limit` bytes, and gives it with its place in memory.
    async fn read(&self, body: &mut Body, limit: u64) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
        let too_large = || {
            let detail = format!(
                "the body decides which task this is, and is larger than the {limit} bytes that are read"
            );
            Problem::new(Kind::TooLarge, detail)
        };
        if body.size_hint().lower() > limit {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        let mut permit = self.places(0)?;
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|_| Problem::new(Kind::Malformed, "the request's body broke off before its end"))?;
            // Trailers were judged by nobody, so they end here.
            if let Ok(data) = frame.into_data() {
                if (whole.len() + data.len()) as u64 > limit {
                    return Err(too_large());
                }
                // A slow client holds what came of its body, and not what it may still send.
                let taken = (whole.len() + data.len()).div_ceil(1024) - whole.len().div_ceil(1024);
                permit.merge(self.places(taken)?);
                whole.extend_from_slice(&data);
            }
        }
        Ok((whole.freeze(), permit))
    }
}

impl Pipeline {
    /// Where only the body can say which task it is: how much of it may be read to find out.
    pub(super) fn judged_body(&self, x: &Exchange, subject: &Subject, place: &Place) -> Option<u64> {
        // SECURITY: everybody else is refused by the head alone, so nothing is read for them.
        hosts::judged_body(place, &x.head).filter(|_| self.is_member(subject, place))
    }

    /// Reads a body of at most `limit` bytes, and names the task. Gives the body that is sent on.
    pub(super) async fn judged(
        &self,
        x: &Exchange,
        subject: &Subject,
        mut place: Place,
        mut body: Body,
        limit: u64,
    ) -> Result<(Place, Body), Stop> {
        let read = tokio::time::timeout(TIME, self.judging.read(&mut body, limit));
        let read = read.await.unwrap_or_else(|_| {
            let detail = format!("the request's body did not come within {} s", TIME.as_secs());
            Err(Problem::new(Kind::Malformed, detail))
        });
        let judged = read.and_then(|(bytes, permit)| {
            hosts::judge_body(&mut place, &x.head, &bytes)?;
            Ok((bytes, permit))
        });
        match judged {
            // INVARIANT: the bytes that were judged are the bytes that are sent.
            Ok((bytes, permit)) => Ok((place, held(bytes, permit))),
            Err(problem) if problem.kind.status() >= 500 => Err(Stop::Failed(Some(Box::new(place)), problem)),
            Err(problem) => Err(Stop::Unfit(
                Box::new(subject.entry()),
                Some(Box::new(place)),
                problem,
            )),
        }
    }

    /// Whether a member of the place's VO asks, in a session that is good for more than a new password.
    pub(super) fn is_member(&self, subject: &Subject, place: &Place) -> bool {
        let (Some(person), Some(vo)) = (subject.as_person(), &place.vo) else {
            return false;
        };
        let must_change = subject.session().is_some_and(|session| session.must_change);
        !must_change && self.directory.load().is_member(vo.id, person.id)
    }
}

/// A body that is at hand, which gives its place in memory back when it is gone.
fn held(bytes: Bytes, permit: OwnedSemaphorePermit) -> Body {
    Held {
        inner: Full::new(bytes),
        _permit: permit,
    }
    .boxed_unsync()
}

struct Held {
    inner: Full<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner)
            .poll_frame(cx)
            .map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[tokio::test]
    async fn a_judged_body_is_bounded_by_itself_and_all_of_them_together() {
        let judging = Judging(Arc::new(Semaphore::new(2)));
        let (bytes, first) = judging.read(&mut body::full("0123456789"), 10).await.unwrap();
        assert_eq!(bytes, "0123456789");
        let refused = judging.read(&mut body::full("0123456789"), 9).await.unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge);
        let (_, second) = judging.read(&mut body::full("x"), 1 << 20).await.unwrap();
        let busy = judging.read(&mut body::full("x"), 1 << 20).await.unwrap_err();
        assert_eq!(busy.kind, Kind::Busy);
        drop(first);
        assert!(judging.read(&mut body::full("x"), 1 << 20).await.is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn a_judged_body_is_sent_as_the_same_bytes_with_its_length() {
        let judging = Judging::default();
        let (bytes, permit) = judging.read(&mut body::full("{ \"a\" : 1 }"), 100).await.unwrap();
        assert_eq!(judging.0.available_permits(), HELD - 1);
        let body = held(bytes, permit);
        assert_eq!(body.size_hint().exact(), Some(11));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{ \"a\" : 1 }");
        assert_eq!(judging.0.available_permits(), HELD);
    }
}
