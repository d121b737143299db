//! The life of a gateway: reloads, renewed certificates, the end in order, the service manager, balancers.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use super::wire::trusting;
use super::world::{World, until};

/// One connection to the gateway, speaking HTTP/1.1.
struct Client(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Client {
    fn connect(world: &World, config: &Arc<rustls::ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("gw.localhost").unwrap();
        let connection = rustls::ClientConnection::new(config.clone(), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", world.port()))?;
        let mut stream = rustls::StreamOwned::new(connection, stream);
        stream.flush()?;
        Ok(Self(stream))
    }

    fn send(&mut self, world: &World, line: &str, headers: &str) -> io::Result<()> {
        let ask = format!(
            "{line} HTTP/1.1\r\nHost: gw.localhost:{}\r\n{headers}\r\n",
            world.port()
        );
        self.0.write_all(ask.as_bytes())
    }

    /// Head and body of an answer that tells its length.
    fn read(&mut self) -> io::Result<(String, Vec<u8>)> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(&mut bytes)?;
        };
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while bytes.len() < end + length {
            self.more(&mut bytes)?;
        }
        Ok((head, bytes.split_off(end)))
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut space = [0; 4096];
        match self.0.read(&mut space)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes.extend_from_slice(&space[..read]);
                Ok(())
            }
        }
    }

    fn ask(&mut self, world: &World, line: &str, headers: &str) -> io::Result<(String, Vec<u8>)> {
        self.send(world, line, headers)?;
        self.read()
    }
}

fn roots(file: impl AsRef<Path>) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Puts keys into the `[gateway]` section, in the place of those that were put there before.
fn set(world: &World, keys: &str) {
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    let begin = text.find("[gateway]").unwrap() + "[gateway]\n".len();
    let rest = text[begin..]
        .strip_prefix("# by the test\n")
        .map_or(&text[begin..], |rest| rest.split_once("# so far\n").unwrap().1);
    let text = format!("{}# by the test\n{keys}\n# so far\n{rest}", &text[..begin]);
    let part = file.with_extension("part");
    fs::write(&part, text).unwrap();
    fs::rename(part, file).unwrap();
}

fn with_gateway(keys: &str) -> World {
    let mut world = World::initialised();
    set(&world, keys);
    world.serve();
    world
}

fn reloads(world: &World, by: &str, result: &str) -> u64 {
    let line = format!("countersign_reloads_total{{by=\"{by}\",outcome=\"{result}\"}}");
    world.metric(&line).unwrap_or(0)
}

/// Events of one kind, oldest first.
fn events(world: &World, name: &str) -> Vec<Value> {
    let of = |record: Value| record["event"].get(name).cloned();
    world.records().into_iter().filter_map(of).collect()
}

/// A self-signed certificate for the gateway's name, with its key, as PEM.
fn renewed() -> (String, String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["gw.localhost".into()]).unwrap();
    (
        made.cert.pem(),
        made.signing_key.serialize_pem(),
        made.cert.der().clone(),
    )
}

fn put_pair(world: &World, certificate: &str, key: &str) {
    fs::write(world.data().join("tls/server.pem"), certificate).unwrap();
    fs::write(world.data().join("tls/server.key"), key).unwrap();
}

#[test]
fn a_hundred_reloads_under_load_lose_no_request() {
    let world = World::start();
    world.admin();
    let (pem, key, der) = renewed();
    let mut trusted = roots(world.ca());
    trusted.push(der);
    let bearer = format!("Authorization: Bearer {}\r\n", world.token("admin"));
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (h1, h2) = (trusting(&trusted, "http/1.1"), trusting(&trusted, "h2"));
    let go_on = || !stop.load(Ordering::Relaxed);
    let ok = |head: &str| {
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        answered.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        // Dropped when anything below panics, so that the load ends too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let ending = Stop(&stop);
        // One connection for all requests.
        scope.spawn(|| {
            let mut client = Client::connect(&world, &h1).unwrap();
            while go_on() {
                ok(&client.ask(&world, "GET /.countersign/me", &bearer).unwrap().0);
            }
        });
        // A connection for each request.
        scope.spawn(|| {
            while go_on() {
                let mut client = Client::connect(&world, &h1).unwrap();
                let close = format!("{bearer}Connection: close\r\n");
                ok(&client.ask(&world, "GET /.countersign/me", &close).unwrap().0);
            }
        });
        // One HTTP/2 connection.
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", world.port()))
                    .await
                    .unwrap();
                let name = ServerName::try_from("gw.localhost").unwrap();
                let tls = tokio_rustls::TlsConnector::from(h2.clone())
                    .connect(name, stream)
                    .await
                    .unwrap();
                let executor = hyper_util::rt::TokioExecutor::new();
                let io = hyper_util::rt::TokioIo::new(tls);
                let (mut send, drive) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
                let _drive = tokio::spawn(drive);
                while go_on() {
                    let request =
                        http::Request::get(format!("https://gw.localhost:{}/.countersign/me", world.port()))
                            .header("authorization", format!("Bearer {}", world.token("admin")))
                            .body(http_body_util::Empty::<bytes::Bytes>::new())
                            .unwrap();
                    let answer = send.send_request(request).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    http_body_util::BodyExt::collect(answer.into_body())
                        .await
                        .unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let old = ["tls/server.pem", "tls/server.key"]
            .map(|file| fs::read_to_string(world.data().join(file)).unwrap());
        let mut admin = Client::connect(&world, &h1).unwrap();
        for round in 0..100_u64 {
            set(&world, &format!("streams = {}", 100 + round));
            match round % 2 {
                0 => put_pair(&world, &pem, &key),
                _ => put_pair(&world, &old[0], &old[1]),
            }
            if round % 10 == 9 {
                let before = reloads(&world, "signal", "done");
                world.signal("HUP");
                until("the reload", || {
                    (reloads(&world, "signal", "done") > before).then_some(())
                });
            } else {
                let headers = format!("{bearer}Content-Length: 0\r\n");
                let (head, body) = admin.ask(&world, "POST /api/v1/reload", &headers).unwrap();
                assert!(
                    head.starts_with("http/1.1 200 "),
                    "{head}{}",
                    String::from_utf8_lossy(&body)
                );
            }
        }
        drop(ending);
    });
    assert!(answered.load(Ordering::Relaxed) > 100, "{answered:?}");
    assert_eq!(
        (
            reloads(&world, "request", "done"),
            reloads(&world, "signal", "done")
        ),
        (90, 10)
    );
    let changes = events(&world, "change");
    let reloaded: Vec<&Value> = changes
        .iter()
        .filter(|event| event["change"]["action"] == "gateway.reload")
        .collect();
    assert_eq!(reloaded.len(), 100);
    // Each begins where the one before ended.
    for pair in reloaded.windows(2) {
        assert_eq!(pair[0]["change"]["after"], pair[1]["change"]["before"]);
        assert_ne!(
            pair[0]["change"]["after"]["certificate"],
            pair[1]["change"]["after"]["certificate"]
        );
    }
}

#[test]
fn a_bad_reload_changes_nothing_and_says_every_flaw() {
    let world = World::start();
    world.admin().person("jane", &[]);
    let pem = fs::read_to_string(world.data().join("tls/server.pem")).unwrap();
    set(&world, "streams = 0\nstraems = 1");
    let ran = world.cli("admin", &["reload"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("gateway.streams") && ran.stderr.contains("gateway.straems"),
        "{ran:?}"
    );
    set(&world, "streams = 7");
    let (_, foreign, _) = renewed();
    let key = fs::read_to_string(world.data().join("tls/server.key")).unwrap();
    put_pair(&world, &pem, &foreign);
    let ran = world.cli("admin", &["reload"]);
    assert!(
        ran.code == 1 && ran.stderr.contains("key that belongs to it"),
        "{ran:?}"
    );
    // Who is no system administrator may not.
    assert_eq!(world.cli("jane", &["reload"]).code, 3);
    assert_eq!(
        (
            reloads(&world, "request", "failed"),
            reloads(&world, "request", "done")
        ),
        (2, 0)
    );
    put_pair(&world, &pem, &key);
    set(&world, "streams = 7");
    let file = world.data().join("countersign.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replacen("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"", 1),
    )
    .unwrap();
    let told = world.cli_json("admin", &["reload"]);
    assert_eq!(told["restart"], serde_json::json!(["gateway.listen"]));
    assert_eq!(world.cli("jane", &["whoami"]).code, 0);
    let failed = events(&world, "reload_failed");
    let said: Vec<u64> = failed
        .iter()
        .map(|event| event["count"].as_u64().unwrap())
        .collect();
    assert_eq!(said, [2, 1]);
    assert!(
        failed
            .iter()
            .all(|event| event["request"].is_string() && event["by"] == "request")
    );
    let changes = events(&world, "change");
    let last = &changes.last().unwrap()["change"];
    assert_eq!(last["before"]["settings"], told["before"]);
    assert_eq!(last["after"]["settings"], told["after"]);
    assert_ne!(told["before"], told["after"]);
}

#[test]
fn a_budget_that_was_used_up_before_a_reload_is_used_up_after_it() {
    let world = World::start();
    let mut stranger = Client::connect(&world, &trusting(&roots(world.ca()), "http/1.1")).unwrap();
    // How many requests of somebody who is not signed in are let in before one is not, or `most`.
    let mut let_in = |most: usize| {
        let asked = (0..most).map(|_| stranger.ask(&world, "GET /.countersign/jwks.json", "").unwrap().0);
        asked.take_while(|head| head.starts_with("http/1.1 200 ")).count()
    };
    let most = 20_000;
    assert!((300..most).contains(&let_in(most)));
    let used_up = Instant::now();
    world.signal("HUP");
    until("the reload", || {
        (reloads(&world, "signal", "done") == 1).then_some(())
    });
    let again = let_in(300);
    // 20 come back in a second, however long this took.
    let back = 20.0 * used_up.elapsed().as_secs_f64() + 1.0;
    assert!(again as f64 <= back, "{again} were let in, of {back}");
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_half_a_pair_is_not() {
    let world = with_gateway("certificate_check = \"1s\"");
    world.admin();
    let old = trusting(&roots(world.ca()), "http/1.1");
    let (pem, key, der) = renewed();
    let new = trusting(&[der], "http/1.1");
    let shown = |config| Client::connect(&world, config).is_ok();
    assert!(shown(&old) && !shown(&new));
    fs::write(world.data().join("tls/server.pem"), pem).unwrap();
    until("half a pair to be refused", || {
        (reloads(&world, "certificate", "failed") == 1).then_some(())
    });
    assert!(shown(&old) && !shown(&new));
    fs::write(world.data().join("tls/server.key"), key).unwrap();
    until("the renewed certificate", || shown(&new).then_some(()));
    assert!(!shown(&old));
    assert_eq!(reloads(&world, "certificate", "done"), 1);
    let failed = events(&world, "reload_failed");
    assert_eq!((failed.len(), &failed[0]["by"]), (1, &Value::from("certificate")));
    let changes = events(&world, "change");
    assert_eq!(
        changes.last().unwrap()["change"]["action"],
        "gateway.renew_certificate"
    );
}

/// A tool that answers half, and the other half when it is told to.
struct HalfTool {
    reached: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl HalfTool {
    fn behind(world: &World) -> Self {
        let socket = world.dir.path().join("half.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (reach, reached) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            Self::serve(&mut stream, &reach, &told);
        });
        let manifest = world.dir.path().join("half.toml");
        let text = "[tool]\nname = \"half\"\nupstream = \"half\"\ndelegation = \"none\"\n\
                    [[task]]\nname = \"read\"\nmatch = [\"GET /half\"]\nkind = \"download\"\n";
        fs::write(&manifest, text).unwrap();
        let url = format!("unix:{}", socket.display());
        world
            .cli("admin", &["upstream", "allow", &world.vo, "half", &url])
            .ok();
        world
            .cli("admin", &["tool", "add", &world.vo, manifest.to_str().unwrap()])
            .ok();
        let grant = [
            "grant",
            "add",
            &world.vo,
            "vo-administrator",
            "half",
            "read",
            "--when",
            "always",
        ];
        world.cli("admin", &grant).ok();
        Self { reached, go_on }
    }

    fn serve(stream: &mut UnixStream, reach: &mpsc::Sender<()>, told: &mpsc::Receiver<()>) {
        let mut head = Vec::new();
        let mut space = [0; 1024];
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = stream.read(&mut space).unwrap();
            head.extend_from_slice(&space[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            .unwrap();
        reach.send(()).unwrap();
        if told.recv().is_ok() {
            stream.write_all(b"half").unwrap();
        }
        // The connection stays until the gateway ends it.
        let _ = stream.read(&mut space);
    }
}

/// A client that waits for the second half, in a gateway that has begun to stop.
fn stopping(world: &World) -> (HalfTool, Client) {
    let tool = HalfTool::behind(world);
    let bearer = format!("Authorization: Bearer {}\r\n", world.token("admin"));
    let mut client = Client::connect(world, &trusting(&roots(world.ca()), "http/1.1")).unwrap();
    client
        .send(world, &format!("GET /{}/half/half", world.vo), &bearer)
        .unwrap();
    tool.reached.recv().unwrap();
    let port = world.port();
    world.signal("TERM");
    until("no new connection to be taken", || {
        TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
    (tool, client)
}

fn last_outcome(world: &World) -> Value {
    events(world, "outcome").pop().unwrap()
}

#[test]
fn sigterm_lets_requests_under_way_end_and_closes_the_log() {
    let mut world = World::start();
    world.admin();
    let (tool, mut client) = stopping(&world);
    tool.go_on.send(()).unwrap();
    let (head, body) = client.read().unwrap();
    assert_eq!(body, b"halfhalf");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(client.more(&mut Vec::new()).is_err());
    assert_eq!(world.ended(), Some(0));
    assert_eq!(last_outcome(&world)["ending"], "answered");
    let last = world.records().pop().unwrap();
    assert_eq!(last["event"]["stop"]["reason"], "SIGTERM");
}

#[test]
fn what_outlasts_the_drain_is_cut_and_on_record() {
    let mut world = with_gateway("drain = \"1s\"");
    world.admin();
    let (_tool, mut client) = stopping(&world);
    assert_eq!(world.ended(), Some(0));
    assert!(client.read().is_err());
    let outcome = last_outcome(&world);
    assert_eq!(outcome["ending"], "failed");
    assert_eq!(outcome["error"], "gateway_stopped");
    let last = world.records().pop().unwrap();
    assert_eq!(last["event"]["stop"]["reason"], "SIGTERM");
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_start_settles_it() {
    let mut world = with_gateway("drain = \"1h\"");
    world.admin();
    let (_tool, _client) = stopping(&world);
    world.signal("TERM");
    assert_eq!(world.ended(), Some(1));
    world.serve();
    assert_eq!(last_outcome(&world)["ending"], "unknown");
}

#[test]
fn the_service_manager_is_told() {
    let mut world = World::initialised();
    let path = world.dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = |what: &str| {
        let mut space = [0; 4096];
        loop {
            let read = manager
                .recv(&mut space)
                .unwrap_or_else(|error| panic!("no {what}: {error}"));
            let text = String::from_utf8(space[..read].to_vec()).unwrap();
            if text.lines().any(|line| line == what) {
                return text;
            }
        }
    };
    world.serve_with(&[
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "200000"),
    ]);
    assert!(heard("READY=1").contains("STATUS=serving https://gw.localhost:"));
    heard("WATCHDOG=1");
    world.signal("HUP");
    let reloading = heard("RELOADING=1");
    let at = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
        .unwrap();
    assert!(at.parse::<u64>().unwrap() > 0);
    heard("READY=1");
    heard("WATCHDOG=1");
    world.signal("TERM");
    heard("STOPPING=1");
    assert_eq!(world.ended(), Some(0));
}

#[test]
fn no_core_is_left_and_root_becomes_the_owner_of_the_folder() {
    /// Gives a folder to another account.
    fn give(path: &Path, account: u32) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                give(&entry.unwrap().path(), account);
            }
        }
        std::os::unix::fs::chown(path, Some(account), Some(account)).unwrap();
    }
    let mut world = World::initialised();
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if root {
        // The account `nobody` must be able to go there, and may read nothing else.
        fs::set_permissions(
            world.dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o711),
        )
        .unwrap();
        give(&world.data(), 65_534);
    }
    world.serve();
    let proc = PathBuf::from(format!("/proc/{}", world.pid()));
    let status = fs::read_to_string(proc.join("status")).unwrap();
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    if root {
        assert_eq!(line("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(line("Gid:"), "65534\t65534\t65534\t65534");
        assert_eq!(line("Groups:"), "");
        // What may be dumped belongs to its account; what may not belongs to root.
        assert_eq!(fs::metadata(proc.join("environ")).unwrap().uid(), 0);
    }
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().filter(|word| *word == "0").count(),
        2,
        "{core}"
    );
}

#[test]
fn the_unit_file_leaves_little_to_misuse() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/countersign.service");
    let rated = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=15", unit])
        .output()
        .expect("systemd-analyze is needed: apt-get install systemd");
    let told = String::from_utf8_lossy(&rated.stdout);
    assert!(rated.status.success(), "more exposed than 1.5:\n{told}");
    assert!(told.contains("Overall exposure level"), "{told}");
}

#[test]
fn a_trusted_proxys_word_is_what_records_say() {
    let mut world = with_gateway("trusted_proxies = [\"127.0.0.0/8\"]\nforwarded_header = \"forwarded\"");
    world.admin();
    world.segmentation();
    let bearer = format!("Authorization: Bearer {}", world.token("admin"));
    let url = format!("{}/{}/segmentation/jobs", world.base(), world.vo);
    let forwarded = "Forwarded: for=6.6.6.6, for=192.0.2.77;proto=https";
    let args = [
        "-H",
        &bearer,
        "-H",
        forwarded,
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        &url,
    ];
    let answer = world.curl(&args).expect(200);
    let id = answer.request_id();
    let (_, intent) = world
        .events_of(&id)
        .into_iter()
        .find(|(name, _)| name == "intent")
        .unwrap();
    assert_eq!(intent["source"], "192.0.2.0/24");
}

#[test]
fn what_is_shed_is_on_record() {
    let mut world = with_gateway("connections_per_source = 1");
    let config = trusting(&roots(world.ca()), "http/1.1");
    let ask = |client: &mut Client| client.ask(&world, "GET /.countersign/jwks.json", "");
    let mut first = Client::connect(&world, &config).unwrap();
    assert!(ask(&mut first).unwrap().0.starts_with("http/1.1 200 "));
    assert!(Client::connect(&world, &config).is_err());
    assert!(ask(&mut first).unwrap().0.starts_with("http/1.1 200 "));
    drop(first);
    world.stop();
    let strangers = events(&world, "strangers");
    let shed = strangers.iter().find(|event| event["problem"] == "busy").unwrap();
    assert_eq!(
        (&shed["count"], &shed["source"]),
        (&Value::from(1), &Value::from("127.0.0.0/24"))
    );
}
