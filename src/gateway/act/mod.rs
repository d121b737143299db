//! `act`: what happens after the intent is durable. Signs, forwards, reads the answer, writes the outcome and learns who
//! owns what was made.
//!
//! It outlives a client that goes away, so that neither the outcome nor the ownership is lost: the rest of the answer is
//! read for at most 1 MiB or 30 seconds. The outcome of whatever changes state is durable before the
//! end of the answer reaches the client; that of a read rides on the next batch.
//!
//! Here is what every request does. What few of them do has a place of its own: [`list`] (filtered lists), [`made`]
//! (things that come and go) and [`switch`] (other protocols); how they end is in [`end`].

mod end;
mod list;
mod made;
mod switch;
mod upload;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::end::{End, Failure, cut};
use super::cors;
use super::digest::Digest;
use super::exchange::{Exchange, named};
use super::flow::{self, Counted, Gate, Passed, Relay};
use super::lease::{Held, Lease};
use super::outlive::Outliving;
use super::pipeline::{Pipeline, Stop};
use super::within::FromWithin;
use crate::audit::Receipt;
use crate::authorize::Permit;
use crate::body::{self, Body, BoxError};
use crate::delegate::spool::{Spooled, ToSpool};
use crate::delegate::{Credential, DelegateError, Plan, Revocation};
use crate::forward::{self, ForwardError, Identity, LocalRequest, Outgoing};
use crate::id::{RequestId, UpstreamId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{BodyDigests, Ending, Outcome, SignedEntry};
use crate::telemetry::{Stage, Trace};
use crate::tool::{Place, Task, Tool, ToolTarget, VoRef};
use crate::vo::Upstream;

/// Answers up to this size are read whole before the head is sent on.
const WHOLE: u64 = 64 * 1024;

impl Pipeline {
    /// Does what was permitted, and hands back the answer's head as soon as it may be shown. What is not done by then
    /// goes on in a task of its own, and so does all of it when the client goes away.
    pub(super) async fn act(
        self: &Arc<Self>,
        x: &Exchange,
        body: Body,
        (permit, plan, receipt): (Permit, Plan, Receipt),
    ) -> Result<Response<Body>, Stop> {
        let head = x.head.clone();
        let permit = Arc::new(permit);
        let (send, answer) = oneshot::channel();
        let act = Act::new(self, (x.id, x.trace.clone()), permit.clone(), plan.revocation());
        let act = act.run(http::Request::from_parts(head, body), plan, receipt, send);
        let place = permit.place();
        match Outliving::new(act, &self.acts).until(answer).await {
            Ok(Ok(mut response)) => {
                cors::allow(&x.head, place, &mut response);
                Ok(self.answers.dress(response, x.id, place))
            }
            Ok(Err(problem)) => Ok(self.answers.acted(&x.head, x.id, place, &problem)),
            Err(_) => Err(Stop::Failed(
                Some(Box::new(place.clone())),
                Problem::new(Kind::Internal, "the request broke off in the gateway"),
            )),
        }
    }
}

/// How a tool is reached now.
pub(super) struct Reached<'a> {
    pub(super) vo: &'a VoRef,
    pub(super) tool: &'a Arc<Tool>,
    pub(super) upstream: Arc<Upstream>,
}

impl Pipeline {
    /// How a place's tool is reached now.
    ///
    /// # Errors
    /// The problem, when it is not reached any more.
    pub(super) fn reached<'a>(&self, place: &'a Place) -> Result<Reached<'a>, Problem> {
        let reached = || {
            let (tool, vo) = (place.tool.as_ref()?, place.vo.as_ref()?);
            let ToolTarget::Upstream(name) = &tool.target else {
                return None;
            };
            let upstream = self.directory.load().upstream(vo.id, name)?.clone();
            Some(Reached { vo, tool, upstream })
        };
        reached().ok_or_else(|| {
            let detail = "the tool's upstream is not registered any more";
            Problem::new(Kind::ToolUnreachable, detail)
        })
    }

    /// Which upstream that is, and in which version.
    pub(super) fn version_of_upstream(&self, place: &Place) -> Option<(UpstreamId, i64)> {
        let upstream = self.reached(place).ok()?.upstream;
        Some((upstream.id, upstream.version))
    }
}

/// The answer's head, once.
type Answer = oneshot::Sender<Result<Response<Body>, Problem>>;

/// One permitted request.
struct Act {
    pipeline: Arc<Pipeline>,
    id: RequestId,
    trace: Trace,
    started: Duration,
    permit: Arc<Permit>,
    lease: Lease,
    gate: Arc<Gate>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    signed: Option<SignedEntry>,
    /// What was put on a MyProxy server, until this ends.
    tidy: Option<upload::Tidy>,
    /// What was put into a spool folder, until this ends.
    spooled: Option<Spooled>,
    /// Digests of what is sent and of what comes back, where the task's manifest asks for them.
    digests: Option<(Digest, Digest)>,
    /// The connection that it needs, for monitoring.
    busy: Option<forward::Busy>,
}

impl Act {
    fn new(
        pipeline: &Arc<Pipeline>,
        (id, trace): (RequestId, Trace),
        permit: Arc<Permit>,
        proxy: Option<Revocation>,
    ) -> Self {
        let started = pipeline.ids.clock().monotonic();
        let recorded = permit.found().task.recorded;
        let (sent, received) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let lease = if permit.found().task.local.is_some() {
            Lease::none()
        } else {
            Lease::new(Held {
                pipeline: pipeline.clone(),
                id,
                permit: permit.clone(),
                session: pipeline.authenticate.watch(permit.subject()),
                proxy,
                upstream: pipeline.version_of_upstream(permit.place()),
                began: started,
                sent: sent.clone(),
                received: received.clone(),
            })
        };
        Self {
            pipeline: pipeline.clone(),
            id,
            trace,
            started,
            permit,
            lease,
            gate: Arc::default(),
            sent,
            received,
            signed: None,
            tidy: None,
            spooled: None,
            digests: recorded.digest.then(|| (Digest::new(), Digest::new())),
            busy: None,
        }
    }

    async fn run(mut self, request: http::Request<Body>, plan: Plan, receipt: Receipt, answer: Answer) {
        let permit = self.permit.clone();
        let task = permit.found().task.clone();
        if let Some(service) = task.local {
            return Box::pin(self.local(service, request, plan, receipt, answer)).await;
        }
        // What asks for a task's own protocols came this far; anything else was refused.
        if let Some(upgrade) = request
            .headers()
            .get(header::UPGRADE)
            .and_then(|_| task.upgrade.first())
        {
            return Box::pin(self.switch(*upgrade, request, plan, receipt, answer)).await;
        }
        let asked = match self.outgoing(request, plan, &receipt).await {
            Ok(outgoing) => self.ask(outgoing).await,
            Err(failure) => Err(failure),
        };
        match asked {
            Ok(response) => self.answered(response, &task, receipt, answer).await,
            Err(failure) => self.fail(failure, receipt, answer).await,
        }
    }

    async fn ask(&mut self, outgoing: Outgoing) -> Result<Response<Body>, Failure> {
        self.busy = Some(self.pipeline.forward.busy(&outgoing.upstream));
        let pipeline = self.pipeline.clone();
        self.told(pin!(pipeline.forward.send(outgoing))).await
    }

    /// What the tool answers, for as long as the lease holds; counted for monitoring.
    async fn told<T>(&mut self, asked: impl Future<Output = Result<T, ForwardError>>) -> Result<T, Failure> {
        let clock = self.pipeline.ids.clock();
        let mut lap = self.pipeline.metrics.lap(&**clock, &self.trace);
        let answered = self.lease.during(asked).await;
        let took = lap.mark(Stage::Act);
        let (metrics, at) = (&self.pipeline.metrics, named(Some(self.permit.place())));
        match answered {
            Ok(Ok(answer)) => {
                metrics.tool_answered(at, took);
                Ok(answer)
            }
            Ok(Err(error)) => {
                metrics.tool_failed(at, error.word());
                Err(error.into())
            }
            Err(why) => {
                self.gate.close();
                Err(why.into())
            }
        }
    }

    /// The request as the tool will see it, with the credential that it needs.
    async fn outgoing(
        &mut self,
        request: http::Request<Body>,
        plan: Plan,
        receipt: &Receipt,
    ) -> Result<Outgoing, Failure> {
        let unreached = |problem| End::failure(Ending::ToolFailed, problem);
        let permit = self.permit.clone();
        let place = permit.place();
        // Nothing is signed, and no server filled, for a tool that is not reached any more.
        self.pipeline.reached(place).map(drop).map_err(unreached)?;
        let credential = self.credential(plan, receipt).await?;
        let Reached { vo, tool, upstream } = self.pipeline.reached(place).map_err(unreached)?;
        let task = &permit.found().task;
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        if task.filter.is_some() {
            forward::ask_for_whole_list(&mut headers);
        }
        Ok(Outgoing {
            method: place.method.clone(),
            target: place.target.as_str().to_owned(),
            headers,
            body: Counted::new(body, self.sent.clone(), task.max_body, self.gate.clone())
                .digested(self.digests.as_ref().map(|(sent, _)| sent.clone()))
                .boxed_unsync(),
            tool: tool.clone(),
            upstream,
            credential,
            identity: Identity {
                person: permit.subject().as_person().map(|person| person.id),
                vo: vo.name.clone(),
                task: task.name.clone(),
                request: self.id,
            },
            address: place.address,
            public_host: self.pipeline.answers.public_host(place),
            client: permit.subject().source(),
            timeout: task.timeout,
            trace: self.trace.clone(),
        })
    }

    /// The credential, made for as long as the lease holds: it may wait for a proxy that another request mints, or fill a
    /// server.
    async fn credential(&mut self, plan: Plan, receipt: &Receipt) -> Result<Credential, Failure> {
        let pipeline = self.pipeline.clone();
        let made = self.lease.during(pipeline.delegate.credential(plan, receipt));
        let credential = match made.await {
            Ok(Ok((Credential::Upload(upload), _))) => Box::pin(self.upload(*upload, receipt)).await?,
            Ok(Ok((credential, signed))) => {
                self.signed = signed;
                match credential {
                    Credential::Spool(file) => Box::pin(self.spool(*file)).await?,
                    ready => ready,
                }
            }
            Ok(Err(error)) => return Err(End::failure(Ending::Failed, error.as_problem())),
            Err(why) => return Err(why.into()),
        };
        self.lease.still().await?;
        Ok(credential)
    }

    /// Puts the proxy where the tool will find it, for as long as this lasts.
    async fn spool(&mut self, file: ToSpool) -> Result<Credential, Failure> {
        let put = file.put().await;
        let spooled =
            put.map_err(|error| End::failure(Ending::Failed, DelegateError::from(error).as_problem()))?;
        Ok(self.spooled.insert(spooled).told())
    }

    /// One of the gateway's own operations.
    async fn local(
        mut self,
        service: &'static str,
        request: http::Request<Body>,
        plan: Plan,
        receipt: Receipt,
        mut answer: Answer,
    ) {
        let task = self.permit.found().task.clone();
        let Some(service) = self.pipeline.locals.get(service).cloned() else {
            let problem = Problem::new(Kind::Internal, "this operation has no service");
            return self
                .fail(End::failure(Ending::Failed, problem), receipt, answer)
                .await;
        };
        let certifier = match self.pipeline.delegate.certifier(plan, &receipt) {
            Ok(certifier) => certifier,
            Err(error) => {
                let failure = End::failure(Ending::Failed, error.as_problem());
                return self.fail(failure, receipt, answer).await;
            }
        };
        let (head, body) = request.into_parts();
        let body = Counted::new(body, self.sent.clone(), task.max_body, self.gate.clone()).boxed_unsync();
        let call = LocalRequest {
            certifier: certifier.clone(),
            request: http::Request::from_parts(head, body),
            permit: self.permit.clone(),
            id: self.id,
            base: self.pipeline.answers.base().to_owned(),
            gone: CancellationToken::new(),
            within: Some(FromWithin::of(&self.pipeline, &self.permit, &self.trace)),
        };
        let gone = call.gone.clone();
        let clock = self.pipeline.ids.clock();
        let mut lap = self.pipeline.metrics.lap(&**clock, &self.trace);
        let mut asked = pin!(tower::ServiceExt::oneshot(service, call));
        let answered = tokio::select! {
            biased;
            answered = &mut asked => answered,
            () = answer.closed() => {
                gone.cancel();
                asked.await
            }
        };
        let response = match answered {
            Ok(response) => response,
            Err(never) => match never {},
        };
        lap.mark(Stage::Act);
        self.signed = certifier.and_then(|certifier| certifier.signed());
        let (head, body) = response.into_parts();
        let Ok(whole) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            let problem = Problem::new(Kind::Internal, "the operation broke off");
            return self
                .fail(End::failure(Ending::Failed, problem), receipt, answer)
                .await;
        };
        self.count(&whole);
        self.whole(
            End::answered(head.status),
            Response::from_parts(head, body::full(whole)),
            &task,
            receipt,
            answer,
        )
        .await;
    }

    /// The tool answered: its own refusal, a list to narrow, something made or removed, or just bytes.
    async fn answered(self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let problem = Problem::new(
                Kind::DeniedByResource,
                format!("the resource answered {}", status.as_u16()),
            );
            let end = End {
                tool_status: Some(status.as_u16()),
                ..End::problem(Ending::DeniedByResource, &problem)
            };
            return self.fail(Box::new((end, problem)), receipt, answer).await;
        }
        if task.filter.is_some() && status.is_success() {
            return Box::pin(self.narrowed(response, task, receipt, answer)).await;
        }
        if !task.creates.is_empty() || (task.deletes && status.is_success()) {
            return Box::pin(self.made(response, task, receipt, answer)).await;
        }
        let small = response
            .body()
            .size_hint()
            .upper()
            .is_some_and(|upper| upper <= WHOLE);
        if small {
            self.small(response, task, receipt, answer).await
        } else {
            Box::pin(self.stream(response, task, receipt, answer)).await
        }
    }

    /// A short answer: read whole, so that its outcome precedes its head.
    async fn small(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let (head, body) = response.into_parts();
        match self.collect(body, WHOLE).await {
            Ok((whole, trailers)) => {
                let body = flow::whole(whole, trailers);
                self.whole(
                    End::answered(head.status),
                    Response::from_parts(head, body),
                    task,
                    receipt,
                    answer,
                )
                .await;
            }
            Err(failure) => self.fail(failure, receipt, answer).await,
        }
    }

    /// Reads an answer whole, for as long as the lease holds.
    async fn collect(&mut self, body: Body, limit: u64) -> Result<(Bytes, Option<http::HeaderMap>), Failure> {
        match self.lease.during(pin!(flow::collect(body, limit))).await {
            Ok(Ok((whole, trailers))) => {
                self.count(&whole);
                Ok((whole, trailers))
            }
            Ok(Err(problem)) => Err(End::failure(Ending::ToolFailed, problem)),
            Err(why) => {
                self.gate.close();
                Err(why.into())
            }
        }
    }

    fn count(&self, whole: &Bytes) {
        let size = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        self.received.store(size, Ordering::Relaxed);
        if let Some((_, received)) = &self.digests {
            received.add(whole);
            received.end();
        }
    }

    /// An answer that is at hand as a whole.
    async fn whole(self, end: End, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let outcome = self.outcome(end);
        if self.needs_none(task) {
            receipt.alone();
        } else if self.awaited(task) {
            if let Err(error) = receipt.outcome(outcome).await {
                let _ = answer.send(Err(error.as_problem()));
                return;
            }
        } else {
            receipt.outcome_soon(outcome);
        }
        let _ = answer.send(Ok(response));
    }

    /// A long answer: the head goes on at once, each frame as soon as it comes; where the outcome is awaited, the end of
    /// the answer waits for it.
    async fn stream(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let (head, body) = response.into_parts();
        let (status, awaited) = (head.status, self.awaited(task));
        let (relay, body) = Relay::new(body, awaited, self.received.clone(), self.gate.clone());
        let mut relay = relay.digested(self.digests.as_ref().map(|(_, received)| received.clone()));
        if answer.send(Ok(Response::from_parts(head, body))).is_err() {
            relay.lose();
        }
        let (end, broke) = match self.lease.during(relay.run()).await {
            Ok(Passed::Whole) => (End::answered(status), None),
            Ok(Passed::Left) => {
                let end = End {
                    error: Some("client_gone".into()),
                    ..End::answered(status)
                };
                (end, None)
            }
            Ok(Passed::Broke(error)) => {
                tracing::warn!(request.id = %self.id, "the answer to request {} broke off", self.id);
                let end = End {
                    status: Some(status.as_u16()),
                    error: Some("broke_off".into()),
                    ..End::new(Ending::ToolFailed)
                };
                (end, Some(error))
            }
            Err(why) => {
                tracing::info!(request.id = %self.id, "request {} was broken off: {}", self.id, why.told().1);
                // The client and the tool see at once that there is no more.
                self.gate.close();
                drop(relay);
                return self.end(cut(&why, status), receipt).await;
            }
        };
        if let Some(error) = broke {
            relay.abort(error).await;
            return self.end(end, receipt).await;
        }
        let outcome = self.outcome(end);
        if self.needs_none(task) {
            receipt.alone();
            return relay.finish().await;
        }
        if !awaited {
            receipt.outcome_soon(outcome);
            return relay.finish().await;
        }
        match receipt.outcome(outcome).await {
            Ok(()) => relay.finish().await,
            // The log failed in mid-answer: the stream is aborted, never ended cleanly.
            Err(error) => relay.abort(BoxError::from(error)).await,
        }
    }

    /// Writes down an end that nobody waits for any more.
    async fn end(self, end: End, receipt: Receipt) {
        let outcome = self.outcome(end);
        if let Err(error) = receipt.outcome(outcome).await {
            tracing::error!(request.id = %self.id, "the end of request {} could not be recorded yet: {error}", self.id);
        }
    }

    /// A problem after the intent: the outcome says so, durably, before the client hears it.
    async fn fail(self, failure: Failure, receipt: Receipt, answer: Answer) {
        let (end, problem) = *failure;
        let outcome = self.outcome(end);
        let problem = match receipt.outcome(outcome).await {
            Ok(()) => problem,
            Err(error) => error.as_problem(),
        };
        let _ = answer.send(Err(problem));
    }

    /// Whether the intent of an answered request stands alone. The credential that was signed stands in the outcome only.
    fn needs_none(&self, task: &Task) -> bool {
        !task.recorded.outcome && self.signed.is_none()
    }

    fn awaited(&self, task: &Task) -> bool {
        let strict = self.permit.place().tool.as_ref().is_some_and(|tool| tool.strict);
        strict || task.strict || task.kind.changes_state()
    }

    fn outcome(&self, end: End) -> Outcome {
        let spent = self.pipeline.ids.clock().monotonic().saturating_sub(self.started);
        Outcome {
            request: self.id,
            ending: end.ending,
            status: end.status,
            tool_status: end.tool_status,
            bytes_in: self.sent.load(Ordering::Relaxed),
            bytes_out: self.received.load(Ordering::Relaxed),
            duration_us: u64::try_from(spent.as_micros()).unwrap_or(u64::MAX),
            error: end.error,
            created: end.created,
            deleted: end.deleted,
            signed: self.signed.clone(),
            bodies: self.digests.as_ref().map(|(sent, received)| {
                Box::new(BodyDigests {
                    request: sent.so_far(),
                    answer: received.so_far(),
                })
            }),
        }
    }
}
