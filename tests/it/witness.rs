//! Witnesses, from the outside: cosignatures of a log that grows, and none of one that was rolled back or rebuilt.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use countersign::audit::Checkpoint;

use crate::proof::{check, prove, text, verify};
use crate::world::{COUNTERSIGN, PASSWORD, World, run_in, until};

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
        let (child, url) = serve(&folder, &world.data().join("keys/log.pub"), "127.0.0.1:0", &[]);
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
        (self.child, self.url) = serve(&self.folder, &world.data().join("keys/log.pub"), &listen, &[]);
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

fn serve(folder: &Path, log: &Path, listen: &str, more: &[&str]) -> (Child, String) {
    let mut child = Command::new(COUNTERSIGN)
        .args(["witness", "serve", "--listen", listen])
        .arg("--key")
        .arg(folder.join("witness.key"))
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--log-key")
        .arg(log)
        .args(more)
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

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
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

    // A gateway that forgot what was cosigned hears it from the witness, and goes on from there.
    world.serve();
    cosigned(&world, &witness, known);
    verify(&world, &with_witness).ok();
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
    let (stream, _) = listener.accept().unwrap();
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
    drop(stream);
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

#[test]
fn a_witness_is_reached_over_https_with_an_authority_that_is_trusted_and_no_other() {
    let mut world = World::initialised();
    let mut witness = Witness::start(&world);
    witness.end();
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (
            world.dir.path().join(format!("{name}.pem")),
            world.dir.path().join(format!("{name}.key")),
        );
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (certificate, key)
    };
    let ((certificate, key), (other, _)) = (made("witness"), made("other"));
    let tls = [
        "--certificate",
        text(&certificate),
        "--certificate-key",
        text(&key),
    ];
    let log = world.data().join("keys/log.pub");
    (witness.child, witness.url) = serve(&witness.folder, &log, "127.0.0.1:0", &tls);
    assert!(witness.url.starts_with("https://"), "{}", witness.url);

    let settings = fs::read_to_string(world.data().join("countersign.toml")).unwrap();
    let with = |authority: &Path| format!("{}ca_file = \"{}\"\n", witness.settings(), authority.display());
    add_settings(&world, &with(&other));
    world.serve();
    let unreachable = "countersign_audit_witness_total{result=\"unreachable\"} ";
    until("an attempt", || {
        world.metric(unreachable).filter(|count| *count > 0)
    });
    assert!(!witness.seen().exists());
    world.stop();
    fs::write(world.data().join("countersign.toml"), settings).unwrap();
    add_settings(&world, &with(&certificate));
    world.serve();
    cosigned(&world, &witness, 0);
    world.stop();

    // Authorities that are none are said before anything starts.
    fs::write(&certificate, "nothing").unwrap();
    let data = world.data();
    let ran = run_in(
        world.dir.path(),
        &["serve", "--check-config", "--data", text(&data)],
    );
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("[audit.witness] ca_file"), "{}", ran.stderr);
}
