//! Feature row G5: a MyProxy server is filled in the middle of a request, and emptied after it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::grid::{grid, taken, world_of};
use crate::peers::Peer;
use crate::world::{World, until};

/// A Python program that says its port first, and ends with the test.
pub(crate) struct Program {
    child: Child,
    pub(crate) port: u16,
}

impl Program {
    pub(crate) fn start(text: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", text])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs (apt-get install python3)");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self { child, port }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Middleware as it stands behind such gateways: it fetches the proxy with Debian's own client, before it answers. `/wait`
/// never answers, and `/plain` does without the proxy.
const MIDDLEWARE: &str = r#"
import http.server, pathlib, subprocess, sys, time
kept, trust = pathlib.Path(sys.argv[1]), sys.argv[2]
class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        user, phrase = self.headers["X-Grid-User"], self.headers["X-Countersign-Myproxy-Passphrase"]
        host, port = self.headers["X-Countersign-Myproxy-Server"].split(":")
        for name, value in {"user": user, "phrase": phrase}.items():
            (kept / (name + ".part")).write_text(value)
            (kept / (name + ".part")).rename(kept / name)
        while self.path == "/wait": time.sleep(1)
        if self.path == "/plain":
            self.send_response(204); self.end_headers(); return
        logon = ["myproxy-logon", "-s", host, "-p", port, "-l", user, "-t", "1", "-S", "-o", str(kept / "logon.pem")]
        ran = subprocess.run(logon, input=phrase + "\n", text=True, capture_output=True, timeout=60,
            env={"PATH": "/usr/bin:/bin", "X509_CERT_DIR": trust, "HOME": str(kept)})
        body = (ran.stdout + ran.stderr).encode()
        self.send_response(200 if ran.returncode == 0 else 500)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tool)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Wraps the middleware under a name; its MyProxy server is at `port`.
pub(crate) fn middleware(world: &World, grid: &Peer, name: &str, port: &str) -> (Program, PathBuf) {
    let kept = world.dir.path().join(format!("kept-{name}"));
    fs::create_dir(&kept).unwrap();
    let tool = Program::start(MIDDLEWARE, &[kept.to_str().unwrap(), grid.env("TRUST")]);
    let file = world.dir.path().join(format!("{name}.toml"));
    let (url, vault) = (
        format!("http://127.0.0.1:{}", tool.port),
        format!("https://localhost:{port}"),
    );
    let server = format!("vault-{name}");
    let manifest = format!(
        "[tool]\nname = \"{name}\"\nupstream = \"{name}\"\ndelegation = \"myproxy\"\nmyproxy = \"{server}\"\n\
         username_header = \"X-Grid-User\"\n\n\
         [[task]]\nname = \"look\"\nmatch = [\"GET /look\", \"GET /plain\", \"GET /wait\"]\nkind = \"read\"\n"
    );
    fs::write(&file, manifest).unwrap();
    for args in [
        &["upstream", "allow", "imense", name, &url][..],
        &[
            "upstream",
            "allow",
            "imense",
            &server,
            &vault,
            "--ca",
            grid.env("CA"),
        ],
        &["tool", "add", "imense", file.to_str().unwrap()],
        &["grant", "add", "imense", "scientist", name, "look"],
    ] {
        world.cli("admin", args).ok();
    }
    (tool, kept)
}

/// What the MyProxy server keeps under a name.
fn kept_by_server(grid: &Peer, user: &str) -> Vec<String> {
    let files = fs::read_dir(grid.env("MYPROXY_STORE")).unwrap().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(user)).collect()
}

pub(crate) fn events(world: &World, request: &str, name: &str) -> Vec<serde_json::Value> {
    let events = world.events_of(request).into_iter();
    events
        .filter(|(kind, _)| kind == name)
        .map(|(_, event)| event)
        .collect()
}

#[test]
fn g5_middleware_fetches_a_proxy_with_a_random_name_and_pass_phrase_which_are_worth_nothing_afterwards() {
    let grid = grid();
    let world = world_of(&grid, "RSA");
    let (_tool, kept) = middleware(&world, &grid, "jobs", grid.env("MYPROXY_PORT"));
    let answer = world.call("john", "GET", "/imense/jobs/look", None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Every peer takes what the middleware fetched, RSA keys and all.
    let proxy = kept.join("logon.pem");
    taken(&grid, &proxy, &[]);
    // The intent holds the serial, and the mint record is there before the outcome that knows the certificate.
    let request = answer.request_id();
    let intent = &events(&world, &request, "intent")[0];
    let mint = &events(&world, &request, "mint")[0];
    let outcome = &events(&world, &request, "outcome")[0];
    assert_eq!(intent["delegation"]["way"], "myproxy");
    assert_eq!(intent["delegation"]["serial"], mint["serial"]);
    assert_eq!(outcome["signed"]["serial"], mint["serial"]);
    let order = || -> Vec<String> {
        world
            .events_of(&request)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(order()[..3], ["intent", "mint", "outcome"]);
    // A provider who finds the file learns whose it is, though the gateway never saw its keys.
    let traced = world.cli_json("admin", &["trace", proxy.to_str().unwrap(), "--vo", "imense"]);
    let traced = traced.to_string();
    assert!(
        traced.contains("\"john\"") && traced.contains(&request),
        "{traced}"
    );
    // Name and pass phrase are worth nothing any more.
    let user = fs::read_to_string(kept.join("user")).unwrap();
    until("the server to be emptied", || {
        kept_by_server(&grid, &user).is_empty().then_some(())
    });
    until("the upload to be forgotten", || {
        (world.stored("SELECT count(*) FROM myproxy_upload") == 0).then_some(())
    });
    // That it was removed is on record, after the outcome.
    assert_eq!(order(), ["intent", "mint", "outcome", "change"]);
    let change = &events(&world, &request, "change")[0]["change"];
    assert_eq!(
        (&change["action"], &change["target"], &change["after"]["server"]),
        (
            &"myproxy.destroy".into(),
            &user.as_str().into(),
            &"removed".into()
        )
    );
    assert_eq!(change["person"], intent["subject"]["person"]);
    // Each request has its own.
    world.call("john", "GET", "/imense/jobs/look", None).expect(200);
    assert_ne!(fs::read_to_string(kept.join("user")).unwrap(), user);
    // Neither stands anywhere that is kept.
    let phrase = fs::read_to_string(kept.join("phrase")).unwrap();
    assert!(!world.dump().contains(&phrase) && !world.log().contains(&phrase));
}

#[test]
fn what_a_killed_gateway_left_on_the_server_is_removed_when_it_starts() {
    let grid = grid();
    let mut world = world_of(&grid, "RSA");
    let (_tool, kept) = middleware(&world, &grid, "jobs", grid.env("MYPROXY_PORT"));
    let (url, bearer) = (
        format!("{}/imense/jobs/wait", world.base()),
        format!("Authorization: Bearer {}", world.token("john")),
    );
    let mut asking = Command::new("curl")
        .args(["-sS", "--cacert", &world.ca(), "-H", &bearer, &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let user = until("the middleware to be called", || {
        fs::read_to_string(kept.join("user")).ok()
    });
    assert!(!kept_by_server(&grid, &user).is_empty());
    world.kill();
    asking.wait().unwrap();
    assert!(!kept_by_server(&grid, &user).is_empty());
    world.serve();
    until("the server to be emptied", || {
        kept_by_server(&grid, &user).is_empty().then_some(())
    });
}

#[test]
fn a_vo_certificate_with_an_ec_key_is_refused_before_anything_is_uploaded() {
    let grid = grid();
    let world = world_of(&grid, "EC");
    let (_tool, kept) = middleware(&world, &grid, "jobs", grid.env("MYPROXY_PORT"));
    let answer = world.call("john", "GET", "/imense/jobs/look", None);
    assert_eq!(answer.problem(), "delegation_failed");
    assert!(answer.text().contains("RSA key"), "{}", answer.text());
    assert!(!kept.join("user").exists());
}

/// A MyProxy server that asks everyone to certify the same key, the one in `sys.argv[3]` (a request in DER).
const REPLAYING: &str = r#"
import pathlib, socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
FINE, asked = b"VERSION=MYPROXYv2\nRESPONSE=0\n\0", pathlib.Path(sys.argv[3]).read_bytes()
def serve(raw):
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            s.recv(1); s.recv(4096); s.sendall(FINE + asked); s.recv(16384); s.sendall(FINE); s.recv(1)
    except OSError: pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

#[test]
fn a_server_that_asks_for_the_same_key_again_gets_no_second_certificate_for_it() {
    let grid = grid();
    let world = world_of(&grid, "RSA");
    let request = world.dir.path().join("asked.der");
    let made = Command::new("openssl")
        .args([
            "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-outform", "DER",
        ])
        .args(["-keyout", "/dev/null", "-out", request.to_str().unwrap()])
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs (apt-get install openssl)");
    assert!(made.success());
    let host = Path::new(grid.env("FOLDER")).join("host");
    let (certificate, key) = (host.join("host.pem"), host.join("host.key"));
    let files = [&certificate, &key, &request].map(|file| file.to_str().unwrap());
    let server = Program::start(REPLAYING, &files);
    let (_tool, _) = middleware(&world, &grid, "jobs", &server.port.to_string());
    let first = world.call("john", "GET", "/imense/jobs/look", None);
    assert_eq!(events(&world, &first.request_id(), "mint").len(), 1);
    let again = world.call("john", "GET", "/imense/jobs/look", None);
    assert_eq!(again.problem(), "delegation_failed");
    assert!(again.text().contains("known already"), "{}", again.text());
    assert_eq!(events(&world, &again.request_id(), "mint").len(), 0);
}

/// A MyProxy server that does `sys.argv[3]` to everyone.
const HOSTILE: &str = r#"
import socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
FINE = b"VERSION=MYPROXYv2\nRESPONSE=0\n\0"
def endless(s):
    while True: s.sendall(b"A" * 65536)
def lines(s):
    while True: s.sendall(b"ERROR=no\n" * 4096)
def slow(s):
    for byte in FINE * 1000: s.sendall(bytes([byte])); time.sleep(0.5)
def huge(s):
    s.sendall(FINE + b"\x30\x84\x40\x00\x00\x00")
    while True: s.sendall(b"\0" * 65536)
def refuse(s): s.sendall(b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=not \x1b[31mtoday\n\0")
def nonsense(s): s.sendall(FINE + b"\x30\x03\x02\x01\x05")
def close(s): s.sendall(FINE)
def serve(raw):
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            s.recv(1); s.recv(4096); globals()[sys.argv[3]](s); time.sleep(1)
    except OSError: pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Memory that a process has in use, in KiB.
pub fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_hostile_server_is_a_clear_error_in_bounded_time_and_memory() {
    let grid = grid();
    let world = world_of(&grid, "RSA");
    for (mode, expected) in [
        ("endless", "keep to the protocol"),
        ("lines", "keep to the protocol"),
        ("huge", "keep to the protocol"),
        ("nonsense", "certification request"),
        ("refuse", "it refused: not  [31mtoday"),
        ("close", "the connection broke"),
        ("slow", "it took longer than 20 s"),
    ] {
        let host = Path::new(grid.env("FOLDER")).join("host");
        let (certificate, key) = (host.join("host.pem"), host.join("host.key"));
        let server = Program::start(
            HOSTILE,
            &[certificate.to_str().unwrap(), key.to_str().unwrap(), mode],
        );
        let (_tool, kept) = middleware(&world, &grid, mode, &server.port.to_string());
        let (before, begun) = (memory(world.pid()), Instant::now());
        let answer = world.call("john", "GET", &format!("/imense/{mode}/look"), None);
        assert!(begun.elapsed() < Duration::from_secs(30), "{mode}");
        assert_eq!(answer.problem(), "delegation_failed", "{mode}");
        assert!(answer.text().contains(expected), "{mode}: {}", answer.text());
        assert!(memory(world.pid()) < before + 64 * 1024, "{mode}");
        assert!(!kept.join("user").exists(), "{mode}: the tool is not called");
        // Nothing was signed.
        let request = answer.request_id();
        assert_eq!(events(&world, &request, "mint").len(), 0, "{mode}");
        assert_eq!(
            events(&world, &request, "outcome")[0]["ending"],
            "failed",
            "{mode}"
        );
    }
}
