//! Every kind of record, held against what is published of them: the JSON Schema, and the classes of OCSF.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign::audit::ocsf;
use countersign::clock::Timestamp;
use countersign::record::{
    AlertEvent, BodyDigest, BodyDigests, Change, ChangeEvent, CreatedEntry, Cut, DecisionEntry,
    DelegationEntry, DeletedEntry, Ending, Entry, EpochBegun, Event, FederatedLogin, FileAside, Hash,
    IdentityEntry, KeyChanged, Lease, LogDegraded, LogDropped, Login, Mint, Outcome, OwnershipConflict,
    PlaceEntry, Record, Recovery, Refused, ReloadFailed, ResourceEntry, RevocationList, SessionEnded,
    SignedEntry, Start, StateDigests, StateForeignChange, StateStep, Strangers, SubjectEntry, TraceEvent,
    TraceId, WitnessEvent,
};
use serde_json::{Value, json};

/// Members under which anything may stand.
const FREE: [&str; 4] = ["before", "after", "parameters", "attributes"];

fn id<T: From<uuid::Uuid>>() -> T {
    uuid::Uuid::from_u128(0x0199_a1b2_0000_7000_8000_0000_0000_0001).into()
}

fn hash() -> Hash {
    Hash::of(b"card")
}

fn time() -> Timestamp {
    Timestamp::from_secs(1_795_262_400)
}

fn decision() -> Arc<DecisionEntry> {
    Arc::new(DecisionEntry {
        permit: true,
        reason: "granted".into(),
        policies: vec!["grant/1".into()],
        considered: vec!["grant/1".into(), "grant/2".into()],
        path: vec!["role/scientist".into()],
        errors: vec!["none".into()],
        policy_version: 4,
        would_allow: vec!["scientist".into()],
    })
}

fn created() -> CreatedEntry {
    CreatedEntry {
        vo: id(),
        tool: "segmentation".into(),
        kind: "job".into(),
        id: "7".into(),
        owner: Some(id()),
        parent: Some(("study".into(), "1".into())),
        attributes: [("state".to_owned(), "new".to_owned())].into(),
    }
}

fn identity() -> IdentityEntry {
    IdentityEntry {
        provider: id(),
        issuer: "https://idp.example.org".into(),
        subject: hash(),
    }
}

pub fn entry() -> Entry {
    Entry {
        request: id(),
        trace: Some(TraceId([7; 16])),
        subject: SubjectEntry {
            kind: "person".into(),
            person: Some(id()),
            card: Some(hash()),
            session: Some(id()),
            result: "ok".into(),
            methods: vec!["pwd".into()],
            acr: "1".into(),
            identity: Some(identity()),
        },
        place: PlaceEntry {
            via: "path".into(),
            vo: Some("imaging".into()),
            vo_id: Some(id()),
            tool: Some("segmentation".into()),
            task: Some("submit job".into()),
            kind: Some("create".into()),
            method: "POST".into(),
            path: Some("/jobs".into()),
        },
        parameters: [("name".to_owned(), "one".to_owned())].into(),
        resource: Some(ResourceEntry {
            kind: "job".into(),
            id: "42".into(),
            generation: Some(2),
            owner: Some(id()),
            parents: vec!["study/1".into()],
        }),
        decision: Some(decision()),
        delegation: Some(DelegationEntry {
            way: "pem".into(),
            serial: Some("4711".into()),
            minted: true,
        }),
        source: "192.0.2.0/24".into(),
        no_outcome: true,
    }
}

/// One with nothing that may be absent.
fn bare_entry() -> Entry {
    Entry {
        trace: None,
        subject: SubjectEntry {
            kind: "anonymous".into(),
            result: "none".into(),
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "gateway".into(),
            method: "GET".into(),
            ..PlaceEntry::default()
        },
        parameters: [].into(),
        resource: None,
        decision: None,
        delegation: None,
        ..entry()
    }
}

/// Changes of each kind of thing, as the product makes them.
fn changes() -> Vec<Change> {
    let change = |action: &str, kind: &str, person: bool, before: bool, after: bool| Change {
        action: action.into(),
        kind: kind.into(),
        target: "one".into(),
        vo: id(),
        person: person.then(id),
        before: before.then(|| json!({ "name": "x", "role": "scientist", "tool": "t", "task": "look" })),
        after: after
            .then(|| json!({ "name": "y", "role": "scientist", "tool": "t", "tasks": ["look", "do"] })),
    };
    let actions = [
        ("user.create", "person", true, false, true),
        ("user.add", "person", true, false, true),
        ("user.remove", "person", true, true, false),
        ("user.edit", "person", true, true, true),
        ("myproxy.destroy", "myproxy_upload", true, true, true),
        ("myproxy.give_up", "myproxy_upload", false, true, true),
        ("delegation.end_renewal", "delegation", true, true, true),
        ("user.suspend", "person", true, true, true),
        ("user.resume", "person", true, true, true),
        ("user.end", "person", true, true, true),
        ("user.change_own_password", "person", true, true, true),
        ("user.reset_password", "person", true, false, true),
        ("role.create", "role", false, false, true),
        ("role.end", "role", false, true, false),
        ("role.assign", "role", true, false, true),
        ("role.unassign", "role", true, true, false),
        ("grant.add", "role", false, false, true),
        ("grant.remove", "grant", false, true, false),
        ("vo.create", "vo", false, false, true),
        ("vo.suspend", "vo", false, true, true),
        ("vo.resume", "vo", false, true, true),
        ("tool.add", "tool", false, true, true),
        ("tool.set_credential", "static_credential", false, false, false),
    ];
    let made =
        actions.map(|(action, kind, person, before, after)| change(action, kind, person, before, after));
    made.into()
}

/// Every kind of event: whole, and with nothing that may be absent.
fn events() -> Vec<Event> {
    let refused = |entry| {
        Event::Refused(Box::new(Refused {
            entry,
            status: 403,
            problem: "no-grant".into(),
        }))
    };
    let mut events = vec![
        Event::Intent(Box::new(entry())),
        Event::Intent(Box::new(bare_entry())),
        refused(entry()),
        refused(bare_entry()),
        Event::Strangers(Strangers {
            problem: "no-credential".into(),
            source: "other".into(),
            minute: time(),
            count: 12,
            example: id(),
        }),
        Event::Lease(Box::new(Lease {
            request: id(),
            decision: decision(),
            bytes_in: 1,
            bytes_out: 2,
        })),
        Event::Outcome(Box::new(Outcome {
            status: Some(201),
            tool_status: Some(200),
            bytes_in: 10,
            bytes_out: 20,
            duration_us: 1_500,
            error: Some("late".into()),
            created: vec![created()],
            deleted: vec![DeletedEntry {
                vo: id(),
                tool: "segmentation".into(),
                kind: "job".into(),
                id: "6".into(),
            }],
            signed: Some(SignedEntry {
                issuer: hash(),
                serial: "4711".into(),
                certificate: hash(),
            }),
            bodies: Some(Box::new(BodyDigests {
                request: Some(BodyDigest {
                    sha256: hash(),
                    whole: false,
                }),
                answer: Some(BodyDigest {
                    sha256: hash(),
                    whole: true,
                }),
            })),
            ..Outcome::ended(id(), Ending::Answered)
        })),
    ];
    let endings = [
        Ending::Answered,
        Ending::DeniedByResource,
        Ending::ToolFailed,
        Ending::Failed,
        Ending::Abandoned,
        Ending::Unknown,
        Ending::NotSent,
        Ending::NotApplied,
        Ending::Applied,
        Ending::Withheld,
        Ending::Revoked,
    ];
    events.extend(endings.map(|ending| Event::Outcome(Box::new(Outcome::ended(id(), ending)))));
    let login = Login {
        request: id(),
        person: Some(id()),
        card: Some(hash()),
        session: Some(id()),
        methods: vec!["pwd".into(), "otp".into()],
        result: "ok".into(),
        count: 3,
        source: "2001:db8::/56".into(),
        certificate: Some(hash()),
        federated: Some(FederatedLogin {
            provider: id(),
            issuer: "https://idp.example.org".into(),
            subject: Some(hash()),
            flaw: Some("nonce".into()),
        }),
    };
    events.push(Event::Login(login.clone()));
    events.push(Event::Login(Login {
        person: None,
        card: None,
        session: None,
        methods: Vec::new(),
        result: "wrong".into(),
        certificate: None,
        federated: None,
        ..login
    }));
    let ended = SessionEnded {
        request: Some(id()),
        person: id(),
        sessions: vec![id(), id()],
        reason: "logout".into(),
    };
    events.push(Event::SessionEnded(ended.clone()));
    events.push(Event::SessionEnded(SessionEnded {
        request: None,
        ..ended
    }));
    let change = |change| {
        let reason = Some("ticket 4711");
        Event::Change(Box::new(ChangeEvent {
            state: vec![StateStep {
                vo: id(),
                before: Some(hash()),
                after: Some(hash()),
            }],
            ..ChangeEvent::of(id(), change).because(reason)
        }))
    };
    events.extend(changes().into_iter().map(change));
    events.push(Event::Mint(Box::new(Mint {
        request: id(),
        issuer: hash(),
        serial: "4711".into(),
        spki: hash(),
        not_before: time(),
        not_after: time(),
        vo: id(),
        person: id(),
        card: hash(),
        session: id(),
        tool: "segmentation".into(),
        way: "pem".into(),
    })));
    events.push(Event::RevocationList(Box::new(RevocationList {
        request: id(),
        issuer: hash(),
        vo: id(),
        number: 7,
        count: 2,
        made: time(),
        due: time(),
        body: hash(),
    })));
    events.push(Event::Trace(Box::new(TraceEvent {
        request: id(),
        by: "serial".into(),
        query: "4711".into(),
        found: vec!["4711".into()],
        persons: vec![id()],
    })));
    let alert = AlertEvent {
        episode: id(),
        vo: id(),
        person: id(),
        tool: Some("segmentation".into()),
        task: "list jobs".into(),
        count: 5,
        requests: vec![id()],
    };
    events.push(Event::Alert(alert.clone()));
    events.push(Event::Alert(AlertEvent { tool: None, ..alert }));
    let conflict = OwnershipConflict {
        request: id(),
        claimed: created(),
        owner: Some(id()),
    };
    events.push(Event::OwnershipConflict(conflict.clone()));
    events.push(Event::OwnershipConflict(OwnershipConflict {
        claimed: CreatedEntry {
            owner: None,
            parent: None,
            attributes: [].into(),
            ..created()
        },
        owner: None,
        ..conflict
    }));
    events.push(Event::Start(Start {
        version: "0.1.0".into(),
        config: hash(),
        epoch: 1,
    }));
    events.push(Event::Stop {
        reason: "asked to".into(),
    });
    let failed = ReloadFailed {
        request: Some(id()),
        by: "signal".into(),
        settings: Some(hash()),
        count: 1,
        flaws: vec!["a flaw".into()],
    };
    events.push(Event::ReloadFailed(failed.clone()));
    events.push(Event::ReloadFailed(ReloadFailed {
        request: None,
        settings: None,
        ..failed
    }));
    events.push(Event::Recovery(Recovery {
        damage: vec!["a hole".into()],
        settled: vec![id()],
        ..Recovery::default()
    }));
    events.push(Event::Recovery(Recovery::default()));
    let epoch = EpochBegun {
        epoch: 2,
        signed: 9,
        root: Some(hash()),
        reason: Some("restored".into()),
        total: 1,
        files: vec![FileAside {
            name: "epoch-000001/0".into(),
            bytes: 1,
            hash: hash(),
        }],
    };
    events.push(Event::Epoch(epoch.clone()));
    events.push(Event::Epoch(EpochBegun {
        root: None,
        reason: None,
        ..epoch
    }));
    events.push(Event::KeyChanged(Box::new(KeyChanged {
        epoch: 2,
        old: "gw.example.org/log+00000000+AAAA".into(),
        new: "gw.example.org/log+00000001+AAAB".into(),
        old_signature: "AAAA".into(),
        new_signature: "AAAB".into(),
    })));
    events.push(Event::LogOpen { open: vec![id()] });
    events.push(Event::Unwritten {
        count: 3,
        from: time(),
        to: time(),
    });
    for (room, free_bytes) in [
        ("low", Some(7)),
        ("stopped", Some(1)),
        ("reserved", None),
        ("ok", Some(9)),
    ] {
        events.push(Event::LogDegraded(LogDegraded {
            room: room.into(),
            free_bytes,
        }));
    }
    events.push(Event::LogDropped(LogDropped {
        epoch: 2,
        segments: 3,
        records: 40,
        root: hash(),
        epochs: 1,
        before: time(),
        total: 1,
        files: vec![FileAside {
            name: "0000000002.log".into(),
            bytes: 1,
            hash: hash(),
        }],
    }));
    events.push(Event::State(StateDigests {
        scheme: 1,
        request: Some(id()),
        part: 0,
        parts: 1,
        adopted: Some("the log did not say what the state must be".into()),
        levels: vec![StateStep {
            vo: id(),
            before: Some(hash()),
            after: Some(hash()),
        }],
    }));
    events.push(Event::State(StateDigests {
        parts: 1,
        ..StateDigests::default()
    }));
    for effect in ["last_good", "refused", "put_back"] {
        events.push(Event::StateForeignChange(StateForeignChange {
            vo: id(),
            known: Some(hash()),
            found: Some(hash()),
            effect: effect.into(),
            difference: vec!["grant 0199a1b2-0000-7000-8000-000000000001 added".into()],
            count: 1,
        }));
    }
    for known in [None, Some(4)] {
        events.push(Event::Witness(WitnessEvent {
            witness: "witness.example.org".into(),
            problem: "conflict".into(),
            size: 5,
            known,
        }));
    }
    events
}

fn records() -> Vec<Record> {
    let record = |(seq, event)| Record {
        v: countersign::record::VERSION,
        seq,
        time: time(),
        mono: -3,
        salt: "0123456789abcdef".repeat(2),
        cut: (seq == 0).then(|| Cut {
            bytes: 70_000,
            hash: hash(),
        }),
        event,
    };
    let records: Vec<Record> = (0..).zip(events()).map(record).collect();
    for name in Event::NAMES {
        assert!(
            records.iter().any(|record| record.event.name() == *name),
            "no sample of `{name}`"
        );
    }
    records
}

/// What is wrong with each of `documents` by the published schema; empty for those that fit.
pub fn flaws(documents: &[Value]) -> Vec<String> {
    const PROGRAM: &str = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
known = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    flaw = jsonschema.exceptions.best_match(known.iter_errors(json.loads(line)))
    print('' if flaw is None else ' '.join(flaw.message.split())[:300])
";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(root.join("tests/peers/.cache/venv/bin/python"))
        .args(["-c", PROGRAM])
        .arg(root.join("docs/reference/record.schema.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs (tests/peers/install)");
    let mut input = python.stdin.take().unwrap();
    let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
    let feed = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    feed.join()
        .unwrap()
        .expect("jsonschema is installed (tests/peers/install)");
    assert!(
        output.status.success(),
        "jsonschema is installed (tests/peers/install)"
    );
    let flaws: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(flaws.len(), documents.len());
    flaws
}

/// `document` with one change in each of its objects: `change` gives the changed objects.
fn changed(document: &Value, change: &dyn Fn(&serde_json::Map<String, Value>) -> Vec<Value>) -> Vec<Value> {
    match document {
        Value::Object(members) => {
            let mut all = change(members);
            for (name, value) in members {
                if FREE.contains(&name.as_str()) {
                    continue;
                }
                for value in changed(value, change) {
                    let mut members = members.clone();
                    members.insert(name.clone(), value);
                    all.push(members.into());
                }
            }
            all
        }
        Value::Array(items) => {
            let mut all = Vec::new();
            for (at, item) in items.iter().enumerate() {
                for item in changed(item, change) {
                    let mut items = items.clone();
                    items[at] = item;
                    all.push(items.into());
                }
            }
            all
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_kind_of_record_fits_the_published_schema() {
    let documents: Vec<Value> = records()
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect();
    for (document, flaw) in documents.iter().zip(flaws(&documents)) {
        assert_eq!(flaw, "", "{document}");
    }
}

#[test]
fn the_schema_refuses_a_member_that_no_record_has_and_one_that_is_missing() {
    let documents: Vec<Value> = records()
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect();
    let more = |members: &serde_json::Map<String, Value>| {
        let mut members = members.clone();
        members.insert("dreamt".into(), 1.into());
        vec![members.into()]
    };
    let unknown: Vec<Value> = documents
        .iter()
        .flat_map(|document| changed(document, &more))
        .collect();
    for (document, flaw) in unknown.iter().zip(flaws(&unknown)) {
        assert_ne!(flaw, "", "a member that is unknown was taken: {document}");
    }
    let less = |members: &serde_json::Map<String, Value>| {
        let without = |name: &String| {
            let mut members = members.clone();
            members.remove(name);
            members.into()
        };
        members.keys().map(without).collect()
    };
    // Whatever reads back as a record may be absent, everything else may not.
    let missing: Vec<Value> = documents
        .iter()
        .flat_map(|document| changed(document, &less))
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for (document, flaw) in missing.iter().zip(flaws(&missing)) {
        let read = serde_json::from_value::<Record>(document.clone()).is_ok();
        assert_eq!(flaw.is_empty(), read, "{flaw}: {document}");
        if read { taken += 1 } else { refused += 1 }
    }
    assert!(taken > 50 && refused > 200, "{taken} taken, {refused} refused");
}

/// What is wrong with an event by the classes of OCSF.
pub fn ocsf_flaw(event: &Value) -> Option<String> {
    let facts: Value = serde_json::from_str(include_str!("ocsf-1.8.0.json")).unwrap();
    if event["metadata"]["version"] != facts["version"] {
        return Some("another version of OCSF".into());
    }
    let (class, activity) = (&event["class_uid"], &event["activity_id"]);
    let known = &facts["classes"][class.to_string()];
    if known.is_null() {
        return Some(format!("no class {class}"));
    }
    let type_uid = class.as_u64().unwrap() * 100 + activity.as_u64().unwrap_or_default();
    for (name, expected) in [
        ("category_uid", known["category_uid"].clone()),
        ("category_name", known["category"].clone()),
        ("class_name", known["caption"].clone()),
        ("type_uid", type_uid.into()),
    ] {
        if event[name] != expected {
            return Some(format!("{name} is {}, not {expected}", event[name]));
        }
    }
    for (number, caption) in [
        ("activity_id", "activity_name"),
        ("severity_id", "severity"),
        ("status_id", "status"),
    ] {
        let of = &known["attributes"][number]["enum"][event[number].to_string()];
        if event[number] != 99 && *of != event[caption] {
            return Some(format!("{caption} of {number} {} is {of}", event[number]));
        }
    }
    object_flaw(&facts, known, event, "")
}

fn object_flaw(facts: &Value, known: &Value, object: &Value, at: &str) -> Option<String> {
    let members = object.as_object()?;
    let attributes = known["attributes"].as_object().unwrap();
    for (name, fact) in attributes {
        if fact["required"] == true && !members.contains_key(name) {
            return Some(format!("`{at}` lacks `{name}`"));
        }
    }
    for (rule, exactly) in [("at_least_one", false), ("just_one", true)] {
        let Some(names) = known["constraints"][rule].as_array() else {
            continue;
        };
        let there = names
            .iter()
            .filter(|name| members.contains_key(name.as_str().unwrap()))
            .count();
        if there == 0 || (exactly && there > 1) {
            return Some(format!("`{at}` has {there} of {names:?}"));
        }
    }
    members.iter().find_map(|(name, value)| {
        let at = format!("{at}.{name}");
        let Some(fact) = attributes.get(name) else {
            return Some(format!("no attribute `{at}`"));
        };
        match (fact["array"] == true, value) {
            (true, Value::Array(items)) => items.iter().find_map(|item| value_flaw(facts, fact, item, &at)),
            (false, value) if !value.is_array() => value_flaw(facts, fact, value, &at),
            _ => Some(format!("`{at}` is a list, or should be one")),
        }
    })
}

fn value_flaw(facts: &Value, fact: &Value, value: &Value, at: &str) -> Option<String> {
    let kind = fact["type"].as_str().unwrap();
    let fits = match kind {
        "string_t" => value.is_string(),
        "integer_t" | "long_t" => value.is_i64() || value.is_u64(),
        "boolean_t" => value.is_boolean(),
        "json_t" => true,
        "object" => value.is_object(),
        part => {
            let known = &facts["objects"][part];
            if known.is_null() {
                return Some(format!(
                    "the facts of `{part}` are not kept, of which `{at}` is one"
                ));
            }
            return if value.is_object() {
                object_flaw(facts, known, value, at)
            } else {
                Some(format!("`{at}` is no {part}"))
            };
        }
    };
    let special = at == ".class_uid" || at == ".category_uid";
    let named = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let listed = fact["enum"].is_null() || special || !fact["enum"][named].is_null();
    (!fits || !listed).then(|| format!("`{at}` is {value}, which is no {kind}, or not one of its values"))
}

#[test]
fn every_kind_of_record_is_an_event_of_ocsf() {
    let mut classes = std::collections::BTreeSet::new();
    for record in records() {
        for intent in [None, Some(&entry()), Some(&bare_entry())] {
            let event = ocsf::event(&record, intent);
            assert_eq!(ocsf_flaw(&event), None, "{event:#}");
            classes.insert(event["class_uid"].as_u64().unwrap());
        }
    }
    let all = [2004, 3001, 3002, 3003, 3004, 3005, 3006, 6002, 6003];
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn the_check_against_ocsf_finds_what_is_wrong() {
    let good = ocsf::event(&records()[0], None);
    assert_eq!(ocsf_flaw(&good), None);
    let wrong: [(&str, Value); 8] = [
        ("time", "now".into()),
        ("severity_id", 42.into()),
        ("activity_id", 77.into()),
        ("type_uid", 1.into()),
        ("actor", json!({})),
        ("src_endpoint", json!({ "port": 1 })),
        ("dreamt", 1.into()),
        ("api", json!({ "service": { "name": "x" } })),
    ];
    for (name, value) in wrong {
        let mut event = good.clone();
        event[name] = value;
        assert!(
            ocsf_flaw(&event).is_some(),
            "`{name}` is wrong, and nobody saw it"
        );
    }
    for name in ["metadata", "class_uid", "actor", "api", "src_endpoint", "time"] {
        let mut event = good.clone();
        event.as_object_mut().unwrap().remove(name);
        assert!(
            ocsf_flaw(&event).is_some(),
            "`{name}` is missing, and nobody saw it"
        );
    }
}

#[test]
fn an_ocsf_event_carries_decision_policies_and_request() {
    let of = |event| {
        let record = Record {
            event,
            ..records()[0].clone()
        };
        ocsf::event(&record, Some(&entry()))
    };
    let request = json!(id::<countersign::id::RequestId>());
    let intent = of(Event::Intent(Box::new(entry())));
    let authorization = &intent["actor"]["authorizations"][0];
    assert_eq!(authorization["decision"], "Allowed");
    assert_eq!(authorization["policy"]["uid"], "grant/1");
    assert_eq!(authorization["policy"]["version"], "4");
    assert_eq!(
        (&intent["type_uid"], &intent["status_id"]),
        (&600_301.into(), &0.into())
    );
    assert_eq!(intent["metadata"]["correlation_uid"], request);
    let outcome = of(Event::Outcome(Box::new(Outcome {
        status: Some(404),
        ..Outcome::ended(id(), Ending::Answered)
    })));
    assert_eq!(
        (&outcome["type_uid"], &outcome["status_id"]),
        (&600_301.into(), &2.into())
    );
    assert_eq!(outcome["actor"]["user"], intent["actor"]["user"]);
    assert_eq!(outcome["metadata"]["correlation_uid"], request);
    let mut rare = entry();
    rare.place.method = "PROPFIND".into();
    let rare = of(Event::Intent(Box::new(rare)));
    assert_eq!(ocsf_flaw(&rare), None, "OCSF lists few methods");
    assert_eq!(rare["unmapped"]["method"], "PROPFIND");
    let mut denied = (*decision()).clone();
    denied.permit = false;
    let refused = of(Event::Refused(Box::new(Refused {
        entry: Entry {
            decision: Some(Arc::new(denied)),
            ..entry()
        },
        status: 403,
        problem: "no-grant".into(),
    })));
    assert_eq!(refused["actor"]["authorizations"][0]["decision"], "Denied");
    assert_eq!(
        (&refused["status_id"], &refused["status_code"]),
        (&2.into(), &"no-grant".into())
    );
}
