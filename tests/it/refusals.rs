//! Each class of failure has its own answer and its own record, and what a client says never passes for the gateway's word.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::python::{PythonTool, wrap};
use crate::wire::{Wire, outcome};
use crate::world::{Answer, World, read_answer, until};

#[test]
fn a_tool_that_is_down_is_a_502_and_its_outcome_says_that_nothing_was_sent() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let nobody = world.dir.path().join("nobody.sock");
    wrap(&world, "down", &format!("unix:{}", nobody.display()), "none");
    let answer = world.call("john", "GET", "/imense/down/look", None).expect(502);
    assert_eq!(answer.problem(), "tool_unreachable");
    let document = answer.json();
    assert_eq!(document["request_id"], answer.request_id());
    assert!(!document.to_string().contains("nobody.sock"), "{document}");
    let names: Vec<String> = world
        .events_of(&answer.request_id())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"intent".to_owned()), "{names:?}");
    let outcome = outcome(&world, &answer.request_id());
    assert_eq!(
        (&outcome["ending"], &outcome["error"]),
        (&"not_sent".into(), &"not_connected".into())
    );
    assert_eq!(
        (&outcome["status"], &outcome["bytes_in"]),
        (&502.into(), &0.into())
    );
}

#[test]
fn c11_a_refusal_of_the_resource_is_a_403_with_an_outcome_of_its_own() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "strict", &tool.url(), "none");
    for status in [401, 403] {
        let path = format!("/imense/strict/answer/{status}");
        let answer = world.call("john", "GET", &path, None).expect(403);
        assert_eq!(answer.problem(), "denied_by_resource");
        assert_eq!(answer.header("www-authenticate"), None);
        let outcome = outcome(&world, &answer.request_id());
        assert_eq!(outcome["ending"], "denied_by_resource");
        assert_eq!(
            (&outcome["status"], &outcome["tool_status"]),
            (&403.into(), &status.into())
        );
    }
    // The gateway's own refusal of the same person is another class, and no outcome at all.
    let own = world
        .call("john", "GET", "/imense/strict/nothing", None)
        .expect(403);
    assert_eq!(own.problem(), "no_task");
    let names: Vec<String> = world
        .events_of(&own.request_id())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["refused"]);
    assert_eq!(tool.seen().len(), 2);
}

#[test]
fn a_sealed_gateway_serves_what_needs_no_key_and_refuses_what_does() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "plain", &tool.url(), "none");
    wrap(&world, "proxied", &tool.url(), "pem");
    world
        .call("john", "GET", "/imense/proxied/look", None)
        .expect(200);
    world.stop();
    let (key, away) = (
        world.data().join("keys/sealing.key"),
        world.dir.path().join("away"),
    );
    fs::rename(&key, &away).unwrap();
    world.serve();
    let before = tool.seen().len();
    world.call("john", "GET", "/imense/plain/look", None).expect(200);
    let answer = world
        .call("john", "GET", "/imense/proxied/look", None)
        .expect(503);
    assert_eq!(answer.problem(), "sealed");
    assert_eq!(
        tool.seen().len(),
        before + 1,
        "the tool saw a request without its proxy"
    );
    let events = world.events_of(&answer.request_id());
    assert_eq!(events.len(), 1, "{events:?}");
    let (name, event) = &events[0];
    assert_eq!(
        (name.as_str(), &event["problem"], &event["status"]),
        ("refused", &"sealed".into(), &503.into())
    );
    assert_eq!(
        (&event["place"]["task"], &event["decision"]["permit"]),
        (&"look".into(), &true.into())
    );
    assert!(event["subject"]["person"].is_string(), "{event}");
    world.stop();
    fs::rename(&away, &key).unwrap();
    world.serve();
    world
        .call("john", "GET", "/imense/proxied/look", None)
        .expect(200);
}

#[test]
fn a_store_that_takes_no_change_is_a_503_and_nothing_changes() {
    const HOLD: &str = "import sqlite3, sys\n\
        store = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        store.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\nstore.execute('ROLLBACK')\n";
    let world = World::start();
    world.admin();
    let before = world.cli_json("admin", &["role", "list", "imense"]);
    let mut holder = Command::new("python3")
        .args(["-c", HOLD])
        .arg(world.data().join("store.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs (apt-get install python3)");
    let mut held = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut held).unwrap();
    let url = format!("{}/api/v1/vos/imense/roles?reason=a%20test", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let json = "Content-Type: application/json";
    let create = [
        "-X",
        "POST",
        "-H",
        &bearer,
        "-H",
        json,
        "--data",
        "{\"name\":\"watcher\"}",
        &url,
    ];
    let answer = world.curl(&create).expect(503);
    assert_eq!(answer.problem(), "store_unavailable");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(world.cli_json("admin", &["role", "list", "imense"]), before);
    let changes = |world: &World| {
        let records = world.records();
        records
            .iter()
            .filter(|record| record["event"]["change"]["request"] == answer.request_id())
            .count()
    };
    assert_eq!(changes(&world), 0, "a change on record that was never applied");
    world.cli("admin", &["role", "create", "imense", "watcher"]).ok();
}

#[test]
fn what_a_client_says_of_identity_never_reaches_a_tool_in_any_spelling() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "trusting", &tool.url(), "none");
    let url = format!("{}/imense/trusting/look", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    for version in ["--http1.1", "--http2"] {
        for name in [
            "X-Countersign-User",
            "x_countersign_user",
            "X-COUNTERSIGN-Proxy",
            "X.Countersign.User",
        ] {
            let header = format!("{name}: root");
            let answer = world
                .curl(&[version, "-H", &bearer, "-H", &header, &url])
                .expect(400);
            assert_eq!(answer.problem(), "identity_header", "{version} {name}");
        }
    }
    assert!(tool.seen().is_empty());
    let claims = [
        "Remote-User",
        "REMOTE_USER",
        "remote_user",
        "Remote.User",
        "X-Remote-User",
        "X_Remote_User",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded-User",
        "X-Real-IP",
        "Forwarded",
        "X-User",
        "X-Client-Cert",
        "SSL_CLIENT_S_DN",
        "X-Ssl-Client-Cert",
        "X-Original-URL",
        "X-HTTP-Method-Override",
        "X-WebAuth-User",
        "Client-Cert",
        "Proxy",
    ];
    for version in ["--http1.1", "--http2"] {
        let mut args = vec![
            version.to_owned(),
            "-H".into(),
            bearer.clone(),
            "-H".into(),
            "X-Harmless: kept".into(),
        ];
        for claim in claims {
            args.extend(["-H".to_owned(), format!("{claim}: canary-root")]);
        }
        // What `Connection` names ends at the gateway, and with it nothing that the tool should get.
        args.push(url.clone());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        world.curl(&args).expect(200);
    }
    let seen = tool.seen();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        let text = request.to_string();
        assert!(!text.contains("canary-root"), "{text}");
        assert!(
            text.contains("X-Harmless") || text.contains("x-harmless"),
            "{text}"
        );
        assert!(
            !text.contains(&world.token("john")),
            "the tool got the client's token: {text}"
        );
    }
}

/// Sends bytes over TLS and reads the whole answer; how the connection ends does not matter, that it ends does.
fn raw(world: &World, bytes: &str) -> Answer {
    let (answer, _) = Wire::connect(world, "http/1.1").send(bytes).rest();
    read_answer(answer.as_bytes())
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_before_anything_reads_it() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "framed", &tool.url(), "none");
    let host = format!("gw.localhost:{}", world.port());
    let bearer = format!(
        "Authorization: Bearer {}\r\nConnection: close\r\n",
        world.token("john")
    );
    let host_line = format!("Host: {host}\r\n");
    let get = format!("GET /imense/framed/look HTTP/1.1\r\n{host_line}");
    let post = format!("POST /imense/framed/act HTTP/1.1\r\n{host_line}");
    raw(&world, &format!("{get}{bearer}\r\n")).expect(200);
    raw(&world, &format!("{post}{bearer}Content-Length: 2\r\n\r\nhi")).expect(200);
    let before = tool.seen().len();
    let smuggled = format!("0\r\n\r\n{get}{bearer}\r\n");
    for (what, bytes, status, problem) in [
        (
            "two hosts",
            format!("{get}{host_line}{bearer}\r\n"),
            400,
            "malformed",
        ),
        (
            "two different hosts",
            format!("{get}Host: elsewhere\r\n{bearer}\r\n"),
            400,
            "malformed",
        ),
        (
            "no host",
            format!("GET /imense/framed/look HTTP/1.1\r\n{bearer}\r\n"),
            400,
            "malformed",
        ),
        (
            "length and coding",
            format!("{post}{bearer}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
            400,
            "malformed",
        ),
        (
            "two lengths",
            format!("{post}{bearer}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
            400,
            "malformed",
        ),
        (
            "an unknown coding",
            format!("{post}{bearer}Transfer-Encoding: xchunked\r\n\r\n{smuggled}"),
            400,
            "malformed",
        ),
        (
            "a space before the colon",
            format!("{get}{bearer}Content-Length : 0\r\n\r\n"),
            400,
            "malformed",
        ),
        (
            "a folded line",
            format!("{get}{bearer}X-A: b\r\n c\r\n\r\n"),
            400,
            "malformed",
        ),
        (
            "absolute form of another host",
            format!("GET https://elsewhere.example/imense/framed/look HTTP/1.1\r\n{host_line}{bearer}\r\n"),
            400,
            "malformed",
        ),
        (
            "absolute form without TLS",
            format!("GET http://{host}/imense/framed/look HTTP/1.1\r\n{host_line}{bearer}\r\n"),
            400,
            "malformed",
        ),
        (
            "a dot segment",
            get.replace("/look", "/x/../look") + &bearer + "\r\n",
            400,
            "bad_target",
        ),
        (
            "an encoded slash",
            get.replace("/look", "/x%2flook") + &bearer + "\r\n",
            400,
            "bad_target",
        ),
        (
            "CONNECT",
            format!("CONNECT {host} HTTP/1.1\r\n{host_line}{bearer}\r\n"),
            405,
            "method_not_allowed",
        ),
        (
            "TRACE",
            get.replace("GET", "TRACE") + &bearer + "\r\n",
            405,
            "method_not_allowed",
        ),
        (
            "Upgrade",
            get.clone() + &bearer.replace("close", "close, upgrade") + "Upgrade: websocket\r\n\r\n",
            501,
            "not_implemented",
        ),
        (
            "an unknown host",
            format!("GET / HTTP/1.1\r\nHost: elsewhere.example\r\n{bearer}\r\n"),
            421,
            "unknown_host",
        ),
        (
            "two credentials",
            format!("{get}{bearer}Authorization: Bearer x\r\n\r\n"),
            400,
            "two_credentials",
        ),
    ] {
        let answer = raw(&world, &bytes);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.problem(), problem, "{what}");
        assert!(!answer.request_id().is_empty());
    }
    assert_eq!(
        tool.seen().len(),
        before,
        "a request that was refused reached the tool"
    );
    // Each class is on record: strangers' refusals are told together, with their number.
    world.stop();
    let records = world.records();
    let on_record = |problem: &str| -> u64 {
        let told = records.iter().map(|record| &record["event"]);
        told.map(|event| match event["strangers"]["problem"] == problem {
            true => event["strangers"]["count"].as_u64().unwrap(),
            false => u64::from(event["refused"]["problem"] == problem),
        })
        .sum()
    };
    for (problem, count) in [
        ("malformed", 10),
        ("bad_target", 2),
        ("method_not_allowed", 2),
        ("not_implemented", 1),
        ("unknown_host", 1),
        ("two_credentials", 1),
    ] {
        assert_eq!(on_record(problem), count, "{problem} on record");
    }
}

#[test]
fn a_host_with_a_port_that_is_not_ours_is_refused_over_http_1_and_http_2() {
    let mut world = World::with_settings("");
    world.admin();
    let url = format!("{}/", world.base());
    let name = world.base().trim_start_matches("https://").to_owned();
    let (name, port) = name.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let other = if port == 9_443 { 9_444 } else { 9_443 };
    let ask = |world: &World, version: &str, host: &str| {
        world.curl(&[version, "-H", &format!("Host: {host}"), &url])
    };
    for version in ["--http1.1", "--http2"] {
        let refused = ask(&world, version, &format!("{name}:{other}")).expect(421);
        assert_eq!(refused.problem(), "unknown_host", "{version}");
        for host in [name.to_owned(), format!("{name}:443"), format!("{name}:{port}")] {
            assert_ne!(ask(&world, version, &host).status, 421, "{version} {host}");
        }
    }
    world.stop();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("[gateway]\n", &format!("[gateway]\npublic_ports = [{other}]\n"));
    fs::write(&file, text).unwrap();
    world.serve();
    let url = format!("{}/", world.base());
    let ask = |host: String| world.curl(&["-H", &format!("Host: {host}"), &url]).status;
    assert_ne!(ask(format!("{name}:{other}")), 421, "the port that is set");
    assert_ne!(
        ask(format!("{name}:{}", world.port())),
        421,
        "the listener's own port"
    );
    assert_eq!(ask(format!("{name}:443")), 421, "443 is not set any more");
}

#[test]
fn an_upgrade_is_refused_and_recorded_and_is_no_failure_of_the_gateway() {
    let mut world = World::start();
    let host = world.base().trim_start_matches("https://").to_owned();
    let bytes =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = raw(&world, &bytes).expect(501);
    assert_eq!(answer.problem(), "not_implemented");
    world.stop();
    let log = world.log();
    assert!(!log.contains("ERROR") && !log.contains("failed"), "{log}");
    let counted = world.records().iter().any(|record| {
        let strangers = &record["event"]["strangers"];
        strangers["problem"] == "not_implemented" && strangers["count"] == 1
    });
    assert!(counted, "the refusal is not on record");
}

#[test]
fn a_fragment_over_http_2_is_in_neither_the_record_nor_what_the_tool_receives() {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "trusting", &tool.url(), "none");
    let url = format!("{}/", world.base());
    let bearer = format!("Authorization: Bearer {}", world.token("john"));
    for (asked, judged) in [
        ("/look#fragment", "/look"),
        ("/look#?secret=1", "/look"),
        ("/look#/../../other", "/look"),
        ("/answer/200#/../403", "/answer/200"),
    ] {
        let target = format!("/imense/trusting{asked}");
        let ask = |version| world.curl(&[version, "--request-target", &target, "-H", &bearer, &url]);
        ask("--http1.1").expect(400);
        let before = tool.seen().len();
        let answer = ask("--http2").expect(200);
        let events = world.events_of(&answer.request_id());
        let (_, intent) = events.iter().find(|(name, _)| name == "intent").unwrap();
        assert_eq!(intent["place"]["path"], judged, "{asked}");
        let seen = tool.seen();
        assert_eq!(seen.len(), before + 1);
        assert_eq!(seen[before]["path"], judged, "{asked}");
    }
}

#[test]
fn a_head_has_no_body_in_any_version() {
    let world = World::start();
    for (path, status) in [
        ("/login", 200),
        ("/api/v1/persons/me", 401),
        ("/imense/none/x", 401),
    ] {
        let url = format!("{}{path}", world.base());
        for version in ["--http1.1", "--http2"] {
            let answer = world.curl(&[version, "--head", &url]).expect(status);
            assert_eq!(answer.text(), "", "{version} {path}");
        }
    }
}

#[test]
fn an_icon_that_a_browser_looks_for_is_on_record_and_leads_to_no_alert() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let token = format!("Authorization: Bearer {}", world.token("john"));
    let get = |path: &str| {
        let url = format!("https://segmentation.gw.localhost:{}{path}", world.port());
        world.curl(&["-H", &token, &url])
    };
    let icons: Vec<String> = (0..5)
        .map(|_| get("/favicon.ico").expect(404).request_id())
        .collect();
    get("/nothing").expect(403);
    // Denials are counted beside the answer, in their order.
    let counted = || world.stored("SELECT count(*) FROM alert_denial");
    until("the denial that counts", || (counted() > 0).then_some(()));
    world.stop();
    assert_eq!(world.stored("SELECT count(*) FROM alert_denial"), 1);
    for icon in icons {
        let events = world.events_of(&icon);
        let [(name, refused)] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(name, "refused");
        assert_eq!(refused["decision"]["reason"], "no_task");
    }
}
