//! Proxies that a computing element keeps for jobs: signed when they are made, and again at two thirds of their life for as
//! long as a job of their owner lives by them.
//!
//! Each call to the tool is a request of its own, of the service `renewal` on behalf of the owner: decided by her rights of
//! that moment to the task that makes jobs, with an intent and an outcome. What is to be renewed stands in the store.
//!
//! Promises: who may not make a job any more has nothing renewed; a refusal is on record once, with its reason, and her
//! administrators are told; nothing is signed while the log cannot be written; what fails is tried again after growing
//! pauses, until the proxy has ended.

mod arc;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::act::Reached;
use super::flow;
use super::pipeline::{Pipeline, Purpose, Stop};
use crate::alert::NotRenewed;
use crate::audit::Receipt;
use crate::authenticate::Agent;
use crate::authorize::{Denial, Permit};
use crate::body;
use crate::clock::Timestamp;
use crate::delegate::pkcs10::Asked;
use crate::delegate::{Credential, DelegateError, Lent, Plan};
use crate::forward::{Identity, Outgoing};
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, ChangeEvent, CreatedEntry, Ending, Event, Outcome};
use crate::telemetry::Trace;
use crate::tool::{Address, Found, Parameters, Place, Renew, Target, VoRef};
use crate::trust::pem;
use crate::vo::Person;

/// Name of the service.
const RENEWAL: &str = "renewal";
/// Delegations that are looked at in one round.
const ROUND: u32 = 64;
/// How many are looked at at once.
const AT_ONCE: usize = 8;
/// How long the tool has for each answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer.
const LIMIT: u64 = 1 << 20;
/// Most jobs of one person that are asked for, the newest first.
const JOBS: u32 = 1_000;
/// Jobs in one question.
const TOGETHER: usize = 100;

/// A delegation with what is needed to renew it.
struct Lending<'a> {
    lent: &'a Lent,
    person: Arc<Person>,
    renew: Renew,
    /// Where the task that makes jobs is.
    place: Place,
}

/// One call to the tool.
struct Call {
    method: Method,
    path: String,
    json: Option<String>,
    /// The key that it is brought a certificate for.
    certifies: Option<Asked>,
    /// A job that lives by the delegation.
    job: Option<String>,
}

/// Why nothing was renewed.
enum Fault {
    /// Its owner may not make jobs now.
    Refused(RequestId, Box<Denial>),
    /// There is nothing to renew any more.
    Over(&'static str),
    /// Something failed.
    Failed(Problem),
}

/// What a call brought.
struct Brought {
    body: Bytes,
    /// When the proxy ends that it was brought.
    not_after: Option<Timestamp>,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            json: None,
            certifies: None,
            job: None,
        }
    }
}

impl Fault {
    fn of(kind: Kind, detail: impl Into<String>) -> Self {
        Self::Failed(Problem::new(kind, detail))
    }
}

impl Pipeline {
    /// Signs the delegations among what a request just made, before who made them hears of it.
    ///
    /// # Errors
    /// The problem to answer with.
    pub(super) async fn lend(&self, permit: &Permit, created: &[CreatedEntry]) -> Result<(), Problem> {
        let (place, subject) = (permit.place(), permit.subject());
        let Some((renew, tool)) = place
            .tool
            .as_ref()
            .and_then(|tool| Some((tool.renew.as_ref()?, tool)))
        else {
            return Ok(());
        };
        let (Some(person), Some(session)) = (subject.as_person(), subject.session()) else {
            return Ok(());
        };
        let hers = |made: &&CreatedEntry| made.kind == renew.delegation && made.owner == Some(person.id);
        for made in created.iter().filter(hers) {
            let lent = Lent {
                vo: made.vo,
                tool: tool.name.clone(),
                id: made.id.clone(),
                person: person.id,
                session: session.id,
                not_after: self.ids.clock().now(),
                failures: 0,
                refused: None,
            };
            let lending = self.lending(&lent);
            let renewed = match lending {
                Ok(lending) => self.renewed(&lending, None).await,
                Err(why) => Err(Fault::Over(why)),
            };
            match renewed {
                Ok(()) => {}
                Err(Fault::Refused(id, denial)) => return Err(self.refuse(id, *denial).await),
                Err(Fault::Over(why)) => return Err(Problem::new(Kind::DelegationFailed, why)),
                Err(Fault::Failed(problem)) => return Err(problem),
            }
        }
        Ok(())
    }

    /// Renews what is due.
    pub async fn sweep_lent(&self) {
        match self.delegate.lent_due(ROUND).await {
            Ok(due) => {
                futures_util::stream::iter(due)
                    .for_each_concurrent(AT_ONCE, |lent| async move { self.keep(&lent).await })
                    .await;
            }
            Err(error) => tracing::error!("delegations cannot be read: {error}"),
        }
    }

    async fn keep(&self, lent: &Lent) {
        let kept = match self.lending(lent) {
            Ok(lending) => self.kept(&lending).await,
            Err(why) => Err(Fault::Over(why)),
        };
        let Err(fault) = kept else { return };
        if let Err(problem) = self.not_renewed(lent, fault).await {
            tracing::error!(
                problem = problem.kind.name(),
                "what became of the delegation `{}` at `{}` cannot be written down: {}",
                lent.id,
                lent.tool,
                problem.detail
            );
        }
    }

    /// What a delegation belongs to now; a sentence where that is not there any more.
    fn lending<'a>(&self, lent: &'a Lent) -> Result<Lending<'a>, &'static str> {
        let directory = self.directory.load();
        let vo = directory
            .vo(lent.vo)
            .ok_or("the virtual organisation is not there any more")?;
        let person = directory
            .person(lent.person)
            .ok_or("the account is not there any more")?;
        let tools = self.hosts.tools();
        let tool = tools
            .get(lent.vo, &lent.tool)
            .ok_or("the tool is not there any more")?;
        let renew = tool
            .renew
            .as_ref()
            .ok_or("the tool's manifest does not say `renew` any more")?;
        let task = tool
            .task(&renew.task)
            .ok_or("the task that makes jobs is not there any more")?;
        let root = Target::parse("/").map_err(|_| "there is no path")?;
        let base = self.answers.base().parse::<http::Uri>().ok();
        let place = Place {
            address: Address::Path,
            vo: Some(VoRef {
                id: lent.vo,
                name: vo.name.clone(),
            }),
            unknown_vo: None,
            tool: Some(tool.clone()),
            found: Some(Found {
                task: task.clone(),
                parameters: Parameters::from([("delegation".to_owned(), lent.id.clone())]),
                resource: None,
            }),
            method: Method::POST,
            target: root,
            host: base
                .and_then(|base| base.host().map(str::to_owned))
                .unwrap_or_default(),
        };
        Ok(Lending {
            lent,
            person: person.clone(),
            renew: renew.clone(),
            place,
        })
    }

    /// Renews it if a job lives by it.
    async fn kept(&self, lending: &Lending<'_>) -> Result<(), Fault> {
        let (lent, renew) = (lending.lent, &lending.renew);
        let jobs = self
            .resources
            .owned((lent.vo, &lent.tool, &renew.job), lent.person, JOBS)
            .await
            .map_err(|error| Fault::Failed(error.as_problem()))?;
        for some in jobs.chunks(TOGETHER) {
            if let Some(job) = self.living(lending, some).await? {
                return self.renewed(lending, Some(job)).await;
            }
        }
        Err(Fault::Over("no job lives by it"))
    }

    /// One of these jobs that lives by it.
    async fn living(&self, lending: &Lending<'_>, jobs: &[String]) -> Result<Option<String>, Fault> {
        let unread = || Fault::of(Kind::ToolAnswer, "what the tool says of its jobs cannot be read");
        let states = self.about(lending, "status", jobs).await?;
        let mut living = arc::living(&states).ok_or_else(unread)?;
        // What nobody asked for is no job of hers.
        living.retain(|id| jobs.contains(id));
        if living.is_empty() {
            return Ok(None);
        }
        let asked: Vec<String> = living.into_iter().collect();
        let held = self.about(lending, "delegations", &asked).await?;
        let holding = arc::holding(&held, &lending.lent.id).ok_or_else(unread)?;
        Ok(holding.into_iter().find(|id| asked.contains(id)))
    }

    async fn about(&self, lending: &Lending<'_>, action: &str, jobs: &[String]) -> Result<Bytes, Fault> {
        let path = format!("{}/jobs?action={action}", lending.renew.base);
        let call = Call {
            json: Some(arc::jobs(jobs)),
            ..Call::new(Method::POST, path)
        };
        Ok(self.call(lending, call).await?.body)
    }

    /// Has the tool make a request for a certificate, signs it, brings it the certificate, and notes when it is due again.
    async fn renewed(&self, lending: &Lending<'_>, job: Option<String>) -> Result<(), Fault> {
        let path = format!("{}/delegations/{}", lending.renew.base, lending.lent.id);
        let ask = Call {
            job: job.clone(),
            ..Call::new(Method::POST, format!("{path}?action=renew"))
        };
        let answer = self.call(lending, ask).await?;
        let asked = arc::request(&answer.body).and_then(|der| Asked::read(&der).ok());
        let unread = || Fault::of(Kind::ToolAnswer, "the tool sent no request for a certificate");
        let bring = Call {
            certifies: Some(asked.ok_or_else(unread)?),
            job,
            ..Call::new(Method::PUT, path)
        };
        let brought = self.call(lending, bring).await?;
        let lent = Lent {
            not_after: brought.not_after.unwrap_or(lending.lent.not_after),
            ..lending.lent.clone()
        };
        let noted = self.delegate.lend(&lent).await;
        noted.map_err(|error| Fault::Failed(error.as_problem()))
    }

    /// One call to the tool, as a request of the service on behalf of the owner.
    async fn call(&self, lending: &Lending<'_>, call: Call) -> Result<Brought, Fault> {
        let no_path = |_| Fault::Over("its id fits into no path");
        let target = Target::parse(&call.path).map_err(no_path)?;
        let unnamed = |_| Fault::of(Kind::Internal, "a request could not be named");
        let id: RequestId = self.ids.next().map_err(unnamed)?;
        let mut place = Place {
            method: call.method.clone(),
            target,
            ..lending.place.clone()
        };
        if let (Some(found), Some(job)) = (&mut place.found, &call.job) {
            found.parameters.insert("job".to_owned(), job.clone());
        }
        let agent = Agent {
            name: RENEWAL,
            session: lending.lent.session,
        };
        let subject = self.authenticate.acting(lending.person.clone(), agent);
        let purpose = match call.certifies {
            Some(_) => Purpose::Lend,
            None => Purpose::Call,
        };
        let trace = Trace::own(id);
        let admitted = self.admit_for((id, &trace), subject, place, purpose);
        match Box::pin(admitted).await {
            Ok((permit, plan, receipt)) => Box::pin(self.answered(id, &permit, plan, receipt, call)).await,
            Err(Stop::Denied(denial)) => Err(Fault::Refused(id, denial)),
            Err(Stop::Unplanned(entry, _, problem)) => {
                Err(Fault::Failed(self.record_refusal(*entry, problem).await))
            }
            Err(Stop::Failed(_, problem)) => Err(Fault::Failed(problem)),
            Err(_) => Err(Fault::of(Kind::Internal, "the request was not judged")),
        }
    }

    /// Sends it, and writes its outcome.
    async fn answered(
        &self,
        id: RequestId,
        permit: &Permit,
        plan: Plan,
        receipt: Receipt,
        call: Call,
    ) -> Result<Brought, Fault> {
        let started = self.ids.clock().monotonic();
        let mut outcome = Outcome::ended(id, Ending::Answered);
        let brought = self.sent((id, permit), plan, &receipt, call, &mut outcome).await;
        if let Err((ending, fault)) = &brought {
            outcome.ending = *ending;
            let word = match fault {
                Fault::Failed(problem) => problem.kind.name(),
                Fault::Refused(..) | Fault::Over(_) => "delegation_failed",
            };
            outcome.error = Some(word.into());
        }
        let spent = self.ids.clock().monotonic().saturating_sub(started);
        outcome.duration_us = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
        let written = receipt.outcome(outcome).await;
        let brought = brought.map_err(|(_, fault)| fault)?;
        written.map_err(|error| Fault::Failed(error.as_problem()))?;
        Ok(brought)
    }

    async fn sent(
        &self,
        (id, permit): (RequestId, &Permit),
        plan: Plan,
        receipt: &Receipt,
        call: Call,
        outcome: &mut Outcome,
    ) -> Result<Brought, (Ending, Fault)> {
        let unmade = |error: DelegateError| {
            let fault = match error {
                DelegateError::Suspended => Fault::Over("the right to it was taken away"),
                error => Fault::Failed(error.as_problem()),
            };
            (Ending::Failed, fault)
        };
        let not_sent = |problem| (Ending::NotSent, Fault::Failed(problem));
        // Nothing is signed for a tool that is not reached any more.
        self.reached(permit.place()).map(drop).map_err(not_sent)?;
        let made = self.delegate.credential(plan, receipt).await;
        let (credential, signed) = made.map_err(unmade)?;
        outcome.signed = signed;
        let (credential, chain, not_after) = match (credential, &call.certifies) {
            (Credential::Lend(credential, outside), Some(asked)) => {
                let not_after = outside.reserved().not_after();
                let intended = receipt.intended();
                let certified = self.delegate.certify(*outside, asked, &self.audit, &intended);
                let (chain, signed) = certified.await.map_err(unmade)?;
                outcome.signed = Some(signed);
                (*credential, Some(chain), Some(not_after))
            }
            (credential, None) => (credential, None, None),
            (_, Some(_)) => {
                let fault = Fault::of(Kind::Internal, "nothing was planned to be certified");
                return Err((Ending::Failed, fault));
            }
        };
        let (sent, kind) = match (chain, call.json) {
            (Some(chain), _) => {
                let unwritten = |_| not_sent(Problem::new(Kind::Internal, "the chain cannot be written"));
                let text = pem::write(&chain).map_err(unwritten)?;
                (Bytes::from(text), "application/x-pem-file")
            }
            (None, Some(json)) => (Bytes::from(json), "application/json"),
            (None, None) => (Bytes::new(), "application/json"),
        };
        outcome.bytes_in = u64::try_from(sent.len()).unwrap_or(u64::MAX);
        let outgoing = self
            .to_tool(id, permit, credential, (sent, kind))
            .map_err(not_sent)?;
        let body = self.heard(outgoing, outcome).await?;
        Ok(Brought { body, not_after })
    }

    /// The tool's answer, whole.
    async fn heard(&self, outgoing: Outgoing, outcome: &mut Outcome) -> Result<Bytes, (Ending, Fault)> {
        let response = self.forward.send(outgoing).await.map_err(|error| {
            let ending = match error.sent() {
                true => Ending::ToolFailed,
                false => Ending::NotSent,
            };
            (ending, Fault::Failed(error.as_problem()))
        })?;
        let status = response.status();
        outcome.status = Some(status.as_u16());
        let failed = |problem| (Ending::ToolFailed, Fault::Failed(problem));
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let detail = format!("the resource answered {}", status.as_u16());
            let fault = Fault::of(Kind::DeniedByResource, detail);
            return Err((Ending::DeniedByResource, fault));
        }
        if !status.is_success() {
            let detail = format!("the tool answered {}", status.as_u16());
            return Err(failed(Problem::new(Kind::ToolAnswer, detail)));
        }
        let read = tokio::time::timeout(PATIENCE, flow::collect(response.into_body(), LIMIT)).await;
        let late = |_| failed(Problem::new(Kind::ToolTimeout, "the answer did not come in time"));
        let (whole, _) = read.map_err(late)?.map_err(failed)?;
        outcome.bytes_out = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        Ok(whole)
    }

    fn to_tool(
        &self,
        id: RequestId,
        permit: &Permit,
        credential: Credential,
        (sent, kind): (Bytes, &'static str),
    ) -> Result<Outgoing, Problem> {
        let place = permit.place();
        let Reached { vo, tool, upstream } = self.reached(place)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Outgoing {
            method: place.method.clone(),
            target: place.target.as_str().to_owned(),
            headers,
            body: body::full(sent),
            tool: tool.clone(),
            upstream,
            credential,
            identity: Identity {
                person: permit.subject().as_person().map(|person| person.id),
                vo: vo.name.clone(),
                task: permit.found().task.name.clone(),
                request: id,
            },
            address: place.address,
            public_host: self.answers.public_host(place),
            client: permit.subject().source(),
            timeout: Some(PATIENCE),
            trace: Trace::own(id),
        })
    }

    /// Records a refusal like any other.
    async fn refuse(&self, id: RequestId, denial: Denial) -> Problem {
        let reasons = (denial.decision.clone(), denial.resource_entry());
        let trace = Trace::own(id);
        let (subject, place) = (&denial.subject, &denial.place);
        let entry = self.words.decided((id, &trace), subject, place, reasons, None);
        self.record_refusal(entry, denial.problem).await
    }

    /// Writes down why nothing was renewed, and when it is tried again, if ever.
    async fn not_renewed(&self, lent: &Lent, fault: Fault) -> Result<(), Problem> {
        let ended = self.ids.clock().now() >= lent.not_after;
        match fault {
            Fault::Over(why) => return self.give_up(lent, why).await,
            Fault::Refused(id, denial) => {
                let why = denial.decision.reason.clone();
                // A reason is on record, and told, once.
                if lent.refused.as_deref() != Some(&why) {
                    let problem = self.refuse(id, *denial).await;
                    if problem.kind == Kind::LogUnavailable {
                        self.later(lent, lent.refused.as_deref()).await?;
                        return Err(problem);
                    }
                    self.tell(lent, &why, id).await;
                }
                self.later(lent, Some(&why)).await?;
            }
            Fault::Failed(problem) => {
                tracing::warn!(
                    problem = problem.kind.name(),
                    "the delegation `{}` at `{}` could not be renewed: {}",
                    lent.id,
                    lent.tool,
                    problem.detail
                );
                self.later(lent, None).await?;
            }
        }
        match ended {
            true => self.give_up(lent, "its proxy has ended").await,
            false => Ok(()),
        }
    }

    async fn later(&self, lent: &Lent, refused: Option<&str>) -> Result<(), Problem> {
        let later = self.delegate.lent_later(lent, refused).await;
        later.map_err(|error| error.as_problem())
    }

    /// Renews it never again; on record before it is so.
    async fn give_up(&self, lent: &Lent, why: &'static str) -> Result<(), Problem> {
        let unnamed = |_| Problem::new(Kind::Internal, "a change could not be named");
        let id: RequestId = self.ids.next().map_err(unnamed)?;
        let change = Change {
            action: "delegation.end_renewal".to_owned(),
            kind: "delegation".to_owned(),
            target: lent.id.clone(),
            vo: lent.vo,
            person: Some(lent.person),
            before: Some(json!({ "tool": lent.tool, "not_after": lent.not_after })),
            after: Some(json!({ "why": why })),
        };
        let event = Event::Change(Box::new(ChangeEvent::of(id, change)));
        self.audit
            .write(event)
            .await
            .map_err(|error| error.as_problem())?;
        if why != "no job lives by it" {
            self.tell(lent, why, id).await;
        }
        let ended = self.delegate.lent_ended(lent).await;
        ended.map_err(|error| error.as_problem())
    }

    /// Tells the administrators.
    async fn tell(&self, lent: &Lent, why: &str, request: RequestId) {
        let told = {
            let directory = self.directory.load();
            let vo = directory.vo(lent.vo).map(|vo| vo.name.clone());
            let person = directory
                .person(lent.person)
                .map(|person| person.username.clone());
            (vo.unwrap_or_default(), person.unwrap_or_default())
        };
        let told = NotRenewed {
            vo_name: &told.0,
            username: &told.1,
            tool: &lent.tool,
            delegation: &lent.id,
            why,
            not_after: lent.not_after,
            request,
        };
        if let Err(error) = self.alert.not_renewed(lent.vo, &told).await {
            tracing::error!("nobody could be told that a proxy is not renewed: {error}");
        }
    }
}
