//! The path of a request, top to bottom: place, subject, (the body that names the task, a parent that is not known,) decide,
//! plan, intent, act, outcome.
//!
//! Everything served goes through [`Pipeline::run`] as a task, the login page, console and API included, so nothing is
//! served unaudited. [`Pipeline::admit`] is the part that protocols other than HTTP use.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response, header};

use super::acts::Acts;
use super::answer::{Answers, Pages};
use super::budgets::Budgets;
use super::exchange::{Exchange, Words, named};
use super::framing::{Limits, Refused as Unserved};
use super::hosts::{self, Hosts};
use super::judged::Judging;
use super::late;
use super::listener::{ConnectionInfo, Handler};
use super::reason;
use super::resolve::LookUps;
use super::strangers::Strangers;
use crate::alert::Alert;
use crate::audit::{Audit, Reasons, Receipt, Space};
use crate::authenticate::{Authenticate, Journal, Source, Subject};
use crate::authorize::{Authorize, Denial, Permit};
use crate::body::Body;
use crate::delegate::{Delegate, DelegateError, KEY_PATIENCE, Plan};
use crate::forward::{Forward, LocalService};
use crate::id::{Ids, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Entry, Event, Refused, SubjectEntry};
use crate::resource::Resources;
use crate::telemetry::{Decision, Metrics, Stage, Trace, Tracing};
use crate::tool::{self, Audience, Place, ToolsHandle};
use crate::vo::{DirectoryHandle, OWN_TOOL};

/// Why a request stops before `act`. Recorded before it is answered; whatever fails, refuses.
pub(crate) enum Stop {
    /// 400, 405, 421, 501: it could be read in more than one way, or is not served.
    Rejected(Problem),
    /// 401: a credential was missing or not right. Carries the person it claimed to be, if that account exists.
    Challenge(Box<SubjectEntry>, Option<Box<Place>>, Problem),
    /// 403: a decision; counted for alerts when a person is known.
    Denied(Box<Denial>),
    /// 501, 503: permitted, but not served in this way, or it cannot be given authority. A refusal like any other.
    Unplanned(Box<Entry>, Box<Place>, Problem),
    /// 400, 413: a body that was to name the task cannot be read in one way.
    Unfit(Box<SubjectEntry>, Option<Box<Place>>, Problem),
    /// 429: slowed down.
    Throttled(Box<SubjectEntry>, Option<Box<Place>>, Problem),
    /// 5xx: something failed.
    Failed(Option<Box<Place>>, Problem),
}

/// What a request is admitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To ask, and be answered.
    Call,
    /// To go on in another protocol.
    Upgrade,
    /// To bring the tool a certificate for a key of its own.
    Lend,
}

/// Every part that a request passes, as the composition root hands them over.
pub struct Parts {
    /// The gateway's own host name.
    pub name: String,
    /// Ports under which clients reach it and the tools' hosts.
    pub ports: Vec<u16>,
    /// Its origin.
    pub base: String,
    /// Whether answers carry HSTS.
    pub hsts: bool,
    /// Sizes of request heads.
    pub limits: Limits,
    /// People, VOs, upstreams.
    pub directory: DirectoryHandle,
    /// Tools, the gateway's own included.
    pub tools: ToolsHandle,
    /// Who asks.
    pub authenticate: Authenticate,
    /// May they.
    pub authorize: Authorize,
    /// With what.
    pub delegate: Arc<Delegate>,
    /// Written down.
    pub audit: Audit,
    /// Sent on.
    pub forward: Arc<Forward>,
    /// The services inside the gateway, by name.
    pub locals: HashMap<&'static str, LocalService>,
    /// What people see instead of documents.
    pub pages: Arc<dyn Pages>,
    /// Who made what.
    pub resources: Resources,
    /// Repeated denials.
    pub alert: Alert,
    /// What is counted.
    pub metrics: Metrics,
    /// Whose trace a request belongs to.
    pub tracing: Arc<Tracing>,
    /// Whether an edit of who may do what needs a reason.
    pub reasons: Reasons,
    /// How records are worded.
    pub words: Words,
    /// Ids, time and random bytes.
    pub ids: Ids,
    /// What goes on after an intent.
    pub acts: Acts,
    /// How many acts may go on at once; more requests are answered with 503.
    pub most_acts: usize,
    /// What strangers, judged bodies and look-ups may use.
    pub budgets: Budgets,
}

/// The path of a request.
pub struct Pipeline {
    pub(crate) hosts: Hosts,
    pub(crate) directory: DirectoryHandle,
    pub(crate) authenticate: Authenticate,
    pub(crate) authorize: Authorize,
    pub(crate) delegate: Arc<Delegate>,
    pub(crate) audit: Audit,
    pub(crate) forward: Arc<Forward>,
    pub(crate) locals: HashMap<&'static str, LocalService>,
    pub(crate) resources: Resources,
    pub(crate) alert: Alert,
    pub(crate) metrics: Metrics,
    pub(crate) tracing: Arc<Tracing>,
    pub(crate) answers: Answers,
    reasons: Reasons,
    pub(crate) words: Words,
    pub(crate) ids: Ids,
    pub(super) acts: Acts,
    most_acts: usize,
    pub(super) strangers: Arc<Strangers>,
    pub(super) judging: Arc<Judging>,
    pub(super) look_ups: Arc<LookUps>,
}

impl Pipeline {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            hosts: Hosts::new(
                [parts.name],
                parts.ports,
                parts.directory.clone(),
                parts.tools,
                parts.limits,
            ),
            answers: Answers::new(parts.base, parts.hsts, parts.pages),
            directory: parts.directory,
            authenticate: parts.authenticate,
            authorize: parts.authorize,
            delegate: parts.delegate,
            audit: parts.audit,
            forward: parts.forward,
            locals: parts.locals,
            resources: parts.resources,
            alert: parts.alert,
            metrics: parts.metrics,
            tracing: parts.tracing,
            reasons: parts.reasons,
            words: parts.words,
            ids: parts.ids,
            acts: parts.acts,
            most_acts: parts.most_acts,
            strangers: parts.budgets.strangers,
            judging: parts.budgets.judging,
            look_ups: parts.budgets.look_ups,
        })
    }

    /// The pipeline as a listener's handler.
    #[must_use]
    pub fn door(pipeline: &Arc<Self>) -> Arc<dyn Handler> {
        Arc::new(Door(pipeline.clone()))
    }

    /// Runs one request. Nothing reaches a tool before the record that permits it is durable.
    async fn run(self: &Arc<Self>, x: &Exchange, body: Body) -> Result<Response<Body>, Stop> {
        let mut lap = self.metrics.lap(&**self.ids.clock(), &x.trace);
        let place = self.hosts.place(&x.head); // host, VO, tool, and the task if one matches
        lap.mark(Stage::Place);
        let place = place.map_err(Stop::Rejected)?;
        proven_for(x, &place).map_err(Stop::Rejected)?;
        if let Some(answer) = self.preflight(x, &place) {
            return Ok(answer); // a browser asks whether a page may ask: nothing of the request itself
        }
        let subject = self.subject(x, &place).await; // who asks; no credential = anonymous
        lap.mark(Stage::Subject);
        let subject = subject?;
        let (place, body) = match self.judged_body(x, &subject, &place) {
            Some(limit) => Box::pin(self.judged(x, &subject, place, body, limit)).await?, // the body names the task: read, for members
            None => (place, body),
        };
        if self.may_learn(&subject, &place) {
            Box::pin(self.learn_parent(x.id, &subject, &place)).await?; // a parent is not known: asked by a service, on the record
        }
        let upgrade = x.head.headers.contains_key(header::UPGRADE);
        let admitted = self.admit((x.id, &x.trace), subject, place, upgrade).await?; // may they, with what, and the intent is durable
        self.act(x, body, admitted).await // outlives the client: sign, forward, outcome, ownership
    }

    /// Decides, plans and writes the intent: the part that every protocol and every job uses. Where the request asks for
    /// another protocol (`upgrade`), its task must allow that.
    pub(crate) async fn admit(
        &self,
        (id, trace): (RequestId, &Trace),
        subject: Subject,
        place: Place,
        upgrade: bool,
    ) -> Result<(Permit, Plan, Receipt), Stop> {
        let purpose = match upgrade {
            true => Purpose::Upgrade,
            false => Purpose::Call,
        };
        self.admit_for((id, trace), subject, place, purpose).await
    }

    /// The same, for a request that has a purpose of its own.
    pub(super) async fn admit_for(
        &self,
        (id, trace): (RequestId, &Trace),
        subject: Subject,
        place: Place,
        purpose: Purpose,
    ) -> Result<(Permit, Plan, Receipt), Stop> {
        let mut lap = self.metrics.lap(&**self.ids.clock(), trace);
        let permit = self.authorize.decide(subject, place).await;
        lap.mark(Stage::Decide);
        let permit = permit.map_err(Stop::denied)?; // "no task" is a denial too
        let entry = |permit: &Permit, delegation| {
            let reasons = (permit.decision().clone(), permit.resource_entry());
            self.words
                .decided((id, trace), permit.subject(), permit.place(), reasons, delegation)
        };
        let unplanned = |permit: &Permit, problem| {
            let place = Box::new(permit.place().clone());
            Stop::Unplanned(Box::new(entry(permit, None)), place, problem)
        };
        if purpose == Purpose::Upgrade && permit.found().task.upgrade.is_empty() {
            let detail = "this task does not switch protocols; its manifest would say `upgrade`";
            let problem = Problem::new(Kind::NotImplemented, detail);
            // Strangers are counted, also on the pages for everyone.
            return Err(match permit.subject().is_anonymous() {
                true => Stop::Rejected(problem),
                false => unplanned(&permit, problem),
            });
        }
        if let Some(problem) = reason::flaw(&permit, self.reasons) {
            return Err(unplanned(&permit, problem));
        }
        let planned = match purpose {
            Purpose::Lend => self.delegate.plan_lending(id, &permit),
            Purpose::Call | Purpose::Upgrade => self.delegate.plan(id, &permit),
        };
        let (permit, plan) = match planned {
            Err(error) if error.is_no_key() && purpose != Purpose::Lend => {
                Box::pin(self.planned_late(id, permit)).await?
            } // waited, and decided again
            planned => (permit, planned),
        };
        lap.mark(Stage::Plan);
        let plan = plan.map_err(|error| unplanned(&permit, error.as_problem()))?; // nothing signed yet
        if self.audit.space() == Space::Low && (plan.mints() || brings_data(&permit)) {
            let detail = "the audit log has little room left: nothing new is taken in until there is more";
            return Err(unplanned(
                &permit,
                Problem::new(Kind::LowSpace, detail).retry_after(60),
            ));
        }
        let entry = entry(&permit, Some(plan.entry()));
        let receipt = self
            .audit
            .intent(entry, plan.events()) // written down before anything happens
            .await;
        lap.mark(Stage::Intent);
        let receipt = receipt.map_err(|error| Stop::failed(&permit, &error))?;
        let at = named(Some(permit.place()));
        self.metrics.decided(at, Decision::Permit);
        trace.decided(at, Decision::Permit);
        Ok((permit, plan, receipt))
    }

    /// The plan of a request that found no key for its proxy, once there is one; without one in time, what was lacking.
    ///
    /// SECURITY: whoever waited is decided again, so that no intent stands on an old decision.
    async fn planned_late(
        &self,
        id: RequestId,
        permit: Permit,
    ) -> Result<(Permit, Result<Plan, DelegateError>), Stop> {
        let until = tokio::time::Instant::now() + KEY_PATIENCE;
        let planned = late::planned(
            permit,
            until,
            || self.delegate.key_made(),
            |permit| self.delegate.plan(id, permit),
            |permit| async move { self.decided_again(&permit).await },
        );
        let (permit, planned) = planned.await?;
        let served = !planned.as_ref().is_err_and(DelegateError::is_no_key);
        self.delegate.key_waited(served);
        Ok((permit, planned))
    }

    /// The same decision for what is there now.
    async fn decided_again(&self, permit: &Permit) -> Result<Permit, Stop> {
        let subject = permit.subject();
        if self
            .authenticate
            .watch(subject)
            .revoked()
            .now_or_never()
            .is_some()
        {
            let place = Some(Box::new(permit.place().clone()));
            let problem = Problem::new(Kind::WrongCredential, "the session has ended meanwhile");
            return Err(Stop::Challenge(Box::new(subject.entry()), place, problem));
        }
        let place = self.hosts.again(permit.place());
        let decided = self.authorize.decide(subject.clone(), place).await;
        decided.map_err(Stop::denied)
    }

    async fn subject(&self, x: &Exchange, place: &Place) -> Result<Subject, Stop> {
        let write = |events: Vec<Event>| self.journal(events).boxed();
        let journal = Journal {
            request: x.id,
            write: &write,
        };
        let asked = match &x.presented {
            Some(presented) => {
                let asked = self
                    .authenticate
                    .by_certificate(&x.head, place, presented, x.source, &journal);
                Box::pin(asked).await
            }
            None => {
                self.authenticate
                    .subject(&x.head, place, x.source, &journal)
                    .await
            }
        };
        let subject = asked.map_err(|refusal| {
            let subject = refusal.subject_entry();
            let place = Some(Box::new(place.clone()));
            match refusal.problem.kind.status() {
                400 => Stop::Rejected(refusal.problem),
                429 => Stop::Throttled(Box::new(subject), place, refusal.problem),
                401 | 403 => Stop::Challenge(Box::new(subject), place, refusal.problem),
                _ => Stop::Failed(place, refusal.problem),
            }
        })?;
        let open = place
            .found
            .as_ref()
            .is_some_and(|found| found.task.audience == Audience::Everyone);
        if subject.is_anonymous() && open {
            self.strangers.admit(x.source).map_err(|problem| {
                Stop::Throttled(Box::new(subject.entry()), Some(Box::new(place.clone())), problem)
            })?;
        }
        Ok(subject)
    }

    /// Takes down which sessions begin and end while somebody is recognised; proxies of what ends are not used again.
    async fn journal(&self, events: Vec<Event>) -> Result<(), Problem> {
        for event in &events {
            if let Event::SessionEnded(ended) = event {
                let sessions = ended.sessions.iter();
                sessions.for_each(|session| self.delegate.end_session(*session));
            }
        }
        let written = self.audit.write_all(events).await;
        written.map(|_| ()).map_err(|error| error.as_problem())
    }

    /// Serves one request: runs it, and records every stop before it is answered.
    pub(crate) async fn serve(self: &Arc<Self>, x: Exchange, body: Body) -> Response<Body> {
        match self.run(&x, body).await {
            Ok(response) => response,
            Err(stop) => Box::pin(self.stopped(&x, stop)).await,
        }
    }

    /// Records a stop and turns it into an answer.
    pub(crate) async fn stopped(&self, x: &Exchange, stop: Stop) -> Response<Body> {
        let rejected = matches!(stop, Stop::Rejected(_));
        let decision = stop.decision();
        let (problem, place) = match stop {
            Stop::Rejected(problem) => {
                self.audit
                    .stranger(problem.kind.name(), &x.source.network(), x.id);
                (problem, None)
            }
            Stop::Challenge(subject, place, problem)
            | Stop::Unfit(subject, place, problem)
            | Stop::Throttled(subject, place, problem) => {
                self.refuse_subject(x, *subject, place.map(|place| *place), problem)
                    .await
            }
            Stop::Denied(denial) => self.deny(x, *denial).await,
            Stop::Unplanned(entry, place, problem) => {
                (self.record_refusal(*entry, problem).await, Some(*place))
            }
            Stop::Failed(place, problem) => {
                // The log may be the very thing that failed: this record is tried, never waited for.
                self.audit
                    .stranger(problem.kind.name(), &x.source.network(), x.id);
                (problem, place.map(|place| *place))
            }
        };
        // What is not served (501) is the client's mistake: refused and counted, no failure of ours.
        if rejected {
            tracing::debug!(request.id = %x.id, problem = problem.kind.name(), "request {} was refused: {}", x.id, problem.detail);
        } else if problem.kind.status() >= 500 {
            tracing::error!(request.id = %x.id, problem = problem.kind.name(), "request {} failed: {}", x.id, problem.detail);
        }
        self.metrics.refusal(problem.kind.name());
        self.metrics.decided(named(place.as_ref()), decision);
        x.trace.decided(named(place.as_ref()), decision);
        self.answers.problem(&x.head, x.id, place.as_ref(), &problem)
    }

    /// Refused before a decision: somebody who is known, or tried to be, leaves a record of her own, a stranger is counted.
    async fn refuse_subject(
        &self,
        x: &Exchange,
        subject: SubjectEntry,
        place: Option<Place>,
        problem: Problem,
    ) -> (Problem, Option<Place>) {
        let attempt = subject.result == "failed" && !subject.methods.is_empty();
        let known = attempt || subject.person.is_some();
        // INVARIANT: a certificate that is not let in leaves one record a minute, however often it is shown.
        let knocks_again = attempt
            && x.presented.is_some()
            && subject.person.is_some_and(|person| {
                let now = self.ids.clock().now();
                !self.strangers.is_first_knock(person, problem.kind, now)
            });
        if !known || knocks_again || problem.kind == Kind::TooManyAttempts {
            self.audit
                .stranger(problem.kind.name(), &x.source.network(), x.id);
            return (problem, place);
        }
        let entry = self
            .words
            .entry((x.id, &x.trace), subject, place.as_ref(), x.source);
        (self.record_refusal(entry, problem).await, place)
    }

    /// A denial: recorded with its reasons before it is answered; counted when a person is known.
    async fn deny(&self, x: &Exchange, denial: Denial) -> (Problem, Option<Place>) {
        let resource = denial.resource_entry();
        let Denial {
            subject,
            place,
            mut problem,
            decision,
            ..
        } = denial;
        if subject.is_anonymous() {
            self.audit
                .stranger(problem.kind.name(), &x.source.network(), x.id);
            return (problem, Some(place));
        }
        if problem.kind == Kind::NoTask
            && let Some(flaw) = hosts::flaw(&place, &x.head)
        {
            problem.detail = flaw.detail; // a known person may hear which part of the query fits no task
        }
        let entry = self
            .words
            .decided((x.id, &x.trace), &subject, &place, (decision, resource), None);
        let answered = self.record_refusal(entry, problem).await;
        if answered.kind.status() == 403 {
            self.count_denial(x.id, &subject, &place);
        }
        (answered, Some(place))
    }

    /// Writes a refusal; when that fails, the answer is that the log cannot be written.
    pub(super) async fn record_refusal(&self, entry: Entry, problem: Problem) -> Problem {
        let refused = Refused {
            entry,
            status: problem.kind.status(),
            problem: problem.kind.name().into(),
        };
        match self.audit.refused(refused).await {
            Ok(()) => problem,
            Err(error) => error.as_problem(),
        }
    }

    /// Counts a denial for alerts, beside the request: an alert that cannot be made refuses nothing.
    fn count_denial(&self, request: RequestId, subject: &Subject, place: &Place) {
        let Some(person) = subject.as_person() else { return };
        let denied = crate::alert::Denied {
            vo: place
                .vo
                .as_ref()
                .map_or_else(crate::vo::Directory::gateway, |vo| vo.id),
            vo_name: place
                .vo
                .as_ref()
                .map_or_else(|| OWN_TOOL.to_owned(), |vo| vo.name.clone()),
            person: person.id,
            tool: place.tool.as_ref().map(|tool| tool.name.clone()),
            task: place
                .found
                .as_ref()
                .map_or_else(|| Kind::NoTask.name().to_owned(), |found| found.task.name.clone()),
            request,
            at: self.ids.clock().now(),
        };
        let (alert, audit, metrics) = (self.alert.clone(), self.audit.clone(), self.metrics.clone());
        tokio::spawn(async move {
            match alert.denied(denied).await {
                Ok(Some(event)) => {
                    metrics.alert();
                    if let Err(error) = audit.write(Event::Alert(event)).await {
                        tracing::error!("an alert could not be recorded: {error}");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!("a denial could not be counted: {error}"),
            }
        });
    }
}

/// Whether a tool is given something to keep.
fn brings_data(permit: &Permit) -> bool {
    let task = &permit.found().task;
    let taken_in = matches!(
        task.kind,
        tool::Kind::Create | tool::Kind::Update | tool::Kind::Transfer
    );
    taken_in && task.local.is_none()
}

/// A pipeline behind a listener: every request gets its id here.
/// SECURITY: a connection on which a client proved who it is serves the one host that it asked for in the handshake; for
/// another it proves itself again (RFC 9110 section 7.4), so no request passes under the name of another host.
fn proven_for(x: &Exchange, place: &Place) -> Result<(), Problem> {
    let Some(presented) = &x.presented else {
        return Ok(());
    };
    let asked = presented.server_name.as_deref();
    if asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&place.host)) {
        return Ok(());
    }
    let detail = "the host of this request is not the one that this connection was opened for";
    Err(Problem::new(Kind::UnknownHost, detail))
}

struct Door(Arc<Pipeline>);

impl Handler for Door {
    fn handle<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a ConnectionInfo,
    ) -> BoxFuture<'a, Response<Body>> {
        async move {
            let pipeline = &self.0;
            let Ok(id) = pipeline.ids.next::<RequestId>() else {
                // Without random bytes there is no id, no salt and no record: nothing can be served.
                return pipeline.answers.unnamed();
            };
            let (mut head, body) = request.into_parts();
            // What clients left behind goes on for a while, and has a bound too.
            if pipeline.acts.len() >= pipeline.most_acts && head.extensions.get::<Unserved>().is_none() {
                let busy = Problem::new(Kind::Busy, "too many requests are under way").retry_after(1);
                head.extensions.insert(Unserved(busy));
            }
            let from = match connection.source {
                Source::Ip(ip) => Some(ip),
                Source::Local => None,
            };
            let trace = pipeline.tracing.begin(id, (&head.method, &head.headers), from);
            let exchange = Exchange {
                id,
                head,
                source: connection.source,
                presented: connection.presented.clone(),
                trace: trace.clone(),
            };
            let asks_for_head = exchange.head.method == http::Method::HEAD;
            let mut response = pipeline.serve(exchange, body).await;
            if asks_for_head {
                // HTTP/1.1 leaves the body out by itself; over HTTP/2 it would break the answer (RFC 9110 section 9.3.2).
                *response.body_mut() = crate::body::empty();
            }
            let status = response.status().as_u16();
            pipeline.metrics.answered(status);
            trace.answered(status);
            response
        }
        .boxed()
    }

    fn shed(&self, source: Source, reason: &'static str) {
        let pipeline = &self.0;
        pipeline.metrics.refusal(reason);
        if let Ok(id) = pipeline.ids.next::<RequestId>() {
            pipeline.audit.stranger(reason, &source.network(), id);
        }
    }
}

impl Stop {
    /// What monitoring calls it.
    fn decision(&self) -> Decision {
        match self {
            Self::Denied(denial) if denial.problem.kind.status() == 401 => Decision::Challenge,
            Self::Rejected(_) | Self::Unfit(..) => Decision::Reject,
            Self::Challenge(..) => Decision::Challenge,
            Self::Denied(_) | Self::Unplanned(..) => Decision::Deny,
            Self::Throttled(..) => Decision::Throttle,
            Self::Failed(..) => Decision::Fail,
        }
    }

    fn denied(denial: Box<Denial>) -> Self {
        if denial.problem.kind.status() >= 500 {
            Self::Failed(Some(Box::new(denial.place)), denial.problem)
        } else {
            Self::Denied(denial)
        }
    }

    fn failed(permit: &Permit, error: &dyn AsProblem) -> Self {
        Self::Failed(Some(Box::new(permit.place().clone())), error.as_problem())
    }
}
