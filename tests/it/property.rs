//! What a tool received is what the record says: with manifests and requests that nobody thought of, over the whole
//! gateway, the bytes that reached the tool are read once more, by other means, and give the task and the parameters that
//! stand in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};

use countersign::tool::{Manifest, Part, Template, Variable};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::conformance::tool::{Got, Tool};
use crate::conformance::wire;
use crate::world::{World, read_answer};

/// One part of a path: a word, or a variable of some kind.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["jobs", "files", "a%20b", "%C3%A9", "v1.2", "x", "~"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["int", "uuid", "slug", "segment"]).prop_map(|kind| format!("{{?:{kind}}}")),
    ]
}

fn path() -> impl Strategy<Value = String> {
    (
        prop::collection::vec(part(), 0..4),
        prop::sample::select(vec!["", "", "", "/", "/{?:rest}"]),
    )
        .prop_map(|(parts, end)| {
            let path: String = parts.iter().map(|part| format!("/{part}")).collect();
            let path = if path.is_empty() && end.is_empty() {
                "/".to_owned()
            } else {
                path + end
            };
            // Every variable has a name of its own.
            let mut pieces = path.split('?');
            let first = pieces.next().unwrap_or_default().to_owned();
            pieces
                .enumerate()
                .fold(first, |path, (at, piece)| format!("{path}p{at}{piece}"))
        })
}

/// A manifest of a few tasks; many are not accepted, since their tasks overlap.
fn manifest() -> impl Strategy<Value = Manifest> {
    let task = (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        prop::collection::vec(path(), 1..3),
        prop::sample::select(vec!["[]", "[\"page\", \"q\"]", "\"any\""]),
    );
    prop::collection::vec(task, 2..6).prop_filter_map("tasks that overlap", |tasks| {
        let mut text = "[tool]\nname = \"probe\"\nupstream = \"probe\"\ndelegation = \"none\"\n".to_owned();
        for (at, (method, paths, query)) in tasks.iter().enumerate() {
            let kind = if *method == "GET" { "read" } else { "update" };
            // Alternatives of one task bind the same names, so each is a task of its own.
            for (other, path) in paths.iter().enumerate() {
                text += &format!(
                    "\n[[task]]\nname = \"task {at}-{other}\"\nmatch = [\"{method} {path}\"]\nkind = \"{kind}\"\nquery = {query}\n"
                );
            }
        }
        Manifest::parse("probe.toml", &text).ok()
    })
}

/// A request for one of these tasks, now and then with something odd about it.
fn request(manifest: &Manifest) -> impl Strategy<Value = (String, String)> + use<> {
    let templates: Vec<Template> = manifest
        .tool
        .tasks
        .iter()
        .flat_map(|task| &task.matches)
        .map(|text| Template::parse(text).unwrap())
        .collect();
    let word = prop_oneof![
        8 => "[a-z0-9]{1,6}",
        3 => "[0-9]{1,4}",
        2 => "[A-Za-z0-9._~!$&'()*+,=:@-]{1,8}",
        2 => prop::sample::select(vec!["%20", "%C3%A9x", "a%22b", "100%25", "%E2%82%AC", "a%3Fb"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["..", ".", "%2e%2e", "a%2Fb", "", "a;b", "%00", "%61", "a%252Fb", "a\\b"]).prop_map(str::to_owned),
    ];
    let query = prop_oneof![
        4 => Just(String::new()),
        2 => ("[a-z0-9%+]{0,5}").prop_map(|value| format!("?page={value}")),
        1 => Just("?q=%2F..%2F&page=2".to_owned()),
        1 => Just("?q=a&q=b".to_owned()),
        1 => Just("?p0=other".to_owned()),
        1 => "[a-z&=%+0-9]{1,9}".prop_map(|text| format!("?{text}")),
    ];
    (
        prop::sample::select(templates),
        prop::collection::vec(word, 8),
        query,
        prop::sample::select(vec![0, 0, 0, 0, 1, 2, 3]),
    )
        .prop_map(|(template, words, query, odd)| {
            let mut words = words.into_iter();
            let mut path = String::new();
            for part in template.parts() {
                let word = words.next().unwrap_or_default();
                path += "/";
                path += &match part {
                    Part::Literal(literal) => encoded(literal),
                    Part::Variable(_, Variable::Int) if odd != 1 => {
                        "7".to_owned() + &"0".repeat(word.len() % 4)
                    }
                    Part::Variable(_, Variable::Uuid) if odd != 1 => {
                        "0189d2f4-0000-7000-8000-00000000abcd".to_owned()
                    }
                    Part::Variable(_, Variable::Rest) => {
                        format!("{word}/{}", words.next().unwrap_or_default())
                    }
                    Part::Variable(..) => word,
                };
            }
            if odd == 2 {
                path += "/more";
            }
            if path.is_empty() {
                path = "/".to_owned();
            }
            let method = if odd == 3 {
                "GET"
            } else {
                template.method().as_str()
            };
            (method.to_owned(), path + &query)
        })
}

/// The one spelling of a literal segment.
fn encoded(literal: &str) -> String {
    literal
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads what reached a tool by its manifest: the names of all tasks that it could be, with their parameters.
fn readings(manifest: &Manifest, method: &str, target: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<String> = path[1..].split('/').map(decoded).collect();
    let segments = if path == "/" { Vec::new() } else { segments };
    let mut found = Vec::new();
    for task in &manifest.tool.tasks {
        let template = Template::parse(&task.matches[0]).unwrap();
        if template.method().as_str() != method {
            continue;
        }
        let mut parameters = BTreeMap::new();
        let mut left = segments.as_slice();
        let fits = template.parts().iter().all(|part| {
            let Some((segment, rest)) = left.split_first() else {
                return false;
            };
            left = rest;
            let fits = match part {
                Part::Literal(literal) => literal == segment,
                Part::Variable(_, Variable::Int) => segment
                    .parse::<i64>()
                    .is_ok_and(|number| number.to_string() == *segment && number >= 0),
                Part::Variable(_, Variable::Uuid) => uuid::Uuid::parse_str(segment).is_ok(),
                Part::Variable(_, Variable::Slug) => {
                    segment
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                        && segment.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
                }
                Part::Variable(_, Variable::Segment | Variable::Rest) => !segment.is_empty(),
            };
            if let Part::Variable(name, variable) = part {
                let mut value = segment.clone();
                if *variable == Variable::Rest {
                    value = [&[value], left].concat().join("/");
                    left = &[];
                }
                parameters.insert(name.clone(), value);
            }
            fits
        });
        if !fits || !left.is_empty() {
            continue;
        }
        if task.query.is_some() && !query.is_empty() {
            for pair in query.split('&') {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let twice = parameters.insert(
                    decoded(&name.replace('+', " ")),
                    decoded(&value.replace('+', " ")),
                );
                assert_eq!(twice, None, "a parameter is bound twice in {target}");
            }
        }
        found.push((task.name.clone(), parameters));
    }
    found
}

/// Sends requests over one connection; gives the status and the id of each.
fn send(world: &World, token: &str, requests: &[(String, String)]) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    let mut connection = None;
    for (method, target) in requests {
        let tls = connection.get_or_insert_with(|| wire::connect(world, "http/1.1"));
        let head = format!(
            "{method} /imense/probe{target} HTTP/1.1\r\nHost: gw.localhost:{}\r\nAuthorization: Bearer {token}\r\n\r\n",
            world.port()
        );
        tls.write_all(head.as_bytes()).unwrap();
        tls.flush().unwrap();
        let mut bytes = Vec::new();
        let mut space = [0; 4096];
        let answer = loop {
            let count = tls.read(&mut space).unwrap_or(0);
            bytes.extend_from_slice(&space[..count]);
            let answer = read_answer(&bytes);
            let length = answer
                .header("content-length")
                .and_then(|length| length.parse::<usize>().ok());
            if answer.status != 0 && length.is_some_and(|length| answer.body.len() >= length) {
                break answer;
            }
            assert!(
                count > 0,
                "no answer to {method} {target}: {}",
                bytes.escape_ascii()
            );
        };
        answers.push((answer.status, answer.request_id()));
        if answer.header("connection") == Some("close") {
            connection = None;
        }
    }
    answers
}

#[test]
fn what_the_tool_received_is_the_task_with_the_parameters_that_the_record_names() {
    let (manifests, requests) = if std::env::var_os("COUNTERSIGN_LONG").is_some() {
        (60, 500)
    } else {
        (5, 80)
    };
    let mut runner = TestRunner::deterministic();
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = Tool::start();
    world
        .cli("admin", &["upstream", "allow", "imense", "probe", &tool.url()])
        .ok();
    let (token, file) = (world.token("john"), world.dir.path().join("probe.toml"));
    let (mut served, mut refused) = (0, 0);
    // A grant outlives the tool that it was made for.
    let mut granted = BTreeSet::new();
    for round in 0..manifests {
        let manifest = manifest().new_tree(&mut runner).unwrap().current();
        fs::write(&file, &manifest.tool.manifest).unwrap();
        if round > 0 {
            world.cli("admin", &["tool", "remove", "imense", "probe"]).ok();
        }
        world
            .cli("admin", &["tool", "add", "imense", file.to_str().unwrap()])
            .ok();
        let mut grant = vec!["grant", "add", "imense", "scientist", "probe"];
        let new = |name: &&str| granted.insert((*name).to_owned());
        let names: Vec<&str> = manifest
            .tool
            .tasks
            .iter()
            .map(|task| task.name.as_str())
            .filter(new)
            .collect();
        if !names.is_empty() {
            grant.extend(names);
            world.cli("admin", &grant).ok();
        }
        let one = request(&manifest);
        let asked: Vec<(String, String)> = (0..requests)
            .map(|_| one.new_tree(&mut runner).unwrap().current())
            .collect();
        let answers = send(&world, &token, &asked);
        let got: BTreeMap<String, Got> = tool
            .take()
            .into_iter()
            .map(|got| (got.values("x-countersign-request-id")[0].to_owned(), got))
            .collect();
        let intents: BTreeMap<String, Value> = world
            .records()
            .into_iter()
            .map(|record| record["event"]["intent"].clone())
            .filter_map(|intent| Some((intent["request"].as_str()?.to_owned(), intent)))
            .collect();
        let reached = answers.iter().filter(|(_, id)| got.contains_key(id)).count();
        assert_eq!(reached, got.len(), "the tool got something that nobody asked for");
        for ((method, target), (status, id)) in asked.iter().zip(&answers) {
            let Some(got) = got.get(id) else {
                assert!((400..500).contains(status), "{status} for {method} {target}");
                assert!(
                    !intents.contains_key(id),
                    "an intent without a request: {method} {target}"
                );
                refused += 1;
                continue;
            };
            served += 1;
            assert_eq!(
                (*status, got.line()),
                (200, format!("{method} {target}").as_str())
            );
            let intent = &intents[id];
            let recorded: BTreeMap<String, String> =
                serde_json::from_value(intent["parameters"].clone()).unwrap_or_default();
            let task = intent["place"]["task"].as_str().unwrap().to_owned();
            let read = readings(&manifest, method, target);
            assert_eq!(
                read,
                [(task, recorded)],
                "{method} {target} by\n{}",
                manifest.tool.manifest
            );
        }
    }
    // Else the requests were all too odd, or none was.
    assert!(
        served > manifests * requests / 5 && refused > manifests * requests / 20,
        "{served} served, {refused} refused"
    );
}
