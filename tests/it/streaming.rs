//! Bodies flow in both directions as they come: events, pieces, trailers, ranges, `100 Continue`, with back-pressure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::wire::{Caller, RawTool, Wire, header, lines, outcome, seen, wrap};
use crate::world::{World, until};

const TASKS: &str = r#"
[[task]]
name = "read"
match = ["GET /read"]
kind = "read"

[[task]]
name = "run"
match = ["POST /run"]
kind = "execute"

[[task]]
name = "small"
match = ["POST /small"]
kind = "update"
max_body = 10
"#;

const SECOND: Duration = Duration::from_secs(1);

fn world(serve: impl Fn(Caller) + Send + Sync + 'static) -> (World, RawTool) {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = RawTool::start(serve);
    wrap(&world, "flow", &tool.url(), TASKS);
    (world, tool)
}

fn get(world: &World, more: &str) -> String {
    format!(
        "GET /imense/flow/read HTTP/1.1\r\n{}{more}\r\n",
        lines(world, "john")
    )
}

fn post(world: &World, task: &str, more: &str) -> String {
    format!(
        "POST /imense/flow/{task} HTTP/1.1\r\n{}{more}\r\n",
        lines(world, "john")
    )
}

#[test]
fn each_event_reaches_the_client_before_the_next_one_is_sent() {
    let (go, wait) = seen::<()>();
    let wait = Mutex::new(wait);
    let (world, _tool) = world(move |mut caller| {
        // The second caller posts a body of two bytes.
        while let Some(head) = caller.head() {
            if head.starts_with("POST") {
                while caller.read().len() < 2 {}
            }
            caller.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            for number in 0..3 {
                caller.send(format!("9\r\ndata: {number}\n\n\r\n"));
                wait.lock().unwrap().recv().unwrap();
            }
            caller.send("0\r\n\r\n");
        }
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    // Also where the outcome is awaited: only the end waits for it.
    for request in [
        get(&world, ""),
        post(&world, "run", "Content-Length: 2\r\n") + "go",
    ] {
        let head = wire.send(request).head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for number in 0..3 {
            assert_eq!(wire.until("\n\n\r\n"), format!("9\r\ndata: {number}\n\n\r\n"));
            go.send(()).unwrap();
        }
        assert_eq!(wire.until("0\r\n\r\n"), "0\r\n\r\n");
        let request = header(&head, "x-countersign-request-id").unwrap();
        let outcome = outcome(&world, request);
        assert_eq!(
            (&outcome["ending"], &outcome["bytes_out"]),
            (&"answered".into(), &27.into())
        );
    }
}

#[test]
fn trailers_pass_both_ways_and_claim_nothing() {
    let (send, bodies) = seen();
    let (world, _tool) = world(move |mut caller| {
        let head = caller.head().unwrap();
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.extend(caller.read());
        }
        send.send((head, String::from_utf8(body).unwrap())).unwrap();
        caller.send(
            "HTTP/1.1 200 OK\r\nTrailer: x-sum, set-cookie\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\nx-sum: 2\r\nset-cookie: a=b\r\n\r\n",
        );
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    let more = "TE: trailers\r\nConnection: TE\r\nTrailer: x-check, x-countersign-user\r\nTransfer-Encoding: chunked\r\n";
    wire.send(post(&world, "run", more) + "3\r\nabc\r\n0\r\nx-check: 1\r\nx-countersign-user: root\r\n\r\n");
    let (head, body) = bodies.recv_timeout(30 * SECOND).unwrap();
    assert_eq!(header(&head, "te"), Some("trailers"), "{head}");
    assert_eq!(body, "3\r\nabc\r\n0\r\nx-check: 1\r\n\r\n");
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(wire.until("\r\n\r\n"), "2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n");
}

#[test]
fn the_client_goes_on_only_when_the_intent_is_durable_and_the_tool_is_there() {
    let (send, bodies) = seen();
    let (world, _tool) = world(move |mut caller| {
        let head = caller.head().unwrap();
        assert_eq!(header(&head, "expect"), None);
        let mut body = Vec::new();
        while body.len() < 5 {
            body.extend(caller.read());
        }
        send.send(body).unwrap();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let mut wire = Wire::connect(&world, "http/1.1");
    let head = wire.send(post(&world, "run", expect)).head();
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    let intents = world.records();
    let intents = intents.iter().filter(|record| {
        let intent = &record["event"]["intent"];
        intent["place"]["tool"] == "flow"
    });
    assert_eq!(
        intents.count(),
        1,
        "the intent is on record before the client goes on"
    );
    let head = wire.send("hello").head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(bodies.recv_timeout(30 * SECOND).unwrap(), b"hello");
    // What is refused is never asked for.
    let mut wire = Wire::connect(&world, "http/1.1");
    let head = wire.send(post(&world, "none", expect)).head();
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[test]
fn ranges_and_informational_answers() {
    let (send, heads) = seen();
    let (world, _tool) = world(move |mut caller| {
        while let Some(head) = caller.head() {
            send.send(head).unwrap();
            // Early hints end at the gateway; the answer is the one that counts.
            caller.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            caller.send(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/9\r\nETag: \"a\"\r\nContent-Length: 2\r\n\r\ncd",
            );
        }
    });
    let mut wire = Wire::connect(&world, "http/1.1");
    let head = wire
        .send(get(&world, "Range: bytes=2-3\r\nIf-Range: \"a\"\r\n"))
        .head();
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    assert_eq!(header(&head, "content-range"), Some("bytes 2-3/9"));
    assert_eq!(wire.exactly(2), b"cd");
    let asked = heads.recv_timeout(30 * SECOND).unwrap();
    assert_eq!(
        (header(&asked, "range"), header(&asked, "if-range")),
        (Some("bytes=2-3"), Some("\"a\""))
    );
}

#[test]
fn a_client_that_does_not_read_stops_the_tool_from_being_read() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 256;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let (world, _tool) = world(move |mut caller| {
        caller.head();
        let piece = vec![b'x'; PIECE];
        caller.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            PIECE * PIECES
        ));
        for _ in 0..PIECES {
            if !caller.send(&piece) {
                return;
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = resident();
    let mut wire = Wire::connect(&world, "http/1.1");
    let head = wire.send(get(&world, "")).head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // Until nothing moves any more, while the gateway has answered a good many others.
    let taken = until("the tool to be left alone", || {
        let before = written.load(Ordering::SeqCst);
        for _ in 0..20 {
            world.call("john", "GET", "/.countersign/me", None).expect(200);
        }
        (written.load(Ordering::SeqCst) == before).then_some(before)
    });
    assert!(taken < PIECES / 2, "{taken} MiB were taken from the tool");
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    for _ in 0..PIECES {
        assert!(wire.exactly(PIECE).iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn a_body_is_bounded_only_where_its_task_says_so() {
    let (world, _tool) = world(|mut caller| {
        while let Some(head) = caller.head() {
            let length = header(&head, "content-length").and_then(|length| length.parse().ok());
            let mut left: usize = length.unwrap_or(0);
            while left > 0 {
                let read = caller.read().len();
                if read == 0 {
                    return;
                }
                left -= read;
            }
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let much = vec![b'x'; 40 << 20];
    world
        .call("john", "POST", "/imense/flow/run", Some(&much))
        .expect(200);
    world
        .call("john", "POST", "/imense/flow/small", Some(b"0123456789"))
        .expect(200);
    let answer = world
        .call("john", "POST", "/imense/flow/small", Some(b"0123456789a"))
        .expect(413);
    assert_eq!(answer.problem(), "too_large");
}
