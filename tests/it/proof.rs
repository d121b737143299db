//! Feature row I5: what somebody can check who has public keys and a checkpoint, and nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use countersign::audit::verify::{Against, Report, VerifyError, verify_against};
use countersign::audit::{Audit, Checkpoint, Config, LogKey, VerifyingKey};
use countersign::clock::SystemClock;
use countersign::id::{Ids, SystemSource};
use countersign::record::{Event, Hash, Start};

use crate::world::{COUNTERSIGN, PASSWORD, Ran, World, run_in, until};

/// A witness in a process of its own, with its folder.
struct Witness {
    folder: PathBuf,
    child: Child,
    url: String,
}

impl Witness {
    /// Starts one that trusts the log of this world.
    fn start(world: &World) -> Self {
        let folder = world.dir.path().join("witness");
        fs::create_dir_all(&folder).unwrap();
        let key = folder.join("witness.key");
        let init = [
            "witness",
            "init",
            "--name",
            "witness.example.org",
            "--key",
            text(&key),
        ];
        run_in(world.dir.path(), &init).ok();
        let (child, url) = serve(&folder, &world.data().join("keys/log.pub"), "127.0.0.1:0");
        Self { folder, child, url }
    }

    /// The settings of a gateway that asks it every second.
    fn settings(&self) -> String {
        let key = fs::read_to_string(self.key()).unwrap();
        format!(
            "[audit.witness]\nurl = \"{}\"\nkey = \"{}\"\nevery = \"1s\"\n",
            self.url,
            key.trim()
        )
    }

    fn key(&self) -> PathBuf {
        self.folder.join("witness.pub")
    }

    /// Ends it, and starts it again at the same place.
    fn restart(&mut self, world: &World) {
        self.end();
        let listen = self.url.trim_start_matches("http://").to_owned();
        (self.child, self.url) = serve(&self.folder, &world.data().join("keys/log.pub"), &listen);
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The newest checkpoint that it cosigned of the first epoch.
    fn seen(&self) -> PathBuf {
        self.folder.join("state/gw.localhost%2flog%2f1.checkpoint")
    }

    /// Sends it a body; gives status, content type and answer.
    fn ask(&self, body: &str) -> (String, String) {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--data-binary",
                body,
                "-w",
                "\n%{http_code} %{content_type}",
            ])
            .arg(format!("{}/add-checkpoint", self.url))
            .output()
            .expect("curl runs (apt-get install curl)");
        let text = String::from_utf8(output.stdout).unwrap();
        let (answer, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), answer.to_owned())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(folder: &Path, log: &Path, listen: &str) -> (Child, String) {
    let mut child = Command::new(COUNTERSIGN)
        .args(["witness", "serve", "--listen", listen])
        .arg("--key")
        .arg(folder.join("witness.key"))
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--log-key")
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line
        .trim()
        .strip_prefix("witnessing on ")
        .expect(&line)
        .to_owned();
    (child, url)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A world with a witness from the start.
fn witnessed() -> (World, Witness) {
    let mut world = World::initialised();
    let witness = Witness::start(&world);
    add_settings(&world, &witness.settings());
    world.serve();
    (world, witness)
}

fn add_settings(world: &World, settings: &str) {
    let file = world.data().join("countersign.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(&format!("\n{settings}"));
    fs::write(&file, text).unwrap();
}

fn size(file: &Path) -> u64 {
    Checkpoint::parse(&fs::read_to_string(file).unwrap())
        .unwrap()
        .size
}

/// Waits until the witness has cosigned more than `records`, and the gateway knows.
fn cosigned(world: &World, witness: &Witness, records: u64) -> u64 {
    until("a cosignature", || {
        let kept = fs::read_to_string(world.data().join("log/cosignatures")).ok()?;
        let known = Checkpoint::parse(kept.trim_end()).ok()?.size;
        assert!(size(&witness.seen()) >= known, "told before it was kept");
        (known > records).then_some(known)
    })
}

/// `audit verify` with the noted key and more.
fn verify(world: &World, more: &[&str]) -> Ran {
    let (data, key) = (world.data(), world.data().join("keys/log.pub"));
    let args = ["audit", "verify", "--data", text(&data), "--key", text(&key)];
    run_in(world.dir.path(), &[&args[..], more].concat())
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// `audit prove` by the administrator; the file.
fn prove(world: &World, name: &str, args: &[&str]) -> (PathBuf, Ran) {
    let file = world.dir.path().join(name);
    let ran = world.cli(
        "admin",
        &[&["audit", "prove"][..], args, &["--output", text(&file)]].concat(),
    );
    (file, ran)
}

/// `audit check-proof` somewhere else: with the files that are named and nothing more.
fn check(proof: &Path, key: &Path, more: &[&str]) -> Ran {
    let elsewhere = tempfile::tempdir().unwrap();
    let args = ["audit", "check-proof", text(proof), "--key", text(key)];
    run_in(elsewhere.path(), &[&args[..], more].concat())
}

#[test]
fn i5_a_record_is_proved_to_somebody_who_has_only_the_logs_public_key() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    let key = world.dir.path().join("noted.pub");
    fs::copy(world.data().join("keys/log.pub"), &key).unwrap();

    let (proof, ran) = prove(&world, "intent", &[&id, "--vo", "imense"]);
    ran.ok();
    assert!(fs::metadata(&proof).unwrap().len() < 6_000);
    let shown = check(&proof, &key, &["--json"]).ok().json();
    assert_eq!(shown["ok"], true);
    let shows = &shown["shows"];
    assert_eq!(
        (&shows["log"], &shows["epoch"]),
        (&"gw.localhost/log".into(), &1.into())
    );
    assert_eq!(shows["record"]["event"]["intent"]["request"], id.as_str());
    assert_eq!(shows["record"]["seq"], shows["index"]);
    let said = check(&proof, &key, &[]).ok().stdout;
    assert!(
        said.contains("The proof holds.") && said.contains("Cosigned  by nobody"),
        "{said}"
    );

    // By its place it is the same record, and so it is by the files.
    let place = format!("1.{}", shows["index"]);
    let (by_place, ran) = prove(&world, "place", &[&place, "--vo", "imense"]);
    ran.ok();
    let data = world.data();
    let (offline, ran) = prove(&world, "offline", &[&id, "--data", text(&data)]);
    ran.ok();
    for other in [&by_place, &offline] {
        let other = check(other, &key, &["--json"]).ok().json();
        assert_eq!(other["shows"]["record"], shows["record"]);
    }
    let (outcome, ran) = prove(&world, "outcome", &[&id, "--vo", "imense", "--event", "outcome"]);
    ran.ok();
    let outcome = check(&outcome, &key, &["--json"]).ok().json();
    assert_eq!(outcome["shows"]["record"]["event"]["outcome"]["status"], 200);

    // Whoever alters it, or has another key, learns what is wrong.
    let text_of = fs::read_to_string(&proof).unwrap();
    let altered = world.dir.path().join("altered");
    fs::write(&altered, text_of.replacen("index ", "index 1", 1)).unwrap();
    let ran = check(&altered, &key, &["--json"]);
    assert_eq!((ran.code, ran.json()["ok"].clone()), (1, false.into()));
    assert!(ran.stderr.contains("was changed"), "{}", ran.stderr);
    let other = LogKey::generate(&SystemSource::new())
        .unwrap()
        .public("gw.localhost/log");
    let ran = run_in(
        world.dir.path(),
        &["audit", "check-proof", text(&proof), "--key", &other.to_string()],
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("not signed by the log's key"),
        "{}",
        ran.stderr
    );

    // Proving is a task of its own, and on record.
    let tasks: Vec<Value> = world
        .records()
        .into_iter()
        .map(|record| record["event"]["intent"]["place"]["task"].clone())
        .collect();
    assert_eq!(tasks.iter().filter(|task| **task == "audit.prove").count(), 3);
}

#[test]
fn records_are_proved_to_administrators_of_their_own_vo_only() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]).person("anna", &[]);
    world.segmentation();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    world.cli("admin", &["vo", "create", "other"]).ok();
    prove(&world, "own", &[&id, "--vo", "imense"]).1.ok();
    let place = {
        let data = world.data();
        let offline = world.cli("admin", &["audit", "prove", &id, "--data", text(&data), "--json"]);
        offline.ok().json()["record"].as_str().unwrap().to_owned()
    };
    for args in [
        vec![id.as_str(), "--vo", "other"],
        vec![place.as_str(), "--vo", "other"],
        vec![id.as_str()],
        vec![place.as_str()],
        vec!["1.99999999", "--vo", "imense"],
        vec!["7.1", "--vo", "imense"],
    ] {
        let (_, ran) = prove(&world, "refused", &args);
        assert_eq!(ran.code, 4, "{args:?}: {}", ran.stderr);
    }
    for user in ["john", "anna"] {
        let ran = world.cli(user, &["audit", "prove", &id, "--vo", "imense"]);
        assert_eq!(ran.code, 3, "{user}: {}", ran.stderr);
    }
    // The gateway's own level is for its administrators: the first record of a start, for example.
    let own = world.cli_json("admin", &["audit", "search", "--event", "start"]);
    let start = format!("1.{}", own["records"][0]["seq"]);
    prove(&world, "start", &[&start]).1.ok();
    assert_eq!(prove(&world, "start", &[&start, "--vo", "imense"]).1.code, 4);
    for wrong in [vec!["4711"], vec!["1.x"], vec!["1.2", "--event", "intent"]] {
        assert_eq!(prove(&world, "wrong", &wrong).1.code, 2, "{wrong:?}");
    }
}

#[test]
fn i5_an_altered_record_is_found_and_nothing_is_proved_from_it() {
    let mut world = World::start();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    world.stop();
    verify(&world, &[]).ok();
    let holds = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(id.len()).any(|window| window == id.as_bytes())
    };
    let files = fs::read_dir(world.data().join("log")).unwrap();
    let file = files.map(|file| file.unwrap().path()).find(holds).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes
        .windows(id.len())
        .position(|window| window == id.as_bytes())
        .unwrap();
    // Somebody who knows the form of the file makes the frame's own checksum right again.
    let head = bytes[..at]
        .windows(4)
        .rposition(|window| window == b"\xc5fr1")
        .unwrap();
    let length = u32::from_le_bytes(bytes[head + 4..head + 8].try_into().unwrap()) as usize;
    let record = bytes[head + 16..head + 16 + length].to_vec();
    let changed = String::from_utf8(record)
        .unwrap()
        .replacen("granted", "grunted", 1);
    let checked = [&bytes[head + 4..head + 12], changed.as_bytes()].concat();
    bytes.splice(head + 16..head + 16 + length, changed.into_bytes());
    bytes[head + 12..head + 16].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let ran = verify(&world, &[]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("was changed"), "{}", ran.stderr);
    let data = world.data();
    let (_, ran) = prove(&world, "altered", &[&id, "--data", text(&data)]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("audit verify"), "{}", ran.stderr);
}

#[test]
fn a_witness_cosigns_a_log_that_grows_and_proofs_and_verification_show_it() {
    let (mut world, witness) = witnessed();
    world.admin().person("john", &["scientist"]);
    world.segmentation();
    let id = world.tool("john", "GET", "/jobs", None).expect(200).request_id();
    let now = until("records under a checkpoint", || {
        Some(size(&world.data().join("log/checkpoint"))).filter(|size| *size > 10)
    });
    let known = cosigned(&world, &witness, now);
    let (key, witness_key) = (world.data().join("keys/log.pub"), witness.key());
    let with_witness = ["--witness-key", text(&witness_key)];

    let (proof, ran) = prove(&world, "cosigned", &[&id, "--vo", "imense"]);
    ran.ok();
    let shows = check(&proof, &key, &[&with_witness[..], &["--json"]].concat())
        .ok()
        .json()["shows"]
        .clone();
    assert!(shows["size"].as_u64().unwrap() >= known);
    assert_eq!(shows["cosigned"][0]["witness"], "witness.example.org");
    let shows = check(&proof, &key, &["--json"]).ok().json()["shows"].clone();
    assert_eq!(shows["unchecked"], serde_json::json!(["witness.example.org"]));

    let said = verify(&world, &with_witness).ok().stdout;
    assert!(said.contains("witness.example.org saw the first"), "{said}");
    let said = verify(&world, &[]).ok().stdout;
    assert!(
        said.contains("NOT checked") && said.contains("Outside checkpoint  none"),
        "{said}"
    );
    let seen = witness.seen();
    let said = verify(&world, &["--checkpoint", text(&seen)]).ok().stdout;
    assert!(said.contains("were not changed since"), "{said}");
    assert!(
        world
            .metric("countersign_audit_witness_total{result=\"cosigned\"} ")
            .unwrap()
            >= 1
    );
    assert!(world.metric("countersign_audit_cosigned_records ").unwrap() >= known);

    // Without its word there is none.
    world.stop();
    fs::remove_file(world.data().join("log/cosignatures")).unwrap();
    verify(&world, &[]).ok();
    let ran = verify(&world, &with_witness);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("witness.example.org"), "{}", ran.stderr);
}

/// The log is put back to an older state, or made anew; the witness refuses it, and its checkpoint finds it.
fn refused_by_the_witness(world: &mut World, witness: &Witness, change: impl FnOnce(&World)) {
    let known = size(&witness.seen());
    world.stop();
    change(world);
    world.serve();
    let conflict = until("the witness to refuse", || {
        let records = world.records();
        let found = records
            .into_iter()
            .map(|record| record["event"]["witness"].clone());
        found.into_iter().find(|event| event["problem"] == "conflict")
    });
    assert_eq!(conflict["witness"], "witness.example.org");
    assert!(
        world
            .metric("countersign_audit_witness_total{result=\"conflict\"} ")
            .unwrap()
            >= 1
    );
    assert!(world.log().contains("does not cosign"), "{}", world.log());
    // The requests do not wait for it.
    world.login("admin", PASSWORD).ok();
    world.stop();
    assert_eq!(size(&witness.seen()), known, "the witness keeps what it saw");
    let said = verify(world, &[]).ok().stdout;
    assert!(
        said.contains("Outside checkpoint  none"),
        "by itself it looks whole: {said}"
    );
    let (seen, data) = (witness.seen(), world.data());
    let ran = verify(world, &["--checkpoint", text(&seen)]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    // The gateway wrote that it was refused once, however often it asked.
    let said = run_in(
        world.dir.path(),
        &["audit", "tail", "--data", text(&data), "--all"],
    )
    .ok()
    .stdout;
    assert_eq!(
        said.lines().filter(|line| line.contains(" witness ")).count(),
        1,
        "{said}"
    );
}

#[test]
fn a_log_rolled_back_to_an_older_state_is_refused_by_the_witness_and_found_with_its_checkpoint() {
    let (mut world, mut witness) = witnessed();
    world.admin();
    cosigned(&world, &witness, 4);
    world.stop();
    let older = world.dir.path().join("older");
    copy(&world.data().join("log"), &older);
    world.serve();
    world.login("admin", PASSWORD).ok();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        world.cli("admin", &["vo", "create", name]).ok();
    }
    cosigned(&world, &witness, size(&older.join("checkpoint")) + 16);
    witness.restart(&world);
    refused_by_the_witness(&mut world, &witness, |world| {
        fs::remove_dir_all(world.data().join("log")).unwrap();
        copy(&older, &world.data().join("log"));
    });
}

#[test]
fn a_log_rebuilt_with_its_own_key_is_refused_by_the_witness_and_found_with_its_checkpoint() {
    let (mut world, witness) = witnessed();
    world.admin();
    cosigned(&world, &witness, 4);
    refused_by_the_witness(&mut world, &witness, |world| {
        fs::remove_dir_all(world.data().join("log")).unwrap();
    });
}

#[test]
fn a_witness_that_is_away_costs_cosignatures_and_is_recorded_once() {
    let mut world = World::initialised();
    let mut witness = Witness::start(&world);
    witness.end();
    add_settings(&world, &witness.settings());
    world.serve();
    world.admin();
    let asked = "countersign_audit_witness_total{result=\"unreachable\"} ";
    until("two attempts", || world.metric(asked).filter(|count| *count >= 2));
    let away = |world: &World| {
        let records = world.records();
        let found = records
            .iter()
            .filter(|record| record["event"]["witness"]["problem"] == "unreachable");
        found.count()
    };
    until("the record", || (away(&world) == 1).then_some(()));
    witness.restart(&world);
    let known = cosigned(&world, &witness, 0);
    assert!(known > 0 && away(&world) == 1);
    assert!(
        world.log().contains("the witness cosigns again"),
        "{}",
        world.log()
    );
}

#[test]
fn a_witness_that_hangs_holds_up_neither_requests_nor_the_end() {
    let mut world = World::initialised();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut witness = Witness::start(&world);
    witness.end();
    witness.url = format!("http://{}", listener.local_addr().unwrap());
    add_settings(&world, &witness.settings());
    world.serve();
    let (mut stream, _) = listener.accept().unwrap();
    world.admin();
    world.cli("admin", &["vo", "list"]).ok();
    // It goes on saying nothing.
    let started = std::time::Instant::now();
    world.stop();
    assert!(
        started.elapsed().as_secs() < 8,
        "the end waited for the witness: {:?}",
        started.elapsed()
    );
    let _ = stream.write_all(b"");
    verify(&world, &[]).ok();
}

#[test]
fn a_witness_answers_as_the_specification_says_and_only_at_its_one_address() {
    let mut world = World::start();
    let witness = Witness::start(&world);
    world.admin();
    world.stop();
    let note = fs::read_to_string(world.data().join("log/checkpoint")).unwrap();
    let size = Checkpoint::parse(&note).unwrap().size;
    assert_eq!(
        witness.ask(&format!("old {size}\n\n{note}")),
        ("409 text/x.tlog.size".into(), "0\n".into())
    );
    let (status, line) = witness.ask(&format!("old 0\n\n{note}"));
    assert_eq!(status, "200 text/plain; charset=utf-8");
    assert!(
        line.starts_with("\u{2014} witness.example.org ") && line.ends_with('\n'),
        "{line:?}"
    );
    assert_eq!(
        witness.ask(&format!("old {size}\n\n{note}")).0,
        "200 text/plain; charset=utf-8"
    );
    assert!(witness.ask("nonsense").0.starts_with("400 "));
    assert!(witness.ask(&"x".repeat(70_000)).0.starts_with("400 "));
    let unsigned = note.replace(&format!("\n{size}\n"), &format!("\n{}\n", size + 1));
    assert!(
        witness
            .ask(&format!("old {size}\n\n{unsigned}"))
            .0
            .starts_with("403 ")
    );
    let other = note.replace("gw.localhost", "other.localhost");
    assert!(witness.ask(&format!("old 0\n\n{other}")).0.starts_with("404 "));
    let status = |args: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(status(&[&format!("{}/add-checkpoint", witness.url)]), "405");
    assert_eq!(status(&[&witness.url]), "404");
    let more = [
        "witness",
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--state",
        "s",
        "--key",
        "k",
        "--log-key",
        "l",
    ];
    let ran = run_in(world.dir.path(), &more);
    assert_eq!(ran.code, 2, "plain HTTP beyond this machine: {}", ran.stderr);
}

/// A log of several files with its key, made by the library.
struct Log {
    folder: tempfile::TempDir,
}

const ORIGIN: &str = "gw.example.org/log";

impl Log {
    async fn new(records: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        key.save(&folder.path().join("log.key"), ORIGIN).unwrap();
        let log = Self { folder };
        log.write(records).await;
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    async fn write(&self, records: u64) {
        let config = Config {
            folder: self.path(),
            segment_bytes: 256 * 1024,
            min_free_bytes: 0,
            stop_free_bytes: 0,
            allow_any_fs: true,
            ..Config::default()
        };
        let key = LogKey::load(&self.folder.path().join("log.key")).unwrap();
        let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
        let opened = Audit::open(config, key, ORIGIN, ids).unwrap();
        for epoch in 0..records / 100 {
            let event = Event::Start(Start {
                version: "x".repeat(200),
                config: Hash::of(&epoch.to_le_bytes()),
                epoch,
            });
            opened.audit.write_all(vec![event; 100]).await.unwrap();
        }
        opened.audit.close("done").await;
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::parse(&fs::read_to_string(self.path().join("checkpoint")).unwrap()).unwrap()
    }

    fn since(&self, since: &Checkpoint) -> Result<Report, VerifyError> {
        let key = VerifyingKey::load(&self.folder.path().join("log.pub")).unwrap();
        let against = Against {
            since: Some(since),
            ..Against::default()
        };
        verify_against(&self.path(), &key, against, |_| {})
    }

    fn edit(&self, index: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.path().join(format!("{index:010}.log"));
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_since_a_trusted_checkpoint_reads_what_came_after_and_proves_that_it_continues() {
    let log = Log::new(1_500).await;
    let trusted = log.checkpoint();
    log.write(1_500).await;
    let report = log.since(&trusted).unwrap();
    let (epoch, from) = report.since.unwrap();
    assert_eq!(epoch, 1);
    assert!(from > 0 && from <= trusted.size, "{from}");
    assert_eq!(
        (report.records, report.signed),
        (log.checkpoint().size, log.checkpoint().size)
    );
    assert!(report.outside, "the trusted one counts as one from outside");
    assert!(
        log.since(&log.checkpoint()).is_ok(),
        "also when nothing came after"
    );

    // What came before is not looked at, which is what it is for.
    log.edit(0, |bytes| bytes[5000] ^= 1);
    assert_eq!(log.since(&trusted).unwrap().since, Some((1, from)));

    // But a record of the trusted checkpoint's own segment, or the head of that, is.
    assert!(log.path().join("0000000002.log").exists());
    let first = |index: u32| {
        let bytes = fs::read(log.path().join(format!("{index:010}.log"))).unwrap();
        u64::from_le_bytes(bytes[76..84].try_into().unwrap())
    };
    let own = (0..).take_while(|index| log.path().join(format!("{index:010}.log")).exists());
    let own = own.filter(|index| first(*index) <= trusted.size).last().unwrap();
    assert_eq!(first(own), from);
    let whole = fs::read(log.path().join(format!("{own:010}.log"))).unwrap();
    for at in [84, 4096 + 60] {
        log.edit(own, |bytes| {
            bytes[at] ^= 1;
            let crc = crc32fast::hash(&bytes[..4092]).to_le_bytes();
            bytes[4092..4096].copy_from_slice(&crc);
        });
        assert!(log.since(&trusted).is_err(), "byte {at}");
        log.edit(own, |bytes| *bytes = whole.clone());
    }
    assert!(log.since(&trusted).is_ok());

    // A log that does not continue it, one that is shorter, and one of another key.
    let other = Log::new(1_500).await;
    assert!(matches!(other.since(&trusted), Err(VerifyError::Checkpoint(_))));
    log.edit(0, |bytes| bytes[5000] ^= 1);
    let newest = log.checkpoint();
    let rebuilt = Log {
        folder: tempfile::tempdir().unwrap(),
    };
    for name in ["log.key", "log.pub"] {
        fs::copy(log.folder.path().join(name), rebuilt.folder.path().join(name)).unwrap();
    }
    rebuilt.write(4_000).await;
    assert!(
        matches!(rebuilt.since(&trusted), Err(VerifyError::Root { .. })),
        "rebuilt"
    );
    assert!(
        matches!(rebuilt.since(&newest), Err(VerifyError::Root { .. })),
        "rebuilt"
    );
    let short = Log {
        folder: rebuilt.folder,
    };
    fs::remove_dir_all(short.path()).unwrap();
    short.write(100).await;
    assert!(
        matches!(short.since(&newest), Err(VerifyError::Cut { .. })),
        "shorter"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_cosignatures_that_was_changed_is_reported() {
    let log = Log::new(200).await;
    let key = VerifyingKey::load(&log.folder.path().join("log.pub")).unwrap();
    let verified = |text: &str| {
        fs::write(log.path().join("cosignatures"), text).unwrap();
        verify_against(&log.path(), &key, Against::default(), |_| {})
    };
    let note = log.checkpoint().note;
    assert!(verified(&format!("{note}\n")).is_ok());
    assert!(matches!(
        verified("nonsense\n"),
        Err(VerifyError::Cosignatures(_))
    ));
    assert!(
        matches!(verified(&note), Err(VerifyError::Cosignatures(_))),
        "not closed"
    );
    let size = log.checkpoint().size;
    let smaller = note.replace(&format!("\n{size}\n"), &format!("\n{}\n", size - 1));
    assert!(
        matches!(verified(&format!("{smaller}\n")), Err(VerifyError::Checkpoint(_))),
        "unsigned"
    );
    let before = log.checkpoint();
    log.write(100).await;
    let longer = format!("{}\n", log.checkpoint().note);
    assert!(verified(&longer).is_ok());
    fs::remove_dir_all(log.path()).unwrap();
    log.write(100).await;
    assert!(log.checkpoint().size < before.size);
    assert!(
        matches!(verified(&longer), Err(VerifyError::Cut { .. })),
        "a log that is shorter than what was cosigned"
    );
}
