//! The lease that a long transfer holds: decided again while it runs, and on record each time.
//!
//! A request that is still under way after a moment is watched: when its session is revoked, when the directory says
//! something new, or when a role of its person ends by itself, it is judged at once, by the decision that let it in. Every
//! [`Forward::lease`](crate::forward::Forward::lease) it is judged anyway, and the renewal must be durable. The end of a
//! token by time ends nothing: who may still do the task goes on.
//!
//! Promises: whatever fails, ends the transfer. What cannot be decided or recorded in time is broken off, never ended
//! cleanly, and the outcome says why.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep};

use super::pipeline::Pipeline;
use crate::authenticate::SessionWatch;
use crate::authorize::Permit;
use crate::delegate::Revocation;
use crate::id::{AssignmentId, RequestId, UpstreamId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{self, DecisionEntry, Ending, Event};
use crate::tool::{Place, Tool, Tools};

/// A request that ends before this is never looked at again.
const SHORT: Duration = Duration::from_millis(500);
/// How often the clock is looked at.
const BEAT: Duration = Duration::from_millis(500);
// INVARIANT: what takes a right away and is announced to nobody (a role that ends by itself, another manifest) is seen within
// a second, also at the beginning of a transfer.
const _: () = assert!(SHORT.as_millis() < 1_000 && BEAT.as_millis() < 1_000);
/// How long a decision may take, like the log's own deadline.
const DECIDE: Duration = Duration::from_secs(2);

/// Why a transfer ends before its end.
#[derive(Debug)]
pub(super) enum Why {
    /// Its session was revoked.
    Revoked,
    /// The proxy that it uses was revoked.
    ProxyRevoked,
    /// It is not allowed any more.
    Denied(Box<Problem>),
    /// It could not be decided again.
    Undecided(Box<Problem>),
    /// Its renewal could not be recorded.
    Unrecorded(Box<Problem>),
    /// The gateway stops.
    Stopped,
}

impl Why {
    /// How its outcome ends, and the word for it.
    pub(super) fn told(&self) -> (Ending, &str) {
        match self {
            Self::Revoked => (Ending::Revoked, "session_ended"),
            Self::ProxyRevoked => (Ending::Revoked, "proxy_revoked"),
            Self::Denied(problem) => (Ending::Revoked, problem.kind.name()),
            Self::Undecided(_) => (Ending::Failed, "lease_undecided"),
            Self::Unrecorded(_) => (Ending::Failed, "lease_unrecorded"),
            Self::Stopped => (Ending::Failed, "gateway_stopped"),
        }
    }

    /// What the client hears, where it has heard nothing yet.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Revoked => Problem::new(Kind::WrongCredential, "the session has ended meanwhile"),
            Self::ProxyRevoked => {
                let detail = "the proxy of this request was revoked meanwhile";
                Problem::new(Kind::DelegationFailed, detail)
            }
            Self::Denied(problem) | Self::Undecided(problem) | Self::Unrecorded(problem) => *problem,
            Self::Stopped => Problem::new(Kind::Busy, "the gateway stops"),
        }
    }
}

/// What is watched for a request under way.
pub(super) struct Held {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) id: RequestId,
    pub(super) permit: Arc<Permit>,
    pub(super) session: SessionWatch,
    /// That of the proxy that it uses.
    pub(super) proxy: Option<Revocation>,
    /// Upstream that it goes to, and its version.
    pub(super) upstream: Option<(UpstreamId, i64)>,
    /// When it began, by the monotonic clock.
    pub(super) began: Duration,
    /// Bytes to the tool.
    pub(super) sent: Arc<AtomicU64>,
    /// Bytes from the tool.
    pub(super) received: Arc<AtomicU64>,
}

/// A lease. Costs a timer until the request has lasted for a moment.
pub(super) struct Lease {
    /// The gateway's own operations hold none.
    held: Option<Arc<Held>>,
    state: State,
}

enum State {
    Short(Option<Pin<Box<Sleep>>>),
    Long(BoxFuture<'static, Why>),
}

impl Lease {
    pub(super) const fn none() -> Self {
        Self {
            held: None,
            state: State::Short(None),
        }
    }

    pub(super) fn new(held: Held) -> Self {
        Self {
            held: Some(Arc::new(held)),
            state: State::Short(None),
        }
    }

    /// Does `work` for as long as the lease holds.
    ///
    /// # Errors
    /// [`Why`] the lease ended; the work is dropped then.
    pub(super) async fn during<F: Future>(&mut self, work: F) -> Result<F::Output, Why> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }

    /// Judges once more before the tool is called, where what came before took more than a moment.
    ///
    /// SECURITY: work and the end of the lease may come at once, and then the work wins; what has not begun must not begin.
    ///
    /// # Errors
    /// [`Why`] the lease ended.
    pub(super) async fn still(&mut self) -> Result<(), Why> {
        let is_long = match &self.state {
            State::Short(timer) => timer
                .as_ref()
                .is_some_and(|timer| timer.deadline() <= Instant::now()),
            State::Long(_) => true,
        };
        match self.held.as_ref().filter(|_| is_long) {
            Some(held) => Box::pin(held.judged()).await,
            None => Ok(()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Why> {
        let Some(held) = &self.held else {
            return Poll::Pending;
        };
        if let State::Short(timer) = &mut self.state {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(SHORT)));
            ready!(timer.as_mut().poll(cx));
            self.state = State::Long(Box::pin(held.clone().broken()));
        }
        match &mut self.state {
            State::Long(broken) => broken.as_mut().poll(cx),
            State::Short(_) => Poll::Pending,
        }
    }
}

/// What a lease depends on beside the directory.
struct Standing {
    // Kept, so that no other tools can come to lie where these did.
    tools: Arc<Tools>,
    roles: Vec<AssignmentId>,
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tools, &other.tools) && self.roles == other.roles
    }
}

impl Held {
    /// Comes back when the lease is broken.
    async fn broken(self: Arc<Self>) -> Why {
        tokio::select! {
            biased;
            () = self.session.revoked() => Why::Revoked,
            () = self.pipeline.acts.ending() => Why::Stopped,
            () = self.proxy_revoked() => self.judged().await.err().unwrap_or(Why::ProxyRevoked),
            why = self.renewed() => why,
        }
    }

    async fn proxy_revoked(&self) {
        match &self.proxy {
            Some(proxy) => proxy.came().await,
            None => std::future::pending().await,
        }
    }

    /// Whether it holds at this moment.
    async fn judged(&self) -> Result<(), Why> {
        if self.session.revoked().now_or_never().is_some() {
            return Err(Why::Revoked);
        }
        // What took the right away with the proxy says more.
        self.renew(false).await?;
        match &self.proxy {
            Some(proxy) if proxy.has_come() => Err(Why::ProxyRevoked),
            _ => Ok(()),
        }
    }

    /// Decides again whenever something changed, and records it whenever the lease is due.
    async fn renewed(&self) -> Why {
        let pipeline = &self.pipeline;
        let clock = pipeline.ids.clock();
        let every = pipeline.forward.lease();
        // Subscribed before the first look, so that nothing falls between the decision that let it in and this.
        let mut changes = pipeline.directory.changes();
        let mut due = self.began.saturating_add(every);
        let mut seen = None;
        loop {
            let now = self.standing();
            let is_due = clock.monotonic() >= due;
            if is_due || seen.as_ref() != Some(&now) {
                if let Err(why) = self.renew(is_due).await {
                    return why;
                }
                seen = Some(now);
            }
            if is_due {
                due = clock.monotonic().saturating_add(every);
            }
            tokio::select! {
                // The sender lives as long as the pipeline.
                _ = changes.changed() => seen = None,
                () = tokio::time::sleep(BEAT.min(every)) => {}
            }
        }
    }

    /// What changes without a new directory: the tools, and the roles that end by themselves.
    fn standing(&self) -> Standing {
        let place = self.permit.place();
        let tools = self.pipeline.hosts.tools();
        let roles = match (&place.vo, self.permit.subject().as_person()) {
            (Some(vo), Some(person)) => {
                let directory = self.pipeline.directory.load();
                let now = self.pipeline.ids.clock().now();
                let held = directory.assignments(vo.id, person.id, now);
                held.map(|assignment| assignment.id).collect()
            }
            _ => Vec::new(),
        };
        Standing { tools, roles }
    }

    /// The same decision as at the beginning, for what is there now.
    async fn renew(&self, record: bool) -> Result<(), Why> {
        let place = self.pipeline.hosts.again(self.permit.place());
        let same_task = place
            .found
            .as_ref()
            .is_some_and(|found| found.task.name == self.permit.found().task.name);
        let leads_on = self.leads_on(&place);
        let decided = self
            .pipeline
            .authorize
            .decide(self.permit.subject().clone(), place);
        let Ok(decided) = tokio::time::timeout(DECIDE, decided).await else {
            let problem = Problem::new(Kind::StoreUnavailable, "the lease could not be decided in time");
            return Err(Why::Undecided(Box::new(problem)));
        };
        match decided {
            // SECURITY: who takes an address or an authority away from a tool takes it from what is under way as well.
            Ok(_) if same_task && !leads_on => {
                let detail = "the tool is reached in another way now";
                Err(Why::Denied(Box::new(Problem::new(Kind::ToolUnreachable, detail))))
            }
            Ok(permit) if same_task => match record {
                true => self.record(permit.decision().clone()).await,
                false => Ok(()),
            },
            // The manifest gives this request to another task now.
            Ok(_) => {
                let problem = Problem::new(Kind::NoTask, "the task of this request is not there any more");
                Err(Why::Denied(Box::new(problem)))
            }
            Err(denial) if denial.problem.kind.status() >= 500 => {
                Err(Why::Undecided(Box::new(denial.problem)))
            }
            Err(denial) => {
                self.record(denial.decision).await?;
                Err(Why::Denied(Box::new(denial.problem)))
            }
        }
    }

    /// Whether the tool is still where the transfer goes to, and given authority in the same way.
    fn leads_on(&self, now: &Place) -> bool {
        let then = self.permit.place();
        let same = |a: &Tool, b: &Tool| a.id == b.id && a.target == b.target && a.delegation == b.delegation;
        let tool = match (&then.tool, &now.tool) {
            (Some(then), Some(now)) => same(then, now),
            _ => false,
        };
        tool && self.upstream == self.pipeline.version_of_upstream(then)
    }

    async fn record(&self, decision: Arc<DecisionEntry>) -> Result<(), Why> {
        let lease = record::Lease {
            request: self.id,
            decision,
            bytes_in: self.sent.load(Ordering::Relaxed),
            bytes_out: self.received.load(Ordering::Relaxed),
        };
        match self.pipeline.audit.write(Event::Lease(Box::new(lease))).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Why::Unrecorded(Box::new(error.as_problem()))),
        }
    }
}
