//! What becomes of a MyProxy server that is filled for a request when the right to it ends, when the server is difficult, and
//! when somebody asks for too much. The server is one of a few lines that does what the test says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::delegate::import;
use crate::grid::{grid, world_of};
use crate::myproxy::{Program, events, middleware};
use crate::peers::Peer;
use crate::wire::{PROMPTLY, Wire, header, lines, outcome};
use crate::world::{World, until};

/// A MyProxy server: what it does stands in the files `put` (`fine`, `wait`, `stall`) and `destroy` (what it answers); what
/// it was asked stands in `asked`, a line each: command and user name, then `chain` when a chain has come.
const SERVER: &str = r#"
import pathlib, re, socket, ssl, subprocess, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
folder = pathlib.Path(sys.argv[3])
HEAD = b"VERSION=MYPROXYv2\n"
def note(text):
    with open(folder / "asked", "a") as asked: asked.write(text + "\n")
def csr():
    command = "openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=x -outform DER"
    return subprocess.run(command.split(), capture_output=True, check=True).stdout
def serve(raw):
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            s.recv(1); asked = b""
            while b"\0" not in asked: asked += s.recv(4096)
            command, user = re.search(rb"COMMAND=(\d)", asked)[1], re.search(rb"USERNAME=(\S+)", asked)[1]
            note((command + b" " + user).decode())
            if command == b"3":
                s.sendall(HEAD + (folder / "destroy").read_bytes() + b"\n\0"); s.recv(1); return
            put = (folder / "put").read_text()
            while put == "wait": time.sleep(1)
            s.sendall(HEAD + b"RESPONSE=0\n\0"); s.sendall(csr()); s.recv(65536); note("chain")
            while put == "stall": time.sleep(1)
            s.sendall(HEAD + b"RESPONSE=0\n\0"); s.recv(1)
    except OSError: pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

const GONE: &str = "RESPONSE=1\nERROR=Credentials do not exist.";
const LATER: &str = "RESPONSE=1\nERROR=the store is busy, try again later";

/// A gateway with a tool `jobs`, whose MyProxy server does what is said.
struct Story {
    world: World,
    folder: PathBuf,
    kept: PathBuf,
    _programs: (Program, Program),
    _grid: Arc<Peer>,
}

impl Story {
    fn new(put: &str, destroy: &str) -> Self {
        let grid = grid();
        let world = world_of(&grid, "RSA");
        Self::of(world, grid, put, destroy)
    }

    fn of(world: World, grid: Arc<Peer>, put: &str, destroy: &str) -> Self {
        let folder = world.dir.path().join("server");
        fs::create_dir(&folder).unwrap();
        let host = Path::new(grid.env("FOLDER")).join("host");
        let (certificate, key) = (host.join("host.pem"), host.join("host.key"));
        let paths = [&certificate, &key, &folder].map(|path| path.to_str().unwrap());
        let server = Program::start(SERVER, &paths);
        let (tool, kept) = middleware(&world, &grid, "jobs", &server.port.to_string());
        let story = Self {
            world,
            folder,
            kept,
            _programs: (tool, server),
            _grid: grid,
        };
        story.say("asked", "");
        story.say("put", put);
        story.say("destroy", destroy);
        story
    }

    fn say(&self, name: &str, text: &str) {
        // In one step: the server reads it at any time.
        let part = self.folder.join("part");
        fs::write(&part, text).unwrap();
        fs::rename(part, self.folder.join(name)).unwrap();
    }

    /// What the server was asked, a line each.
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("asked")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// How often it was asked to remove something.
    fn removals(&self) -> usize {
        self.asked().iter().filter(|line| line.starts_with("3 ")).count()
    }

    fn begin(&self, path: &str) -> Wire {
        let mut wire = Wire::connect(&self.world, "http/1.1");
        let head = lines(&self.world, "john");
        wire.send(format!("GET /imense/jobs/{path} HTTP/1.1\r\n{head}\r\n"));
        wire
    }

    fn left(&self) -> i64 {
        self.world.stored("SELECT count(*) FROM myproxy_upload")
    }

    fn changes(&self, request: &str) -> Vec<Value> {
        let changes = events(&self.world, request, "change").into_iter();
        changes.map(|event| event["change"].clone()).collect()
    }
}

#[test]
fn who_loses_the_right_while_a_server_is_filled_does_not_reach_the_tool() {
    let story = Story::new("wait", GONE);
    let admin = |args: &[&str]| {
        story.world.cli("admin", args).ok();
    };
    let check = |put: &str, error: &str, act: &dyn Fn()| {
        story.say("asked", "");
        story.say("put", put);
        let mut wire = story.begin("plain");
        until("the server to be asked", || {
            let last = if put == "stall" { "chain" } else { "1 " };
            let asked = story.asked();
            asked.last().filter(|line| line.starts_with(last)).map(drop)
        });
        act();
        let began = Instant::now();
        let head = wire.head();
        assert!(began.elapsed() < PROMPTLY, "{error}: {:?}", began.elapsed());
        let request = header(&head, "x-countersign-request-id").unwrap().to_owned();
        let outcome = outcome(&story.world, &request);
        assert_eq!(
            (&outcome["ending"], &outcome["error"]),
            (&"revoked".into(), &error.into()),
            "{head}"
        );
        assert!(!story.kept.join("user").exists(), "{error}: the tool was called");
        let mints = events(&story.world, &request, "mint");
        if put == "stall" {
            // What was signed is on record, and the server is to remove what it may have kept.
            assert_eq!(outcome["signed"]["serial"], mints[0]["serial"]);
            until("the server to be asked to remove it", || {
                (story.removals() == 1).then_some(())
            });
        } else {
            assert_eq!((mints.len(), &outcome["signed"]), (0, &Value::Null));
            // It never got anything, and is asked for nothing.
            until("it to be forgotten", || (story.left() == 0).then_some(()));
            assert_eq!(story.removals(), 0);
        }
    };
    check("wait", "no_grant", &|| {
        admin(&["role", "unassign", "imense", "scientist", "john"])
    });
    admin(&["role", "assign", "imense", "scientist", "john"]);
    check("wait", "session_ended", &|| {
        story.world.cli("john", &["logout"]).ok();
    });
    story.world.login("john", crate::world::PASSWORD).ok();
    check("stall", "session_ended", &|| {
        admin(&["user", "suspend", "imense", "john"])
    });
    // A server that may be about to keep it is not believed at once when it has nothing yet.
    assert_eq!(story.left(), 1);
}

#[test]
fn only_a_server_that_says_so_has_removed_what_was_put_there() {
    let mut story = Story::new("fine", LATER);
    let requests = [0, 1].map(|_| {
        let answer = story.world.call("john", "GET", "/imense/jobs/plain", None);
        assert_eq!(answer.status, 204, "{}", answer.text());
        answer.request_id()
    });
    until("the server to be asked", || (story.removals() == 2).then_some(()));
    story.world.stop();
    assert_eq!(story.left(), 2, "a refusal for another reason removes nothing");
    // One of them has ended long ago.
    let asked = story.asked();
    let user = asked[0].strip_prefix("1 ").unwrap();
    let ended = format!("UPDATE myproxy_upload SET not_after = 1 WHERE username = '{user}'");
    story.world.write_store(&ended);
    story.world.serve();
    until("the server to be asked again", || {
        (story.removals() == 4 && story.left() == 1).then_some(())
    });
    let given_up = story.changes(&requests[0]);
    assert_eq!(
        (&given_up[0]["action"], &given_up[0]["target"]),
        (&"myproxy.give_up".into(), &user.into())
    );
    assert_eq!(story.changes(&requests[1]), [Value::Null; 0]);
    story.world.stop();
    // Long enough after its request that the server is believed.
    story
        .world
        .write_store("UPDATE myproxy_upload SET ended_at = ended_at - 61000000");
    story.say("destroy", GONE);
    story.world.serve();
    until("it to be forgotten", || (story.left() == 0).then_some(()));
    let removed = story.changes(&requests[1]);
    assert_eq!(
        (&removed[0]["action"], &removed[0]["after"]["server"]),
        (&"myproxy.destroy".into(), &"not there".into())
    );
    story.world.verify().ok();
}

#[test]
fn one_person_does_not_fill_a_server() {
    let grid = grid();
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let limited = text.replace("# uploads_per_person = 32", "uploads_per_person = 1");
    assert_ne!(limited, text);
    fs::write(&file, limited).unwrap();
    world.serve();
    world
        .admin()
        .person("john", &["scientist"])
        .person("mary", &["scientist"]);
    import(&world, grid.env("VO_RSA"), grid.env("VO_RSA_KEY")).ok();
    let story = Story::of(world, grid, "fine", "RESPONSE=0");
    let mut wire = story.begin("wait");
    until("the tool to be called", || {
        fs::read_to_string(story.kept.join("user")).ok()
    });
    let refused = story
        .world
        .call("john", "GET", "/imense/jobs/plain", None)
        .expect(503);
    assert_eq!(refused.problem(), "busy");
    assert!(
        refused.text().contains("no person may have more"),
        "{}",
        refused.text()
    );
    let on_record = &events(&story.world, &refused.request_id(), "refused")[0];
    assert_eq!(on_record["problem"], "busy");
    assert_eq!(on_record["decision"]["permit"], true);
    // Others are served meanwhile, and she herself when her request has ended.
    story
        .world
        .call("mary", "GET", "/imense/jobs/plain", None)
        .expect(204);
    story.world.cli("john", &["logout"]).ok();
    assert!(wire.head().starts_with("HTTP/1.1 401 "));
    story.world.login("john", crate::world::PASSWORD).ok();
    until("room", || {
        let answer = story.world.call("john", "GET", "/imense/jobs/plain", None);
        (answer.status == 204).then_some(())
    });
}

/// A store that fails for a moment must not count as things on the server that are never removed.
#[test]
fn a_store_that_fails_for_a_moment_takes_no_room_on_a_server() {
    const HOLD: &str = "import sqlite3, sys\n\
        store = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        store.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\nstore.execute('ROLLBACK')\n";
    let grid = grid();
    let mut world = World::initialised();
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let limited = text.replace("# uploads_per_person = 32", "uploads_per_person = 1");
    assert_ne!(limited, text);
    fs::write(&file, limited).unwrap();
    world.serve();
    world.admin().person("john", &["scientist"]);
    import(&world, grid.env("VO_RSA"), grid.env("VO_RSA_KEY")).ok();
    let story = Story::of(world, grid, "fine", "RESPONSE=0");
    let mut holder = Command::new("python3")
        .args(["-c", HOLD])
        .arg(story.world.data().join("store.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs (apt-get install python3)");
    let mut line = String::new();
    let said = holder.stdout.as_mut().unwrap();
    BufReader::new(said).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let failed = story.world.call("john", "GET", "/imense/jobs/plain", None);
    assert_eq!(failed.problem(), "store_unavailable", "{}", failed.text());
    assert_eq!(
        story.asked(),
        [""; 0],
        "nothing is put anywhere that is not noted"
    );
    // The note cannot be taken back at once either: that is tried for as long as the store is waited for.
    let again = story.world.call("john", "GET", "/imense/jobs/plain", None);
    assert_ne!(again.status, 204, "{}", again.text());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    until("room", || {
        let answer = story.world.call("john", "GET", "/imense/jobs/plain", None);
        (answer.status == 204).then_some(())
    });
    until("all to be forgotten", || (story.left() == 0).then_some(()));
}
