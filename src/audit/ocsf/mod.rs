//! A record as an event of the Open Cybersecurity Schema Framework (OCSF), for the tools of a security team.
//!
//! | Event of the log | Class |
//! | --- | --- |
//! | `intent` `refused` `outcome` `lease` `trace` `strangers` | API Activity 6003 |
//! | `login` `session_ended` | Authentication 3002 |
//! | `mint` | Authorize Session 3003: a session gets a credential for a tool |
//! | `change` | Account Change 3001, Entity Management 3004, User Access 3005, Group Management 3006, by its action |
//! | `alert` `ownership_conflict` | Detection Finding 2004 |
//! | `start` `stop` `reload_failed` `recovery` `epoch` `log_open` `unwritten` | Application Lifecycle 6002 |
//!
//! All events of a request have its id as `metadata.correlation_uid`. What OCSF has no word for stands in `unmapped`.

mod change;

use serde_json::{Map, Value, json};

use super::render;
use crate::clock::Timestamp;
use crate::id::PersonId;
use crate::record::{
    AlertEvent, DecisionEntry, Ending, Entry, Event, Lease, Login, Mint, Outcome, OwnershipConflict, Record,
    Refused, RevocationList, SessionEnded, Strangers, SubjectEntry, TraceEvent,
};

/// Version of OCSF that the events follow.
pub const VERSION: &str = "1.8.0";

/// A class of OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    category: (u32, &'static str),
    uid: u32,
    name: &'static str,
}

const IAM: (u32, &str) = (3, "Identity & Access Management");
const APPLICATION: (u32, &str) = (6, "Application Activity");

const ACCOUNT_CHANGE: Class = class(IAM, 3001, "Account Change");
const AUTHENTICATION: Class = class(IAM, 3002, "Authentication");
const AUTHORIZE_SESSION: Class = class(IAM, 3003, "Authorize Session");
const ENTITY_MANAGEMENT: Class = class(IAM, 3004, "Entity Management");
const USER_ACCESS: Class = class(IAM, 3005, "User Access Management");
const GROUP_MANAGEMENT: Class = class(IAM, 3006, "Group Management");
const LIFECYCLE: Class = class(APPLICATION, 6002, "Application Lifecycle");
const API_ACTIVITY: Class = class(APPLICATION, 6003, "API Activity");
const FINDING: Class = class((2, "Findings"), 2004, "Detection Finding");

const fn class(category: (u32, &'static str), uid: u32, name: &'static str) -> Class {
    Class { category, uid, name }
}

/// The methods that OCSF lists.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// `severity_id` with its caption.
type Severity = (u32, &'static str);
const INFORMATIONAL: Severity = (1, "Informational");
const LOW: Severity = (2, "Low");
const MEDIUM: Severity = (3, "Medium");
const HIGH: Severity = (4, "High");
const CRITICAL: Severity = (5, "Critical");

/// `status_id` with its caption.
type Status = (u32, &'static str);
const UNKNOWN: Status = (0, "Unknown");
const SUCCESS: Status = (1, "Success");
const FAILURE: Status = (2, "Failure");

/// `activity_id` with its caption; one of the class, 0, or 99 with a word of our own.
type Activity = (u32, &'static str);
const OTHER: u32 = 99;

/// What a kind of record says in words of OCSF, before it is put together.
struct Said {
    class: Class,
    activity: Activity,
    severity: Severity,
    status: Status,
    /// Members of the class.
    body: Value,
    unmapped: Value,
}

impl Said {
    fn new(class: Class, activity: Activity, status: Status, body: Value) -> Self {
        Self {
            class,
            activity,
            severity: INFORMATIONAL,
            status,
            body,
            unmapped: Value::Null,
        }
    }

    fn severe(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    fn unmapped(self, unmapped: Value) -> Self {
        Self { unmapped, ..self }
    }
}

/// `record` as an OCSF event. An outcome, a lease and a trace name only their request: `intent` is that of the request,
/// where the caller knows it, and says who did it and where.
///
/// ```
/// # use countersign::{audit::ocsf, clock::Timestamp, record::{Event, Record}};
/// let event = Event::Stop { reason: "asked to".into() };
/// let salt = "00".repeat(16);
/// let record = Record { v: 1, seq: 7, time: Timestamp(0), mono: 0, salt, cut: None, event };
/// let event = ocsf::event(&record, None);
/// assert_eq!((&event["class_uid"], &event["type_uid"]), (&6002.into(), &600_204.into()));
/// ```
#[must_use]
pub fn event(record: &Record, intent: Option<&Entry>) -> Value {
    let said = say(&record.event, intent);
    let (class, (activity, activity_name)) = (said.class, said.activity);
    let mut event = json!({
        "category_uid": class.category.0,
        "category_name": class.category.1,
        "class_uid": class.uid,
        "class_name": class.name,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": class.uid * 100 + activity,
        "type_name": format!("{}: {activity_name}", class.name),
        "severity_id": said.severity.0,
        "severity": said.severity.1,
        "status_id": said.status.0,
        "status": said.status.1,
        "time": millis(record.time),
        "message": render::line(record),
        "metadata": metadata(record, intent),
        "unmapped": said.unmapped,
    });
    if let (Some(event), Value::Object(body)) = (event.as_object_mut(), said.body) {
        event.extend(body);
    }
    tidy(event)
}

fn metadata(record: &Record, intent: Option<&Entry>) -> Value {
    let tenant = match &record.event {
        Event::Intent(entry) => entry.place.vo_id,
        Event::Refused(refused) => refused.entry.place.vo_id,
        Event::Change(change) => Some(change.change.vo),
        Event::Mint(mint) => Some(mint.vo),
        Event::RevocationList(list) => Some(list.vo),
        Event::Alert(alert) => Some(alert.vo),
        Event::OwnershipConflict(conflict) => Some(conflict.claimed.vo),
        _ => intent.and_then(|entry| entry.place.vo_id),
    };
    json!({
        "version": VERSION,
        "product": { "name": "Countersign", "vendor_name": "Countersign", "version": env!("CARGO_PKG_VERSION") },
        // Random for each record, and the same however often it is exported.
        "uid": record.salt,
        "sequence": record.seq,
        "correlation_uid": record.event.request(),
        "event_code": record.event.name(),
        "log_name": "audit",
        "log_version": record.v.to_string(),
        "logged_time": millis(record.time),
        "tenant_uid": tenant,
        "is_truncated": record.cut.map(|_| true),
        "untruncated_size": record.cut.map(|cut| cut.bytes),
    })
}

fn say(event: &Event, intent: Option<&Entry>) -> Said {
    match event {
        Event::Intent(entry) => {
            let body = activity_of(entry, entry.decision.as_deref(), None);
            Said::new(API_ACTIVITY, activity(entry), UNKNOWN, body).unmapped(beyond(entry))
        }
        Event::Refused(refused) => of_refused(refused),
        Event::Strangers(strangers) => of_strangers(strangers),
        Event::Lease(lease) => of_lease(lease, intent),
        Event::Outcome(outcome) => of_outcome(outcome, intent),
        Event::Login(login) => of_login(login),
        Event::SessionEnded(ended) => of_session_ended(ended),
        Event::Change(change) => change::said(change),
        Event::Mint(mint) => of_mint(mint),
        Event::RevocationList(list) => of_list(list, intent),
        Event::Trace(trace) => of_trace(trace, intent),
        Event::Alert(alert) => of_alert(alert),
        Event::OwnershipConflict(conflict) => of_conflict(conflict),
        _ => of_gateway(event),
    }
}

/// What an API Activity says of its request: who, what, on what, from where, and why she may.
fn activity_of(entry: &Entry, decision: Option<&DecisionEntry>, code: Option<u16>) -> Value {
    let place = &entry.place;
    let operation = place.task.as_deref().unwrap_or(&place.method);
    let resource = entry.resource.as_ref().map(|resource| {
        let owner = resource.owner.map(|owner| json!({ "uid": owner }));
        json!([{ "type": resource.kind, "uid": resource.id, "owner": owner }])
    });
    let url = place.path.as_ref().map(|path| json!({ "path": path }));
    let service = place.tool.as_ref().map(|tool| json!({ "name": tool }));
    let method = METHODS.contains(&place.method.as_str()).then_some(&place.method);
    json!({
        "actor": actor(&entry.subject, decision),
        "api": { "operation": operation, "service": service, "request": { "uid": entry.request } },
        "resources": resource,
        "src_endpoint": endpoint(&entry.source),
        "http_request": { "uid": entry.request, "http_method": method, "url": url },
        "http_response": code.map(|code| json!({ "code": code })),
    })
}

/// What stands in an intent and has no place in OCSF.
fn beyond(entry: &Entry) -> Value {
    json!({
        "trace": entry.trace,
        "vo": entry.place.vo,
        "via": entry.place.via,
        "kind": entry.place.kind,
        "method": entry.place.method,
        "parameters": entry.parameters,
        "delegation": entry.delegation,
        "decision": entry.decision,
        "authenticated": {
            "result": entry.subject.result, "methods": entry.subject.methods, "acr": entry.subject.acr,
            "identity": entry.subject.identity,
        },
    })
}

/// Who asks, with the decision and the policies that determined it.
fn actor(subject: &SubjectEntry, decision: Option<&DecisionEntry>) -> Value {
    let authorizations = decision.map(|decision| {
        let word = if decision.permit { "Allowed" } else { "Denied" };
        let one = |policy: Option<&String>| {
            let policy = policy.map(|policy| {
                json!({ "uid": policy, "version": decision.policy_version.to_string(), "is_applied": true })
            });
            json!({ "decision": word, "policy": policy })
        };
        if decision.policies.is_empty() {
            vec![one(None)]
        } else {
            decision.policies.iter().map(|policy| one(Some(policy))).collect()
        }
    });
    json!({
        "user": user(subject.person, &subject.kind),
        "session": subject.session.map(|session| json!({ "uid": session, "is_mfa": is_mfa(&subject.methods) })),
        "authorizations": authorizations,
    })
}

/// A person by her id: records hold no names.
fn user(person: Option<PersonId>, kind: &str) -> Value {
    let (kind_id, kind_name) = match kind {
        "person" => (1, "User"),
        "operator" => (2, "Admin"),
        "service" | "app" | "provider" => (4, "Service"),
        _ => (0, "Unknown"),
    };
    let name = person.is_none().then_some(kind);
    json!({ "uid": person, "name": name, "type_id": kind_id, "type": kind_name })
}

/// A source is a network, never an address.
fn endpoint(source: &str) -> Value {
    json!({ "name": if source.is_empty() { "unknown" } else { source } })
}

fn activity(entry: &Entry) -> Activity {
    match entry.place.kind.as_deref() {
        Some("create") => (1, "Create"),
        Some("read" | "download" | "asset") => (2, "Read"),
        Some("update") => (3, "Update"),
        Some("delete") => (4, "Delete"),
        Some("execute") => (OTHER, "Execute"),
        Some("transfer") => (OTHER, "Transfer"),
        _ => (0, "Unknown"),
    }
}

fn of_refused(refused: &Refused) -> Said {
    let entry = &refused.entry;
    let mut body = activity_of(entry, entry.decision.as_deref(), Some(refused.status));
    set(&mut body, "status_code", refused.problem.as_str().into());
    let reason = entry.decision.as_ref().map(|decision| decision.reason.clone());
    set(&mut body, "status_detail", reason.into());
    Said::new(API_ACTIVITY, activity(entry), FAILURE, body)
        .severe(LOW)
        .unmapped(beyond(entry))
}

fn of_strangers(strangers: &Strangers) -> Said {
    let minute = strangers.minute;
    let body = json!({
        "actor": { "user": user(None, "anonymous") },
        "api": { "operation": strangers.problem, "request": { "uid": strangers.example } },
        "src_endpoint": endpoint(&strangers.source),
        "status_code": strangers.problem,
        "count": strangers.count,
        "start_time": millis(minute),
        "end_time": millis(minute.plus(std::time::Duration::from_secs(60))),
    });
    Said::new(API_ACTIVITY, (OTHER, "Refused Unheard"), FAILURE, body)
}

/// An API Activity of which only the request is known, or whose intent says more.
fn of_request(request: Value, intent: Option<&Entry>, decision: Option<&DecisionEntry>) -> Value {
    match intent {
        Some(entry) => activity_of(entry, decision.or(entry.decision.as_deref()), None),
        None => json!({
            "actor": { "app_name": "countersign", "authorizations": decision.map(|decision| {
                let word = if decision.permit { "Allowed" } else { "Denied" };
                json!([{ "decision": word }])
            }) },
            "api": { "operation": "unknown", "request": { "uid": request } },
            "src_endpoint": endpoint(""),
        }),
    }
}

fn of_lease(lease: &Lease, intent: Option<&Entry>) -> Said {
    let body = of_request(json!(lease.request), intent, Some(&lease.decision));
    let (status, severity) = if lease.decision.permit {
        (SUCCESS, INFORMATIONAL)
    } else {
        (FAILURE, LOW)
    };
    Said::new(API_ACTIVITY, (OTHER, "Lease"), status, body)
        .severe(severity)
        .unmapped(json!({
            "decision": lease.decision, "bytes_in": lease.bytes_in, "bytes_out": lease.bytes_out,
        }))
}

fn of_outcome(outcome: &Outcome, intent: Option<&Entry>) -> Said {
    let mut body = of_request(json!(outcome.request), intent, None);
    if let Some(code) = outcome.status {
        let latency = outcome.duration_us / 1_000;
        let response = json!({ "code": code, "body_length": outcome.bytes_out, "latency": latency });
        set(&mut body, "http_response", response);
    }
    if let Some(request) = body.get_mut("http_request") {
        set(request, "body_length", outcome.bytes_in.into());
    }
    let made = outcome.created.iter().map(|made| {
        let owner = made.owner.map(|owner| json!({ "uid": owner }));
        json!({ "type": made.kind, "uid": made.id, "owner": owner })
    });
    let gone = outcome.deleted.iter();
    let gone = gone.map(|gone| json!({ "type": gone.kind, "uid": gone.id }));
    let mut resources: Vec<Value> = match body.get("resources") {
        Some(Value::Array(there)) => there.clone(),
        _ => Vec::new(),
    };
    resources.extend(made.chain(gone));
    set(&mut body, "resources", resources.into());
    set(
        &mut body,
        "status_code",
        outcome.status.map(|code| code.to_string()).into(),
    );
    let ending = render::ending(outcome.ending);
    let detail = match &outcome.error {
        Some(error) => format!("{ending}: {error}"),
        None => ending.to_owned(),
    };
    set(&mut body, "status_detail", detail.into());
    let answered = matches!(outcome.ending, Ending::Answered | Ending::Applied);
    let status = match (outcome.ending, outcome.status) {
        (Ending::Unknown, _) => UNKNOWN,
        (_, code) if answered && code.is_none_or(|code| code < 400) => SUCCESS,
        _ => FAILURE,
    };
    let activity = intent.map_or((0, "Unknown"), activity);
    Said::new(API_ACTIVITY, activity, status, body).unmapped(json!({
        "ending": ending, "duration_us": outcome.duration_us, "bytes_in": outcome.bytes_in,
        "bytes_out": outcome.bytes_out, "tool_status": outcome.tool_status, "signed": outcome.signed, "bodies": outcome.bodies,
    }))
}

/// Whether more than one factor was shown. Beside `federated` stands what the provider says of its own sign-in.
fn is_mfa(methods: &[String]) -> bool {
    let has = |wanted: &str| methods.iter().any(|method| method == wanted);
    has("mfa") || (methods.len() > 1 && !has("federated"))
}

fn of_login(login: &Login) -> Said {
    let (status, severity) = if login.result == "ok" {
        (SUCCESS, INFORMATIONAL)
    } else {
        (FAILURE, LOW)
    };
    let kind = if login.person.is_some() {
        "person"
    } else {
        "unknown"
    };
    let is_mfa = is_mfa(&login.methods);
    let session = login
        .session
        .map(|session| json!({ "uid": session, "is_mfa": is_mfa }));
    let body = json!({
        "user": user(login.person, kind),
        "session": session,
        "service": { "name": "countersign" },
        "is_mfa": is_mfa,
        "src_endpoint": endpoint(&login.source),
        "status_detail": login.result,
    });
    Said::new(AUTHENTICATION, (1, "Logon"), status, body)
        .severe(severity)
        .unmapped(json!({ "methods": login.methods, "logins": login.count, "federated": login.federated }))
}

fn of_session_ended(ended: &SessionEnded) -> Said {
    let body = json!({
        "user": user(Some(ended.person), "person"),
        "session": ended.sessions.first().map(|session| json!({ "uid": session, "expiration_reason": ended.reason })),
        "service": { "name": "countersign" },
        "status_detail": ended.reason,
    });
    Said::new(AUTHENTICATION, (2, "Logoff"), SUCCESS, body).unmapped(json!({ "sessions": ended.sessions }))
}

fn of_mint(mint: &Mint) -> Said {
    let body = json!({
        "user": user(Some(mint.person), "person"),
        "session": {
            "uid": mint.session, "credential_uid": mint.serial, "created_time": millis(mint.not_before),
            "expiration_time": millis(mint.not_after), "issuer": mint.issuer,
        },
        "privileges": [mint.tool],
    });
    Said::new(AUTHORIZE_SESSION, (1, "Assign Privileges"), SUCCESS, body)
        .unmapped(json!({ "way": mint.way, "spki": mint.spki }))
}

fn of_list(list: &RevocationList, intent: Option<&Entry>) -> Said {
    let mut body = of_request(json!(list.request), intent, None);
    let resource = json!([{ "type": "revocation_list", "uid": list.number.to_string() }]);
    set(&mut body, "resources", resource);
    if let Some(api) = body.get_mut("api") {
        set(api, "operation", "crl.sign".into());
    }
    Said::new(API_ACTIVITY, (1, "Create"), SUCCESS, body).unmapped(json!({
        "issuer": list.issuer, "count": list.count, "made": millis(list.made), "due": millis(list.due), "body": list.body,
    }))
}

fn of_trace(trace: &TraceEvent, intent: Option<&Entry>) -> Said {
    let mut body = of_request(json!(trace.request), intent, None);
    let found = trace.found.iter();
    let found: Vec<Value> = found
        .map(|serial| json!({ "type": "proxy", "uid": serial }))
        .collect();
    set(&mut body, "resources", found.into());
    if let Some(api) = body.get_mut("api") {
        set(api, "operation", "proxy.trace".into());
    }
    Said::new(API_ACTIVITY, (2, "Read"), SUCCESS, body)
        .unmapped(json!({ "by": trace.by, "query": trace.query, "persons": trace.persons }))
}

fn of_alert(alert: &AlertEvent) -> Said {
    let title = format!("repeated denials of `{}`", alert.task);
    let body = json!({
        "finding_info": { "uid": alert.episode, "title": title, "related_events_count": alert.count },
        "count": alert.count,
    });
    Said::new(FINDING, (1, "Create"), UNKNOWN, body)
        .severe(MEDIUM)
        .unmapped(json!({
            "person": alert.person, "tool": alert.tool, "task": alert.task, "requests": alert.requests,
        }))
}

fn of_conflict(conflict: &OwnershipConflict) -> Said {
    let claimed = &conflict.claimed;
    let owner = conflict.owner.map(|owner| json!({ "uid": owner }));
    let body = json!({
        "finding_info": { "uid": conflict.request, "title": "an owner was claimed for what has another" },
        "resources": [{ "type": claimed.kind, "uid": claimed.id, "owner": owner }],
    });
    Said::new(FINDING, (1, "Create"), UNKNOWN, body)
        .severe(HIGH)
        .unmapped(json!({ "claimed": claimed }))
}

/// What happens to the gateway and its log.
fn of_gateway(event: &Event) -> Said {
    let app = json!({ "name": "countersign" });
    let life = |activity, status, app: Value| Said::new(LIFECYCLE, activity, status, json!({ "app": app }));
    match event {
        Event::Start(start) => {
            let app = json!({ "name": "countersign", "version": start.version });
            life((3, "Start"), SUCCESS, app).unmapped(json!({ "config": start.config, "epoch": start.epoch }))
        }
        Event::Stop { reason } => life((4, "Stop"), SUCCESS, app).unmapped(json!({ "reason": reason })),
        Event::ReloadFailed(failed) => life((8, "Update"), FAILURE, app)
            .severe(MEDIUM)
            .unmapped(json!({ "by": failed.by, "settings": failed.settings, "flaws": failed.flaws })),
        Event::Recovery(recovery) => {
            let whole = recovery.damage.is_empty();
            life((OTHER, "Recovery"), if whole { SUCCESS } else { FAILURE }, app)
                .severe(if whole { LOW } else { CRITICAL })
                .unmapped(json!(recovery))
        }
        Event::Epoch(begun) => life((OTHER, "Epoch"), SUCCESS, app)
            .severe(CRITICAL)
            .unmapped(json!(begun)),
        Event::Unwritten { count, from, to } => {
            let body = json!({
                "app": app, "count": count, "start_time": millis(*from), "end_time": millis(*to),
            });
            Said::new(LIFECYCLE, (OTHER, "Unwritten"), FAILURE, body).severe(HIGH)
        }
        Event::LogDegraded(degraded) => {
            let severity = match degraded.room.as_str() {
                "ok" => LOW,
                "low" => HIGH,
                _ => CRITICAL,
            };
            let status = if degraded.room == "ok" { SUCCESS } else { FAILURE };
            life((OTHER, "Room"), status, app)
                .severe(severity)
                .unmapped(json!(degraded))
        }
        Event::KeyChanged(change) => life((OTHER, "Key Change"), SUCCESS, app)
            .severe(HIGH)
            .unmapped(json!(change)),
        Event::LogDropped(dropped) => life((OTHER, "Retention"), SUCCESS, app).unmapped(json!(dropped)),
        Event::Witness(witness) => life((OTHER, "Witness"), FAILURE, app)
            .severe(HIGH)
            .unmapped(json!(witness)),
        Event::State(state) => life((OTHER, "State"), SUCCESS, app)
            .severe(if state.adopted.is_some() { MEDIUM } else { LOW })
            .unmapped(json!(state)),
        Event::StateForeignChange(changed) => {
            let back = changed.effect == "put_back";
            life(
                (OTHER, "Foreign Change"),
                if back { SUCCESS } else { FAILURE },
                app,
            )
            .severe(if back { LOW } else { CRITICAL })
            .unmapped(json!(changed))
        }
        Event::LogOpen { open } => {
            life((OTHER, "Open Requests"), SUCCESS, app).unmapped(json!({ "open": open }))
        }
        other => life((OTHER, "Other"), UNKNOWN, app).unmapped(json!({ other.name(): other })),
    }
}

fn millis(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000)
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// Without what is absent: `null`, and objects and lists in which nothing is left.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, tidy(value)));
            let members: Map<String, Value> = members.filter(|(_, value)| !is_empty(value)).collect();
            Value::Object(members)
        }
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(tidy)
                .filter(|item| !is_empty(item))
                .collect(),
        ),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
