//! The audit log of a VO: searching it, one request with all its records, and the proof of a record to take away.

use std::collections::HashMap;

use askama::Template;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::ask::{Ask, Refusal, Visit};
use super::faults::Faults;
use super::frame::{Page, address};
use super::members::corrected;
use super::own::{ROWS, ShownRecord, explained};
use super::pages::{Said, text};
use super::{Console, answer, shown_moment, with_query};
use crate::api::audit::AuditPage;
use crate::api::audit::prove::RecordProof;
use crate::api::request::explain::Explanation;
use crate::api::user::list::UserList;
use crate::body::Body;
use crate::clock::Timestamp;
use crate::problem::{Kind, Problem};
use crate::record::Event;

/// What is looked for.
#[derive(Default)]
struct Looked {
    who: String,
    person: String,
    tool: String,
    task: String,
    event: String,
    from: String,
    to: String,
    text: String,
    before: String,
}

/// One record of the answer.
struct Row {
    time: String,
    event: String,
    who: String,
    what: String,
    /// What is beside it in small: the resource, the path.
    beside: String,
    /// `good`, `bad`, or nothing.
    class: &'static str,
    tag: String,
    request: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditBody<'a> {
    said: &'a Said,
    faults: &'a Faults,
    vo: &'a str,
    looked: Looked,
    events: &'static [&'static str],
    rows: Vec<Row>,
    older: Option<String>,
    /// Records that the answer may lack, since the index has not reached them.
    lag: u64,
    dropped: Option<String>,
}

impl Console {
    pub(super) async fn audit(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let (ask, vo) = (Ask::of(request)?, request.parameter("vo"));
        let of = |name| request.parameter(name).trim().to_owned();
        let looked = Looked {
            who: of("who"),
            person: of("person"),
            tool: of("tool"),
            task: of("task"),
            event: of("event"),
            from: of("from"),
            to: of("to"),
            text: of("text"),
            before: of("before"),
        };
        let (found, said, faults) = match search(&ask, vo, &looked).await {
            Ok(found) => (Some(found), Said::Nothing, Faults::none()),
            Err(refusal) => {
                let problem = corrected(refusal)?;
                let fields = [
                    ("who", looked.who.as_str()),
                    ("from", &looked.from),
                    ("to", &looked.to),
                    ("text", &looked.text),
                ];
                let (said, faults) = Faults::from(&problem, &fields);
                (None, said, faults)
            }
        };
        let here = address(vo, "audit");
        let older = found.as_ref().and_then(|found| found.next.as_deref());
        let older = older.map(|before| {
            let query = [
                ("who", looked.who.as_str()),
                ("person", &looked.person),
                ("tool", &looked.tool),
                ("task", &looked.task),
                ("event", &looked.event),
                ("from", &looked.from),
                ("to", &looked.to),
                ("text", &looked.text),
                ("before", before),
            ];
            with_query(&here, &query)
        });
        let status = if found.is_some() {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let body = text(&AuditBody {
            said: &said,
            faults: &faults,
            vo,
            events: Event::NAMES,
            rows: found.as_ref().map(rows).unwrap_or_default(),
            older,
            lag: found.as_ref().map_or(0, |found| found.lag),
            dropped: found.and_then(|found| found.dropped),
            looked,
        });
        let shell = self.shell_in(request, vo).at(&here);
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Audit log", "", &body)
        };
        Ok(answer::page(status, page.show()))
    }

    /// One request, as an administrator sees it.
    pub(super) async fn audit_request(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let (vo, id) = (request.parameter("vo"), request.parameter("request"));
        let found: Explanation = Ask::of(request)?
            .read("request.explain", &[("vo", vo), ("request", id)], &[])
            .await?;
        let here = address(vo, "audit");
        let mut more = Vec::new();
        if let Some(person) = &found.person {
            more.push((
                format!("{}/{}", address(vo, "members"), person.id),
                person.name.clone(),
            ));
            let hers = with_query(&here, &[("person", &person.id)]);
            more.push((hers, "Records of this person".to_owned()));
        }
        if found.tool.is_some() && found.task.is_some() {
            let (tool, task) = (
                found.tool.as_deref().unwrap_or_default(),
                found.task.as_deref().unwrap_or_default(),
            );
            let same = with_query(&here, &[("tool", tool), ("task", task)]);
            more.push((same, "Records of this task".to_owned()));
        }
        let records = found.records.iter().map(|record| shown(vo, id, record)).collect();
        let body = explained(&found, records, more);
        let shell = self.shell_in(request, vo).at(&here);
        let page = Page {
            shell: Some(&shell),
            crumbs: &[(here, "Audit log".to_owned())],
            ..Page::new("Request", "text", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }

    /// The proof of a record, as a file.
    pub(super) async fn audit_proof(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let (vo, id) = (request.parameter("vo"), request.parameter("request"));
        let query = [("request", id), ("event", request.parameter("event"))];
        let proof: RecordProof = Ask::of(request)?
            .read("audit.prove", &[("vo", vo)], &query)
            .await?;
        let mut response = answer::text("text/plain; charset=utf-8", proof.proof);
        let name = format!("attachment; filename=\"record-{}.tlog-proof\"", proof.record);
        if let Ok(value) = HeaderValue::from_str(&name) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }
}

async fn search(ask: &Ask, vo: &str, looked: &Looked) -> Result<AuditPage, Refusal> {
    let mut person = looked.person.clone();
    if !looked.who.is_empty() {
        let named = [("username", looked.who.as_str())];
        let list: UserList = ask.read("user.list", &[("vo", vo)], &named).await?;
        let found = list.users.into_iter().next().map(|user| user.id);
        person = found.ok_or_else(|| {
            let detail = format!("there is no member with the user name `{}`", looked.who);
            Problem::new(Kind::NotFound, detail).with("field", "who")
        })?;
    }
    let day = |date: &str, time: &str| match date {
        "" => String::new(),
        date => format!("{date}T{time}Z"),
    };
    let (from, to) = (day(&looked.from, "00:00:00"), day(&looked.to, "23:59:59"));
    let query = [
        ("person", person.as_str()),
        ("tool", &looked.tool),
        ("task", &looked.task),
        ("event", &looked.event),
        ("from", &from),
        ("to", &to),
        ("text", &looked.text),
        ("before", &looked.before),
        ("limit", ROWS),
    ];
    ask.read("audit.search", &[("vo", vo)], &query).await
}

/// The kind of a record, and what it holds.
fn event(record: &Value) -> (&str, &Value) {
    let first = record["event"].as_object().and_then(|event| event.iter().next());
    first.map_or(("", &Value::Null), |(name, event)| (name.as_str(), event))
}

fn rows(page: &AuditPage) -> Vec<Row> {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    // An outcome names only its request; who asked and what stands in the record with which that began.
    let began = |record: &Value| {
        let (name, event) = event(record);
        let id = event["request"].as_str()?.to_owned();
        matches!(name, "intent" | "refused").then(|| (id, event.clone()))
    };
    let began: HashMap<String, Value> = page.records.iter().filter_map(began).collect();
    let row = |record: &Value| {
        let (name, told) = event(record);
        let of = told["request"].as_str().and_then(|id| began.get(id));
        let event = of.filter(|_| name == "outcome").unwrap_or(told);
        let card = event.pointer("/subject/card").unwrap_or(&event["card"]);
        let known = card.as_str().and_then(|card| page.people.get(card));
        let place = &event["place"];
        let change = event.get("change").unwrap_or(event);
        let what = match (place["task"].as_str(), place["tool"].as_str()) {
            (Some(task), Some(tool)) => format!("{task} ({tool})"),
            (None, Some(tool)) => format!("no task ({tool})"),
            _ => word(change.get("action").unwrap_or(&event["task"])),
        };
        let resource = &event["resource"];
        let beside = match (resource["kind"].as_str(), resource["id"].as_str()) {
            (Some(kind), Some(id)) => format!("{kind}/{id}"),
            _ => [
                word(&place["method"]),
                word(&place["path"]),
                word(&event["target"]),
            ]
            .join(" ")
            .trim()
            .to_owned(),
        };
        let (class, tag) = match name {
            "refused" => ("bad", word(&event["problem"])),
            "outcome" => ("", word(&told["status"])),
            "alert" => ("bad", format!("{} times", word(&event["count"]))),
            "intent" => ("good", "permitted".to_owned()),
            _ => ("", String::new()),
        };
        Row {
            time: moment_of(record),
            event: name.to_owned(),
            who: known.map(|person| person.username.clone()).unwrap_or_default(),
            what,
            beside,
            class,
            tag,
            request: word(&told["request"]),
        }
    };
    page.records.iter().map(row).collect()
}

fn moment_of(record: &Value) -> String {
    let at = Timestamp(record["time"].as_i64().unwrap_or_default());
    shown_moment(&at.to_string())
}

/// A record of a request, with the address of its proof.
fn shown(vo: &str, request: &str, record: &Value) -> ShownRecord {
    let kind = event(record).0.to_owned();
    let proof = format!("{}/{request}/proof", address(vo, "requests"));
    ShownRecord {
        time: moment_of(record),
        text: serde_json::to_string_pretty(record).unwrap_or_default(),
        proof: with_query(&proof, &[("event", &kind)]),
        kind,
    }
}
