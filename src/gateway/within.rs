//! Requests from within: a page of the console that shows or does what an operation of the API does asks for it here, for
//! whoever asked for the page.
//!
//! Each is a request like any other from its place on: decided by its own task, with an intent and an outcome of its own, or
//! a refusal that is recorded. Only who asks is known already.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, header};

use super::exchange::Exchange;
use super::pipeline::{Pipeline, Stop};
use crate::authenticate::Subject;
use crate::authorize::Permit;
use crate::body::{self, Body};
use crate::forward::{AskWithin, Within};
use crate::id::RequestId;
use crate::problem::{Kind, Problem};
use crate::telemetry::Trace;

/// The service whose tasks can be asked for from within.
const SERVICE: &str = "api";

/// For whom is asked.
pub(super) struct FromWithin {
    pipeline: Arc<Pipeline>,
    subject: Subject,
    trace: Trace,
}

impl FromWithin {
    pub(super) fn of(pipeline: &Arc<Pipeline>, permit: &Permit, trace: &Trace) -> Within {
        Within(Arc::new(Self {
            pipeline: pipeline.clone(),
            subject: permit.subject().clone(),
            trace: trace.clone(),
        }))
    }

    async fn run(&self, x: &Exchange, body: Bytes) -> Result<Response<Body>, Stop> {
        let place = self.pipeline.hosts.place(&x.head).map_err(Stop::Rejected)?;
        // SECURITY: a session that has ended since the page was asked for asks for nothing more.
        let authenticate = &self.pipeline.authenticate;
        if authenticate
            .watch(&self.subject)
            .revoked()
            .now_or_never()
            .is_some()
        {
            let problem = Problem::new(Kind::WrongCredential, "the session has ended meanwhile");
            let entry = Box::new(self.subject.entry());
            return Err(Stop::Challenge(entry, Some(Box::new(place)), problem));
        }
        // INVARIANT: pages ask for operations, never for pages, so that no request asks for itself.
        let found = place.found.as_ref();
        if found.is_some_and(|found| found.task.local != Some(SERVICE)) {
            let problem = Problem::new(Kind::Internal, "only operations can be asked for from within");
            return Err(Stop::Failed(Some(Box::new(place)), problem));
        }
        let subject = self.subject.clone();
        let admitted = self.pipeline.admit((x.id, &x.trace), subject, place, false);
        self.pipeline.act(x, body::full(body), admitted.await?).await
    }

    /// The head that the person's own program would send.
    fn head(&self, method: Method, target: &str, length: usize) -> Option<Parts> {
        let base = self.pipeline.answers.base();
        let host = base.strip_prefix("https://").unwrap_or(base);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json");
        if length > 0 {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONTENT_LENGTH, length);
        }
        Some(request.body(()).ok()?.into_parts().0)
    }
}

impl AskWithin for FromWithin {
    fn ask(&self, method: Method, target: String, body: Bytes) -> BoxFuture<'_, Response<Body>> {
        async move {
            let Ok(id) = self.pipeline.ids.next::<RequestId>() else {
                return self.pipeline.answers.unnamed();
            };
            let Some(head) = self.head(method, &target, body.len()) else {
                return self.pipeline.answers.unnamed();
            };
            let x = Exchange {
                id,
                head,
                source: self.subject.source(),
                presented: None,
                trace: self.trace.clone(),
            };
            match self.run(&x, body).await {
                Ok(response) => response,
                Err(stop) => Box::pin(self.pipeline.stopped(&x, stop)).await,
            }
        }
        .boxed()
    }
}
