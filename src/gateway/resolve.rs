//! Parents that are not known: a service asks the tool, on the record, before the decision.
//!
//! What a tool had before it was wrapped has no parent here, so a grant through the parent cannot hold. Where the manifest
//! says how the tool tells it (`resolve`), the gateway's own service asks, as a task like any other: decided, with an intent
//! and an outcome of its own. What it learns is a parent and nothing else: never an owner, never an attribute.
//!
//! SECURITY: whatever goes wrong, the parent stays unknown, and only an unconditional grant reaches the thing.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::act::Reached;
use super::flow;
use super::pipeline::{Pipeline, Stop};
use crate::audit::Receipt;
use crate::authenticate::Subject;
use crate::authorize::Permit;
use crate::body;
use crate::delegate::Plan;
use crate::forward::{ForwardError, Identity, Outgoing};
use crate::id::{RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Ending, Outcome};
use crate::telemetry::Trace;
use crate::tool::{self, Address, Found, Parameters, Piece, Place, Resolve, ResourceRef, Target, Tool};

/// Name of the service that asks.
pub(crate) const RESOLVER: &str = "resolver";
/// Look-ups under way at once.
const AT_ONCE: usize = 16;
/// How long a look-up that brought nothing is not made again.
const QUIET: Duration = Duration::from_secs(10);
/// Most look-ups that are remembered to have brought nothing.
const REMEMBERED: u64 = 10_000;
/// Largest answer to a look-up.
const LIMIT: u64 = 1 << 20;
/// The parameter that names the request for which a look-up was made.
const FOR: &str = "for_request";

type Asked = (VoId, String, i64, String, String);

/// Look-ups: how many may be under way, and which brought nothing.
pub(super) struct LookUps {
    room: Semaphore,
    nothing: Cache<Asked, ()>,
}

impl Default for LookUps {
    fn default() -> Self {
        Self {
            room: Semaphore::new(AT_ONCE),
            nothing: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(QUIET)
                .build(),
        }
    }
}

/// What a look-up is about.
struct Wanted<'a> {
    vo: VoId,
    tool: &'a Tool,
    found: &'a Found,
    resolve: &'a Resolve,
    resource: &'a ResourceRef,
}

impl Wanted<'_> {
    fn key(&self) -> Asked {
        let (tool, resource) = (self.tool, self.resource);
        (
            self.vo,
            tool.name.clone(),
            tool.version,
            resource.kind.clone(),
            resource.id.clone(),
        )
    }
}

impl Pipeline {
    /// Whether the task's resource may have a parent that is to be looked up for who asks.
    pub(super) fn may_learn(&self, subject: &Subject, place: &Place) -> bool {
        self.wanted(subject, place).is_some()
    }

    /// Where the task's resource has a parent that is not known, and somebody asks who might be let in through it: looks it
    /// up.
    pub(super) async fn learn_parent(
        &self,
        id: RequestId,
        subject: &Subject,
        place: &Place,
    ) -> Result<(), Stop> {
        let Some(wanted) = self.wanted(subject, place) else {
            return Ok(());
        };
        let chain = self
            .resources
            .chain(wanted.vo, &wanted.tool.name, wanted.resource)
            .await;
        // Where the store fails, the decision fails as well, and says so.
        let first = chain.ok().and_then(|chain| chain.into_iter().next());
        let Some(unknown) = first.filter(|first| first.parent.is_none()) else {
            return Ok(());
        };
        if self.look_ups.nothing.contains_key(&wanted.key()) {
            return Ok(());
        }
        let question = self.resources.question(&unknown);
        let room = tokio::time::timeout(tool::LOOK_UP_TIME, self.look_ups.room.acquire()).await;
        let Ok(Ok(_room)) = room else {
            return Ok(());
        };
        match self.look_up(id, place, &wanted).await? {
            Some(parent) => {
                let parent = (wanted.resolve.kind.clone(), wanted.tool.id_of(&parent));
                self.resources.learn(question, parent);
            }
            None => self.look_ups.nothing.insert(wanted.key(), ()),
        }
        Ok(())
    }

    /// What is to be looked up, for a member who holds a grant of the task: nobody else makes the gateway ask a tool.
    fn wanted<'a>(&self, subject: &Subject, place: &'a Place) -> Option<Wanted<'a>> {
        let (tool, found) = (place.tool.as_ref()?, place.found.as_ref()?);
        let (resolve, resource) = (found.task.resolve.as_ref()?, found.resource.as_ref()?);
        let vo = place.vo.as_ref()?.id;
        let person = subject.as_person().filter(|_| self.is_member(subject, place))?;
        let directory = self.directory.load();
        let now = self.ids.clock().now();
        let roles: Vec<_> = directory
            .assignments(vo, person.id, now)
            .map(|held| held.role)
            .collect();
        let grants = directory.grants(vo, &tool.name, &found.task.name);
        let granted = grants.iter().any(|grant| roles.contains(&grant.role));
        granted.then_some(Wanted {
            vo,
            tool,
            found,
            resolve,
            resource,
        })
    }

    /// Asks the tool, as a request of the service's own. `None` when that brings no parent.
    async fn look_up(
        &self,
        asked_by: RequestId,
        place: &Place,
        wanted: &Wanted<'_>,
    ) -> Result<Option<String>, Stop> {
        let Some(target) = target(&wanted.resolve.get, &wanted.found.parameters) else {
            return Ok(None);
        };
        let Ok(id) = self.ids.next::<RequestId>() else {
            return Ok(None);
        };
        let mut parameters = wanted.found.parameters.clone();
        parameters.insert(FOR.to_owned(), asked_by.to_string());
        let place = Place {
            address: Address::Path,
            found: Some(Found {
                task: wanted.resolve.task.clone(),
                parameters,
                resource: Some(wanted.resource.clone()),
            }),
            method: Method::GET,
            target,
            ..place.clone()
        };
        let service = self.authenticate.service(RESOLVER);
        match self.admit((id, &Trace::own(id)), service, place, false).await {
            Ok((permit, plan, receipt)) => Ok(self.ask(id, &permit, plan, receipt, &wanted.resolve.id).await),
            Err(stop) => self.refused_look_up(id, stop).await.map(|()| None),
        }
    }

    /// A look-up that was not permitted, or cannot be given authority, is recorded like any refusal. A log that cannot be
    /// written refuses the request for which it was made as well.
    async fn refused_look_up(&self, id: RequestId, stop: Stop) -> Result<(), Stop> {
        let (entry, problem) = match stop {
            Stop::Denied(denial) => {
                let reasons = (denial.decision.clone(), denial.resource_entry());
                let entry = self.words.decided(
                    (id, &Trace::own(id)),
                    &denial.subject,
                    &denial.place,
                    reasons,
                    None,
                );
                (entry, denial.problem)
            }
            Stop::Unplanned(entry, _, problem) => (*entry, problem),
            stop => return Err(stop),
        };
        tracing::warn!(request.id = %id, problem = problem.kind.name(), "the look-up {id} was refused: {}", problem.detail);
        match self.record_refusal(entry, problem).await {
            problem if problem.kind == Kind::LogUnavailable => Err(Stop::Failed(None, problem)),
            _ => Ok(()),
        }
    }

    /// Sends the look-up and writes its outcome.
    async fn ask(
        &self,
        id: RequestId,
        permit: &Permit,
        plan: Plan,
        receipt: Receipt,
        pointer: &str,
    ) -> Option<String> {
        let started = self.ids.clock().monotonic();
        let mut outcome = Outcome::ended(id, Ending::Answered);
        let answer = match self.delegate.credential(plan, &receipt).await {
            Ok((credential, signed)) => {
                outcome.signed = signed;
                self.told(id, permit, credential, &mut outcome).await
            }
            Err(error) => Err((Ending::Failed, error.as_problem())),
        };
        let parent = answer.and_then(|answer| {
            tool::looked_up(&answer, pointer).map_err(|error| (Ending::Withheld, error.as_problem()))
        });
        let parent = match parent {
            Ok(parent) => Some(parent),
            Err((ending, problem)) => {
                tracing::warn!(request.id = %id, problem = problem.kind.name(), "the look-up {id} brought no parent: {}", problem.detail);
                outcome.ending = ending;
                outcome.error = Some(problem.kind.name().into());
                None
            }
        };
        let spent = self.ids.clock().monotonic().saturating_sub(started);
        outcome.duration_us = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
        receipt.outcome_soon(outcome);
        parent
    }

    /// The tool's answer to the look-up, whole.
    async fn told(
        &self,
        id: RequestId,
        permit: &Permit,
        credential: crate::delegate::Credential,
        outcome: &mut Outcome,
    ) -> Result<bytes::Bytes, (Ending, Problem)> {
        let not_sent = |problem| (Ending::NotSent, problem);
        let outgoing = self.look_up_request(id, permit, credential).map_err(not_sent)?;
        let response = self.forward.send(outgoing).await.map_err(|error: ForwardError| {
            let ending = if error.sent() {
                Ending::ToolFailed
            } else {
                Ending::NotSent
            };
            (ending, error.as_problem())
        })?;
        outcome.status = Some(response.status().as_u16());
        let withheld = |detail: String| (Ending::Withheld, Problem::new(Kind::ToolAnswer, detail));
        if response.status() != StatusCode::OK {
            return Err(withheld(format!(
                "the tool answered {}",
                response.status().as_u16()
            )));
        }
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(withheld(
                "the answer came encoded although it was asked for plain".into(),
            ));
        }
        let read = tokio::time::timeout(tool::LOOK_UP_TIME, flow::collect(response.into_body(), LIMIT)).await;
        let (whole, _) = read
            .unwrap_or_else(|_| Err(Problem::new(Kind::ToolTimeout, "the answer did not come in time")))
            .map_err(|problem| (Ending::ToolFailed, problem))?;
        outcome.bytes_out = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        Ok(whole)
    }

    fn look_up_request(
        &self,
        id: RequestId,
        permit: &Permit,
        credential: crate::delegate::Credential,
    ) -> Result<Outgoing, Problem> {
        let place = permit.place();
        let Reached { vo, tool, upstream } = self.reached(place)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Outgoing {
            method: Method::GET,
            target: place.target.as_str().to_owned(),
            headers,
            body: body::empty(),
            tool: tool.clone(),
            upstream,
            credential,
            identity: Identity {
                person: None,
                vo: vo.name.clone(),
                task: permit.found().task.name.clone(),
                request: id,
            },
            address: place.address,
            public_host: self.answers.public_host(place),
            client: permit.subject().source(),
            timeout: permit.found().task.timeout,
            trace: Trace::own(id),
        })
    }
}

/// The target of a look-up: each parameter is one segment. `None` where that is not canonical.
fn target(get: &[Piece], parameters: &Parameters) -> Option<Target> {
    let mut path = String::new();
    for piece in get {
        path.push('/');
        match piece {
            Piece::Text(text) => path.push_str(text),
            Piece::Parameter(name) => {
                let value = parameters.get(name).filter(|value| !value.is_empty())?;
                for byte in value.bytes() {
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                        path.push(char::from(byte));
                    } else {
                        path.push_str(&format!("%{byte:02X}"));
                    }
                }
            }
        }
    }
    Target::parse(&path)
        .ok()
        .filter(|target| target.segments().len() == get.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str) -> Option<Target> {
        let get = [Piece::Text("things".into()), Piece::Parameter("id".into())];
        target(&get, &Parameters::from([("id".to_owned(), value.to_owned())]))
    }

    #[test]
    fn a_parameter_never_leaves_its_segment() {
        assert_eq!(of("a b").unwrap().as_str(), "/things/a%20b");
        for value in ["", ".", "..", "a/b", "../x", "a\\b", "a;b", "a\nb", "%2F"] {
            assert!(of(value).is_none(), "{value}");
        }
        assert!(target(&[Piece::Parameter("none".into())], &Parameters::new()).is_none());
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_is_meant(value in any::<String>()) {
            if let Some(target) = of(&value) {
                prop_assert_eq!(target.segments(), ["things".to_owned(), value]);
                prop_assert_eq!(target.query_text(), None);
            }
        }
    }
}
