use proptest::prelude::*;

use super::*;
use crate::tool::{Audience, Kind as TaskKind, ResourceRule};

fn task(name: &str, matches: &[&str]) -> Task {
    Task {
        name: name.to_owned(),
        matches: matches.iter().map(|text| (*text).to_owned()).collect(),
        kind: TaskKind::Read,
        audience: Audience::AnyPerson,
        resource: None,
        creates: Vec::new(),
        filter: None,
        deletes: false,
        query: Some(Vec::new()),
        sensitive: Vec::new(),
        strict: false,
        max_body: None,
        timeout: None,
        upgrade: Vec::new(),
        home_only: false,
        local: Some("api"),
    }
}

fn found(tool: &Tool, line: &str) -> Option<(String, Vec<(String, String)>)> {
    let found = tool.try_request(line).unwrap()?;
    Some((found.task.name.clone(), found.parameters.into_iter().collect()))
}

#[test]
fn a_request_finds_the_one_task_that_names_it() {
    let tool = Tool::own(vec![
        task("root", &["GET /"]),
        task("list jobs", &["GET /jobs"]),
        task("list jobs with slash", &["GET /jobs/"]),
        task("submit job", &["POST /jobs"]),
        task(
            "monitor job",
            &["GET /jobs/{job:int}", "GET /jobs/{job:int}/state"],
        ),
        task("new job", &["GET /jobs/new"]),
        task("job by uuid", &["GET /jobs/{job:uuid}"]),
        task("files", &["GET /jobs/{job:int}/files/{path:rest}"]),
        task("page", &["GET /pages/{name}"]),
    ])
    .unwrap();
    for (line, task, parameters) in [
        ("GET /", "root", vec![]),
        ("GET /jobs", "list jobs", vec![]),
        ("HEAD /jobs", "list jobs", vec![]),
        ("GET /jobs/", "list jobs with slash", vec![]),
        ("POST /jobs", "submit job", vec![]),
        ("GET /jobs/7", "monitor job", vec![("job", "7")]),
        ("GET /jobs/7/state", "monitor job", vec![("job", "7")]),
        ("GET /jobs/new", "new job", vec![]),
        (
            "GET /jobs/0191d1a2-7c1f-7a3b-8b1c-0123456789ab",
            "job by uuid",
            vec![("job", "0191d1a2-7c1f-7a3b-8b1c-0123456789ab")],
        ),
        (
            "GET /jobs/7/files/a/b%20c/",
            "files",
            vec![("job", "7"), ("path", "a/b c/")],
        ),
        ("GET /pages/caf%C3%A9", "page", vec![("name", "caf\u{e9}")]),
    ] {
        let parameters: Vec<_> = parameters
            .into_iter()
            .map(|(n, v): (&str, &str)| (n.to_owned(), v.to_owned()))
            .collect();
        assert_eq!(found(&tool, line), Some((task.to_owned(), parameters)), "{line}");
    }
    for line in [
        "PUT /jobs",
        "GET /job",
        "GET /Jobs",
        "GET /jobs/07",
        "GET /jobs/x",
        "GET /jobs/7/",
        "GET /jobs/7/files",
        "GET /jobs/7/files/",
        "GET /pages/",
        "GET /pages",
        "GET /pages/a/b",
        "OPTIONS /jobs",
        "HEAD /pages/",
    ] {
        assert_eq!(found(&tool, line), None, "{line}");
    }
}

#[test]
fn only_the_query_parameters_of_the_task_are_taken() {
    let mut search = task("search", &["GET /search/{kind}"]);
    search.query = Some(vec!["q".to_owned(), "page".to_owned()]);
    let mut open = task("open", &["GET /open"]);
    open.query = None;
    let tool = Tool::own(vec![search, open, task("closed", &["GET /closed"])]).unwrap();
    let refused = |line: &str| tool.try_request(line).unwrap_err().to_string();
    assert_eq!(
        found(&tool, "GET /search/a?q=x+y&page=").unwrap().1,
        [("kind", "a"), ("page", ""), ("q", "x y")].map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    assert_eq!(
        refused("GET /search/a?Q=x"),
        "the task `search` does not take the query parameter `Q`; it takes: q, page"
    );
    assert!(refused("GET /search/a?kind=b").contains("does not take"));
    assert!(refused("GET /search/a?q=1&q=2").contains("stands there twice"));
    assert!(refused("GET /closed?x").ends_with("it takes: none"));
    assert_eq!(
        found(&tool, "GET /open?x=1&x=2&y"),
        Some(("open".to_owned(), vec![]))
    );
}

#[test]
fn a_query_never_changes_the_method() {
    let mut open = task("open", &["GET /open"]);
    open.query = None;
    let tool = Tool::own(vec![open]).unwrap();
    for name in [
        "_method",
        "_METHOD",
        "+_method",
        ".method",
        "_method[]",
        "_method[a]",
        "X-HTTP-Method-Override",
        "x_http_method_override",
        "X-HTTP-Method",
        "httpMethod",
        "_httpMethod",
        "X-Method-Override",
    ] {
        let refused = tool.try_request(&format!("GET /open?a=1&{name}=DELETE"));
        assert!(
            matches!(refused, Err(TryError::Find(FindError::MethodOverride { .. }))),
            "{name}: {refused:?}"
        );
    }
    assert!(tool.try_request("GET /open?method=bayes").unwrap().is_some());
}

#[test]
fn a_resource_needs_an_id() {
    let mut show = task("show", &["GET /show"]);
    show.query = Some(vec!["id".to_owned()]);
    show.resource = Some(ResourceRule {
        kind: "job".to_owned(),
        id: "{id}".to_owned(),
    });
    let tool = Tool::own(vec![show]).unwrap();
    let resource = tool
        .try_request("GET /show?id=7")
        .unwrap()
        .unwrap()
        .resource
        .unwrap();
    assert_eq!((&*resource.kind, &*resource.id), ("job", "7"));
    let long = format!("GET /show?id={}", "7".repeat(MAX_ID + 1));
    for line in ["GET /show", "GET /show?id=", "GET /show?id", &long] {
        assert!(
            matches!(
                tool.try_request(line),
                Err(TryError::Find(FindError::Resource { .. }))
            ),
            "{line}"
        );
    }
}

#[test]
fn overlapping_tasks_are_refused_with_both_names() {
    let refused = Tool::own(vec![
        task("one", &["GET /a/{x:int}"]),
        task("two", &["POST /a/{x}", "GET /{y}/7"]),
    ]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the tasks `one` and `two` overlap: both match `GET /a/7`"
    );
    assert!(Tool::own(vec![task("one", &["GET /a", "GET /a"])]).is_err());
}

#[test]
fn what_is_not_a_request_is_refused() {
    let tool = Tool::own(vec![task("root", &["GET /"])]).unwrap();
    for line in ["", "GET", "get /", "GET  /", "G\u{e9}T /", "GET jobs", "GET /%2e"] {
        assert!(tool.try_request(line).is_err(), "{line:?}");
    }
}

/// The slow and obvious reading of a template.
fn matches_slowly(template: &str, method: &str, segments: &[String]) -> bool {
    let template = Template::parse(template).unwrap();
    let method = if method == "HEAD" { "GET" } else { method };
    let parts = template.parts();
    let rest = matches!(parts.last(), Some(Part::Variable(_, Variable::Rest)));
    template.method().as_str() == method
        && (if rest {
            segments.len() >= parts.len()
        } else {
            segments.len() == parts.len()
        })
        && parts.iter().zip(segments).all(|(part, segment)| match part {
            Part::Literal(literal) => literal == segment,
            Part::Variable(_, variable) => variable.accepts(segment),
        })
}

const WORDS: [&str; 6] = [
    "a",
    "7",
    "07",
    "b.c",
    "%20",
    "0191d1a2-7c1f-7a3b-8b1c-0123456789ab",
];

fn template() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        proptest::sample::select(&WORDS[..]).prop_map(str::to_owned),
        proptest::sample::select(&["int", "uuid", "slug", "segment"][..])
            .prop_map(|kind| format!("{{V:{kind}}}")),
    ];
    let end = proptest::sample::select(&["", "", "", "/", "/{r:rest}"][..]);
    (
        proptest::sample::select(&["GET", "POST"][..]),
        proptest::collection::vec(part, 0..4),
        end,
    )
        .prop_map(|(method, parts, end)| {
            let path: String = parts
                .iter()
                .enumerate()
                .map(|(index, part)| format!("/{}", part.replace('V', &format!("v{index}"))))
                .collect();
            let path = format!("{path}{end}");
            format!("{method} {}", if path.is_empty() { "/" } else { &path })
        })
}

fn request() -> impl Strategy<Value = (String, String)> {
    let methods = proptest::sample::select(&["GET", "POST", "HEAD"][..]);
    let words = proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..5);
    (methods, words, any::<bool>()).prop_map(|(method, words, slash)| {
        let path = words.iter().map(|word| format!("/{word}")).collect::<String>();
        let slash = if slash || path.is_empty() { "/" } else { "" };
        (method.to_owned(), format!("{path}{slash}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_tree_finds_what_a_slow_search_finds(templates in proptest::collection::vec(template(), 1..12), requests in proptest::collection::vec(request(), 1..24)) {
        // Take in each template unless the overlap check says that it meets one that is there.
        let mut tasks: Vec<Task> = Vec::new();
        for (index, text) in templates.iter().enumerate() {
            let mut more = tasks.clone();
            more.push(task(&index.to_string(), &[text]));
            if Tool::own(more.clone()).is_ok() {
                tasks = more;
            }
        }
        let tool = Tool::own(tasks.clone()).unwrap();
        for (method, path) in requests {
            let target = Target::parse(&path).unwrap();
            let slow: Vec<&str> = tasks
                .iter()
                .filter(|task| matches_slowly(&task.matches[0], &method, target.segments()))
                .map(|task| task.name.as_str())
                .collect();
            prop_assert!(slow.len() <= 1, "the overlap check missed {:?} for {} {}", slow, method, path);
            let fast = tool.find(&method.parse().unwrap(), &target).unwrap();
            prop_assert_eq!(fast.as_ref().map(|found| found.task.name.as_str()), slow.first().copied());
        }
    }

    #[test]
    fn an_overlap_is_always_shown_by_a_request_that_both_match(a in template(), b in template()) {
        let (left, right) = (Template::parse(&a).unwrap(), Template::parse(&b).unwrap());
        if let Some(example) = left.overlap(&right) {
            // The example is shown decoded; encode the one character of `WORDS` that needs it.
            let (method, path) = example.split_once(' ').unwrap();
            let target = Target::parse(&path.replace(' ', "%20")).unwrap();
            prop_assert!(matches_slowly(&a, method, target.segments()), "{a} {example}");
            prop_assert!(matches_slowly(&b, method, target.segments()), "{b} {example}");
        }
        prop_assert_eq!(left.overlap(&right).is_some(), right.overlap(&left).is_some());
        prop_assert!(left.overlap(&left).is_some());
    }
}
