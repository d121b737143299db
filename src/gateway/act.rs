//! `act`: what happens after the intent is durable. Signs, forwards, reads the answer, writes the outcome and learns who
//! owns what was made.
//!
//! It outlives a client that goes away, so that neither the outcome nor the ownership is lost: the rest of the answer is
//! read for at most 1 MiB or 30 seconds. The outcome of whatever changes state is durable before the
//! end of the answer reaches the client; that of a read rides on the next batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use tokio::sync::oneshot;

use super::cors;
use super::exchange::{Exchange, named};
use super::flow::{self, Counted, Gate, Passed, Relay};
use super::lease::{Held, Lease, Why};
use super::outlive::Outliving;
use super::pipeline::{Pipeline, Stop};
use super::tunnel::{Closed, Tunnel};
use crate::audit::Receipt;
use crate::authorize::Permit;
use crate::body::{self, Body, BoxError};
use crate::delegate::Plan;
use crate::forward::{self, ForwardError, Identity, LocalRequest, Outgoing, Switched};
use crate::id::{RequestId, UpstreamId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{CreatedEntry, DeletedEntry, Ending, Event, Outcome, SignedEntry};
use crate::telemetry::{Stage, Trace};
use crate::tool::{self, Place, Task, Tool, ToolTarget, Upgrade, Whose};

/// Answers up to this size are read whole before the head is sent on.
const WHOLE: u64 = 64 * 1024;
/// Largest answer in which created ids are looked for.
const CREATED_LIMIT: u64 = 8 * 1024 * 1024;
/// How long a client's connection may take to be switched.
const SWITCH: Duration = Duration::from_secs(10);

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
        let act = Act::new(self, (x.id, x.trace.clone()), permit.clone());
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

impl Pipeline {
    /// The upstream of a place's tool as it is now: which, and in which version.
    pub(super) fn upstream_of(&self, place: &Place) -> Option<(UpstreamId, i64)> {
        let (tool, vo) = (place.tool.as_ref()?, place.vo.as_ref()?);
        let ToolTarget::Upstream(name) = &tool.target else {
            return None;
        };
        let directory = self.directory.load();
        let upstream = directory.upstream(vo.id, name)?;
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
    /// The connection that it needs, for monitoring.
    busy: Option<forward::Busy>,
}

/// How a request ended, before it is written down.
struct End {
    ending: Ending,
    status: Option<u16>,
    tool_status: Option<u16>,
    error: Option<String>,
    created: Vec<CreatedEntry>,
    deleted: Vec<DeletedEntry>,
}

/// An end without an answer of the tool: what is written down, and what the client hears.
type Failure = Box<(End, Problem)>;

impl End {
    const fn new(ending: Ending) -> Self {
        Self {
            ending,
            status: None,
            tool_status: None,
            error: None,
            created: Vec::new(),
            deleted: Vec::new(),
        }
    }

    fn answered(status: StatusCode) -> Self {
        Self {
            status: Some(status.as_u16()),
            ..Self::new(Ending::Answered)
        }
    }

    fn problem(ending: Ending, problem: &Problem) -> Self {
        Self {
            status: Some(problem.kind.status()),
            error: Some(problem.kind.name().into()),
            ..Self::new(ending)
        }
    }

    fn failure(ending: Ending, problem: Problem) -> Failure {
        Box::new((Self::problem(ending, &problem), problem))
    }
}

impl From<Why> for Failure {
    /// The lease ended before there was an answer.
    fn from(why: Why) -> Self {
        let (ending, word) = why.told();
        let (word, problem) = (word.to_owned(), why.problem());
        let end = End {
            error: Some(word),
            ..End::problem(ending, &problem)
        };
        Box::new((end, problem))
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        let problem = too_large(&error).unwrap_or_else(|| error.as_problem());
        let ending = if error.sent() {
            Ending::ToolFailed
        } else {
            Ending::NotSent
        };
        let end = End {
            error: Some(error.word().into()),
            ..End::problem(ending, &problem)
        };
        Box::new((end, problem))
    }
}

impl Act {
    fn new(pipeline: &Arc<Pipeline>, (id, trace): (RequestId, Trace), permit: Arc<Permit>) -> Self {
        let started = pipeline.ids.clock().monotonic();
        let (sent, received) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let lease = if permit.found().task.local.is_some() {
            Lease::none()
        } else {
            Lease::new(Held {
                pipeline: pipeline.clone(),
                id,
                permit: permit.clone(),
                session: pipeline.authenticate.watch(permit.subject()),
                upstream: pipeline.upstream_of(permit.place()),
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
            busy: None,
        }
    }

    async fn run(mut self, request: http::Request<Body>, plan: Plan, receipt: Receipt, answer: Answer) {
        let permit = self.permit.clone();
        let task = permit.found().task.clone();
        if let Some(service) = task.local {
            return self.local(service, request, &task, receipt, answer).await;
        }
        // What asks for a task's own protocols came this far; anything else was refused.
        if let Some(upgrade) = request
            .headers()
            .get(header::UPGRADE)
            .and_then(|_| task.upgrade.first())
        {
            return self.switch(*upgrade, request, plan, receipt, answer).await;
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
        let clock = self.pipeline.ids.clock();
        let mut lap = self.pipeline.metrics.lap(&**clock, &self.trace);
        let sent = self.lease.during(self.pipeline.forward.send(outgoing)).await;
        let took = lap.mark(Stage::Act);
        let (metrics, at) = (&self.pipeline.metrics, named(Some(self.permit.place())));
        match sent {
            Ok(Ok(response)) => {
                metrics.tool_answered(at, took);
                Ok(response)
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

    /// Switches the connections to tool and client to another protocol, and passes what flows there.
    async fn switch(
        mut self,
        upgrade: Upgrade,
        mut request: http::Request<Body>,
        plan: Plan,
        receipt: Receipt,
        answer: Answer,
    ) {
        let (client, seat) = (
            hyper::upgrade::on(&mut request),
            request.extensions_mut().remove::<super::listener::Seat>(),
        );
        let task = self.permit.found().task.clone();
        let switched = match self.outgoing(request, plan, &receipt).await {
            Ok(outgoing) => {
                self.busy = Some(self.pipeline.forward.busy(&outgoing.upstream));
                let asked = self.pipeline.forward.switch(outgoing, upgrade);
                match self.lease.during(asked).await {
                    Ok(Ok(switched)) => Ok(switched),
                    Ok(Err(error)) => Err(error.into()),
                    Err(why) => Err(why.into()),
                }
            }
            Err(failure) => Err(failure),
        };
        match switched {
            Ok(Switched::Over(head, tool)) => {
                // INVARIANT: the client is switched only after the tool was.
                let told = answer.send(Ok(*head)).is_ok();
                let end = self.tunnel(told, client, tool).await;
                drop(seat);
                self.settle(end, &task, receipt).await;
            }
            Ok(Switched::Not(response)) => self.answered(*response, &task, receipt, answer).await,
            Err(failure) => self.fail(failure, receipt, answer).await,
        }
    }

    /// Passes bytes both ways for as long as the lease holds and the gateway runs.
    async fn tunnel(
        &mut self,
        told: bool,
        client: hyper::upgrade::OnUpgrade,
        tool: Upgraded,
    ) -> (End, Option<Tunnel>) {
        let ended = |error: Option<&str>| End {
            error: error.map(str::to_owned),
            ..End::answered(StatusCode::SWITCHING_PROTOCOLS)
        };
        let client = tokio::time::timeout(SWITCH, client);
        let client = match self.lease.during(client).await {
            Ok(Ok(Ok(client))) if told => client,
            Ok(_) => return (ended(Some("client_gone")), None),
            Err(why) => return (cut(&why, StatusCode::SWITCHING_PROTOCOLS), None),
        };
        let counts = (self.sent.clone(), self.received.clone());
        let idle = self.pipeline.forward.upgrade_idle_timeout();
        let mut tunnel = Tunnel::new(client, tool, counts, idle);
        let stopping = self.pipeline.acts.stopping();
        let passed = async {
            tokio::select! {
                closed = tunnel.run() => Ok(closed),
                () = stopping.cancelled() => Err(Why::Stopped),
            }
        };
        let closed = match self.lease.during(passed).await {
            Ok(passed) => passed,
            Err(why) => Err(why),
        };
        match closed {
            Ok(Closed::Ended) => (ended(None), Some(tunnel)),
            Ok(Closed::ClientBroke) => (ended(Some("client_gone")), None),
            Ok(Closed::Idle) => (ended(Some("idle")), Some(tunnel)),
            Ok(Closed::ToolBroke) => {
                let end = End {
                    ending: Ending::ToolFailed,
                    ..ended(Some("broke_off"))
                };
                (end, None)
            }
            // Both connections are dropped where they stand.
            Err(why) => (cut(&why, StatusCode::SWITCHING_PROTOCOLS), None),
        }
    }

    /// Writes down how a tunnel ended; where that is awaited, before the client sees its end.
    async fn settle(self, (end, tunnel): (End, Option<Tunnel>), task: &Task, receipt: Receipt) {
        let outcome = self.outcome(end);
        if self.awaited(task) {
            // Where the log fails the connection is dropped, never ended in order.
            if receipt.outcome(outcome).await.is_err() {
                return;
            }
        } else {
            receipt.outcome_soon(outcome);
        }
        if let Some(tunnel) = tunnel {
            tunnel.close().await;
        }
    }

    /// The request as the tool will see it, with the credential that it needs.
    async fn outgoing(
        &mut self,
        request: http::Request<Body>,
        plan: Plan,
        receipt: &Receipt,
    ) -> Result<Outgoing, Failure> {
        let credential = match self.pipeline.delegate.credential(plan, receipt).await {
            Ok((credential, signed)) => {
                self.signed = signed;
                credential
            }
            Err(error) => return Err(End::failure(Ending::Failed, error.as_problem())),
        };
        let (permit, place) = (&self.permit, self.permit.place());
        let missing = || {
            let problem = Problem::new(
                Kind::ToolUnreachable,
                "the tool's upstream is not registered any more",
            );
            End::failure(Ending::ToolFailed, problem)
        };
        let (Some(tool), Some(vo)) = (&place.tool, &place.vo) else {
            return Err(missing());
        };
        let ToolTarget::Upstream(name) = &tool.target else {
            return Err(missing());
        };
        let upstream = self
            .pipeline
            .directory
            .load()
            .upstream(vo.id, name)
            .cloned()
            .ok_or_else(missing)?;
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
            body: Counted::new(body, self.sent.clone(), task.max_body, self.gate.clone()).boxed_unsync(),
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

    /// One of the gateway's own operations.
    async fn local(
        self,
        service: &'static str,
        request: http::Request<Body>,
        task: &Task,
        receipt: Receipt,
        answer: Answer,
    ) {
        let Some(service) = self.pipeline.locals.get(service).cloned() else {
            let problem = Problem::new(Kind::Internal, "this operation has no service");
            return self
                .fail(End::failure(Ending::Failed, problem), receipt, answer)
                .await;
        };
        let (head, body) = request.into_parts();
        let body = Counted::new(body, self.sent.clone(), task.max_body, self.gate.clone()).boxed_unsync();
        let call = LocalRequest {
            request: http::Request::from_parts(head, body),
            permit: self.permit.clone(),
            id: self.id,
            base: self.pipeline.answers.base().to_owned(),
        };
        let clock = self.pipeline.ids.clock();
        let mut lap = self.pipeline.metrics.lap(&**clock, &self.trace);
        let response = match tower::ServiceExt::oneshot(service, call).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        lap.mark(Stage::Act);
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
            task,
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
            return self.narrowed(response, task, receipt, answer).await;
        }
        if !task.creates.is_empty() || (task.deletes && status.is_success()) {
            return self.made(response, task, receipt, answer).await;
        }
        let small = response
            .body()
            .size_hint()
            .upper()
            .is_some_and(|upper| upper <= WHOLE);
        if small {
            self.small(response, task, receipt, answer).await
        } else {
            self.stream(response, task, receipt, answer).await
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
        match self.lease.during(flow::collect(body, limit)).await {
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
    }

    /// A list: every item is decided; whatever cannot be checked is withheld.
    async fn narrowed(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        match self.narrow(response, task).await {
            Ok(response) => {
                let end = End::answered(response.status());
                self.whole(end, response, task, receipt, answer).await;
            }
            Err(failure) => {
                if failure.0.ending == Ending::Withheld {
                    tracing::error!(request.id = %self.id, "a list was withheld from request {}: {}", self.id, failure.1.detail);
                }
                self.fail(failure, receipt, answer).await;
            }
        }
    }

    async fn narrow(&mut self, response: Response<Body>, task: &Task) -> Result<Response<Body>, Failure> {
        let unfit = |problem| End::failure(Ending::Withheld, problem);
        let withheld = |detail: String| unfit(Problem::new(Kind::ToolAnswer, detail));
        if self.permit.place().method == http::Method::HEAD {
            // The head of the whole list tells its size; that of the narrowed one is not known without its body.
            let mut head = Response::new(body::empty());
            *head.status_mut() = response.status();
            head.headers_mut().insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("private, no-store"),
            );
            return Ok(head);
        }
        let Some(rule) = &task.filter else {
            return Err(withheld("the task has no filter".into()));
        };
        let (mut head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(withheld(format!(
                "the list came with status {}, which cannot be checked",
                head.status.as_u16()
            )));
        }
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(withheld(
                "the list came encoded although it was asked for plain".into(),
            ));
        }
        let (whole, _) = match self.collect(body, rule.limit).await {
            Ok(read) => read,
            Err(failure) if failure.0.ending == Ending::ToolFailed => return Err(unfit(failure.1)),
            Err(failure) => return Err(failure),
        };
        let list = rule.read(&whole).map_err(|error| unfit(error.as_problem()))?;
        let tool = self.permit.place().tool.as_ref();
        let ids: Vec<String> = list
            .ids()
            .iter()
            .map(|id| tool.map_or_else(|| id.clone(), |tool| tool.id_of(id)))
            .collect();
        let keep = self
            .pipeline
            .authorize
            .visible(&self.permit, &rule.kind, &ids)
            .await
            .map_err(unfit)?;
        let narrowed = list.keep(&keep).map_err(|error| unfit(error.as_problem()))?;
        for name in [
            header::ETAG,
            header::LAST_MODIFIED,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ] {
            head.headers.remove(name);
        }
        head.headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        );
        Ok(Response::from_parts(head, body::full(narrowed)))
    }

    /// An answer that makes or removes something: the outcome with it is durable, then the store, then the answer.
    async fn made(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let (head, body) = response.into_parts();
        let (whole, trailers) = match self.collect(body, CREATED_LIMIT).await {
            Ok(read) => read,
            Err(failure) => return self.fail(failure, receipt, answer).await,
        };
        let mut end = End::answered(head.status);
        match self.created(task, &head, &whole) {
            Ok(created) => end.created = created,
            Err(problem) => {
                end = End {
                    tool_status: Some(head.status.as_u16()),
                    ..End::problem(Ending::Withheld, &problem)
                };
                return self.fail(Box::new((end, problem)), receipt, answer).await;
            }
        }
        if task.deletes && head.status.is_success() {
            end.deleted = self.deleted();
        }
        let (created, deleted) = (end.created.clone(), end.deleted.clone());
        if let Err(error) = receipt.outcome(self.outcome(end)).await {
            let _ = answer.send(Err(error.as_problem()));
            return;
        }
        let response = match self.owned(&created, &deleted).await {
            Ok(()) => Ok(Response::from_parts(head, flow::whole(whole, trailers))),
            Err(problem) => Err(problem),
        };
        let _ = answer.send(response);
    }

    fn created(
        &self,
        task: &Task,
        head: &http::response::Parts,
        whole: &Bytes,
    ) -> Result<Vec<CreatedEntry>, Problem> {
        let (place, found) = (self.permit.place(), self.permit.found());
        let (Some(vo), Some(by)) = (&place.vo, &place.tool) else {
            return Ok(Vec::new());
        };
        let person = self.permit.subject().as_person().map(|person| person.id);
        let made = tool::created(
            &task.creates,
            &found.parameters,
            head.status.as_u16(),
            &head.headers,
            Some(whole),
        )
        .map_err(|error| error.as_problem())?;
        let entry = |made: tool::Created| CreatedEntry {
            vo: vo.id,
            tool: by.name.clone(),
            kind: made.kind,
            id: by.id_of(&made.id),
            owner: match made.owner {
                Whose::Subject => person,
                Whose::Nobody => None,
            },
            parent: made.parent.map(|(kind, id)| (kind, by.id_of(&id))),
            attributes: made.attributes,
        };
        Ok(made.into_iter().map(entry).collect())
    }

    fn deleted(&self) -> Vec<DeletedEntry> {
        let place = self.permit.place();
        let (Some(vo), Some(tool), Some(resource)) = (&place.vo, &place.tool, &self.permit.found().resource)
        else {
            return Vec::new();
        };
        let (kind, id) = (resource.kind.clone(), resource.id.clone());
        vec![DeletedEntry {
            vo: vo.id,
            tool: tool.name.clone(),
            kind,
            id,
        }]
    }

    /// Writes down who owns what. The first owner stays; a second claim is recorded, and withheld for unique types.
    async fn owned(&mut self, created: &[CreatedEntry], deleted: &[DeletedEntry]) -> Result<(), Problem> {
        let resources = &self.pipeline.resources;
        resources
            .deleted(self.id, deleted)
            .await
            .map_err(|error| error.as_problem())?;
        let conflicts = resources
            .created(self.id, created)
            .await
            .map_err(|error| error.as_problem())?;
        let mut withhold = false;
        for conflict in conflicts {
            let unique = self
                .permit
                .place()
                .tool
                .as_ref()
                .is_some_and(|tool: &Arc<Tool>| tool.unique.contains(&conflict.claimed.kind));
            withhold |= unique;
            tracing::error!(request.id = %self.id, "request {} claimed something that has another owner", self.id);
            let event = Event::OwnershipConflict(conflict);
            self.pipeline
                .audit
                .write(event)
                .await
                .map_err(|error| error.as_problem())?;
        }
        if withhold {
            return Err(Problem::new(
                Kind::ToolAnswer,
                "the tool answered with an id that belongs to somebody else",
            ));
        }
        Ok(())
    }

    /// An answer that is at hand as a whole.
    async fn whole(self, end: End, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let outcome = self.outcome(end);
        if self.awaited(task) {
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
        let (mut relay, body) = Relay::new(body, awaited, self.received.clone(), self.gate.clone());
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
        }
    }
}

/// The lease ended in the middle of an answer.
fn cut(why: &Why, status: StatusCode) -> End {
    let (ending, word) = why.told();
    End {
        status: Some(status.as_u16()),
        error: Some(word.to_owned()),
        ..End::new(ending)
    }
}

/// A request body past its task's limit, which broke off on its way to the tool.
fn too_large(error: &ForwardError) -> Option<Problem> {
    let ForwardError::BodyBroke(cause) = error else {
        return None;
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
    while let Some(error) = cause {
        if let Some(flow::TooLarge(limit)) = error.downcast_ref() {
            return Some(Problem::new(
                Kind::TooLarge,
                format!("this task takes at most {limit} bytes"),
            ));
        }
        cause = error.source();
    }
    None
}
