//! Mints per CPU-second: `cargo bench --bench mint`.
//!
//! One thread chooses and signs proxies, as a request does after its receipt; writing the `mint` record and the row of
//! the map are left out (they are measured with the log and the store). Time is the thread's own processor time, so a
//! busy machine does not change the result much. RSA keys are made beforehand, as the pool does; what making one costs is
//! shown too. The bounds of 10,000 mints with P-256 and 1,500 with RSA-2048 are checked.
//!
//! With `-- --beside` the same is asked of `grid-proxy-init` and `myproxy-logon` in the same run: one after the other, by
//! the clock, with a MyProxy server on loopback (`tests/peers/grid`). They read and write files, and the latter speaks over
//! a network, so the figures say what a grid does without a gateway, not how good its code is.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench reports to the terminal and stops at the first failure"
)]

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::audit::{Audit, Config, LogKey, Receipt};
use countersign::clock::SystemClock;
use countersign::delegate::mint::{Durable, Issuer, KeyPair, MintError, choose};
use countersign::id::{Ids, SystemSource};
use countersign::record::{Entry, PlaceEntry, SubjectEntry};
use countersign::tool::ProxySettings;
use countersign::trust::certificate::{Source, check};

/// Fewest mints per CPU-second, with P-256 for both keys and with RSA for both.
const TARGETS: [f64; 2] = [10_000.0, 1_500.0];
/// How often a program of the grid is asked.
const ASKED: u32 = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receipt = receipt(&ids, folder.path()).await;
    let ec = (
        include_str!("../certs/vo-ec.pem"),
        include_str!("../certs/vo-ec.key"),
    );
    let rsa = (
        include_str!("../certs/vo-rsa.pem"),
        include_str!("../certs/vo-rsa.key"),
    );
    // `cargo test --benches` runs this too: then once, for its form only.
    let (fast, slow) = match std::env::args().any(|argument| argument == "--bench") {
        true => (20_000, 1_000),
        false => (20, 2),
    };
    let p256 = mints(
        "VO key P-256, proxy key P-256",
        &issuer(ec, &ids),
        &ids,
        &receipt,
        fast,
        KeyPair::p256,
    );
    mints(
        "VO key RSA-2048, proxy key P-256",
        &issuer(rsa, &ids),
        &ids,
        &receipt,
        fast / 5,
        KeyPair::p256,
    );
    let begun = processor_time();
    let mut ready: VecDeque<KeyPair> = (0..slow).map(|_| KeyPair::rsa2048().expect("a key")).collect();
    let making = processor_time().saturating_sub(begun).as_secs_f64() / f64::from(slow);
    let name = "VO key RSA-2048, proxy key RSA-2048 made beforehand";
    let rsa = mints(name, &issuer(rsa, &ids), &ids, &receipt, slow, || {
        ready.pop_front().ok_or(MintError::NoKeyReady)
    });
    println!("making an RSA-2048 key: {:.1} a CPU-second", 1.0 / making);
    if std::env::args().any(|argument| argument == "--beside") {
        beside();
    }
    for (name, rate, target) in [("P-256", p256, TARGETS[0]), ("RSA", rsa, TARGETS[1])] {
        assert!(
            fast < 100 || rate >= target,
            "{rate:.0} {name} mints per CPU-second are fewer than {target:.0}"
        );
    }
}

fn mints(
    name: &str,
    issuer: &Arc<Issuer>,
    ids: &Ids,
    receipt: &Receipt,
    rounds: u32,
    mut key: impl FnMut() -> Result<KeyPair, MintError>,
) -> f64 {
    let settings = ProxySettings::default();
    let begun = processor_time();
    for _ in 0..rounds {
        let now = ids.clock().now();
        let chosen = choose(
            receipt.request(),
            issuer,
            &settings,
            &mut key,
            now,
            &**ids.random(),
        );
        black_box(
            chosen
                .expect("chosen")
                .sign(&Durable::by(receipt))
                .expect("signed"),
        );
    }
    let seconds = processor_time().saturating_sub(begun).as_secs_f64();
    let rate = f64::from(rounds) / seconds.max(1e-9);
    println!(
        "{name}: {rate:.0} mints per CPU-second ({rounds} mints, {:.1} us each)",
        1e6 / rate
    );
    rate
}

/// A grid's own programs, each asked one time after the other, with RSA-2048 for all keys.
fn beside() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = Peer::start(folder.path());
    let (certificate, key) = (peer.said("VO_RSA"), peer.said("VO_RSA_KEY"));
    let out = folder.path().join("proxy.pem");
    let file = out.to_str().expect("a path");
    let make = [
        "-cert",
        &certificate,
        "-key",
        &key,
        "-bits",
        "2048",
        "-valid",
        "1:0",
        "-q",
        "-out",
        file,
    ];
    timed("grid-proxy-init", || peer.run("grid-proxy-init", &make, None));
    // The long-lived one that `myproxy-logon` gets its proxies from.
    let (host, port) = (peer.said("HOST"), peer.said("MYPROXY_PORT"));
    let at = ["-s", &host, "-p", &port, "-l", "bench", "-S"];
    peer.run(
        "myproxy-init",
        &[&at[..], &["-c", "12", "-t", "1"]].concat(),
        Some(file),
    );
    let logon = [&at[..], &["-t", "1", "-o", file]].concat();
    timed("myproxy-logon", || peer.run("myproxy-logon", &logon, None));
}

fn timed(name: &str, mut once: impl FnMut()) {
    let begun = Instant::now();
    (0..ASKED).for_each(|_| once());
    let rate = f64::from(ASKED) / begun.elapsed().as_secs_f64();
    println!("{name}: {rate:.1} proxies per second by the clock ({ASKED} of them)");
}

/// A MyProxy server, its authority and a VO's certificate.
struct Peer {
    folder: std::path::PathBuf,
    said: String,
}

impl Peer {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/grid");

    fn start(folder: &std::path::Path) -> Self {
        let folder = folder.join("grid");
        let mut up = Command::new(Self::SCRIPT);
        up.arg("up").arg(&folder).env("PEERS", "myproxy");
        up.env("PEER_OWNER", std::process::id().to_string());
        assert!(
            up.status().expect("tests/peers/grid runs").success(),
            "tests/peers/install grid"
        );
        let said = std::fs::read_to_string(folder.join("env")).expect("what it said");
        Self { folder, said }
    }

    fn said(&self, name: &str) -> String {
        let mut lines = self.said.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(key, _)| *key == name)
            .expect("a line of what it said")
            .1
            .to_owned()
    }

    /// Runs a program of the grid with the pass phrase, and with `proxy` as its own credential.
    fn run(&self, program: &str, arguments: &[&str], proxy: Option<&str>) {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("X509_CERT_DIR", self.said("TRUST"))
            .env("HOME", &self.folder);
        if let Some(proxy) = proxy {
            for name in ["X509_USER_CERT", "X509_USER_KEY", "X509_USER_PROXY"] {
                command.env(name, proxy);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|_| panic!("`{program}` is missing: tests/peers/install grid"));
        let mut phrase = child.stdin.take().expect("its input");
        phrase.write_all(b"a pass phrase\n").expect("written");
        drop(phrase);
        let done = child.wait_with_output().expect("it ends");
        assert!(
            done.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new(Self::SCRIPT).arg("down").arg(&self.folder).status();
    }
}

fn issuer(pair: (&str, &str), ids: &Ids) -> Arc<Issuer> {
    let (certificate, key) = (
        Source {
            name: "vo.pem",
            text: pair.0,
        },
        Source {
            name: "vo.key",
            text: pair.1,
        },
    );
    let checked = check(certificate, key, &**ids.clock()).expect("a good certificate");
    let signer = checked.signer().expect("a good key");
    Arc::new(Issuer::new(
        checked.facts().clone(),
        checked.chain().to_vec(),
        signer,
    ))
}

/// A real receipt: nothing is signed without one, not even here.
async fn receipt(ids: &Ids, folder: &std::path::Path) -> Receipt {
    let config = Config {
        folder: folder.join("log"),
        allow_any_fs: true,
        min_free_bytes: 0,
        stop_free_bytes: 0,
        segment_bytes: 1 << 20,
        ..Config::default()
    };
    let key = LogKey::generate(&**ids.random()).expect("a log key");
    let opened = Audit::open(config, key, "bench/log", ids.clone()).expect("a log");
    let entry = Entry {
        request: ids.next().expect("an id"),
        trace: None,
        subject: SubjectEntry::default(),
        place: PlaceEntry::default(),
        parameters: BTreeMap::new(),
        resource: None,
        decision: None,
        delegation: None,
        source: "local".to_owned(),
        no_outcome: false,
    };
    opened.audit.intent(entry, Vec::new()).await.expect("a receipt")
}

/// Processor time of this thread (the first field of its schedule statistics, in nanoseconds).
fn processor_time() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedule statistics");
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}
