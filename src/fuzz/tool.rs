//! Targets, the matcher, manifests and lists.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Method};
use serde_json::Value;

use crate::tool::{Asked, Demands, FilterRule, Lookup, Manifest, Target, Task, Tool};
use crate::tool::{Part, Template, Variable};

/// Bytes as the target of a request.
///
/// What is accepted is sent on as it came, and every way to read it finds the same: it is plain ASCII without what two
/// programs read differently, however often it is decoded.
pub(super) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(target.as_str(), text);
    assert_eq!(Target::parse(text).unwrap(), target);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    assert_eq!((target.path(), target.query_text()), (path, query));
    check_path(path, &target);
    if let Some(query) = query {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| {
                (
                    unescaped(&name.replace('+', " ")),
                    unescaped(&value.replace('+', " ")),
                )
            })
            .collect();
        let read: Vec<(Vec<u8>, Vec<u8>)> = target
            .query()
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
            .collect();
        assert_eq!(read, pairs);
    }
    for count in 0..=target.segments().len() {
        if let Some(rest) = target.without_prefix(count) {
            assert_eq!(Target::parse(rest.as_str()).unwrap(), rest, "without {count}");
            assert!(text.ends_with(rest.as_str()) || rest.path() == "/");
        }
    }
}

fn check_path(path: &str, target: &Target) {
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', '#']));
    let inner: Vec<&str> = path[1..].split('/').collect();
    let segments: Vec<Vec<u8>> = if path == "/" {
        Vec::new()
    } else {
        inner.iter().map(|part| unescaped(part)).collect()
    };
    let read: Vec<Vec<u8>> = target.segments().iter().map(|s| s.clone().into_bytes()).collect();
    assert_eq!(read, segments);
    for segment in &segments {
        let segment = String::from_utf8(segment.clone()).expect("accepted, but not UTF-8");
        // Whoever decodes once more must find nothing that leads elsewhere.
        let again = String::from_utf8_lossy(&unescaped(&segment)).into_owned();
        for text in [&segment, &again] {
            assert!(!text.contains(['/', '\\', '\0']), "{text:?}");
            // As itself it begins path parameters, which only templates that ask for them take; never in an encoding.
            assert!(
                !text.contains(';') || segment.contains(';') && path.contains(';'),
                "{text:?}"
            );
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(!matches!(text.trim(), "." | ".."), "{text:?}");
        }
    }
}

/// A second decoder: every `%` with two hexadecimal digits is a byte, anything else stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' && !text[at + 1..].starts_with('+') => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// A manifest with every kind of variable, and a tool whose tasks take queries.
const MANIFEST: &str = r#"
[tool]
name = "fuzz"
upstream = "fuzz"
delegation = "none"
[[task]]
name = "root"
match = ["GET /"]
kind = "read"
[[task]]
name = "whole number"
match = ["GET /int/{id:int}", "POST /int/{id:int}/"]
kind = "read"
resource = { type = "job", id = "{id}" }
query = ["full", "page"]
[[task]]
name = "uuid or slug"
match = ["GET /uuid/{id:uuid}", "DELETE /slug/{id:slug}"]
kind = "read"
[[task]]
name = "segment"
match = ["GET /segment/{id}/end"]
kind = "read"
query = []
[[task]]
name = "rest"
match = ["PUT /rest/{path:rest}"]
kind = "update"
[[task]]
name = "escaped"
match = ["GET /a%20b/{id}"]
kind = "read"
"#;

static TOOL: LazyLock<Tool> = LazyLock::new(|| match Manifest::parse("fuzz.toml", MANIFEST) {
    Ok(manifest) => manifest.tool,
    Err(flaws) => panic!("{flaws}"),
});

/// A line such as `GET /jobs/7?full=yes` as a request to that tool.
///
/// A task that is found has exactly one template that a second, plain matcher accepts for the request, and its
/// parameters, put into that template, are the path again; what the query says is a parameter only where the task says so.
pub(super) fn matching(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else {
        return;
    };
    let Some((method, text)) = line.split_once(' ') else {
        return;
    };
    let (Ok(method), Ok(target)) = (Method::from_bytes(method.as_bytes()), Target::parse(text)) else {
        return;
    };
    agree(&TOOL, &method, &target);
}

fn agree(tool: &Tool, method: &Method, target: &Target) {
    // What else tells tasks apart has no second matcher here: `tool::matching` has property tests of its own for that.
    let by_template = |task: &Arc<Task>| task.within.is_none() && task.demands == Demands::default();
    if tool.case_insensitive || !tool.tasks.iter().all(by_template) {
        return;
    }
    let fitting: Vec<(&str, Template)> = tool
        .tasks
        .iter()
        .flat_map(|task| task.matches.iter().map(move |text| (task.name.as_str(), text)))
        .map(|(task, text)| (task, Template::parse(text).unwrap()))
        .filter(|(_, template)| fits(template, method, target.segments()))
        .collect();
    assert!(fitting.len() < 2, "one request, two templates: {fitting:?}");
    let asked = Asked {
        method,
        target,
        host: None,
        headers: &HeaderMap::new(),
        body: None,
    };
    let Ok(found) = tool.find(&asked) else {
        return;
    };
    match (found, fitting.first()) {
        (Lookup::Nothing, None) => {}
        (Lookup::Task(found), Some((task, template))) => {
            assert_eq!(found.task.name, *task);
            let mut expected = placed(template, target.segments());
            if let Some(named) = &found.task.query {
                for (name, value) in target.query() {
                    assert!(named.contains(name));
                    assert!(
                        expected.insert(name.clone(), value.clone()).is_none(),
                        "bound twice"
                    );
                }
            }
            assert_eq!(found.parameters, expected);
            if let Some(resource) = found.resource
                && let Some(name) = found.task.resource.as_ref().unwrap().parameter()
            {
                assert_eq!(Some(&resource.id), found.parameters.get(name));
            }
        }
        (found, fitting) => panic!("{method} {target}: found {found:?}, fits {fitting:?}"),
    }
}

fn fits(template: &Template, method: &Method, segments: &[String]) -> bool {
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let parts = template.parts();
    let rest = matches!(parts.last(), Some(Part::Variable(_, Variable::Rest)));
    template.method() == method
        && (parts.len() == segments.len() || (rest && segments.len() > parts.len()))
        && parts.iter().zip(segments).all(|(part, segment)| match part {
            Part::Literal(literal) => literal == segment,
            Part::Variable(_, variable) => variable.accepts(segment),
        })
}

fn placed(template: &Template, segments: &[String]) -> std::collections::BTreeMap<String, String> {
    let parts = template.parts().iter().enumerate();
    let value = |(at, part): (usize, &Part)| match part {
        Part::Literal(_) => None,
        Part::Variable(name, Variable::Rest) => Some((name.clone(), segments[at..].join("/"))),
        Part::Variable(name, _) => Some((name.clone(), segments[at].clone())),
    };
    parts.filter_map(value).collect()
}

/// Text as a manifest.
///
/// What is accepted is the same when it is read again, each flaw is in a line that the text has, and every template of
/// every task leads back to its own task.
pub(super) fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::parse("fuzz.toml", text) {
        Ok(manifest) => {
            let again = Manifest::parse("fuzz.toml", text).unwrap();
            assert_eq!(format!("{manifest:?}"), format!("{again:?}"));
            let names: BTreeSet<&str> = manifest
                .tool
                .tasks
                .iter()
                .map(|task| task.name.as_str())
                .collect();
            assert_eq!(names.len(), manifest.tool.tasks.len());
            for task in &manifest.tool.tasks {
                for template in &task.matches {
                    let template = Template::parse(template).expect("accepted, but no template");
                    if let Ok(target) = Target::parse(&example(&template)) {
                        agree(&manifest.tool, template.method(), &target);
                    }
                }
            }
        }
        Err(flaws) => {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            assert!(!flaws.0.is_empty());
            for flaw in flaws.0 {
                assert!(flaw.line <= lines && !flaw.message.is_empty(), "{flaw:?}");
            }
        }
    }
}

fn example(template: &Template) -> String {
    let segments: Vec<&str> = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(literal) => literal,
            Part::Variable(_, Variable::Uuid) => "0189d2f4-0000-7000-8000-000000000000",
            Part::Variable(..) => "7",
        })
        .collect();
    format!("/{}", segments.join("/"))
}

/// Bytes as a tool's list, of which the reader may see every second item.
///
/// What is accepted is JSON for another parser too; what is passed on holds exactly the items that were kept, each in the
/// tool's own spelling, with totals that count them, and everything beside the list is untouched.
pub(super) fn list(data: &[u8]) {
    let rule = FilterRule {
        kind: "job".into(),
        items: "/items".into(),
        id: "/id".into(),
        totals: vec!["/total".into()],
        limit: 1 << 20,
    };
    let Ok(listed) = rule.read(data) else { return };
    let whole: Value = serde_json::from_slice(data).expect("accepted, but no JSON");
    let items = whole["items"].as_array().expect("accepted, but no list");
    assert_eq!(listed.ids().len(), items.len());
    for (id, item) in listed.ids().iter().zip(items) {
        match &item["id"] {
            Value::String(text) => assert_eq!(id, text),
            Value::Number(_) => {}
            other => panic!("an id is {other}"),
        }
    }
    let keep: Vec<bool> = (0..items.len()).map(|at| at % 2 == 0).collect();
    let narrowed = listed.keep(&keep).unwrap();
    let mut expected = whole.clone();
    let kept: Vec<Value> = items.iter().step_by(2).cloned().collect();
    expected["total"] = kept.len().into();
    expected["items"] = kept.into();
    assert_eq!(serde_json::from_slice::<Value>(&narrowed).unwrap(), expected);
    let ids: Vec<String> = listed.ids().iter().step_by(2).cloned().collect();
    assert_eq!(rule.read(&narrowed).unwrap().ids(), ids);
    assert!(listed.keep(&keep[..keep.len().saturating_sub(1)]).is_err() || keep.is_empty());
}
