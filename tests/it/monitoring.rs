//! What monitoring sees: liveness, readiness, metrics, traces, and the files of `examples/monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::telemetry::family::{FAMILIES, Family, Kind};
use serde_json::Value;

use crate::python::{PythonTool, wrap};
use crate::world::{Answer, World, curl, until};

/// What Prometheus asks for.
const OPEN: &str = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

fn operations(world: &World, path: &str, more: &[&str]) -> Answer {
    let url = format!("http://{}{path}", world.operations());
    let mut args = more.to_vec();
    args.push(&url);
    curl(None, &args)
}

fn metrics(world: &World) -> String {
    let answer = operations(world, "/metrics", &["-H", OPEN]).expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    answer.text()
}

/// The value of one sample, as its line begins.
fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next().unwrap().parse().ok()
}

/// Waits until `/readyz` says this.
fn ready(world: &World, status: u16, line: &str) {
    until(&format!("/readyz to be {status} with `{line}`"), || {
        let answer = operations(world, "/readyz", &[]);
        (answer.status == status && answer.text().contains(line)).then_some(())
    });
    assert_eq!(operations(world, "/livez", &[]).expect(200).text(), "alive\n");
}

#[test]
fn ready_is_red_while_the_log_takes_no_record_and_green_again_after() {
    let world = World::start();
    ready(&world, 200, "ready");
    // Nobody asks anything of this gateway: it finds out by itself.
    world.limit("0");
    ready(&world, 503, "down: audit: the log cannot take a record\n");
    assert_eq!(
        sample(&metrics(&world), "countersign_part_up{part=\"audit\"}"),
        Some(0.0)
    );
    world.limit("unlimited");
    ready(&world, 200, "ready");
    assert_eq!(
        sample(&metrics(&world), "countersign_part_up{part=\"audit\"}"),
        Some(1.0)
    );
}

#[test]
fn ready_is_red_without_the_key_that_opens_what_is_sealed() {
    let mut world = World::start();
    ready(&world, 200, "ready");
    world.stop();
    let settings = fs::read_to_string(world.data().join("countersign.toml")).unwrap();
    let key = settings
        .lines()
        .find_map(|line| line.strip_prefix("key_file = "))
        .unwrap();
    let key = world.data().join(key.trim_matches('"'));
    fs::rename(&key, key.with_extension("aside")).unwrap();
    world.serve();
    ready(&world, 503, "down: sealing_key: ");
    world.stop();
    fs::rename(key.with_extension("aside"), &key).unwrap();
    world.serve();
    ready(&world, 200, "ready");
}

/// Answers `GET /look` only when a file named `go` lies beside what it keeps.
const SLOW: &str = r#"
import http.server, os, sys, time
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        with open(sys.argv[1], "a") as kept: print('{}', file=kept, flush=True)
        while not os.path.exists(sys.argv[1] + ".go"): time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

#[test]
fn ready_is_red_during_a_drain_and_the_request_under_way_still_ends() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let kept = world.dir.path().join("slow");
    let tool = PythonTool::running(SLOW, &kept);
    wrap(&world, "slow", &tool.url(), "none");
    let address = world.operations();
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.call("john", "GET", "/imense/slow/look", None));
        until("the request to reach the tool", || {
            (!tool.seen().is_empty()).then_some(())
        });
        let terminated = Command::new("kill")
            .args(["-TERM", &world.pid().to_string()])
            .status()
            .unwrap();
        assert!(terminated.success());
        until("/readyz to tell of the drain", || {
            let answer = curl(None, &[&format!("http://{address}/readyz")]);
            (answer.status == 503 && answer.text().contains("down: lifecycle: stopping")).then_some(())
        });
        assert_eq!(curl(None, &[&format!("http://{address}/livez")]).status, 200);
        fs::write(kept.with_extension("go"), "").unwrap();
        asking.join().unwrap()
    });
    assert_eq!((asked.status, asked.text().as_str()), (200, "done"));
    world.stop();
}

/// A gateway with one of everything that is counted, and what it then shows.
fn counted() -> (World, String) {
    // Port 9 is never ours: nobody takes the traces or the log, and nobody is witness.
    let world = World::with_settings(
        "[telemetry.traces]\nendpoint = \"http://127.0.0.1:9/v1/traces\"\n\
         [[audit.syslog]]\naddress = \"127.0.0.1:9\"\nname = \"siem\"\n\
         [audit.witness]\nurl = \"http://127.0.0.1:9\"\nevery = \"1s\"\n\
         key = \"witness.example.org+d3d62b4b+BPrBYVBpHybc1NUQ2vuvW/XAdZD6x+AIU87+nw8lYoUO\"\n",
    );
    world.admin().person("john", &["scientist"]);
    let mut tool = PythonTool::start(world.dir.path());
    wrap(&world, "bench", &tool.url(), "none");
    for _ in 0..3 {
        world.call("john", "GET", "/imense/bench/look", None).expect(200);
    }
    world.call("john", "GET", "/imense/bench/answer/500", None);
    world
        .call("john", "DELETE", "/imense/bench/look", None)
        .expect(403);
    world.curl(&[&format!("{}/imense/bench/look", world.base())]);
    tool.end();
    world.call("john", "GET", "/imense/bench/look", None).expect(502);
    until("the spans to be given up", || {
        sample(
            &metrics(&world),
            "countersign_trace_spans_total{result=\"failed\"}",
        )
        .filter(|count| *count > 0.0)
    });
    until("the witness to be asked", || {
        let asked = "countersign_audit_witness_total{result=\"unreachable\"}";
        sample(&metrics(&world), asked).filter(|count| *count > 0.0)
    });
    let text = metrics(&world);
    (world, text)
}

#[test]
fn requests_are_counted_by_what_exists_and_strangers_make_no_series() {
    let (world, text) = counted();
    let of = |text: &str, task: &str, decision: &str| {
        let name = format!(
            "countersign_requests_total{{vo=\"imense\",tool=\"bench\",task=\"{task}\",decision=\"{decision}\"}}"
        );
        sample(text, &name)
    };
    assert_eq!(of(&text, "look", "permit"), Some(5.0), "{text}");
    assert_eq!(of(&text, "look", "deny"), Some(0.0));
    assert_eq!(of(&text, "look", "challenge"), Some(1.0));
    assert_eq!(of(&text, "none", "deny"), Some(1.0));
    let failed = "countersign_tool_failures_total{vo=\"imense\",tool=\"bench\",reason=\"not_connected\"}";
    assert_eq!(sample(&text, failed), Some(1.0));
    let answered = "countersign_tool_answer_seconds_count{vo=\"imense\",tool=\"bench\"}";
    assert_eq!(sample(&text, answered), Some(4.0));
    let connects = |result: &str| {
        let name = format!(
            "countersign_upstream_connects_total{{vo=\"imense\",upstream=\"bench\",result=\"{result}\"}}"
        );
        sample(&text, &name).unwrap()
    };
    assert!(connects("connected") >= 1.0 && connects("failed") == 1.0);
    let open = "countersign_upstream_connections{vo=\"imense\",upstream=\"bench\",state=\"connecting\"}";
    assert_eq!(sample(&text, open), Some(0.0));
    for stage in ["place", "subject", "decide", "plan", "intent", "act"] {
        let count = sample(
            &text,
            &format!("countersign_stage_seconds_count{{stage=\"{stage}\"}}"),
        );
        assert!(count.is_some_and(|count| count >= 5.0), "{stage}: {count:?}");
    }
    assert!(
        sample(&text, "countersign_audit_batch_records_sum")
            >= sample(&text, "countersign_audit_batch_records_count")
    );
    assert!(sample(&text, "countersign_audit_sync_seconds_count").unwrap() > 5.0);

    let series = |text: &str| {
        let of = text
            .lines()
            .filter(|line| line.starts_with("countersign_requests_total"));
        of.count()
    };
    let strange = |round: usize| {
        for number in 0..5 {
            let name = format!("stranger-{round}-{number}");
            world.call("john", "GET", &format!("/{name}/bench/look"), None);
            world.call("john", "GET", &format!("/imense/{name}/look"), None);
            world.call("john", "GET", &format!("/imense/bench/{name}"), None);
            let host = format!("Host: {name}.example.org");
            world.curl(&["-H", &host, &world.base()]);
        }
    };
    strange(0);
    let before = series(&metrics(&world));
    strange(1);
    let text = metrics(&world);
    assert_eq!(series(&text), before);
    assert!(!text.contains("stranger"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program of the tests' Python environment on some input; gives what it prints.
fn python(program: &str, input: &[u8]) -> String {
    let python = root().join("tests/peers/.cache/venv/bin/python");
    run(
        Command::new(&python).args(["-c", program]),
        input,
        "tests/peers/install monitoring",
    )
}

fn run(command: &mut Command, input: &[u8], install: &str) -> String {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}; what is missing comes with: {install}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success(),
        "{said}{wrong}\n(if something is missing: {install})"
    );
    said
}

#[test]
fn what_is_shown_is_what_prometheus_and_open_metrics_read_and_names_nobody() {
    let (world, open) = counted();
    // The strict parser of OpenMetrics.
    let read = python(
        "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
         for family in read(sys.stdin.read()): print(family.name, family.type)",
        open.as_bytes(),
    );
    let shown: BTreeMap<&str, &str> = read.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let known: BTreeMap<String, &str> = FAMILIES
        .iter()
        .map(|family| (format!("countersign_{}", family.name), family.kind.as_str()))
        .collect();
    for (name, kind) in &shown {
        assert_eq!(known.get(*name), Some(kind), "{name}");
    }
    // A policy that cannot be evaluated is not to be had by ordinary means.
    let missing: Vec<_> = known
        .keys()
        .filter(|name| !shown.contains_key(name.as_str()))
        .collect();
    assert_eq!(missing, ["countersign_policy_errors"]);

    // The older format, by its own linter.
    let classic = operations(&world, "/metrics", &[]).expect(200);
    assert_eq!(
        classic.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    run(
        Command::new("promtool").args(["check", "metrics"]),
        &classic.body,
        "tests/peers/install monitoring",
    );

    let person = world.records();
    let person = person
        .iter()
        .find_map(|record| record["event"]["intent"]["subject"]["person"].as_str())
        .unwrap()
        .to_owned();
    for secret in ["john", "admin@", "127.0.0.1", "/jobs", &person] {
        assert!(!open.contains(secret), "`{secret}` is shown");
    }
}

fn example(name: &str) -> PathBuf {
    root().join("examples/monitoring").join(name)
}

/// Every expression of the dashboard and the rules, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_slice(&fs::read(example("grafana.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array();
        assert!(
            panel["type"] == "row" || targets.is_some_and(|targets| !targets.is_empty()),
            "{title}"
        );
        for target in targets.into_iter().flatten() {
            found.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            found.push((variable["name"].to_string(), query.to_owned()));
        }
    }
    for line in fs::read_to_string(example("alerts.yml")).unwrap().lines() {
        if line.contains("countersign_") {
            found.push(("alerts.yml".to_owned(), line.trim().to_owned()));
        }
    }
    found
}

/// The words of an expression.
fn tokens(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// The family that a name of an expression belongs to.
fn family_of(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| {
        let full = family.full_name();
        match family.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|ending| format!("{full}{ending}") == name),
            _ => full == name,
        }
    })
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (place, expression) in &expressions {
        let mut labels: BTreeSet<&str> = ["instance", "job", "le"].into();
        let mut named = 0;
        for name in tokens(expression).filter(|word| word.starts_with("countersign_")) {
            let family = family_of(name).unwrap_or_else(|| panic!("{place}: there is no `{name}`"));
            labels.extend(family.labels);
            asked.insert(family.name);
            named += 1;
        }
        assert!(named > 0, "{place}: {expression}");
        // What stands in `by (...)` and before a matcher is a label of one of these families.
        for part in expression.split(" by (").skip(1) {
            for label in tokens(part.split(')').next().unwrap()) {
                assert!(labels.contains(label), "{place}: `{label}` in {expression}");
            }
        }
        for part in expression.split('{').skip(1) {
            for matcher in part.split('}').next().unwrap().split(',') {
                let label = tokens(matcher).next().unwrap();
                assert!(labels.contains(label), "{place}: `{label}` in {expression}");
            }
        }
    }
    let unseen: Vec<_> = FAMILIES
        .iter()
        .filter(|family| !asked.contains(family.name))
        .collect();
    assert!(unseen.is_empty(), "no panel and no alert shows {unseen:?}");
}

#[test]
fn promtool_takes_the_example_files() {
    for (check, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        run(
            Command::new("promtool").args(["check", check]).arg(example(file)),
            b"",
            "tests/peers/install monitoring",
        );
    }
}

/// A Prometheus of its own, by the example's configuration.
struct Prometheus {
    child: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = example("alerts.yml");
        let settings = fs::read_to_string(example("prometheus.yml"))
            .unwrap()
            .replace("15s", "1s")
            .replace("- alerts.yml", &format!("- {}", rules.display()))
            .replace("127.0.0.1:8444", target);
        assert!(settings.contains(target) && settings.contains(rules.to_str().unwrap()));
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, settings).unwrap();
        // The port is free when it is chosen; somebody else may still be faster, then another one is.
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut child = Command::new("prometheus")
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("prometheus runs (tests/peers/install monitoring)");
            let up = until("Prometheus to be ready", || {
                let ended = child.try_wait().unwrap().is_some();
                let ready = || curl(None, &[&format!("http://127.0.0.1:{port}/-/ready")]).status == 200;
                (ended || ready()).then_some(!ended)
            });
            if up {
                return Self {
                    child,
                    port,
                    _folder: folder,
                };
            }
        }
        panic!("Prometheus found no port");
    }

    fn ask(&self, path: &str, more: &[&str]) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let mut args = more.to_vec();
        args.push(&url);
        let answer = curl(None, &args);
        assert_eq!(answer.status, 200, "{more:?}: {}", answer.text());
        answer.json()["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_the_gateway_and_takes_every_expression() {
    let (world, _) = counted();
    let prometheus = Prometheus::start(&world.operations());
    until("a scrape without an error", || {
        let targets = prometheus.ask("targets", &[]);
        let target = targets["activeTargets"].get(0)?.clone();
        assert_eq!(target["lastError"], "", "{target}");
        (target["health"] == "up").then_some(())
    });
    for (place, expression) in expressions() {
        if place == "alerts.yml" || expression.starts_with("label_values") {
            continue;
        }
        let mut query = expression.replace("$__rate_interval", "1m");
        for variable in ["$instance", "$vo", "$tool"] {
            query = query.replace(variable, ".*");
        }
        let query = format!("query={query}");
        prometheus.ask("query", &["--get", "--data-urlencode", &query]);
    }
    let tasks = prometheus.ask(
        "query?query=countersign_requests_total%7Btask%3D%22look%22%2Cdecision%3D%22permit%22%7D",
        &[],
    );
    assert_eq!(tasks["result"][0]["value"][1], "5", "{tasks}");
    until("every rule to be evaluated", || {
        let groups = prometheus.ask("rules", &[]);
        let rules = groups["groups"][0]["rules"].as_array().unwrap().clone();
        assert!(
            rules.len() > 10 && rules.iter().all(|rule| rule["health"] != "err"),
            "{rules:?}"
        );
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}

/// Takes OTLP over HTTP and keeps every message, in base64.
const COLLECTOR: &str = r#"
import base64, http.server, json, sys
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "a") as kept:
            print(json.dumps({"path": self.path, "type": self.headers["Content-Type"],
                              "body": base64.b64encode(body).decode()}), file=kept, flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Reads messages with the official types, one a line in base64; ids in hexadecimal digits, attributes as a map.
const DECODE: &str = r#"
import base64, json, sys
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
for line in sys.stdin:
    request = ExportTraceServiceRequest.FromString(base64.b64decode(line))
    for resource in request.resource_spans:
        about = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for s in scope.spans:
                attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in s.attributes}
                print(json.dumps({"resource": about, "trace": s.trace_id.hex(), "span": s.span_id.hex(),
                    "parent": s.parent_span_id.hex(), "name": s.name, "kind": s.kind, "state": s.trace_state,
                    "start": s.start_time_unix_nano, "end": s.end_time_unix_nano, "attributes": attributes,
                    "status": s.status.code}))
"#;

/// The spans that the collector got of one request, the request's own first.
fn spans(collector: &PythonTool, request: &str) -> Vec<Value> {
    until(&format!("the spans of {request}"), || {
        let kept = collector.seen();
        let mut messages = String::new();
        for message in &kept {
            assert_eq!(
                (message["path"].as_str(), message["type"].as_str()),
                (Some("/v1/traces"), Some("application/x-protobuf"))
            );
            messages += message["body"].as_str().unwrap();
            messages.push('\n');
        }
        let text = python(DECODE, messages.as_bytes());
        let all: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let root = all
            .iter()
            .find(|span| span["attributes"]["countersign.request_id"] == request)?
            .clone();
        let mut found = vec![root.clone()];
        found.extend(all.into_iter().filter(|span| span["parent"] == root["span"]));
        Some(found)
    })
}

/// `traceparent` and `tracestate` of the newest request that reached the tool.
fn context(tool: &PythonTool) -> (String, Option<String>) {
    let seen = tool.seen();
    let headers = seen.last().unwrap()["headers"].as_array().unwrap();
    let value = |name: &str| {
        let mut values = headers
            .iter()
            .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
        let value = values.next().map(|header| header[1].as_str().unwrap().to_owned());
        assert!(values.next().is_none(), "two {name}");
        value
    };
    (value("traceparent").expect("a traceparent"), value("tracestate"))
}

/// John looks, with a trace context of his own; gives the request's id.
fn look(world: &World, parent: &str) -> String {
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    let (parent, url) = (
        format!("traceparent: {parent}"),
        format!("{}/imense/bench/look", world.base()),
    );
    let args = ["-H", &bearer, "-H", &parent, "-H", "tracestate: a=b", &url];
    world.curl(&args).expect(200).request_id()
}

const THEIRS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn intent(world: &World, request: &str) -> Value {
    let events = world.events_of(request);
    events.into_iter().find(|(name, _)| name == "intent").unwrap().1
}

#[test]
fn a_trusted_callers_trace_goes_to_the_tool_the_collector_and_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let collector = PythonTool::running(COLLECTOR, &folder.path().join("kept"));
    let world = World::with_settings(&format!(
        "[telemetry.traces]\nendpoint = \"{}/v1/traces\"\ntrust = [\"127.0.0.0/8\"]\n",
        collector.url()
    ));
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "bench", &tool.url(), "none");
    let request = look(&world, &format!("00-{THEIRS}-00f067aa0ba902b7-01"));

    let (parent, state) = context(&tool);
    let parts: Vec<&str> = parent.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", THEIRS, "01"));
    assert_eq!(state.as_deref(), Some("a=b"));

    let spans = spans(&collector, &request);
    let root = &spans[0];
    assert_eq!(
        (&root["trace"], &root["parent"]),
        (&THEIRS.into(), &"00f067aa0ba902b7".into())
    );
    assert_eq!(
        (&root["name"], &root["kind"], &root["state"]),
        (&"bench look".into(), &2.into(), &"a=b".into())
    );
    assert_eq!(root["resource"]["service.name"], "countersign");
    let attributes = root["attributes"].as_object().unwrap();
    let shown: BTreeMap<&str, String> = attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.to_string()))
        .collect();
    let expected: BTreeMap<&str, String> = [
        ("countersign.decision", "\"permit\"".to_owned()),
        ("countersign.request_id", format!("\"{request}\"")),
        ("countersign.task", "\"look\"".to_owned()),
        ("countersign.tool", "\"bench\"".to_owned()),
        ("countersign.vo", "\"imense\"".to_owned()),
        ("http.request.method", "\"GET\"".to_owned()),
        ("http.response.status_code", "200".to_owned()),
    ]
    .into();
    assert_eq!(shown, expected, "no person and no path");
    let names: Vec<&str> = spans[1..]
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["place", "subject", "decide", "plan", "intent", "act"]);
    let time = |span: &Value, key: &str| span[key].as_u64().unwrap();
    for pair in spans[1..].windows(2) {
        assert!(time(&pair[0], "end") <= time(&pair[1], "start"), "{pair:?}");
    }
    for span in &spans {
        assert!(time(span, "start") <= time(span, "end"));
        assert!(time(root, "start") <= time(span, "start") && time(span, "end") <= time(root, "end"));
    }
    let act = spans.last().unwrap();
    assert_eq!(
        (&act["span"], &act["kind"]),
        (&parts[2].into(), &3.into()),
        "the tool's parent"
    );

    assert_eq!(intent(&world, &request)["trace"], THEIRS);
    let search = ["audit", "search", "--vo", "imense", "--trace", THEIRS];
    let found = world.cli_json("admin", &search);
    let events: Vec<&Value> = found["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["event"])
        .collect();
    assert_eq!(
        events.len(),
        2,
        "what the VO's administrator sees of it: {events:?}"
    );
    for event in events {
        let (_, event) = event.as_object().unwrap().iter().next().unwrap();
        assert_eq!(event["request"], request.as_str());
    }

    // A caller who does not want it told is trusted too.
    let quiet = look(&world, &format!("00-{THEIRS}-00f067aa0ba902b7-00"));
    assert!(context(&tool).0.ends_with("-00"));
    assert_eq!(intent(&world, &quiet)["trace"], THEIRS);
    let told = look(&world, &format!("00-{THEIRS}-00f067aa0ba902b7-01"));
    self::spans(&collector, &told);
    let text: String = collector
        .seen()
        .iter()
        .map(|kept| kept["body"].to_string() + "\n")
        .collect();
    assert!(!python(DECODE, text.replace('"', "").as_bytes()).contains(&quiet));
}

#[test]
fn a_strangers_trace_ends_at_the_gateway_and_the_request_is_a_trace_of_its_own() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "bench", &tool.url(), "none");
    let request = look(&world, &format!("00-{THEIRS}-00f067aa0ba902b7-01"));
    let own = request.replace('-', "");
    let (parent, state) = context(&tool);
    assert_eq!(parent, format!("00-{own}-{}-00", &own[16..]));
    assert_eq!(state, None);
    assert_eq!(intent(&world, &request).get("trace"), None);
    let found = world.cli_json("admin", &["audit", "search", "--vo", "imense", "--trace", &own]);
    assert_eq!(found["records"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(
        found["records"][1]["event"]["intent"]["request"],
        request.as_str()
    );
}
