use proptest::prelude::*;

use super::*;
use crate::tool::{Audience, Kind as TaskKind, ResourceRule};

fn task(name: &str, matches: &[&str]) -> Task {
    Task {
        local: Some("api"),
        ..Task::plain(name, matches, TaskKind::Read, Audience::AnyPerson)
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

fn parsed(tasks: &str) -> Tool {
    let head = "[tool]\nname = \"t\"\nupstream = \"u\"\n";
    crate::tool::Manifest::parse("t.toml", &format!("{head}{tasks}"))
        .unwrap()
        .tool
}

/// Method and target, headers, body.
fn whole(tool: &Tool, line: &str, headers: &[(&str, &str)], body: &str) -> Result<Option<String>, TryError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let found = tool.try_whole(line, &map, body.as_bytes())?;
    Ok(found.map(|found| {
        let parameters: Vec<String> = found
            .parameters
            .iter()
            .map(|(n, v)| format!(" {n}={v}"))
            .collect();
        format!("{}{}", found.task.name, parameters.concat())
    }))
}

#[test]
fn a_header_tells_tasks_apart_and_is_read_once() {
    let tool = parsed(
        "[[task]]\nname = \"start\"\nmatch = \"POST /do\"\nkind = \"execute\"\nheaders = { X-Op = \"start\", X-Job = \"{job:int}\" }\n\
         resource = { type = \"job\", id = \"{job}\" }\n\
         [[task]]\nname = \"stop\"\nmatch = \"POST /do\"\nkind = \"execute\"\nheaders = { X-Op = \"stop\" }\n",
    );
    let ask = |headers: &[(&str, &str)]| whole(&tool, "POST /do", headers, "");
    assert_eq!(
        ask(&[("x-op", "start"), ("x-job", "7")]).unwrap().as_deref(),
        Some("start job=7")
    );
    assert_eq!(ask(&[("x-op", "stop")]).unwrap().as_deref(), Some("stop"));
    for refused in [
        &[][..],
        &[("x-op", "other")],
        &[("x-op", "Start"), ("x-job", "7")],
        &[("x-op", "start")],
        &[("x-op", "start"), ("x-job", "07")],
        &[("x-op", "start"), ("x-op", "start"), ("x-job", "7")],
        &[("x-op", "start"), ("x-op", "stop"), ("x-job", "7")],
        &[("x-op", "stop"), ("x-job", "7"), ("x-job", "8")],
        &[("x-op", "stop"), ("connection", "keep-alive, X-Op")],
        &[("x-op", "start"), ("x-job", "7"), ("connection", "x-job")],
    ] {
        assert!(ask(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn a_host_tells_tasks_apart_and_the_path_form_has_none() {
    let manifest = "[tool]\nname = \"t\"\nupstream = \"u\"\nhosts = [\"a.gw.example.org\", \"b.gw.example.org\"]\n\
         [[task]]\nname = \"a\"\nmatch = \"GET /\"\nkind = \"read\"\nhost = \"a.gw.example.org\"\n\
         [[task]]\nname = \"b\"\nmatch = \"GET /\"\nkind = \"read\"\nhost = \"b.gw.example.org\"\n";
    let tool = crate::tool::Manifest::parse("t.toml", manifest).unwrap().tool;
    let ask = |headers: &[(&str, &str)]| whole(&tool, "GET /", headers, "");
    assert_eq!(
        ask(&[("host", "a.gw.example.org")]).unwrap().as_deref(),
        Some("a")
    );
    assert_eq!(
        ask(&[("host", "b.gw.example.org:8443")]).unwrap().as_deref(),
        Some("b")
    );
    assert!(ask(&[("host", "c.gw.example.org")]).is_err());
    assert!(ask(&[]).is_err());
}

#[test]
fn a_fixed_query_value_tells_tasks_apart_and_is_read_once() {
    let tool = parsed(
        "[[task]]\nname = \"list\"\nmatch = \"GET /cgi\"\nkind = \"read\"\nquery = [\"action=list\", \"page\"]\n\
         [[task]]\nname = \"drop\"\nmatch = \"GET /cgi\"\nkind = \"delete\"\nquery = [\"action=drop\", \"job\"]\n",
    );
    let ask = |query: &str| whole(&tool, &format!("GET /cgi?{query}"), &[], "");
    assert_eq!(ask("action=list&page=2").unwrap().as_deref(), Some("list page=2"));
    assert_eq!(ask("job=7&action=drop").unwrap().as_deref(), Some("drop job=7"));
    for refused in [
        "page=2",
        "action=x",
        "action=list&action=drop",
        "action=list&job=7",
        "Action=drop&action=list",
        "action=LIST",
    ] {
        assert!(ask(refused).is_err(), "{refused}");
    }
}

#[test]
fn the_body_tells_tasks_apart_and_nothing_beside_it_does() {
    let tool = parsed(
        "[[task]]\nname = \"submit\"\nmatch = \"POST /ws\"\nkind = \"create\"\n\
         body = { kind = \"soap\", operation = \"{urn:jobs}submit\" }\n\
         [[task]]\nname = \"cancel\"\nmatch = \"POST /ws\"\nkind = \"delete\"\n\
         body = { kind = \"soap\", operation = \"{urn:jobs}cancel\", take = { job = { at = \"/id\", type = \"int\" } } }\n\
         resource = { type = \"job\", id = \"{job}\" }\n\
         [[task]]\nname = \"poll\"\nmatch = \"POST /ws\"\nkind = \"read\"\nbody = { kind = \"json\", equals = { \"/op\" = \"poll\" } }\n",
    );
    let envelope = |inner: &str| {
        format!(
            "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:j=\"urn:jobs\"><e:Body>{inner}</e:Body></e:Envelope>"
        )
    };
    let xml = ("content-type", "text/xml; charset=utf-8");
    let json = ("content-type", "application/json");
    let cancel = envelope("<j:cancel><id>7</id></j:cancel>");
    let ask = |headers: &[(&str, &str)], body: &str| whole(&tool, "POST /ws", headers, body);
    assert_eq!(
        ask(&[xml], &envelope("<j:submit/>")).unwrap().as_deref(),
        Some("submit")
    );
    assert_eq!(ask(&[xml], &cancel).unwrap().as_deref(), Some("cancel job=7"));
    assert_eq!(
        ask(&[xml, ("soapaction", "\"urn:jobs#cancel\"")], &cancel)
            .unwrap()
            .as_deref(),
        Some("cancel job=7")
    );
    assert_eq!(
        ask(&[json], "{\"op\":\"poll\"}").unwrap().as_deref(),
        Some("poll")
    );
    for (headers, body) in [
        (&[xml, ("soapaction", "urn:jobs#submit")][..], cancel.as_str()),
        (&[json], &cancel),
        (&[], &cancel),
        (&[xml], ""),
        (&[], ""),
        (&[xml], "{\"op\":\"poll\"}"),
        (&[json], "{\"op\":\"submit\"}"),
        (&[xml], &envelope("<j:other/>")),
        (&[xml], &envelope("<cancel><id>7</id></cancel>")),
        (&[xml], &envelope("<j:cancel/>")),
        (&[xml], &envelope("<j:cancel><id>x</id></j:cancel>")),
        (&[xml, ("content-encoding", "gzip")], &cancel),
    ] {
        assert!(ask(headers, body).is_err(), "{headers:?} {body}");
    }
    let target = Target::parse("/ws").unwrap();
    let asked = Asked {
        method: &Method::POST,
        target: &target,
        host: None,
        headers: &HeaderMap::new(),
        body: None,
    };
    assert!(
        matches!(tool.find(&asked), Ok(Lookup::Body(1_048_576))),
        "the body is asked for"
    );
}

#[test]
fn the_narrower_task_is_meant_and_a_refusal_of_it_is_never_the_wider_one() {
    let tool = parsed(
        "[[task]]\nname = \"read\"\nmatch = \"GET /{path:rest}\"\nkind = \"read\"\nquery = \"any\"\n\
         [[task]]\nname = \"admin\"\nmatch = \"GET /admin/{path:rest}\"\nkind = \"read\"\nwithin = \"read\"\n\
         [[task]]\nname = \"keys\"\nmatch = \"GET /admin/keys\"\nkind = \"read\"\nwithin = \"admin\"\n\
         [[task]]\nname = \"change\"\nmatch = \"POST /set\"\nkind = \"update\"\n\
         [[task]]\nname = \"wipe\"\nmatch = \"POST /set\"\nkind = \"delete\"\nwithin = \"change\"\n\
         body = { kind = \"json\", equals = { \"/op\" = \"wipe\" } }\n\
         [[task]]\nname = \"cgi\"\nmatch = \"PUT /cgi\"\nkind = \"read\"\nquery = \"any\"\n\
         [[task]]\nname = \"drop\"\nmatch = \"PUT /cgi\"\nkind = \"delete\"\nquery = [\"action=drop\"]\nwithin = \"cgi\"\n",
    );
    let ask = |line: &str| whole(&tool, line, &[], "").map(|found| found.unwrap_or_default());
    assert_eq!(ask("GET /a/b?x=1").unwrap(), "read path=a/b");
    assert_eq!(ask("GET /admin/x").unwrap(), "admin path=x");
    assert_eq!(ask("GET /admin/keys").unwrap(), "keys");
    assert_eq!(ask("GET /admin").unwrap(), "read path=admin");
    assert!(
        ask("GET /admin/keys?x=1").is_err(),
        "the wider task takes any query, this one none"
    );
    let json = [("content-type", "application/json")];
    assert_eq!(
        whole(&tool, "POST /set", &json, "{\"op\":\"wipe\"}")
            .unwrap()
            .as_deref(),
        Some("wipe")
    );
    assert_eq!(
        whole(&tool, "POST /set", &json, "{\"op\":\"x\"}")
            .unwrap()
            .as_deref(),
        Some("change")
    );
    assert_eq!(ask("POST /set").unwrap(), "change");
    // A tool that looks at the text and not at its type would wipe.
    for kind in ["text/plain", "application/x-json", "text/json"] {
        assert!(
            whole(&tool, "POST /set", &[("content-type", kind)], "{\"op\":\"wipe\"}").is_err(),
            "{kind}"
        );
    }
    assert!(whole(&tool, "POST /set", &[], "{\"op\":\"wipe\"}").is_err());
    assert!(whole(&tool, "POST /set", &json, "{\"OP\":\"wipe\"}").is_err());
}

#[test]
fn a_tool_that_folds_case_has_one_spelling_of_paths_and_ids() {
    let head = "[tool]\nname = \"t\"\nupstream = \"u\"\ncase_insensitive = true\n";
    let tasks = "[[task]]\nname = \"page\"\nmatch = \"GET /{name}\"\nkind = \"read\"\nresource = { type = \"page\", id = \"{name}\" }\n\
         [[task]]\nname = \"admin\"\nmatch = \"GET /Admin\"\nkind = \"read\"\nwithin = \"page\"\n";
    let tool = crate::tool::Manifest::parse("t.toml", &format!("{head}{tasks}"))
        .unwrap()
        .tool;
    for spelling in ["admin", "ADMIN", "Admin", "%C4%B1", "admIn"] {
        let found = tool.try_request(&format!("GET /{spelling}")).unwrap().unwrap();
        let expected = if spelling.starts_with('%') {
            "page"
        } else {
            "admin"
        };
        assert_eq!(found.task.name, expected, "{spelling}");
    }
    let found = tool.try_request("GET /Index.HTML").unwrap().unwrap();
    assert_eq!(found.resource.unwrap().id, "index.html");
    assert_eq!(tool.id_of("ABC\u{212A}"), "abck");
    let exact = parsed(tasks);
    assert_eq!(
        exact.try_request("GET /ADMIN").unwrap().unwrap().task.name,
        "page"
    );
    assert_eq!(exact.id_of("ABC"), "ABC");
    let twice = tasks
        .replace("GET /{name}", "GET /ADMIN")
        .replace("resource = { type = \"page\", id = \"{name}\" }", "")
        .replace("within = \"page\"", "");
    assert!(crate::tool::Manifest::parse("t.toml", &format!("{head}{twice}")).is_err());
}

#[test]
fn path_parameters_match_only_where_they_are_written_out() {
    let tool = parsed(
        "[[task]]\nname = \"matrix\"\nmatch = [\"GET /m;v=1/{id:int}\", \"GET /m;v=1\"]\nkind = \"read\"\n\
         [[task]]\nname = \"rest\"\nmatch = \"GET /files/{path:rest}\"\nkind = \"read\"\n",
    );
    assert!(tool.takes_path_parameters());
    assert_eq!(found(&tool, "GET /m;v=1/7").unwrap().0, "matrix");
    for line in [
        "GET /m;v=2/7",
        "GET /m/7",
        "GET /m;v=1/7;x",
        "GET /files/a;b",
        "GET /files/a/b;c",
        "GET /files;x/a",
        "GET /m;V=1",
    ] {
        assert_eq!(found(&tool, line), None, "{line}");
    }
    let plain = parsed("[[task]]\nname = \"rest\"\nmatch = \"GET /{path:rest}\"\nkind = \"read\"\n");
    assert!(plain.try_request("GET /a;b").is_err());
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
            let asked = Asked { method: &method.parse().unwrap(), target: &target, host: None, headers: &HeaderMap::new(), body: None };
            let fast = match tool.find(&asked).unwrap() {
                Lookup::Task(found) => Some(found.task.name.clone()),
                Lookup::Nothing => None,
                Lookup::Body(_) => panic!("no task has a body"),
            };
            prop_assert_eq!(fast.as_deref(), slow.first().copied());
        }
    }

    #[test]
    fn a_template_that_covers_another_matches_all_that_it_matches(a in template(), b in template(), requests in proptest::collection::vec(request(), 1..24)) {
        let (wide, narrow) = (Template::parse(&a).unwrap(), Template::parse(&b).unwrap());
        for (method, path) in requests {
            let target = Target::parse(&path).unwrap();
            if wide.covers(&narrow) && matches_slowly(&b, &method, target.segments()) {
                prop_assert!(matches_slowly(&a, &method, target.segments()), "{a} does not match {method} {path}, {b} does");
            }
        }
        prop_assert!(wide.covers(&wide));
        if wide.covers(&narrow) {
            prop_assert!(wide.overlap(&narrow).is_some());
        }
    }

    #[test]
    fn of_nested_tasks_the_narrowest_is_found_whatever_their_order(
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
        path in "(/(a|b|7)){1,4}",
    ) {
        // From the widest to the narrowest.
        let chain = ["GET /{r:rest}", "GET /a/{r:rest}", "GET /a/b/{x}", "GET /a/b/7"];
        let tasks = order.iter().map(|at| Task {
            within: at.checked_sub(1).map(|wider| wider.to_string()),
            ..task(&at.to_string(), &[chain[*at]])
        });
        let tool = Tool::own(tasks.collect()).unwrap();
        let target = Target::parse(&path).unwrap();
        let narrowest = (0..4).rev().find(|at| matches_slowly(chain[*at], "GET", target.segments()));
        let found = tool.try_request(&format!("GET {path}")).unwrap();
        prop_assert_eq!(found.map(|found| found.task.name.clone()), narrowest.map(|at| at.to_string()));
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
