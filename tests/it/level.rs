//! What the records of a task hold beside the intent, as its manifest says.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::wire::{Caller, RawTool, Wire, lines, outcome, wrap};
use crate::world::World;

const TASKS: &str = r#"
[[task]]
name = "keep"
match = ["POST /keep"]
kind = "update"
audit.body = "digest"

[[task]]
name = "plain"
match = ["POST /plain"]
kind = "update"

[[task]]
name = "page"
match = ["GET /page"]
kind = "asset"
audit = "intent"

[[task]]
name = "gone"
match = ["GET /gone"]
kind = "asset"
audit = "intent"
"#;

/// Longer than what is read whole before it is sent on, so that it streams.
const LONG: usize = 300_000;

/// What coreutils make of it.
fn sha256sum(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum runs (apt-get install coreutils)");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

fn bytes(seed: u8, count: usize) -> Vec<u8> {
    (0..count).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect()
}

fn length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    line.map_or(0, |length| length.parse().unwrap())
}

/// Reads what is announced, and answers with bytes of its own: in chunks where the path is `/keep`.
fn serve(mut caller: Caller) {
    while let Some(head) = caller.head() {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if path == "/gone" {
            return;
        }
        let mut left = length(&head);
        while left > 0 {
            let read = caller.read().len();
            if read == 0 {
                return;
            }
            left -= read;
        }
        if path == "/keep" {
            caller.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for part in bytes(7, LONG).chunks(50_000) {
                caller.send(format!("{:x}\r\n", part.len()));
                caller.send(part);
                caller.send("\r\n");
            }
            caller.send("0\r\n\r\n");
        } else {
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
}

fn world() -> (World, RawTool) {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = RawTool::start(serve);
    wrap(&world, "level", &tool.url(), TASKS);
    (world, tool)
}

fn digest(bytes: &[u8], whole: bool) -> Value {
    json!({ "sha256": sha256sum(bytes), "whole": whole })
}

#[test]
fn i4_bodies_have_a_digest_for_the_one_task_that_asks_for_it_and_it_is_what_sha256sum_says() {
    let (world, _tool) = world();
    for length in [0, 2, LONG] {
        let sent = bytes(1, length);
        let answer = world.call("john", "POST", "/imense/level/keep", Some(&sent));
        let answer = answer.expect(200);
        assert_eq!(answer.body, bytes(7, LONG));
        let ended = outcome(&world, &answer.request_id());
        // Where there is no body there is no digest of one.
        let request = match length {
            0 => Value::Null,
            _ => digest(&sent, true),
        };
        assert_eq!(ended["bodies"]["request"], request, "{length}: {ended}");
        assert_eq!(ended["bodies"]["answer"], digest(&answer.body, true), "{length}");
    }
    let answer = world.call("john", "POST", "/imense/level/plain", Some(b"something"));
    let ended = outcome(&world, &answer.expect(200).request_id());
    assert!(ended.get("bodies").is_none(), "{ended}");
}

#[test]
fn i4_an_upload_that_broke_off_is_marked_as_such_with_the_digest_of_what_was_sent() {
    let (world, _tool) = world();
    let mut wire = Wire::connect(&world, "http/1.1");
    let sent = bytes(3, 50_000);
    let head = format!(
        "POST /imense/level/keep HTTP/1.1\r\n{}Content-Length: 90000\r\n\r\n",
        lines(&world, "john")
    );
    wire.send(head).send(&sent);
    drop(wire);
    let ended = crate::world::until("the outcome of the upload", || {
        let records = world.records();
        let mut outcomes = records.iter().map(|record| &record["event"]["outcome"]);
        outcomes.find(|ended| ended["bodies"].is_object()).cloned()
    });
    let request = &ended["bodies"]["request"];
    assert_eq!(request["whole"], false, "{ended}");
    let passed = usize::try_from(ended["bytes_in"].as_u64().unwrap()).unwrap();
    assert!(passed <= sent.len(), "{ended}");
    assert_eq!(request["sha256"], sha256sum(&sent[..passed]), "{ended}");
    assert!(ended["bodies"].get("answer").is_none(), "{ended}");
}

#[test]
fn i4_an_asset_may_leave_its_intent_alone_and_the_report_still_accounts_for_every_request() {
    let (mut world, _tool) = world();
    let page = world.call("john", "GET", "/imense/level/page", None).expect(200);
    let gone = world.call("john", "GET", "/imense/level/gone", None).expect(502);
    let plain = world
        .call("john", "POST", "/imense/level/plain", Some(b"x"))
        .expect(200);
    let names = |world: &World, request: &str| -> Vec<String> {
        world
            .events_of(request)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    // Whatever was not answered has its outcome all the same.
    outcome(&world, &gone.request_id());
    outcome(&world, &plain.request_id());
    let alone = page.request_id();
    assert_eq!(names(&world, &alone), ["intent"]);
    // No crash makes anything of it: nobody waits for its end.
    world.kill();
    world.serve();
    world.login("admin", crate::world::PASSWORD).ok();
    assert_eq!(names(&world, &alone), ["intent"]);
    let recovered = world.records();
    let settled = recovered
        .iter()
        .filter_map(|record| record["event"]["recovery"]["settled"].as_array())
        .flatten();
    assert!(
        settled.clone().all(|request| *request != alone.as_str()),
        "{alone}"
    );
    world.stop();
    let data = world.data();
    let report = world.cli_json(
        "admin",
        &[
            "audit",
            "report",
            "completeness",
            "--data",
            data.to_str().unwrap(),
        ],
    );
    let days = report["days"].as_array().unwrap_or_else(|| panic!("{report}"));
    let sum = |name: &str| days.iter().map(|day| day[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("assets"), 1, "{report}");
    assert_eq!(
        sum("intents"),
        sum("outcomes") + sum("unknown") + sum("assets"),
        "{report}"
    );
    assert_eq!((sum("open"), sum("gaps")), (0, 0), "{report}");
}
