//! What the keys of a manifest do, end to end: bodies, headers, nested tasks, look-ups, other origins.

use std::fs;
use std::io::Write;

use serde_json::Value;

use crate::python::PythonTool;
use crate::world::{Answer, World};

/// Registers a manifest and grants tasks to scientists; each under its condition.
fn wrap(world: &World, name: &str, url: &str, text: &str, grants: &[(&str, &str)]) {
    let file = world.dir.path().join(format!("{name}.toml"));
    fs::write(&file, text).unwrap();
    let vo = &world.vo;
    world.cli("admin", &["upstream", "allow", vo, name, url]).ok();
    world
        .cli("admin", &["tool", "add", vo, file.to_str().unwrap()])
        .ok();
    for (task, when) in grants {
        world
            .cli(
                "admin",
                &["grant", "add", vo, "scientist", name, task, "--when", when],
            )
            .ok();
    }
}

/// Asks for a path of a tool as `user`, with headers and a body; both HTTP versions in turn.
fn ask(world: &World, user: &str, method: &str, path: &str, headers: &[&str], body: Option<&str>) -> Answer {
    let url = format!("{}/{}{path}", world.base(), world.vo);
    let bearer = format!("Authorization: Bearer {}", world.token(user));
    let mut args = vec!["--path-as-is", "-X", method, "-H", &bearer];
    for header in headers {
        args.extend(["-H", header]);
    }
    let (file, upload);
    if let Some(body) = body {
        file = tempfile::NamedTempFile::new_in(world.dir.path()).unwrap();
        file.as_file().write_all(body.as_bytes()).unwrap();
        upload = format!("@{}", file.path().display());
        args.extend(["--data-binary", &upload]);
    }
    args.push(&url);
    world.curl(&args)
}

fn intent(world: &World, answer: &Answer) -> Value {
    let events = world.events_of(&answer.request_id());
    let (_, entry) = events
        .iter()
        .find(|(name, _)| name == "intent")
        .expect("an intent");
    entry.clone()
}

fn envelope(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:j=\"urn:jobs\"><e:Body>{inner}</e:Body></e:Envelope>"
    )
}

const SOAP: &str = r#"
[tool]
name     = "grid"
upstream = "grid"

[[task]]
name  = "submit"
match = "POST /ws"
kind  = "execute"
body  = { kind = "soap", operation = "{urn:jobs}submit" }

[[task]]
name      = "cancel"
match     = "POST /ws"
kind      = "delete"
body      = { kind = "soap", operation = "{urn:jobs}cancel", take = { job = { at = "/id", type = "int" }, note = "/note" } }
resource  = { type = "job", id = "{job}" }
sensitive = ["note"]

[[task]]
name    = "order"
match   = "POST /order"
kind    = "update"
headers = { X-Op = "order" }
body    = { kind = "json", take = { item = "/item/id" } }

[[task]]
name  = "fill in"
match = "POST /form"
kind  = "update"
body  = { kind = "form", take = { item = "item" }, fields = ["note"] }
"#;

#[test]
fn the_body_that_was_judged_is_the_body_that_is_sent_and_nothing_else_reaches_the_tool() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    let grants = [("cancel", "always"), ("order", "always"), ("fill in", "always")];
    wrap(&world, "grid", &tool.url(), SOAP, &grants);
    let cancel = envelope("<j:cancel><id>7</id><note>John Smith</note></j:cancel>");
    let xml = "Content-Type: text/xml; charset=utf-8";

    let answer = ask(
        &world,
        "john",
        "POST",
        "/grid/ws",
        &[xml, "SOAPAction: \"urn:jobs#cancel\""],
        Some(&cancel),
    )
    .expect(200);
    let entry = intent(&world, &answer);
    assert_eq!(entry["place"]["task"], "cancel");
    assert_eq!(entry["resource"]["id"], "7");
    assert_eq!(entry["parameters"]["job"], "7");
    assert!(
        entry["parameters"]["note"].as_str().unwrap().starts_with("hmac:"),
        "{entry}"
    );
    let json = "Content-Type: application/json";
    let order = "{ \"item\" : {\"id\":\"a-1\"} , \"n\":1.50 }";
    // What `Connection` takes away on the way to the tool cannot be judged (HTTP/2 has no such header).
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    let url = format!("{}/imense/grid/order", world.base());
    for taken in ["Connection: keep-alive, X-Op", "Connection: content-type"] {
        let arguments = [
            "--http1.1",
            "-H",
            &bearer,
            "-H",
            json,
            "-H",
            "X-Op: order",
            "-H",
            taken,
            "-d",
            order,
            &url,
        ];
        assert_eq!(world.curl(&arguments).expect(403).problem(), "no_task", "{taken}");
    }
    let answer = ask(
        &world,
        "john",
        "POST",
        "/grid/order",
        &[json, "X-Op: order"],
        Some(order),
    )
    .expect(200);
    assert_eq!(intent(&world, &answer)["parameters"]["item"], "a-1");
    let form = "note=a+b%0A&item=%37";
    ask(
        &world,
        "john",
        "POST",
        "/grid/form",
        &["Content-Type: application/x-www-form-urlencoded"],
        Some(form),
    )
    .expect(200);
    let seen: Vec<String> = tool
        .seen()
        .iter()
        .map(|one| one["body"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(seen, [cancel.as_str(), order, form], "the same bytes");
    // What reached the tool is, read once more, the task and the parameters that the records name.
    let manifest = countersign::tool::Manifest::parse("grid.toml", SOAP)
        .unwrap()
        .tool;
    for request in tool.seen() {
        let mut headers = http::HeaderMap::new();
        for header in request["headers"].as_array().unwrap() {
            let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let line = format!(
            "{} {}",
            request["method"].as_str().unwrap(),
            request["path"].as_str().unwrap()
        );
        let found = manifest.try_whole(&line, &headers, request["body"].as_str().unwrap().as_bytes());
        let found = found.unwrap().expect("a task");
        let id = headers["x-countersign-request-id"].to_str().unwrap();
        let events = world.events_of(id);
        let (_, entry) = events.iter().find(|(name, _)| name == "intent").unwrap();
        assert_eq!(entry["place"]["task"], found.task.name, "{line}");
        assert_eq!(headers["x-countersign-task"], found.task.name);
        for (name, value) in &found.parameters {
            let hidden = found.task.sensitive.contains(name);
            assert!(hidden || entry["parameters"][name] == *value, "{name} of {line}");
        }
        assert_eq!(
            entry["parameters"].as_object().unwrap().len(),
            found.parameters.len()
        );
    }

    let submit = envelope("<j:submit/>");
    let both = envelope("<j:cancel><id>7</id><note>n</note></j:cancel><j:submit/>");
    let bomb = cancel.replace("<e:Env", "<!DOCTYPE e [<!ENTITY a \"b\">]><e:Env");
    let large = envelope(&format!(
        "<j:cancel><id>7</id><note>n</note><x>{}</x></j:cancel>",
        "x".repeat(1 << 20)
    ));
    for (path, headers, body, status, problem) in [
        ("/grid/ws", &[xml][..], submit.as_str(), 403, "no_grant"),
        (
            "/grid/ws",
            &[xml, "SOAPAction: urn:jobs#submit"],
            &cancel,
            400,
            "malformed",
        ),
        ("/grid/ws", &[xml], &both, 400, "malformed"),
        ("/grid/ws", &[xml], &bomb, 400, "malformed"),
        ("/grid/ws", &[xml], &large, 413, "too_large"),
        (
            "/grid/ws",
            &["Content-Type: text/xml; charset=utf-16"],
            &cancel,
            400,
            "malformed",
        ),
        (
            "/grid/ws",
            &[xml, "Content-Encoding: gzip"],
            &cancel,
            400,
            "malformed",
        ),
        ("/grid/ws", &[json], &cancel, 400, "malformed"),
        ("/grid/ws", &[xml], &envelope("<j:other/>"), 403, "no_task"),
        (
            "/grid/ws",
            &[xml],
            &envelope("<j:cancel><id>x</id><note>n</note></j:cancel>"),
            403,
            "no_task",
        ),
        ("/grid/order", &[json], order, 403, "no_task"),
        (
            "/grid/order",
            &[json, "X-Op: order", "X-Op: other"],
            order,
            403,
            "no_task",
        ),
        (
            "/grid/order",
            &[json, "X-Op: order"],
            "{\"item\":{\"id\":1,\"ID\":2}}",
            400,
            "malformed",
        ),
        (
            "/grid/order",
            &[json, "X-Op: order"],
            "{\"item\":{\"id\":1},\"item\":{\"id\":2}}",
            400,
            "malformed",
        ),
        (
            "/grid/form",
            &["Content-Type: application/x-www-form-urlencoded"],
            "item=1&_method=DELETE",
            400,
            "malformed",
        ),
        (
            "/grid/form",
            &["Content-Type: application/x-www-form-urlencoded"],
            "item=1&admin=1",
            400,
            "malformed",
        ),
        (
            "/grid/form",
            &["Content-Type: application/x-www-form-urlencoded"],
            "item=1&item=2",
            400,
            "malformed",
        ),
    ] {
        let answer = ask(&world, "john", "POST", path, headers, Some(body)).expect(status);
        assert_eq!(answer.problem(), problem, "{path} {headers:?}");
        let events = world.events_of(&answer.request_id());
        assert!(
            events.iter().any(|(name, _)| name == "refused"),
            "a member's refusal is on record: {events:?}"
        );
    }
    assert_eq!(tool.seen().len(), 3, "nothing else reached the tool");
    world.stop();
}

#[test]
fn a_stranger_never_makes_the_gateway_read_a_body() {
    let world = World::start();
    world.admin();
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "grid", &tool.url(), SOAP, &[]);
    let url = format!("{}/{}/grid/ws", world.base(), world.vo);
    // The body that is announced never comes: who reads it answers 400, once the time for it is over.
    let announced = [
        "-X",
        "POST",
        "-H",
        "Content-Length: 5",
        "-H",
        "Content-Type: text/xml",
    ];
    let answer = world
        .curl(&[&["--http1.1"][..], &announced, &[&url]].concat())
        .expect(401);
    assert_eq!(answer.problem(), "no_credential");
    assert!(tool.seen().is_empty());
}

/// Answers `/images/ID` with the series of the image: `s1` for those that begin with `a`; `x` breaks off.
const ARCHIVE: &str = r#"
import http.server, json, sys
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        with open(sys.argv[1], "a") as kept:
            print(json.dumps({"path": self.path, "headers": list(self.headers.items())}), file=kept, flush=True)
        name = self.path.split("/")[2]
        said = b"not json" if name.startswith("x") else json.dumps({"id": name, "Series": "s1" if name.startswith("a") else "s2"}).encode()
        self.send_response(404 if name.startswith("n") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

const IMAGES: &str = r#"
[tool]
name     = "archive"
upstream = "archive"

[[task]]
name     = "view image"
match    = "GET /images/{image:slug}"
kind     = "read"
resource = { type = "image", id = "{image}" }
resolve  = { get = "/images/{image}", type = "series", id = "/Series" }
"#;

#[test]
fn a_parent_that_is_not_known_is_asked_for_by_a_service_on_the_record() {
    let world = World::start();
    world
        .admin()
        .person("john", &["scientist"])
        .person("jane", &["vo-administrator"]);
    let tool = PythonTool::running(ARCHIVE, &world.dir.path().join("kept.jsonl"));
    let when = "resource in Resource::\"series/s1\"";
    wrap(&world, "archive", &tool.url(), IMAGES, &[("view image", when)]);
    let view = |user: &str, image: &str| {
        ask(
            &world,
            user,
            "GET",
            &format!("/archive/images/{image}"),
            &[],
            None,
        )
    };

    let answer = view("john", "a1").expect(200);
    let parents = &intent(&world, &answer)["resource"]["parents"];
    assert_eq!(parents[0], "series/s1", "{parents}");
    view("john", "a1").expect(200);
    assert_eq!(
        tool.seen().len(),
        3,
        "one look-up and two views: what was learned is kept"
    );
    let look_up = tool.seen()[0]["headers"].to_string();
    assert!(
        look_up.contains("resolve:view image") && !look_up.to_lowercase().contains("x-countersign-user"),
        "{look_up}"
    );

    // Another series, no answer, no JSON: the parent is not the one that is needed, or stays unknown.
    for image in ["b1", "n1", "x1"] {
        assert_eq!(
            view("john", image).expect(403).problem(),
            "condition_not_met",
            "{image}"
        );
    }
    let before = tool.seen().len();
    view("john", "n1").expect(403);
    assert_eq!(
        tool.seen().len(),
        before,
        "a look-up that brought nothing is not made again at once"
    );
    // Who holds no grant, and who is nobody, makes the gateway ask nothing.
    view("jane", "a2").expect(403);
    let url = format!("{}/{}/archive/images/a3", world.base(), world.vo);
    world.curl(&[&url]).expect(401);
    assert_eq!(tool.seen().len(), before);

    let records = world.records();
    let look_ups: Vec<&Value> = records
        .iter()
        .map(|record| &record["event"]["intent"])
        .filter(|intent| intent["place"]["task"] == "resolve:view image")
        .collect();
    assert_eq!(look_ups.len(), 4);
    assert_eq!(look_ups[0]["subject"]["kind"], "service");
    assert_eq!(look_ups[0]["parameters"]["for_request"], answer.request_id());
    for intent in look_ups {
        let request = &intent["request"];
        let outcomes = records
            .iter()
            .filter(|record| record["event"]["outcome"]["request"] == *request)
            .count();
        assert_eq!(outcomes, 1, "{intent}");
    }
}

#[test]
fn a_page_of_a_listed_origin_may_ask_with_a_token_and_no_other_page_may() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    let text = "[tool]\nname = \"open\"\nupstream = \"open\"\norigins = [\"https://viewer.example.org\"]\n\
                [[task]]\nname = \"look\"\nmatch = \"GET /look\"\nkind = \"read\"\n";
    wrap(&world, "open", &tool.url(), text, &[("look", "always")]);
    let url = format!("{}/{}/open/look", world.base(), world.vo);
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let args = [
            "-X",
            "OPTIONS",
            "-H",
            &origin,
            "-H",
            "Access-Control-Request-Method: GET",
            "-H",
            "Access-Control-Request-Headers: authorization",
            &url,
        ];
        world.curl(&args)
    };
    let answer = preflight("https://viewer.example.org").expect(204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://viewer.example.org")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let refused = preflight("https://evil.example").expect(401);
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert!(tool.seen().is_empty(), "no preflight reaches the tool");

    let origin = "Origin: https://viewer.example.org";
    let answer = ask(&world, "john", "GET", "/open/look", &[origin], None).expect(200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://viewer.example.org")
    );
    let answer = ask(&world, "john", "GET", "/open/other", &[origin], None).expect(403);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://viewer.example.org"),
        "refusals are read as well"
    );
    let answer = ask(
        &world,
        "john",
        "GET",
        "/open/look",
        &["Origin: https://evil.example"],
        None,
    )
    .expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn a_stranger_is_not_told_which_tools_there_are_nor_which_of_them_list_origins() {
    let world = World::start();
    world.admin();
    for (name, origins) in [
        ("open", "origins = [\"https://viewer.example.org\"]\n"),
        ("shut", ""),
    ] {
        let text = format!(
            "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\n{origins}\
             [[task]]\nname = \"look\"\nmatch = \"GET /look\"\nkind = \"read\"\n"
        );
        wrap(&world, name, "http://127.0.0.1:9", &text, &[("look", "always")]);
    }
    let ask = |tool: &str, method: &str, origin: &str| {
        let url = format!("{}/{}/{tool}/look", world.base(), world.vo);
        let (origin, asked) = (format!("Origin: {origin}"), "Access-Control-Request-Method: PUT");
        let answer = world.curl(&["-X", method, "-H", &origin, "-H", asked, &url]);
        let told = |(name, _): &(String, String)| name != "date" && name != "x-countersign-request-id";
        let mut document = answer.json();
        document.as_object_mut().unwrap().remove("request_id");
        let headers: Vec<_> = answer.headers.into_iter().filter(told).collect();
        (answer.status, headers, document)
    };
    for (method, origin) in [
        ("OPTIONS", "https://evil.example"),
        ("OPTIONS", "null"),
        ("GET", "https://evil.example"),
    ] {
        let open = ask("open", method, origin);
        assert_eq!(open.0, 401);
        assert_eq!(open, ask("shut", method, origin), "{method} {origin}");
        assert_eq!(open, ask("none", method, origin), "{method} {origin}");
    }
}

#[test]
fn a_target_that_tools_read_differently_is_refused_in_every_encoding_over_both_versions() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    let text = "[tool]\nname = \"any\"\nupstream = \"any\"\n\
                [[task]]\nname = \"read\"\nmatch = [\"GET /{path:rest}\", \"GET /\"]\nkind = \"read\"\nquery = \"any\"\n\
                [[task]]\nname = \"matrix\"\nmatch = \"GET /m;v=1/{id:int}\"\nkind = \"read\"\n";
    wrap(
        &world,
        "any",
        &tool.url(),
        text,
        &[("read", "always"), ("matrix", "always")],
    );
    let token = format!("Authorization: Bearer {}", world.token("john"));
    let get = |version: &str, path: &str| {
        let url = format!("{}/{}/any{path}", world.base(), world.vo);
        world.curl(&[version, "--path-as-is", "-g", "-H", &token, &url])
    };
    for version in ["--http1.1", "--http2"] {
        for path in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2e/b",
            "/a/%2E%2E/b",
            "/a/.%2e/b",
            "/a/%252e%252e/b",
            "/a/%25252e/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%252fb",
            "/a%5cb",
            "/a%5Cb",
            "/a%255Cb",
            "/a\\b",
            "//a",
            "/a//b",
            "/a/b//",
            "/a;x",
            "/a;x/b",
            "/..;/b",
            "/m;v=2/7",
            "/m%3Bv=1/7",
            "/a%00",
            "/a%0a",
            "/a%0D%0Ax",
            "/a%7f",
            "/a%c0%af",
            "/a%C0%AE%C0%AE/b",
            "/a%e0%80%af",
            "/a%FF",
            "/a%41",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%u002e",
            "/a?_method=DELETE",
            "/a?x=1&_Method=PUT",
            "/a?x=%00",
            "/a?x=1;y=2",
            "/a?&x=1",
            "/a?X-HTTP-Method-Override=PUT",
            "/a|b",
            "/a<b",
        ] {
            let status = get(version, path).status;
            let refused = if path.starts_with("/m;") || path.contains("ethod") || path.starts_with("/a;x") {
                403
            } else {
                400
            };
            // What no `:path` may have ends the stream, without an answer (RFC 9113 section 8.1.1).
            let ended = version == "--http2" && path == "/a<b" && status == 0;
            assert!(status == refused || ended, "{version} {path}: {status}");
        }
        assert!(tool.seen().is_empty(), "{version}");
        let sent = [
            "/a/b%20c/",
            "/caf%C3%A9?x=%2Fa&x=b+c",
            "/m;v=1/7",
            "/",
            "/a:b@c!$&'()*+,=",
        ];
        for path in sent {
            get(version, path).expect(200);
        }
        let seen: Vec<String> = tool
            .seen()
            .iter()
            .map(|one| one["path"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(seen, sent, "{version}: what was judged is what is sent");
        fs::remove_file(world.dir.path().join("kept.jsonl")).unwrap();
    }
}
