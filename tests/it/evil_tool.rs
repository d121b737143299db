//! Tools that do what no tool should: nothing of it reaches a client, another request, or another tool.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::wire::{Caller, PROMPTLY, RawTool, Wire, header, lines, outcome, seen, wrap};
use crate::world::{Answer, World, until};

const TASKS: &str = r#"
[[task]]
name = "look"
match = ["GET /look"]
kind = "read"

[[task]]
name = "act"
match = ["POST /act"]
kind = "update"
"#;

const SECOND: Duration = Duration::from_secs(1);

fn world(serve: impl Fn(Caller) + Send + Sync + 'static) -> (World, RawTool) {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = RawTool::start(serve);
    wrap(&world, "evil", &tool.url(), TASKS);
    (world, tool)
}

fn look(world: &World) -> Answer {
    world.call("john", "GET", "/imense/evil/look", None)
}

#[test]
fn heads_that_cannot_be_trusted_are_withheld() {
    let answers: [(&str, &str); 13] = [
        (
            "an early switch",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "two different lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\nok",
        ),
        (
            "a length and a coding",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "a list of lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        ),
        (
            "a signed length",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        ),
        (
            "a coding that is not there",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "a coding twice",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("an old answer", "ok\r\n\r\n"),
        (
            "a space before the colon",
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        ),
        (
            "a folded header",
            "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "two places",
            "HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: //elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
        ),
    ];
    let turn = AtomicUsize::new(0);
    let (world, tool) = world(move |mut caller| {
        while caller.head().is_some() {
            caller.send(answers[turn.fetch_add(1, Ordering::SeqCst) % answers.len()].1);
        }
    });
    for (number, (what, _)) in answers.iter().enumerate() {
        let answer = look(&world);
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        assert_eq!(answer.problem(), "tool_answer", "{what}");
        let outcome = outcome(&world, &answer.request_id());
        assert_eq!(outcome["ending"], "tool_failed", "{what}");
        assert!(outcome["error"].is_string(), "{what}");
        assert_eq!(
            tool.connections(),
            number + 1,
            "{what}: the connection was used again"
        );
    }
}

#[test]
fn heads_without_end_are_cut_off_and_memory_stays_bounded() {
    let turn = AtomicUsize::new(0);
    let (world, _tool) = world(move |mut caller| {
        caller.head();
        caller.send("HTTP/1.1 200 OK\r\n");
        let piece = match turn.fetch_add(1, Ordering::SeqCst) {
            0 => "X-A: 1\r\n".repeat(1_000),
            1 => {
                caller.send("X-A: ");
                "a".repeat(1 << 20)
            }
            _ => "HTTP/1.1 100 Continue\r\n\r\n".repeat(100),
        };
        for _ in 0..1_024 {
            if !caller.send(&piece) {
                return;
            }
        }
    });
    for what in ["endless headers", "a gigabyte header"] {
        let began = Instant::now();
        let answer = look(&world).expect(502);
        assert_eq!(answer.problem(), "tool_answer", "{what}");
        assert!(began.elapsed() < PROMPTLY, "{what}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: usize = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 512 * 1024, "{peak} KiB");
}

#[test]
fn bytes_behind_an_answer_never_answer_another_request() {
    let (send, wait) = seen::<()>();
    let (closed, is_closed) = seen::<()>();
    let wait = Mutex::new(wait);
    let turn = AtomicUsize::new(0);
    let (world, tool) = world(move |mut caller| {
        while caller.head().is_some() {
            let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
            let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
            match turn.fetch_add(1, Ordering::SeqCst) {
                // At once, behind an answer.
                0 => caller.send(good.to_owned() + forged),
                // A moment later.
                2 => {
                    caller.send(good);
                    wait.lock().unwrap().recv().unwrap();
                    caller.send(forged);
                    assert_eq!(caller.head(), None, "the connection was used again");
                    closed.send(()).unwrap();
                    return;
                }
                // Behind the last chunk.
                4 => caller.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n".to_owned()
                        + forged,
                ),
                // Behind an answer that has no body.
                6 => caller
                    .send("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged".to_owned() + forged),
                _ => caller.send(good),
            };
        }
    });
    for number in 0..8 {
        if number == 3 {
            send.send(()).unwrap();
            // The gateway has seen the forged answer before anything else is asked.
            is_closed.recv_timeout(30 * SECOND).unwrap();
        }
        let answer = look(&world);
        if number == 6 {
            assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        } else {
            assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{number}");
        }
    }
    assert!(tool.connections() >= 5, "{}", tool.connections());
}

#[test]
fn bodies_that_break_off_are_never_ended_cleanly() {
    let (go, wait) = seen::<()>();
    let (wait, turn) = (Mutex::new(wait), AtomicUsize::new(0));
    let big = "x".repeat(100_000);
    let breaks = [
        ("short", "Content-Length: 200000", ""),
        ("no end", "Transfer-Encoding: chunked", "\r\n"),
        (
            "a bad chunk end",
            "Transfer-Encoding: chunked",
            "XX5\r\nhello\r\n0\r\n\r\n",
        ),
        ("no size", "Transfer-Encoding: chunked", "\r\nzz\r\n0\r\n\r\n"),
        (
            "a size too large",
            "Transfer-Encoding: chunked",
            "\r\nffffffffffffffffff\r\n",
        ),
    ];
    let (world, _tool) = world(move |mut caller| {
        caller.head();
        let (_, framing, end) = breaks[turn.fetch_add(1, Ordering::SeqCst) % breaks.len()];
        let size = if framing.starts_with('T') { "186a0\r\n" } else { "" };
        caller.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{size}{big}"));
        // The client has begun to read the answer.
        wait.lock().unwrap().recv().unwrap();
        caller.send(end);
    });
    for (what, ..) in breaks {
        let mut wire = Wire::connect(&world, "http/1.1");
        wire.send(format!(
            "GET /imense/evil/look HTTP/1.1\r\n{}\r\n",
            lines(&world, "john")
        ));
        let head = wire.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
        go.send(()).unwrap();
        let (rest, _) = wire.rest();
        assert!(!rest.ends_with("\r\n0\r\n\r\n"), "{what} was ended cleanly");
        let outcome = outcome(&world, header(&head, "x-countersign-request-id").unwrap());
        assert_eq!(
            (&outcome["ending"], &outcome["error"]),
            (&"tool_failed".into(), &"broke_off".into()),
            "{what}"
        );
    }
}

#[test]
fn a_redirect_to_elsewhere_is_the_clients_business_and_never_followed() {
    let elsewhere = RawTool::start(|mut caller| {
        caller.head();
        caller.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let to = elsewhere.url();
    let (world, _tool) = world(move |mut caller| {
        caller.head();
        caller.send(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}/steal\r\nContent-Length: 0\r\n\r\n"
        ));
    });
    let answer = look(&world).expect(307);
    assert_eq!(
        answer.header("location"),
        Some(format!("{}/steal", elsewhere.url()).as_str())
    );
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_request_is_never_sent_twice_however_the_tool_ends_its_connections() {
    let (send, heads) = seen();
    let requests = AtomicUsize::new(0);
    let (world, _tool) = world(move |mut caller| {
        // Answers the first request of a connection, reads the second and closes without a word.
        for number in 0..2 {
            let Some(head) = caller.head() else { return };
            send.send(header(&head, "x-countersign-request-id").unwrap().to_owned())
                .unwrap();
            // The whole request: a client that still sends might lose the answer (curl 7.88 over HTTP/2 does).
            let mut body = Vec::new();
            while body.len() < b"once".len() {
                match caller.read() {
                    more if more.is_empty() => return,
                    more => body.extend(more),
                }
            }
            let last = requests.fetch_add(1, Ordering::SeqCst) % 3 == 2;
            if number == 0 {
                caller.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
                if last {
                    // Closes a connection that is unused by now: the next request goes over another one.
                    return;
                }
            }
        }
    });
    let mut statuses = Vec::new();
    for number in 0..9 {
        let answer = world.call("john", "POST", "/imense/evil/act", Some(b"once"));
        statuses.push(answer.status);
        if answer.status != 200 {
            assert_eq!((answer.status, answer.problem().as_str()), (502, "tool_answer"));
        }
        // Only the first of three answers leaves a connection; the gateway has seen the other two close.
        let open = u64::from(number % 3 == 0);
        let gauge = "countersign_upstream_connections{vo=\"imense\",upstream=\"evil\",state=\"open\"}";
        until("the tool's close to be seen", || {
            (world.metric(gauge) == Some(open)).then_some(())
        });
    }
    let mut seen: Vec<String> = heads.try_iter().collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), all), (9, 9), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
}

#[test]
fn what_refuses_connections_fails_fast_alone_and_is_back_within_a_second() {
    let good = |mut caller: Caller| {
        while caller.head().is_some() {
            caller.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
    };
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let other = RawTool::start(good);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    wrap(&world, "evil", &format!("http://127.0.0.1:{port}"), TASKS);
    wrap(&world, "other", &other.url(), TASKS);
    for _ in 0..5 {
        let answer = look(&world).expect(502);
        assert_eq!(answer.problem(), "tool_unreachable");
        assert_eq!(outcome(&world, &answer.request_id())["ending"], "not_sent");
        world.call("john", "GET", "/imense/other/look", None).expect(200);
    }
    let _back = RawTool::start_on(TcpListener::bind(("127.0.0.1", port)).unwrap(), good);
    let began = Instant::now();
    until("the tool to be reached", || {
        (look(&world).status == 200).then_some(())
    });
    assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
}
