//! One report from request to access: who was granted what by whom, when and why; then what was decided, what came of it,
//! and which proxies were minted and traced, in the order of the log.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use serde_json::Value;

use super::ongoing::Ongoing;
use super::render;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::record::{ChangeEvent, DecisionEntry, Entry, Event, Outcome, Record, TraceEvent};
use crate::vo::OWN_TOOL;

/// What the report is about; every part that is set must fit. With none of them it is about the whole VO.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// What was acted on, as `type/id`; what has it as a parent counts too.
    pub resource: Option<String>,
    /// Who acted.
    pub person: Option<PersonId>,
    /// With which tool.
    pub tool: Option<String>,
    /// Accesses from this moment on. What was granted before counts as well: it is why they were allowed.
    pub since: Option<Timestamp>,
}

/// The columns of a line, in order.
pub const COLUMNS: [&str; 22] = [
    "time",
    "seq",
    "what",
    "request",
    "person",
    "user",
    "by",
    "by_user",
    "tool",
    "task",
    "on",
    "decision",
    "policy_version",
    "policies",
    "path",
    "status",
    "ending",
    "bytes_in",
    "bytes_out",
    "serial",
    "because",
    "detail",
];

/// One step. What does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    pub time: String,
    /// Position of the record.
    pub seq: u64,
    /// The change's action, or `allowed`, `denied`, `ended`, `minted`, `traced`, `conflict`.
    pub what: String,
    /// The request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// Whom it concerns: who got or lost something, who acted, who was traced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// Her user name, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Who made the change, or traced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// That person's user name, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by_user: String,
    /// Tool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// What was acted on or made, or what a change is of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// Reason of the decision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision: String,
    /// Version of the VO's authorisation state that decided.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_version: String,
    /// Grants and other policies that determined it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policies: String,
    /// The path of memberships that led to it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Status that was answered.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How it ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ending: String,
    /// Bytes to the tool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bytes_in: String,
    /// Bytes from the tool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bytes_out: String,
    /// Serial of the proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Why, in the words of who made the change.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Before and after of a change; error of an outcome.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Line {
    /// The cells of [`COLUMNS`].
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let cell = |name: &&str| match value.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        COLUMNS.iter().map(cell).collect()
    }
}

/// A change that may belong to the report: that is known when all accesses are.
#[derive(Debug)]
struct Change {
    person: Option<PersonId>,
    tool: Option<String>,
    resource: Option<String>,
}

/// The report. Records come oldest first, and are all of a VO.
#[derive(Debug)]
pub struct Access {
    scope: Scope,
    /// Intents, so that a change is known to be somebody's, and an outcome to be an access.
    open: Ongoing<(usize, Box<Entry>, Box<Line>)>,
    lines: Vec<(usize, Option<Change>, Line)>,
    shown: HashSet<RequestId>,
    people: BTreeSet<PersonId>,
    tools: BTreeSet<String>,
    serials: HashSet<String>,
    count: usize,
}

impl Access {
    /// An empty report.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            people: scope.person.into_iter().collect(),
            tools: scope.tool.iter().cloned().collect(),
            scope,
            open: Ongoing::default(),
            lines: Vec::new(),
            shown: HashSet::new(),
            serials: HashSet::new(),
            count: 0,
        }
    }

    /// Takes a record.
    pub fn add(&mut self, record: &Record) {
        self.count += 1;
        match &record.event {
            Event::Intent(entry) => {
                let line = decided(record, entry, "allowed");
                if self.holds(record, entry) {
                    self.access(self.count, entry, line.clone());
                }
                self.open
                    .begin(entry.request, (self.count, entry.clone(), Box::new(line)));
            }
            Event::Refused(refused) if self.holds(record, &refused.entry) => {
                let line = Line {
                    status: refused.status.to_string(),
                    decision: refused.problem.clone(),
                    ..decided(record, &refused.entry, "denied")
                };
                self.access(self.count, &refused.entry, line);
            }
            Event::Outcome(outcome) => self.outcome(record, outcome),
            Event::Mint(mint) if self.shown.contains(&mint.request) => {
                self.serials.insert(mint.serial.clone());
                let line = Line {
                    request: mint.request.to_string(),
                    person: mint.person.to_string(),
                    tool: mint.tool.clone(),
                    serial: mint.serial.clone(),
                    detail: format!("{} until {}", mint.way, mint.not_after),
                    ..line(record, "minted")
                };
                self.lines.push((self.count, None, line));
            }
            Event::Trace(trace) => self.trace(record, trace),
            Event::Change(change) => self.change(record, change),
            Event::OwnershipConflict(conflict) if self.shown.contains(&conflict.request) => {
                let line = Line {
                    request: conflict.request.to_string(),
                    person: conflict.owner.map(|owner| owner.to_string()).unwrap_or_default(),
                    tool: conflict.claimed.tool.clone(),
                    on: format!("{}/{}", conflict.claimed.kind, conflict.claimed.id),
                    ..line(record, "conflict")
                };
                self.lines.push((self.count, None, line));
            }
            _ => {}
        }
    }

    /// The steps in order.
    #[must_use]
    pub fn lines(mut self) -> Vec<Line> {
        let scope = &self.scope;
        let whole = scope.resource.is_none() && scope.person.is_none() && scope.tool.is_none();
        self.lines.sort_by_key(|(at, _, _)| *at);
        let (people, tools) = (&self.people, &self.tools);
        let belongs = |change: &Change| {
            // One that names neither (a role, the VO itself) may be what any of the accesses needed.
            let person = change.person.is_none_or(|person| people.contains(&person));
            let tool = change.tool.as_ref().is_none_or(|tool| tools.contains(tool));
            let of_resource = change.resource.is_some() && change.resource == scope.resource;
            whole || of_resource || (person && tool && change.resource.is_none())
        };
        self.lines
            .into_iter()
            .filter(|(_, change, _)| change.as_ref().is_none_or(belongs))
            .map(|(_, _, line)| line)
            .collect()
    }

    /// Whether a request is one of the accesses.
    fn holds(&self, record: &Record, entry: &Entry) -> bool {
        let scope = &self.scope;
        let tool = entry.place.tool.as_deref();
        let resource = |wanted: &String| {
            entry.resource.as_ref().is_some_and(|resource| {
                format!("{}/{}", resource.kind, resource.id) == *wanted || resource.parents.contains(wanted)
            })
        };
        self.is_in_time(record)
            && scope.resource.as_ref().is_none_or(resource)
            && self.is_by(entry)
            // What administrators do with the gateway itself stands there as changes.
            && (tool != Some(OWN_TOOL) || scope.tool.is_some())
    }

    fn is_by(&self, entry: &Entry) -> bool {
        let scope = &self.scope;
        let person = scope
            .person
            .is_none_or(|person| entry.subject.person == Some(person));
        let tool = scope.tool.as_deref();
        person && tool.is_none_or(|tool| entry.place.tool.as_deref() == Some(tool))
    }

    fn is_in_time(&self, record: &Record) -> bool {
        self.scope.since.is_none_or(|since| record.time >= since)
    }

    fn access(&mut self, at: usize, entry: &Entry, line: Line) {
        self.shown.insert(entry.request);
        self.people.extend(entry.subject.person);
        self.tools.extend(entry.place.tool.clone());
        let serial = entry.delegation.as_ref().and_then(|way| way.serial.clone());
        self.serials.extend(serial);
        self.lines.push((at, None, line));
    }

    fn outcome(&mut self, record: &Record, outcome: &Outcome) {
        let begun = self.open.end(outcome.request);
        let made: Vec<String> = outcome
            .created
            .iter()
            .map(|made| format!("{}/{}", made.kind, made.id))
            .collect();
        // Who made a thing is known by what came of the request.
        if let (Some((at, entry, line)), Some(resource)) = (&begun, &self.scope.resource)
            && made.contains(resource)
            && !self.shown.contains(&outcome.request)
            && self.is_by(entry)
            && self.is_in_time(record)
        {
            self.access(*at, entry, (**line).clone());
        }
        if !self.shown.contains(&outcome.request) {
            return;
        }
        let entry = begun.as_ref().map(|(_, entry, _)| entry);
        let place = entry.map(|entry| entry.place.clone()).unwrap_or_default();
        let person = entry.and_then(|entry| entry.subject.person);
        let line = Line {
            request: outcome.request.to_string(),
            person: person.map(|person| person.to_string()).unwrap_or_default(),
            tool: place.tool.unwrap_or_default(),
            task: place.task.unwrap_or_default(),
            on: made.join(" "),
            status: outcome
                .status
                .map(|status| status.to_string())
                .unwrap_or_default(),
            ending: render::ending(outcome.ending).to_owned(),
            bytes_in: outcome.bytes_in.to_string(),
            bytes_out: outcome.bytes_out.to_string(),
            serial: outcome
                .signed
                .as_ref()
                .map(|signed| signed.serial.clone())
                .unwrap_or_default(),
            detail: outcome.error.clone().unwrap_or_default(),
            ..line(record, "ended")
        };
        self.lines.push((self.count, None, line));
    }

    fn trace(&mut self, record: &Record, trace: &TraceEvent) {
        let of_these = trace.found.iter().any(|serial| self.serials.contains(serial));
        if !of_these || !self.is_in_time(record) {
            return;
        }
        let people: Vec<String> = trace.persons.iter().map(ToString::to_string).collect();
        let line = Line {
            request: trace.request.to_string(),
            person: people.join(" "),
            by: self.asked_by(trace.request),
            serial: trace.found.join(" "),
            detail: format!("by {}", trace.by),
            ..line(record, "traced")
        };
        self.lines.push((self.count, None, line));
    }

    fn change(&mut self, record: &Record, event: &ChangeEvent) {
        let change = &event.change;
        let member = |name: &str| {
            let state = change.after.as_ref().or(change.before.as_ref());
            state.and_then(|state| state.get(name)?.as_str().map(str::to_owned))
        };
        let (tool, resource) = match change.kind.as_str() {
            "tool" => (Some(change.target.clone()), None),
            "resource" => (member("tool"), Some(change.target.clone())),
            _ => (member("tool"), None),
        };
        // What a person does to her own account gives nobody anything.
        if matches!(
            change.action.as_str(),
            "user.change_own_password" | "user.reset_password" | "user.edit" | "gateway.reload"
        ) {
            return;
        }
        let state = |name: &str, state: &Option<Value>| state.as_ref().map(|state| format!("{name} {state}"));
        let detail: Vec<String> = state("before", &change.before)
            .into_iter()
            .chain(state("after", &change.after))
            .collect();
        let line = Line {
            request: event.request.to_string(),
            person: change.person.map(|person| person.to_string()).unwrap_or_default(),
            by: self.asked_by(event.request),
            tool: tool.clone().unwrap_or_default(),
            on: format!("{}/{}", change.kind, change.target),
            because: event.reason.clone().unwrap_or_default(),
            detail: detail.join("; "),
            ..line(record, &change.action)
        };
        let change = Change {
            // The maker of a thing is its owner anyway.
            person: change.person.filter(|_| resource.is_none()),
            // Grants of the gateway's own tasks say who may grant.
            tool: tool.filter(|tool| tool != OWN_TOOL),
            resource,
        };
        self.lines.push((self.count, Some(change), line));
    }

    /// Who asked for a request that has not ended yet.
    fn asked_by(&self, request: RequestId) -> String {
        let asked = self.open.about(request);
        let person = asked.and_then(|(_, entry, _)| entry.subject.person);
        person.map(|person| person.to_string()).unwrap_or_default()
    }
}

fn line(record: &Record, what: &str) -> Line {
    Line {
        time: record.time.to_string(),
        seq: record.seq,
        what: what.to_owned(),
        ..Line::default()
    }
}

fn decided(record: &Record, entry: &Entry, what: &str) -> Line {
    let place = &entry.place;
    let none = DecisionEntry::default();
    let decision = entry.decision.as_deref().unwrap_or(&none);
    let on = entry
        .resource
        .as_ref()
        .map(|resource| format!("{}/{}", resource.kind, resource.id));
    Line {
        request: entry.request.to_string(),
        person: entry
            .subject
            .person
            .map(|person| person.to_string())
            .unwrap_or_default(),
        tool: place.tool.clone().unwrap_or_default(),
        task: place.task.clone().unwrap_or_default(),
        on: on.unwrap_or_default(),
        decision: decision.reason.clone(),
        policy_version: match &entry.decision {
            Some(decision) => decision.policy_version.to_string(),
            None => String::new(),
        },
        policies: decision.policies.join(" "),
        path: decision.path.join(" "),
        serial: entry
            .delegation
            .as_ref()
            .and_then(|way| way.serial.clone())
            .unwrap_or_default(),
        ..line(record, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{entry, ids, outcome};
    use crate::record::Change as Made;

    fn report(scope: Scope, events: &[Event]) -> Vec<String> {
        let mut report = Access::new(scope);
        for (seq, event) in events.iter().enumerate() {
            report.add(&Record {
                v: 1,
                seq: seq as u64,
                time: Timestamp::from_secs(seq as i64),
                mono: 0,
                salt: String::new(),
                cut: None,
                event: event.clone(),
            });
        }
        report.lines().into_iter().map(|line| line.what).collect()
    }

    #[test]
    fn only_what_concerns_the_people_and_tools_of_the_accesses_stands_in_it() {
        let ids = ids();
        let (access, other) = (entry(&ids), entry(&ids));
        let grant = |tool: &str, action: &str, person| {
            let made = Made {
                action: action.into(),
                kind: "role".into(),
                target: "r".into(),
                vo: ids.next().unwrap(),
                person,
                before: None,
                after: Some(serde_json::json!({ "tool": tool })),
            };
            Event::Change(Box::new(ChangeEvent::of(ids.next().unwrap(), made)))
        };
        let intent = |entry: &Entry| Event::Intent(Box::new(entry.clone()));
        let mut elsewhere = other.clone();
        elsewhere.resource.as_mut().unwrap().id = "7".into();
        let events = [
            grant("segmentation", "grant.add", None),
            grant("another", "grant.add", None),
            grant("segmentation", "role.assign", access.subject.person),
            grant("segmentation", "role.unassign", other.subject.person),
            intent(&access),
            intent(&elsewhere),
            Event::Outcome(Box::new(outcome(elsewhere.request))),
            Event::Outcome(Box::new(outcome(access.request))),
        ];
        let of_resource = Scope {
            resource: Some("job/42".into()),
            ..Scope::default()
        };
        assert_eq!(
            report(of_resource, &events),
            ["grant.add", "role.assign", "allowed", "ended"]
        );
        let of_person = Scope {
            person: other.subject.person,
            since: Some(Timestamp::from_secs(1)),
            ..Scope::default()
        };
        assert_eq!(
            report(of_person, &events),
            ["grant.add", "role.unassign", "allowed", "ended"]
        );
        assert_eq!(report(Scope::default(), &events).len(), events.len());
    }
}
