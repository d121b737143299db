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
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};

use super::cors;
use super::exchange::{Exchange, named};
use super::flow::{self, Counted, Part};
use super::outlive::Outliving;
use super::pipeline::{Pipeline, Stop};
use crate::audit::Receipt;
use crate::authorize::Permit;
use crate::body::{self, Body, BoxError};
use crate::delegate::Plan;
use crate::forward::{self, ForwardError, Identity, LocalRequest, Outgoing};
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{CreatedEntry, DeletedEntry, Ending, Event, Outcome, SignedEntry};
use crate::telemetry::{Stage, Trace};
use crate::tool::{self, Task, Tool, ToolTarget, Whose};

/// Answers up to this size are read whole before the head is sent on.
const WHOLE: u64 = 64 * 1024;
/// Largest answer in which created ids are looked for.
const CREATED_LIMIT: u64 = 8 * 1024 * 1024;
/// How much of an answer is still read after the client went away.
const READ_ON_BYTES: u64 = 1024 * 1024;
/// How long.
const READ_ON_TIME: Duration = Duration::from_secs(30);
/// Frames that may wait between the tool and the client.
const FRAMES: usize = 8;

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
        let act = Act {
            pipeline: self.clone(),
            id: x.id,
            trace: x.trace.clone(),
            started: self.ids.clock().monotonic(),
            permit: permit.clone(),
            sent: Arc::default(),
            received: 0,
            signed: None,
            busy: None,
        };
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

/// The answer's head, once.
type Answer = oneshot::Sender<Result<Response<Body>, Problem>>;

/// One permitted request.
struct Act {
    pipeline: Arc<Pipeline>,
    id: RequestId,
    trace: Trace,
    started: Duration,
    permit: Arc<Permit>,
    sent: Arc<AtomicU64>,
    received: u64,
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
}

impl Act {
    async fn run(mut self, request: http::Request<Body>, plan: Plan, receipt: Receipt, answer: Answer) {
        let permit = self.permit.clone();
        let task = permit.found().task.clone();
        if let Some(service) = task.local {
            return self.local(service, request, &task, receipt, answer).await;
        }
        let credential = match self.pipeline.delegate.credential(plan, &receipt).await {
            Ok((credential, signed)) => {
                self.signed = signed;
                credential
            }
            Err(error) => {
                return self
                    .fail(
                        End::problem(Ending::Failed, &error.as_problem()),
                        error.as_problem(),
                        receipt,
                        answer,
                    )
                    .await;
            }
        };
        let outgoing = match self.outgoing(request, credential) {
            Ok(outgoing) => outgoing,
            Err(problem) => {
                return self
                    .fail(
                        End::problem(Ending::ToolFailed, &problem),
                        problem,
                        receipt,
                        answer,
                    )
                    .await;
            }
        };
        let answer_head = self.sent(outgoing, &permit).await;
        match answer_head {
            Ok(response) => self.answered(response, &task, receipt, answer).await,
            Err(error) => {
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
                self.fail(end, problem, receipt, answer).await;
            }
        }
    }

    /// Sends the request, and counts how long the tool took and how it failed.
    async fn sent(&mut self, outgoing: Outgoing, permit: &Permit) -> Result<Response<Body>, ForwardError> {
        let (metrics, at) = (&self.pipeline.metrics, named(Some(permit.place())));
        let mut lap = metrics.lap(&**self.pipeline.ids.clock(), &self.trace);
        self.busy = Some(self.pipeline.forward.busy(&outgoing.upstream));
        let answer = self.pipeline.forward.send(outgoing).await;
        let took = lap.mark(Stage::Act);
        match &answer {
            Ok(_) => metrics.tool_answered(at, took),
            Err(error) => metrics.tool_failed(at, error.word()),
        }
        answer
    }

    /// The request as the tool will see it.
    fn outgoing(
        &self,
        request: http::Request<Body>,
        credential: crate::delegate::Credential,
    ) -> Result<Outgoing, Problem> {
        let (permit, place) = (&self.permit, self.permit.place());
        let missing = || {
            Problem::new(
                Kind::ToolUnreachable,
                "the tool's upstream is not registered any more",
            )
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
            body: Counted::new(body, self.sent.clone(), task.max_body).boxed_unsync(),
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
            trace: self.trace.clone(),
            timeout: task.timeout,
        })
    }

    /// One of the gateway's own operations.
    async fn local(
        mut self,
        service: &'static str,
        request: http::Request<Body>,
        task: &Task,
        receipt: Receipt,
        answer: Answer,
    ) {
        let Some(service) = self.pipeline.locals.get(service).cloned() else {
            let problem = Problem::new(Kind::Internal, "this operation has no service");
            return self
                .fail(End::problem(Ending::Failed, &problem), problem, receipt, answer)
                .await;
        };
        let (head, body) = request.into_parts();
        let body = Counted::new(body, self.sent.clone(), task.max_body).boxed_unsync();
        let call = LocalRequest {
            request: http::Request::from_parts(head, body),
            permit: self.permit.clone(),
            id: self.id,
            base: self.pipeline.answers.base().to_owned(),
        };
        let mut lap = self
            .pipeline
            .metrics
            .lap(&**self.pipeline.ids.clock(), &self.trace);
        let response = match tower::ServiceExt::oneshot(service, call).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        lap.mark(Stage::Act);
        let (head, body) = response.into_parts();
        let Ok(whole) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            let problem = Problem::new(Kind::Internal, "the operation broke off");
            return self
                .fail(End::problem(Ending::Failed, &problem), problem, receipt, answer)
                .await;
        };
        self.received = u64::try_from(whole.len()).unwrap_or(u64::MAX);
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
            return self.fail(end, problem, receipt, answer).await;
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let problem = Problem::new(
                Kind::ToolAnswer,
                "the tool switched protocols without being asked",
            );
            return self
                .fail(End::problem(Ending::Withheld, &problem), problem, receipt, answer)
                .await;
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
        match flow::collect(body, WHOLE).await {
            Ok((whole, trailers)) => {
                self.received = u64::try_from(whole.len()).unwrap_or(u64::MAX);
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
            Err(problem) => {
                self.fail(
                    End::problem(Ending::ToolFailed, &problem),
                    problem,
                    receipt,
                    answer,
                )
                .await
            }
        }
    }

    /// A list: every item is decided; whatever cannot be checked is withheld.
    async fn narrowed(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        match self.narrow(response, task).await {
            Ok(response) => {
                let end = End::answered(response.status());
                self.whole(end, response, task, receipt, answer).await;
            }
            Err(problem) => {
                tracing::error!(request.id = %self.id, "a list was withheld from request {}: {}", self.id, problem.detail);
                self.fail(End::problem(Ending::Withheld, &problem), problem, receipt, answer)
                    .await;
            }
        }
    }

    async fn narrow(&mut self, response: Response<Body>, task: &Task) -> Result<Response<Body>, Problem> {
        let withheld = |detail: String| Problem::new(Kind::ToolAnswer, detail);
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
        let (whole, _) = flow::collect(body, rule.limit).await?;
        self.received = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let list = rule.read(&whole).map_err(|error| error.as_problem())?;
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
            .await?;
        let narrowed = list.keep(&keep).map_err(|error| error.as_problem())?;
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
        let (whole, trailers) = match flow::collect(body, CREATED_LIMIT).await {
            Ok(read) => read,
            Err(problem) => {
                return self
                    .fail(
                        End::problem(Ending::ToolFailed, &problem),
                        problem,
                        receipt,
                        answer,
                    )
                    .await;
            }
        };
        self.received = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let mut end = End::answered(head.status);
        match self.created(task, &head, &whole) {
            Ok(created) => end.created = created,
            Err(problem) => {
                end = End {
                    tool_status: Some(head.status.as_u16()),
                    ..End::problem(Ending::Withheld, &problem)
                };
                return self.fail(end, problem, receipt, answer).await;
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
    async fn owned(&self, created: &[CreatedEntry], deleted: &[DeletedEntry]) -> Result<(), Problem> {
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

    /// A long answer: the head goes on at once, the body frame by frame; where the outcome is awaited, the last frame
    /// waits for it.
    async fn stream(mut self, response: Response<Body>, task: &Task, receipt: Receipt, answer: Answer) {
        let (head, mut body) = response.into_parts();
        let mut end = End::answered(head.status);
        let awaited = self.awaited(task);
        let (send, frames) = mpsc::channel(FRAMES);
        let mut client = Some(send);
        if answer
            .send(Ok(Response::from_parts(head, flow::channel(frames))))
            .is_err()
        {
            client = None;
        }
        let mut held: Option<Frame<Bytes>> = None;
        let (mut gone_at, mut read_on) = (None, 0_u64);
        loop {
            if client.is_none() {
                let since = *gone_at.get_or_insert_with(|| self.pipeline.ids.clock().monotonic());
                let waited = self.pipeline.ids.clock().monotonic().saturating_sub(since);
                if read_on >= READ_ON_BYTES || waited >= READ_ON_TIME {
                    end.error = Some("client_gone".into());
                    break;
                }
            }
            let next = if client.is_none() {
                match tokio::time::timeout(READ_ON_TIME, body.frame()).await {
                    Ok(next) => next,
                    Err(_) => {
                        end.error = Some("client_gone".into());
                        break;
                    }
                }
            } else {
                body.frame().await
            };
            let frame = match next {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    tracing::warn!(request.id = %self.id, "the answer to request {} broke off", self.id);
                    end = End {
                        status: end.status,
                        error: Some("broke_off".into()),
                        ..End::new(Ending::ToolFailed)
                    };
                    flow::pass(&mut client, Part::Frame(Err(error))).await;
                    held = None;
                    client = None;
                    break;
                }
                None => break,
            };
            let size = frame
                .data_ref()
                .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
            self.received = self.received.saturating_add(size);
            if client.is_none() {
                read_on = read_on.saturating_add(size);
                continue;
            }
            // INVARIANT: an awaited outcome is durable before the answer's last frame leaves.
            let ready = if awaited { held.replace(frame) } else { Some(frame) };
            if let Some(frame) = ready {
                flow::pass(&mut client, Part::Frame(Ok(frame))).await;
            }
        }
        let outcome = self.outcome(end);
        if !awaited {
            receipt.outcome_soon(outcome);
            return flow::pass(&mut client, Part::End).await;
        }
        match receipt.outcome(outcome).await {
            Ok(()) => {
                if let Some(frame) = held {
                    flow::pass(&mut client, Part::Frame(Ok(frame))).await;
                }
                flow::pass(&mut client, Part::End).await;
            }
            // The log failed in mid-answer: the stream is aborted, never ended cleanly.
            Err(error) => flow::pass(&mut client, Part::Frame(Err(BoxError::from(error)))).await,
        }
    }

    /// A problem after the intent: the outcome says so, durably, before the client hears it.
    async fn fail(self, end: End, problem: Problem, receipt: Receipt, answer: Answer) {
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
            bytes_out: self.received,
            duration_us: u64::try_from(spent.as_micros()).unwrap_or(u64::MAX),
            error: end.error,
            created: end.created,
            deleted: end.deleted,
            signed: self.signed.clone(),
        }
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
