//! Long transfers hold a lease: they outlive the token, are decided again and on record each time, and end with the right
//! to them.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;

use crate::time::Hand;
use crate::wire::{Caller, PROMPTLY, RawTool, Wire, header, lines, outcome, seen, wrap};
use crate::world::{World, until};

const TASKS: &str = r#"
[[task]]
name = "follow"
match = ["GET /follow"]
kind = "read"

[[task]]
name = "upload"
match = ["POST /upload"]
kind = "update"
"#;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// A tool that begins to answer and sends what the test says, until it is told to end or cannot write any more.
fn follower() -> (RawTool, mpsc::Sender<&'static str>) {
    let (say, said) = seen::<&'static str>();
    let said = Arc::new(Mutex::new(said));
    let tool = RawTool::start(move |mut caller: Caller| {
        caller.head();
        caller.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        while let Ok(text) = said.lock().unwrap().recv() {
            if text.is_empty() || !caller.send(text) {
                return;
            }
        }
    });
    (tool, say)
}

/// Begins to follow as John; gives the connection and the request's id.
fn follow(world: &World) -> (Wire, String) {
    let mut wire = Wire::connect(world, "http/1.1");
    let request = format!("GET /imense/log/follow HTTP/1.1\r\n{}\r\n", lines(world, "john"));
    let head = wire.send(request).head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let request = header(&head, "x-countersign-request-id").unwrap().to_owned();
    (wire, request)
}

fn leases(world: &World, request: &str) -> Vec<Value> {
    let events = world.events_of(request).into_iter();
    events
        .filter_map(|(name, event)| (name == "lease").then_some(event))
        .collect()
}

fn people(world: &World) {
    world.person("john", &["scientist"]);
}

#[test]
fn a_transfer_outlives_its_token_and_every_renewal_is_on_record() {
    let hand = Hand::start();
    people(&hand.world);
    let (tool, say) = follower();
    wrap(&hand.world, "log", &tool.url(), TASKS);
    let (mut wire, request) = follow(&hand.world);
    say.send("one\n").unwrap();
    wire.until("one\n\r\n");
    assert!(wire.is_silent(SECOND), "long enough to be watched");
    for renewal in 1..=3 {
        hand.later(31 * SECOND);
        until("the renewal on record", || {
            (leases(&hand.world, &request).len() == renewal).then_some(())
        });
    }
    let first = &leases(&hand.world, &request)[0];
    assert_eq!(
        (&first["decision"]["permit"], &first["bytes_out"]),
        (&true.into(), &4.into())
    );
    assert!(!first["decision"]["policies"].as_array().unwrap().is_empty());
    // A token lives for 12 hours; what began with it goes on, and is decided as before.
    hand.later(13 * HOUR);
    until("the end of the token", || {
        let me = format!("{}/.countersign/me", hand.world.base());
        let bearer = format!("Authorization: Bearer {}", hand.world.token("john"));
        (hand.world.curl(&["-H", &bearer, &me]).status == 401).then_some(())
    });
    until("the renewal after that", || {
        (leases(&hand.world, &request).len() == 4).then_some(())
    });
    say.send("two\n").unwrap();
    wire.until("two\n\r\n");
    // What ends everything of hers ends this too.
    hand.world.login("admin", crate::world::PASSWORD).ok();
    hand.world
        .cli("admin", &["user", "reset-password", "imense", "john"])
        .ok();
    let (rest, took) = wire.rest();
    assert!(
        !rest.contains("\r\n0\r\n") && took < PROMPTLY,
        "{rest:?} after {took:?}"
    );
    let outcome = outcome(&hand.world, &request);
    assert_eq!(
        (&outcome["ending"], &outcome["error"]),
        (&"revoked".into(), &"session_ended".into())
    );
}

#[test]
fn what_is_not_allowed_any_more_is_broken_off_within_a_second() {
    let world = World::start();
    people(world.admin());
    let (tool, say) = follower();
    wrap(&world, "log", &tool.url(), TASKS);
    let admin = |args: &[&str]| {
        world.cli("admin", args).ok();
    };
    let check = |what: &str, error: &str, act: &dyn Fn()| {
        let (mut wire, request) = follow(&world);
        say.send("x\n").unwrap();
        wire.until("x\n\r\n");
        assert!(wire.is_silent(SECOND), "long enough to be watched");
        act();
        let (rest, took) = wire.rest();
        // Broken off, never ended cleanly: the last chunk does not come.
        assert!(!rest.contains("0\r\n\r\n"), "{what}: {rest:?}");
        assert!(took < PROMPTLY, "{what}: {took:?}");
        let outcome = outcome(&world, &request);
        assert_eq!(
            (&outcome["ending"], &outcome["error"], &outcome["status"]),
            (&"revoked".into(), &error.into(), &200.into()),
            "{what}"
        );
        say.send("").unwrap();
    };
    check("a role", "no_grant", &|| {
        admin(&["role", "unassign", "imense", "scientist", "john"])
    });
    admin(&["role", "assign", "imense", "scientist", "john"]);
    check("a logout", "session_ended", &|| {
        world.cli("john", &["logout"]).ok();
    });
}

#[test]
fn a_role_that_ends_by_itself_ends_what_it_allowed() {
    let hand = Hand::start();
    hand.world
        .cli("admin", &["role", "create", "imense", "bystander"])
        .ok();
    hand.world.person("john", &["bystander"]);
    let (tool, say) = follower();
    wrap(&hand.world, "log", &tool.url(), TASKS);
    let end = (hand.now().plus(100 * SECOND)).to_string();
    hand.world
        .cli(
            "admin",
            &["role", "assign", "imense", "scientist", "john", "--until", &end],
        )
        .ok();
    let (mut wire, request) = follow(&hand.world);
    say.send("x\n").unwrap();
    wire.until("x\n\r\n");
    assert!(wire.is_silent(SECOND));
    hand.later(101 * SECOND);
    let (_, took) = wire.rest();
    assert!(took < PROMPTLY, "{took:?}");
    assert_eq!(outcome(&hand.world, &request)["error"], "no_grant");
    // The renewal that was due at that time is on record, as a denial.
    let last = leases(&hand.world, &request).pop().unwrap();
    assert_eq!(last["decision"]["permit"], false);
}

#[test]
fn an_upload_is_broken_off_on_both_sides() {
    let world = World::start();
    people(world.admin());
    let (send, ended) = seen();
    let tool = RawTool::start(move |mut caller: Caller| {
        let head = caller.head().unwrap();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut all = Vec::new();
        loop {
            let bytes = caller.read();
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        send.send(all).unwrap();
    });
    wrap(&world, "log", &tool.url(), TASKS);
    let mut wire = Wire::connect(&world, "http/1.1");
    wire.send(format!(
        "POST /imense/log/upload HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        lines(&world, "john")
    ));
    until("the upload to be under way", || {
        let intents = |record: &Value| record["event"]["intent"]["place"]["task"] == "upload";
        world.records().iter().any(intents).then_some(())
    });
    world.cli("john", &["logout"]).ok();
    let (text, took) = wire.rest();
    assert!(took < PROMPTLY, "{took:?}");
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    // The tool sees a body without an end.
    let body = ended.recv_timeout(30 * SECOND).unwrap();
    assert_eq!(String::from_utf8_lossy(&body), "5\r\nhello\r\n");
    let outcome = outcome(&world, header(&text, "x-countersign-request-id").unwrap());
    assert_eq!(
        (&outcome["ending"], &outcome["error"], &outcome["bytes_in"]),
        (&"revoked".into(), &"session_ended".into(), &5.into())
    );
}

#[test]
fn a_renewal_that_cannot_be_recorded_ends_the_transfer() {
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[forward]", "[forward]\nlease = \"1s\"")).unwrap();
    world.serve();
    people(world.admin());
    let (tool, say) = follower();
    wrap(&world, "log", &tool.url(), TASKS);
    let (mut wire, request) = follow(&world);
    say.send("x\n").unwrap();
    wire.until("x\n\r\n");
    // No file of the gateway can grow: the log takes no record.
    world.limit("0");
    let (rest, took) = wire.rest();
    world.limit("unlimited");
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
    assert!(took < PROMPTLY, "{took:?}");
    let outcome = outcome(&world, &request);
    assert_eq!(
        (&outcome["ending"], &outcome["error"]),
        (&"failed".into(), &"lease_unrecorded".into())
    );
}
