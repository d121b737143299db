use std::time::Duration;

use super::*;
use crate::tool::{
    Assurance, Delegation, FilterRule, IdSource, Kind, ProxyKey, ProxyPolicy, ToolTarget, Whose,
};

const JOBS: &str = r#"
[tool]
name       = "jobs"
upstream   = "ce"
hosts      = ["jobs.gw.example.org"]
delegation = "client-certificate"
lifetime   = "30m"
policy     = "limited"
path_length = 2
basic      = true
host_header = "upstream"
authorization = "foreign"
cookies    = "drop"

[type.job]
unique = true

[[task]]
name    = "submit job"
match   = ["POST /jobs"]
kind    = "create"
query   = ["queue"]
max_body = "64KiB"
timeout = "90s"
sensitive = ["queue"]
creates = [
  { type = "job", id = "header:Location#last-segment", status = [201], owner = "subject" },
  { type = "log", items = "/logs", id = "/id", status = [201, 202], when = "/state = ready", parent = { type = "job", id = "/job" }, attributes = { queue = "{queue}" } },
]

[[task]]
name     = "monitor job"
match    = ["GET /jobs/{job:int}", "GET /jobs/{job:int}/state"]
kind     = "read"
resource = { type = "job", id = "{job}" }
strict   = true

[[task]]
name   = "list jobs"
match  = ["GET /jobs"]
kind   = "read"
query  = "any"
filter = { type = "job", items = "/jobs", id = "/id", totals = ["/total"] }

[[task]]
name     = "terminate job"
match    = ["DELETE /jobs/{job:int}"]
kind     = "delete"
resource = { type = "job", id = "{job}" }
deletes  = true
"#;

#[test]
fn the_whole_grammar_is_read() {
    let Manifest { tool, warnings } = Manifest::parse("jobs.toml", JOBS).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(tool.name, "jobs");
    assert_eq!(tool.target, ToolTarget::Upstream("ce".into()));
    assert_eq!(tool.hosts, ["jobs.gw.example.org"]);
    assert_eq!(tool.delegation, Delegation::ClientCertificate);
    assert_eq!(tool.proxy.lifetime, Duration::from_secs(1800));
    assert_eq!(tool.proxy.policy, ProxyPolicy::Limited);
    assert_eq!(tool.proxy.path_length, Some(2));
    assert!(tool.basic && tool.foreign_authorization && !tool.keep_cookies && !tool.strict);
    assert_eq!(tool.upstream_host_header, Some(true));
    assert_eq!(tool.unique, ["job"]);
    assert_eq!(tool.kinds(), BTreeSet::from(["job", "log"]));
    assert_eq!(tool.manifest, JOBS);

    let submit = tool.task("submit job").unwrap();
    assert_eq!((submit.kind, submit.max_body), (Kind::Create, Some(65_536)));
    assert_eq!(submit.timeout, Some(Duration::from_secs(90)));
    assert_eq!(submit.query, Some(vec!["queue".to_owned()]));
    let [job, log] = &submit.creates[..] else {
        panic!("two things are made")
    };
    assert_eq!(
        job.id,
        IdSource::Header {
            name: "location".into(),
            last_segment: true
        }
    );
    assert_eq!(
        (&job.status[..], job.owner, &job.items),
        (&[201][..], Whose::Subject, &None)
    );
    assert_eq!(log.items.as_deref(), Some("/logs"));
    assert_eq!(log.when, Some(("/state".into(), "ready".into())));
    assert_eq!(log.parent, Some(("job".into(), IdSource::Body("/job".into()))));
    assert_eq!(log.attributes["queue"], IdSource::Parameter("queue".into()));
    assert_eq!(log.owner, Whose::Subject);

    let list = tool.task("list jobs").unwrap();
    assert_eq!(list.query, None);
    assert_eq!(
        list.filter,
        Some(FilterRule {
            kind: "job".into(),
            items: "/jobs".into(),
            id: "/id".into(),
            totals: vec!["/total".into()],
            limit: 8 << 20,
        })
    );
    assert!(tool.task("terminate job").unwrap().deletes);
    let found = tool.try_request("DELETE /jobs/42").unwrap().unwrap();
    assert_eq!(found.task.name, "terminate job");
}

fn flaws(text: &str) -> Vec<String> {
    let flaws = Manifest::parse("t.toml", text).expect_err("the manifest was read");
    flaws.0.iter().map(ToString::to_string).collect()
}

#[test]
fn every_flaw_is_reported_at_once_with_line_and_accepted_form() {
    let found = flaws(
        "[tool]\nname = \"Jobs\"\nupstream = \"\"\nhosts = [\"https://x\", \"a.b\", \"a.b\", \"10.0.0.1\"]\n\
         delegation = \"proxy\"\nheader = \"Cookie\"\nlifetime = \"1h\"\nspeed = 9\n\n\
         [type.jbo]\nunique = 1\n\n\
         [[task]]\nname = \"caf\u{e9}\"\nmatch = [\"GET /jobs/{job:float}\", \"get /\"]\nkind = \"look\"\n\
         resource = { type = \"Job\", id = \"{jbo}\" }\nquery = [\"_method\", \"a\", \"a\", \"b c\"]\nsensitive = [\"zz\"]\n\
         creates = { type = \"job\", id = \"Location\", when = \"Success\", attributes = { owner = \"/o\" } }\n\
         filter = { type = \"job\", items = \"jobs\", totals = [\"x\"] }\nmax_body = \"8MB\"\ntimeout = \"never\"\n",
    );
    let expected = [
        "t.toml:2: `tool.name` has the value `Jobs`; accepted: 1 to 40 of a-z",
        "t.toml:3: `tool.upstream` has the value ``; accepted",
        "t.toml:4: `tool.hosts` has `https://x`; accepted: a DNS name",
        "t.toml:4: `tool.hosts` has `a.b` twice",
        "t.toml:4: `tool.hosts` has `10.0.0.1`; accepted: a DNS name",
        "t.toml:5: `tool.delegation` has the value `proxy`; accepted: none, static",
        "t.toml:6: `tool.header` is only for",
        "t.toml:6: `tool.header` has the value `Cookie`; accepted",
        "t.toml:7: `tool.lifetime` is only for",
        "t.toml:8: unknown key `tool.speed` (accepted here: ",
        "`type.jbo` is a type that no task names",
        "t.toml:11: `type.jbo.unique` must be true or false",
        "t.toml:14: `task[0].name` has the value `caf\u{e9}`; accepted: 1 to 64 printable ASCII",
        "t.toml:15: `task[0].match` has `GET /jobs/{job:float}`: `float` is not a type; accepted: int, uuid",
        "t.toml:15: `task[0].match` has the method `get`; accepted: GET",
        "t.toml:16: `task[0].kind` has the value `look`; accepted: read, download",
        "t.toml:17: `task[0].resource.type` has the value `Job`; accepted",
        "t.toml:17: `task[0].resource.id` names `{jbo}`",
        "t.toml:18: `task[0].query` has `_method`, which could change the method",
        "t.toml:18: `task[0].query` has `a` twice",
        "t.toml:18: `task[0].query` has `b c`; accepted",
        "t.toml:19: `task[0].sensitive` has `zz`",
        "t.toml:20: `task[0].creates.id` has the value `Location`; accepted: `header:NAME`",
        "t.toml:20: `task[0].creates.status` must list the statuses",
        "t.toml:20: `task[0].creates.when` has the value `Success`; accepted",
        "t.toml:20: `task[0].creates.attributes.owner` cannot name an attribute",
        "t.toml:21: `task[0].filter.items` has the value `jobs`; accepted: a JSON pointer",
        "t.toml:21: `task[0].filter.id` is missing; accepted: a JSON pointer",
        "t.toml:21: `task[0].filter.totals` has `x`; accepted",
        "t.toml:21: `task[0].filter` is only for a task of `kind = \"read\"`",
        "t.toml:21: `task[0].filter` cannot stand beside `creates`",
        "t.toml:22: `task[0].max_body` has the value `8MB`; accepted: bytes",
        "t.toml:23: `task[0].timeout` must be a time",
    ];
    for claim in expected {
        assert!(
            found.iter().any(|flaw| flaw.contains(claim)),
            "no flaw {claim:?} in {found:#?}"
        );
    }
    let lines: Vec<usize> = found
        .iter()
        .map(|flaw| flaw.split(':').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_myproxy_server_is_an_upstream_and_its_headers_have_names() {
    let with = |lines: &str| {
        let text = format!(
            "[tool]\nname = \"t\"\nupstream = \"u\"\n{lines}\n\
             [[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n"
        );
        Manifest::parse("t.toml", &text)
    };
    let tool = with("delegation = \"myproxy\"\nmyproxy = \"vault\"")
        .unwrap()
        .tool;
    let settings = tool.myproxy.unwrap();
    assert_eq!(
        (
            settings.upstream.as_str(),
            settings.username_header.as_str(),
            settings.passphrase_header.as_str()
        ),
        (
            "vault",
            "x-countersign-myproxy-username",
            "x-countersign-myproxy-passphrase"
        )
    );
    assert_eq!(tool.proxy.policy, ProxyPolicy::Limited);
    let named = "delegation = \"myproxy\"\nmyproxy = \"vault\"\nusername_header = \"X-Grid-User\"";
    assert_eq!(
        with(named).unwrap().tool.myproxy.unwrap().username_header,
        "x-grid-user"
    );
    // The usual names may be written out, each for its own.
    let usual = "delegation = \"myproxy\"\nmyproxy = \"vault\"\nusername_header = \"X-Countersign-Myproxy-Username\"\n\
                 passphrase_header = \"x-countersign-myproxy-passphrase\"";
    assert_eq!(with(usual).unwrap().tool.myproxy.unwrap(), settings);
    for (lines, key) in [
        (
            "delegation = \"myproxy\"\nmyproxy = \"vault\"\nusername_header = \"X-Countersign-User\"",
            "username_header",
        ),
        ("delegation = \"myproxy\"", "myproxy"),
        ("delegation = \"pem\"\nmyproxy = \"vault\"", "myproxy"),
        (
            "delegation = \"myproxy\"\nmyproxy = \"vault\"\npath_length = 0",
            "path_length",
        ),
        (
            "delegation = \"myproxy\"\nmyproxy = \"vault\"\nkey = \"p256\"",
            "key",
        ),
        (
            "delegation = \"myproxy\"\nmyproxy = \"vault\"\nusername_header = \"Host\"",
            "username_header",
        ),
        (
            "delegation = \"myproxy\"\nmyproxy = \"vault\"\nusername_header = \"A\"\npassphrase_header = \"a\"",
            "passphrase_header",
        ),
    ] {
        let flaws = with(lines).unwrap_err().to_string();
        assert!(flaws.contains(&format!("`tool.{key}`")), "{lines}: {flaws}");
    }
}

#[test]
fn a_spool_folder_is_picked_by_name_and_only_for_a_proxy_that_is_handed_over() {
    let read = |lines: &str| {
        let text = format!(
            "[tool]\nname = \"t\"\nupstream = \"u\"\n{lines}\n[[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n"
        );
        Manifest::parse("t.toml", &text)
    };
    let manifest = read("delegation = \"pem\"\nspool = \"grid\"").unwrap();
    assert_eq!(manifest.tool.spool.as_deref(), Some("grid"));
    for lines in [
        "delegation = \"client-certificate\"\nspool = \"grid\"",
        "spool = \"grid\"",
        "delegation = \"pem\"\nspool = \"/tmp\"",
        "delegation = \"pem\"\nspool = \"../x\"",
        "delegation = \"pem\"\nspool = true",
    ] {
        let flaws = read(lines).unwrap_err().to_string();
        assert!(flaws.contains("`tool.spool`"), "{lines}: {flaws}");
    }
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    let head = "[tool]\nname = \"t\"\nupstream = \"u\"\ndelegation = \"pem\"\n";
    let task = "[[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n";
    for line in ["require_grant = true", "health = \"/\""] {
        let found = flaws(&format!("{head}{line}\n{task}"));
        assert!(
            found.len() == 1 && found[0].contains("is not yet supported: "),
            "{line}: {found:?}"
        );
    }
}

#[test]
fn a_tool_and_a_task_can_ask_for_more_assurance() {
    let head = "[tool]\nname = \"t\"\nupstream = \"u\"\n";
    let task = "[[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n";
    let level = "min_assurance = \"aal2\"\n";
    let plain = Manifest::parse("t", &format!("{head}{task}")).unwrap().tool;
    assert_eq!(plain.min_assurance, Assurance::Aal1);
    assert_eq!(plain.tasks[0].min_assurance, Assurance::Aal1);
    let tool = Manifest::parse("t", &format!("{head}{level}{task}"))
        .unwrap()
        .tool;
    assert_eq!(tool.min_assurance, Assurance::Aal2);
    let tool = Manifest::parse("t", &format!("{head}{task}{level}"))
        .unwrap()
        .tool;
    assert_eq!(tool.tasks[0].min_assurance, Assurance::Aal2);
    let found = flaws(&format!("{head}{task}min_assurance = \"mfa\"\n"));
    assert!(
        found.len() == 1 && found[0].contains("accepted: aal1, aal2"),
        "{found:?}"
    );
}

fn flaws_of_task(line: &str) -> Vec<String> {
    flaws(&format!(
        "[tool]\nname = \"t\"\nupstream = \"u\"\n[[task]]\nname = \"a\"\nmatch = [\"POST /a/{{id}}\"]\nkind = \"update\"\n{line}\n"
    ))
}

#[test]
fn what_cannot_tell_tasks_apart_is_refused_with_what_can() {
    for (line, says) in [
        ("headers = { SOAPAction = \"x\" }", "tools obey the body"),
        ("body = \"soap\"", "needs the operation"),
        ("body = \"xml\"", "accepted: soap, json, form"),
        (
            "body = { operation = \"{a}b\" }",
            "`task[0].body.kind` is missing",
        ),
        (
            "body = { kind = \"soap\" }",
            "`task[0].body.operation` is missing",
        ),
        (
            "body = { kind = \"soap\", operation = \"b\" }",
            "accepted: `{namespace}name`",
        ),
        (
            "body = { kind = \"soap\", operation = \"{}b\" }",
            "accepted: `{namespace}name`",
        ),
        (
            "body = { kind = \"soap\", operation = \"{a}b:c\" }",
            "accepted: `{namespace}name`",
        ),
        (
            "body = { kind = \"json\", operation = \"{a}b\" }",
            "only for `kind = \"soap\"`",
        ),
        (
            "body = { kind = \"json\", action = \"b\" }",
            "only for `kind = \"soap\"`",
        ),
        ("body = { kind = \"json\", fields = [\"b\"] }", "a JSON pointer"),
        (
            "body = { kind = \"json\", equals = { b = \"1\" } }",
            "must be a JSON pointer",
        ),
        (
            "body = { kind = \"json\", equals = { \"\" = \"1\" } }",
            "must be a JSON pointer",
        ),
        (
            "body = { kind = \"json\", take = { job = \"b\" } }",
            "accepted: a JSON pointer",
        ),
        (
            "body = { kind = \"json\", take = { job = { at = \"/b\", type = \"rest\" } } }",
            "accepted: int, uuid, slug",
        ),
        (
            "body = { kind = \"json\", take = { id = \"/b\" } }",
            "bind already",
        ),
        (
            "body = { kind = \"json\", take = { 1b = \"/b\" } }",
            "beginning with a letter",
        ),
        (
            "body = { kind = \"form\", take = { job = \"\" } }",
            "the name of a field",
        ),
        (
            "body = { kind = \"form\", fields = [\"_method\"] }",
            "could change the method",
        ),
        (
            "body = { kind = \"form\", equals = { _method = \"PUT\" } }",
            "could change the method",
        ),
        ("body = { kind = \"form\", fields = \"all\" }", "or \"any\""),
        ("body = { kind = \"json\", speed = 1 }", "unknown key"),
        ("body = \"json\"\nmax_body = \"1GiB\"", "held in memory"),
        ("match = \"GET /b\"", "duplicate key"),
        (
            "headers = { X-User = \"a\" }",
            "not the name of a header that can be judged",
        ),
        (
            "headers = { X_Op = \"a\" }",
            "not the name of a header that can be judged",
        ),
        (
            "headers = { X-HTTP-Method-Override = \"a\" }",
            "not the name of a header that can be judged",
        ),
        (
            "headers = { Authorization = \"a\" }",
            "not the name of a header that can be judged",
        ),
        (
            "headers = { Connection = \"a\" }",
            "not the name of a header that can be judged",
        ),
        (
            "headers = { X-Op = \"a\", x-op = \"b\" }",
            "twice, in another spelling",
        ),
        ("headers = { X-Op = \"\" }", "fixed text of 1 to 256"),
        ("headers = { X-Op = \"a{b}\" }", "fixed text of 1 to 256"),
        ("headers = { X-Op = \"{id}\" }", "bind already"),
        ("headers = { X-Op = \"{b:rest}\" }", "accepted: int, uuid, slug"),
        ("query = [\"a=1\", \"a\"]", "has `a` twice"),
        ("query = [\"_method=PUT\"]", "always refused"),
        ("within = \"b\"", "not another task of this tool"),
        ("within = \"a\"", "not another task of this tool"),
        (
            "resolve = { get = \"/a/{id}\", type = \"b\", id = \"/b\" }",
            "needs a `resource`",
        ),
        (
            "resource = { type = \"a\", id = \"{id}\" }\nresolve = { get = \"a\", type = \"b\", id = \"/b\" }",
            "must be a path",
        ),
        (
            "resource = { type = \"a\", id = \"{id}\" }\nresolve = { get = \"/{x}\", type = \"b\", id = \"/b\" }",
            "names `{x}`",
        ),
        (
            "resource = { type = \"a\", id = \"{id}\" }\nresolve = { get = \"/a?b\", type = \"b\", id = \"/b\" }",
            "a plain segment",
        ),
        (
            "resource = { type = \"a\", id = \"{id}\" }\nresolve = { get = \"/a\", type = \"b\", id = \"b\" }",
            "a JSON pointer",
        ),
    ] {
        let found = flaws_of_task(line);
        assert!(found.iter().any(|flaw| flaw.contains(says)), "{line}: {found:?}");
    }
    let get = "[tool]\nname = \"t\"\nupstream = \"u\"\n[[task]]\nname = \"resolve:a\"\nmatch = [\"GET /a\"]\nkind = \"read\"\nbody = \"json\"\n";
    let found = flaws(get);
    assert!(
        found
            .iter()
            .any(|flaw| flaw.contains("not beginning with `resolve:`")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|flaw| flaw.contains("whose body means nothing")),
        "{found:?}"
    );
}

#[test]
fn a_host_is_one_of_the_tools_and_seen_by_it() {
    let with = |host_header: &str, host: &str| {
        Manifest::parse(
            "t.toml",
            &format!(
                "[tool]\nname = \"t\"\nupstream = \"u\"\nhosts = [\"a.gw.example.org\"]\nhost_header = \"{host_header}\"\n[[task]]\nname = \"a\"\nmatch = \"GET /\"\nkind = \"read\"\nhost = \"{host}\"\n"
            ),
        )
    };
    assert!(with("public", "a.gw.example.org").is_ok());
    assert!(
        with("upstream", "a.gw.example.org")
            .unwrap_err()
            .to_string()
            .contains("does not see")
    );
    assert!(
        with("public", "b.gw.example.org")
            .unwrap_err()
            .to_string()
            .contains("not one of `tool.hosts`")
    );
}

#[test]
fn a_look_up_speaks_for_no_person() {
    let with = |delegation: &str| {
        Manifest::parse(
            "t.toml",
            &format!(
                "[tool]\nname = \"t\"\nupstream = \"u\"\ndelegation = \"{delegation}\"\n[[task]]\nname = \"a\"\nmatch = \"GET /i/{{id}}\"\n\
                 kind = \"read\"\nresource = {{ type = \"image\", id = \"{{id}}\" }}\nresolve = {{ get = \"/i/{{id}}\", type = \"series\", id = \"/Series\" }}\n"
            ),
        )
    };
    assert!(
        with("pem")
            .unwrap_err()
            .to_string()
            .contains("none, static or assertion")
    );
    assert!(with("client-certificate").is_err());
    let tool = with("static").unwrap().tool;
    assert!(tool.is_look_up("resolve:a") && !tool.is_look_up("a"));
    assert!(tool.kinds().contains("series"));
    assert!(
        tool.task("resolve:a").is_none(),
        "no request and no grant can name it"
    );
}

#[test]
fn nested_tasks_are_narrower_in_everything() {
    let with = |task: &str| {
        flaws(&format!(
            "[tool]\nname = \"t\"\nupstream = \"u\"\n\
             [[task]]\nname = \"wide\"\nmatch = \"POST /a/{{x:slug}}\"\nkind = \"update\"\nheaders = {{ X-Op = \"a\" }}\nwithin = \"other\"\n\
             [[task]]\nname = \"other\"\nmatch = \"POST /{{x:rest}}\"\nkind = \"update\"\n\
             [[task]]\nname = \"narrow\"\nkind = \"update\"\n{task}\n"
        ))
    };
    let found = with("match = \"POST /a/{x}\"\nwithin = \"wide\"\nheaders = { X-Op = \"a\" }");
    assert!(
        found
            .iter()
            .any(|flaw| flaw.contains("does not match all that `POST /a/{x}` matches")),
        "{found:?}"
    );
    let found = with("match = \"POST /a/b\"\nwithin = \"wide\"");
    assert!(
        found.iter().any(|flaw| flaw.contains("does not ask for all")),
        "{found:?}"
    );
    let found = with("match = \"POST /a/b\"\nheaders = { X-Op = \"a\" }");
    assert!(found.iter().any(|flaw| flaw.contains("overlap")), "{found:?}");
    let found = flaws(
        "[tool]\nname = \"t\"\nupstream = \"u\"\n\
         [[task]]\nname = \"a\"\nmatch = \"GET /{x:rest}\"\nkind = \"read\"\nwithin = \"b\"\n\
         [[task]]\nname = \"b\"\nmatch = \"GET /{x:rest}\"\nkind = \"read\"\nwithin = \"a\"\n",
    );
    assert!(
        found.iter().any(|flaw| flaw.contains("each `within` the other")),
        "{found:?}"
    );
}

#[test]
fn origins_are_those_that_browsers_write() {
    let with = |origin: &str| {
        Manifest::parse(
            "t.toml",
            &format!(
                "[tool]\nname = \"t\"\nupstream = \"u\"\norigins = [\"{origin}\"]\n[[task]]\nname = \"a\"\nmatch = \"GET /\"\nkind = \"read\"\n"
            ),
        )
    };
    for origin in [
        "https://viewer.example.org",
        "https://viewer.example.org:8443",
        "http://localhost:3000",
        "http://app.localhost",
    ] {
        assert_eq!(with(origin).unwrap().tool.origins, [origin]);
    }
    for origin in [
        "*",
        "null",
        "viewer.example.org",
        "https://Viewer.example.org",
        "https://viewer.example.org/",
        "https://viewer.example.org:443",
        "https://viewer.example.org:08443",
        "https://viewer.example.org:x",
        "http://viewer.example.org",
        "https://*.example.org",
        "ftp://viewer.example.org",
    ] {
        assert!(with(origin).is_err(), "{origin}");
    }
}

#[test]
fn overlapping_and_unreachable_tasks_name_file_line_and_both() {
    let found = flaws(
        "[tool]\nname = \"t\"\nupstream = \"u\"\n\
         [[task]]\nname = \"one\"\nmatch = [\"GET /jobs/{job}\"]\nkind = \"read\"\n\
         [[task]]\nname = \"two\"\nmatch = [\"GET /jobs/new\"]\nkind = \"read\"\n\
         [[task]]\nname = \"three\"\nmatch = [\"POST /a\", \"POST /a\"]\nkind = \"create\"\n\
         [[task]]\nname = \"one\"\nmatch = [\"PUT /a\"]\nkind = \"update\"\n",
    );
    assert_eq!(
        found,
        [
            "t.toml:8: the tasks `one` (line 4) and `two` (line 8) overlap: both match `GET /jobs/new`; \
             make one template narrower, e.g. by a type (int, uuid, slug), tell them apart by `query`, `headers` or `body`, or say `within`",
            "t.toml:12: the task `three` matches `POST /a` by two of its templates; one of them is unreachable",
            "t.toml:17: `task[3].name` is `one` for two tasks; names are unique in a tool",
        ]
    );
}

#[test]
fn a_manifest_without_tool_or_tasks_is_refused() {
    assert_eq!(flaws("").len(), 2);
    assert!(flaws("tool = 1\ntask = 2\n").len() >= 2);
    assert!(flaws("[tool\n")[0].starts_with("t.toml:1: "));
    assert!(flaws(&"#".repeat(MAX_MANIFEST + 1))[0].contains("more than"));
}

#[test]
fn a_list_that_shows_everyones_things_is_warned_about() {
    let manifest = Manifest::parse(
        "t.toml",
        "[tool]\nname = \"t\"\nupstream = \"u\"\n\
         [[task]]\nname = \"make\"\nmatch = \"POST /j\"\nkind = \"create\"\ncreates = { type = \"j\", id = \"/id\", status = [200] }\n\
         [[task]]\nname = \"look\"\nmatch = \"GET /j\"\nkind = \"read\"\n",
    )
    .unwrap();
    assert_eq!(manifest.warnings.len(), 1);
    assert!(manifest.warnings[0].starts_with("the task `look` reads without a resource"));
}

#[test]
fn the_shipped_examples_are_read() {
    for (file, text) in [
        (
            "orthanc.toml",
            include_str!("../../../examples/orthanc/orthanc.toml"),
        ),
        (
            "segmentation.toml",
            include_str!("../../../examples/segmentation/segmentation.toml"),
        ),
    ] {
        if let Err(flaws) = Manifest::parse(file, text) {
            panic!("{flaws}");
        }
    }
}

#[test]
fn a_hostile_manifest_is_refused_soon() {
    let head = "[tool]\nname = \"t\"\nupstream = \"u\"\n";
    let task = "[[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n";
    assert!(flaws(&format!("{head}{}", task.repeat(900))).len() <= MAX_OVERLAPS + 900);
    assert!(flaws(&format!("{head}{}", task.repeat(MAX_TASKS + 1)))[0].contains("at most 1000"));
    let many = "\"A\",".repeat(100_000);
    assert!(flaws(&format!("{head}hosts = [{many}]\n{task}"))[0].contains("at most 64"));
    let many: String = (0..40_000).map(|n| format!("a{n} = {{}}\n")).collect();
    assert!(
        flaws(&format!("{head}{task}[type]\n{many}"))
            .iter()
            .any(|flaw| flaw.contains("40000 names"))
    );
    let many = "1,".repeat(100_000);
    assert!(flaws(&format!("{head}hosts = [{many}]\n{task}")).len() <= 1_000);
}

proptest::proptest! {
    #[test]
    fn any_manifest_is_read_or_refused_without_a_panic(at in 0..JOBS.len(), length in 0_usize..40, put in "[\\[\\]{}\"=a-z0-9/:., \n#-]{0,12}") {
        let end = (at + length).min(JOBS.len());
        if let (Some(before), Some(after)) = (JOBS.get(..at), JOBS.get(end..)) {
            let _ = Manifest::parse("t.toml", &format!("{before}{put}{after}"));
        }
    }
}

#[test]
fn what_is_nobodys_is_described_by_nobody() {
    let found = flaws(
        "[tool]\nname = \"t\"\nupstream = \"u\"\n\
         [[task]]\nname = \"a\"\nmatch = [\"POST /\"]\nkind = \"create\"\n\
         creates = { type = \"patient\", id = \"/p\", status = [200], owner = \"nobody\", attributes = { ward = \"/w\" } }\n",
    );
    assert!(found.len() == 1 && found[0].contains("nobody's"), "{found:?}");
}

#[test]
fn a_proxy_that_leaves_the_gateway_is_limited_and_has_an_rsa_key_by_default() {
    let with = |lines: &str| {
        let text = format!(
            "[tool]\nname = \"t\"\nupstream = \"u\"\n{lines}\n\
             [[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n"
        );
        let proxy = Manifest::parse("t.toml", &text).unwrap().tool.proxy;
        (proxy.policy, proxy.key)
    };
    assert_eq!(
        with("delegation = \"pem\""),
        (ProxyPolicy::Limited, ProxyKey::Rsa2048)
    );
    assert_eq!(
        with("delegation = \"client-certificate\""),
        (ProxyPolicy::InheritAll, ProxyKey::P256)
    );
    assert_eq!(
        with("delegation = \"pem\"\nkey = \"p256\"\npolicy = \"inheritAll\""),
        (ProxyPolicy::InheritAll, ProxyKey::P256)
    );
    assert_eq!(
        with("delegation = \"client-certificate\"\nkey = \"rsa2048\""),
        (ProxyPolicy::InheritAll, ProxyKey::Rsa2048)
    );
}

#[test]
fn an_upgrade_is_for_a_get_that_nothing_is_learned_from() {
    let manifest = |task: &str| {
        let text = format!("[tool]\nname = \"jobs\"\nupstream = \"ce\"\n\n[[task]]\nname = \"live\"\n{task}");
        Manifest::parse("jobs.toml", &text)
    };
    let read = "match = [\"GET /live\"]\nkind = \"read\"\n";
    let good = manifest(&format!("{read}upgrade = [\"websocket\"]\n")).unwrap();
    assert_eq!(
        good.tool.task("live").unwrap().upgrade,
        [crate::tool::Upgrade::WebSocket]
    );
    assert!(
        manifest(read)
            .unwrap()
            .tool
            .task("live")
            .unwrap()
            .upgrade
            .is_empty()
    );
    for (task, flaw) in [
        (format!("{read}upgrade = [\"h2c\"]\n"), "accepted: \"websocket\""),
        (
            format!("{read}upgrade = [\"WebSocket\"]\n"),
            "accepted: \"websocket\"",
        ),
        (
            format!("{read}upgrade = [\"websocket\", \"websocket\"]\n"),
            "twice",
        ),
        (
            "match = [\"GET /live\", \"POST /live\"]\nkind = \"read\"\nupgrade = [\"websocket\"]\n".into(),
            "only for templates of the method GET",
        ),
        (
            format!(
                "{read}upgrade = [\"websocket\"]\nfilter = {{ type = \"job\", items = \"\", id = \"\" }}\n"
            ),
            "cannot stand beside",
        ),
    ] {
        let flaws = manifest(&task).unwrap_err().to_string();
        assert!(flaws.contains(flaw), "{task}: {flaws}");
    }
}

#[test]
fn what_a_task_records_is_never_less_than_its_intent() {
    let task = |kind: &str, line: &str| {
        format!(
            "[tool]\nname = \"t\"\nupstream = \"u\"\n[[task]]\nname = \"a\"\nmatch = [\"GET /a/{{id}}\"]\nkind = \"{kind}\"\n{line}\n"
        )
    };
    let recorded = |kind: &str, line: &str| {
        let manifest = Manifest::parse("t.toml", &task(kind, line)).unwrap();
        let recorded = manifest.tool.tasks[0].recorded;
        (recorded.outcome, recorded.digest)
    };
    assert_eq!(recorded("read", ""), (true, false));
    assert_eq!(recorded("read", "audit = \"full\""), (true, false));
    assert_eq!(recorded("asset", "audit = \"intent\""), (false, false));
    assert_eq!(recorded("asset", "audit.level = \"intent\""), (false, false));
    assert_eq!(recorded("update", "audit.body = \"digest\""), (true, true));
    for (kind, line, says) in [
        ("asset", "audit = \"none\"", "nothing goes below the intent"),
        (
            "asset",
            "audit = { level = \"off\" }",
            "nothing goes below the intent",
        ),
        (
            "read",
            "audit = \"intent\"",
            "only for a task of `kind = \"asset\"`",
        ),
        (
            "asset",
            "audit = \"intent\"\nstrict = true",
            "which need the outcome",
        ),
        (
            "asset",
            "audit = { level = \"intent\", body = \"digest\" }",
            "the level must be `full`",
        ),
        ("read", "audit.body = \"whole\"", "`digest`, or `none`"),
        (
            "read",
            "audit.body = \"digest\"\nupgrade = [\"websocket\"]",
            "beside `upgrade`",
        ),
    ] {
        let found = flaws(&task(kind, line));
        assert!(found.len() == 1 && found[0].contains(says), "{line}: {found:?}");
    }
    let alone = task("asset", "audit = \"intent\"");
    for method in ["POST", "DELETE", "PUT"] {
        let found = flaws(&alone.replace("\"GET ", &format!("\"{method} ")));
        assert!(
            found.len() == 1 && found[0].contains("match `GET` and `HEAD` alone"),
            "{method}: {found:?}"
        );
    }
    let found = flaws(&task("asset", "audit = \"intent\"\nupgrade = [\"websocket\"]"));
    assert!(
        found.len() == 1 && found[0].contains("without `upgrade`"),
        "{found:?}"
    );
    let strict = task("asset", "audit = \"intent\"").replace("[tool]\n", "[tool]\nstrict = true\n");
    let found = flaws(&strict);
    assert!(
        found.len() == 1 && found[0].contains("needs every outcome"),
        "{found:?}"
    );
}
