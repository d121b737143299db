//! WebSocket through the gateway: switched only after the tool, on record, and ended with the right to it.

use std::time::{Duration, Instant};

use crate::wire::{Caller, PROMPTLY, RawTool, Wire, header, lines, outcome, seen, wrap};
use crate::world::{World, until};

const TASKS: &str = r#"
[[task]]
name = "live"
match = ["GET /live"]
kind = "read"
upgrade = ["websocket"]

[[task]]
name = "plain"
match = ["GET /plain"]
kind = "read"
"#;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`] (RFC 6455 section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const SECOND: Duration = Duration::from_secs(1);

fn handshake(world: &World, path: &str) -> String {
    format!(
        "GET /imense/ws{path} HTTP/1.1\r\n{}Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        lines(world, "john")
    )
}

fn switch() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// A world with John and a tool that is wrapped as `ws`.
fn world(serve: impl Fn(Caller) + Send + Sync + 'static) -> (World, RawTool) {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = RawTool::start(serve);
    wrap(&world, "ws", &tool.url(), TASKS);
    (world, tool)
}

/// Switches and sends back whatever comes.
fn echo(mut caller: Caller) {
    if caller.head().is_none() || !caller.send(switch()) {
        return;
    }
    loop {
        let bytes = caller.read();
        if bytes.is_empty() || !caller.send(&bytes) {
            return;
        }
    }
}

fn open(world: &World) -> (Wire, String) {
    let mut wire = Wire::connect(world, "http/1.1");
    let head = wire.send(handshake(world, "/live")).head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let request = header(&head, "x-countersign-request-id").unwrap().to_owned();
    assert_eq!(wire.send("ping").exactly(4), b"ping");
    (wire, request)
}

#[test]
fn the_client_is_switched_after_the_tool_and_bytes_flow_both_ways_and_are_counted() {
    let (send, heads) = seen();
    let (go, wait) = seen::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (world, tool) = world(move |mut caller| {
        send.send(caller.head().unwrap()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        // The first bytes of the other protocol come with the head.
        caller.send(switch() + "hello");
        loop {
            let bytes = caller.read();
            if bytes.is_empty() {
                return;
            }
            caller.send(bytes);
        }
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    wire.send(handshake(&world, "/live"));
    let head = heads.recv_timeout(30 * SECOND).unwrap();
    assert!(head.starts_with("GET /live HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "sec-websocket-key"), Some(KEY));
    assert_eq!(header(&head, "authorization"), None);
    assert!(header(&head, "x-countersign-user").is_some());
    assert!(
        wire.is_silent(SECOND / 5),
        "the client heard something before the tool answered"
    );
    go.send(()).unwrap();
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("chat"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(wire.exactly(5), b"hello");
    let much = vec![b'x'; 300_000];
    for _ in 0..3 {
        wire.send(&much);
        assert!(wire.exactly(much.len()) == much);
    }
    drop(wire);
    let request = header(&head, "x-countersign-request-id").unwrap();
    let outcome = outcome(&world, request);
    assert_eq!(
        (&outcome["status"], &outcome["bytes_in"], &outcome["bytes_out"]),
        (&101.into(), &900_000.into(), &900_005.into())
    );
    assert_eq!(outcome["ending"], "answered");
    assert_eq!(tool.connections(), 1);
}

#[test]
fn a_task_without_the_key_and_other_protocols_are_a_501_on_record() {
    let (world, tool) = world(echo);
    for (request, status) in [
        (handshake(&world, "/plain"), "501"),
        (
            handshake(&world, "/live").replace("Upgrade: websocket", "Upgrade: h2c"),
            "501",
        ),
        (
            handshake(&world, "/live").replace("Version: 13", "Version: 8"),
            "501",
        ),
        (handshake(&world, "/live").replace(KEY, "c2hvcnQ="), "501"),
        (
            handshake(&world, "/live").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"),
            "501",
        ),
        (handshake(&world, "/none"), "403"),
        (
            handshake(&world, "/live").replace("Bearer cst_", "Bearer cst_x"),
            "401",
        ),
    ] {
        let mut wire = Wire::connect(&world, "http/1.1");
        let head = wire.send(&request).head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}\n{head}"
        );
    }
    let mut wire = Wire::connect(&world, "http/1.1");
    let head = wire.send(handshake(&world, "/plain")).head();
    let request = header(&head, "x-countersign-request-id").unwrap();
    let events = world.events_of(request);
    assert_eq!(
        (events[0].0.as_str(), &events[0].1["status"]),
        ("refused", &501.into())
    );
    // A stranger hears the same about every private path.
    for path in ["/live", "/plain", "/none"] {
        let anonymous = handshake(&world, path);
        let from = anonymous.find("Authorization").unwrap();
        let to = anonymous.find("Connection").unwrap();
        let mut wire = Wire::connect(&world, "http/1.1");
        let head = wire.send(anonymous[..from].to_owned() + &anonymous[to..]).head();
        assert!(head.starts_with("HTTP/1.1 401 "), "{path}: {head}");
    }
    assert_eq!(tool.connections(), 0);
}

#[test]
fn over_http2_it_is_told_where_it_is_served() {
    let (world, tool) = world(echo);
    let (url, bearer) = (
        format!("{}/imense/ws/live", world.base()),
        format!("Authorization: Bearer {}", world.token("john")),
    );
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let answer = world.curl(&[
        "--http2",
        "-H",
        &bearer,
        "-H",
        &key,
        "-H",
        "Sec-WebSocket-Version: 13",
        &url,
    ]);
    assert_eq!(answer.status, 501, "{}", answer.text());
    assert!(answer.text().contains("HTTP/1.1"), "{}", answer.text());
    assert_eq!(tool.connections(), 0);
}

#[test]
fn any_other_answer_is_a_plain_answer_and_the_connection_goes_on() {
    let (world, tool) = world(|mut caller| {
        while caller.head().is_some() {
            caller.send("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
        }
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    // What comes behind the request waits, and is a request of its own when the connection was not switched.
    let next = format!("GET /imense/ws/plain HTTP/1.1\r\n{}\r\n", lines(&world, "john"));
    wire.send(handshake(&world, "/live") + &next);
    for _ in 0..2 {
        let head = wire.head();
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert_eq!(wire.exactly(4), b"none");
    }
    assert_eq!(tool.connections(), 2, "a handshake has a connection of its own");
}

#[test]
fn a_wrong_switch_is_withheld() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let (world, _tool) = world(move |mut caller| {
        caller.head();
        let good = switch();
        let bad = match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => good.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            1 => good.replace("Upgrade: websocket", "Upgrade: h2c"),
            2 => good.replace("Connection: Upgrade\r\n", ""),
            _ => good.replace("Protocol: chat", "Protocol: other"),
        };
        caller.send(bad + "secret");
    });
    for _ in 0..4 {
        let mut wire = Wire::connect(&world, "http/1.1");
        let head = wire.send(handshake(&world, "/live")).head();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        let request = header(&head, "x-countersign-request-id").unwrap();
        let outcome = outcome(&world, request);
        assert_eq!(
            (&outcome["ending"], &outcome["error"]),
            (&"tool_failed".into(), &"unfit_answer".into())
        );
    }
}

#[test]
fn bytes_before_the_switch_reach_no_tool() {
    let (send, after) = seen();
    let (world, tool) = world(move |mut caller| {
        caller.head();
        caller.send(switch());
        send.send(caller.read()).unwrap();
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    wire.send(handshake(&world, "/live") + "GET /admin HTTP/1.1\r\nHost: ws\r\n\r\n");
    let (text, _) = wire.rest();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 101 "), "{text}");
    assert_eq!(after.recv_timeout(30 * SECOND).unwrap(), b"");
    assert_eq!(tool.connections(), 1);
}

#[test]
fn whatever_takes_the_right_away_ends_it_within_a_second() {
    let (world, tool) = world(echo);
    let check = |what: &str, error: &str, act: &dyn Fn()| {
        let (mut wire, request) = open(&world);
        // Long enough to be watched.
        assert!(wire.is_silent(SECOND));
        act();
        let (rest, took) = wire.rest();
        assert!(
            rest.is_empty() && took < PROMPTLY,
            "{what}: {rest:?} after {took:?}"
        );
        let outcome = outcome(&world, &request);
        assert_eq!(
            (&outcome["ending"], &outcome["error"], &outcome["bytes_in"]),
            (&"revoked".into(), &error.into(), &4.into()),
            "{what}"
        );
    };
    let admin = |args: &[&str]| {
        world.cli("admin", args).ok();
    };
    check("a role", "no_grant", &|| {
        admin(&["role", "unassign", "imense", "scientist", "john"]);
    });
    admin(&["role", "assign", "imense", "scientist", "john"]);
    check("a logout", "session_ended", &|| {
        world.cli("john", &["logout"]).ok();
    });
    world.login("john", crate::world::PASSWORD).ok();
    check("a suspended person", "session_ended", &|| {
        admin(&["user", "suspend", "imense", "john"]);
    });
    admin(&["user", "resume", "imense", "john"]);
    world.login("john", crate::world::PASSWORD).ok();
    check("the upstream", "tool_unreachable", &|| {
        admin(&["upstream", "remove", "imense", "ws"]);
    });
    admin(&["upstream", "allow", "imense", "ws", &tool.url()]);
    check("the tool", "no_task", &|| {
        admin(&["tool", "remove", "imense", "ws"]);
    });
}

#[test]
fn a_gateway_that_stops_ends_it_and_says_so() {
    let (mut world, _tool) = world(echo);
    let (mut wire, request) = open(&world);
    let began = Instant::now();
    world.stop();
    assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
    let (rest, _) = wire.rest();
    assert_eq!(rest, "");
    let outcome = until("the outcome", || {
        let events = world.events_of(&request);
        events.into_iter().find(|(name, _)| name == "outcome")
    });
    assert_eq!(outcome.1["error"], "gateway_stopped");
}
