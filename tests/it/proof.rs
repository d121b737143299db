//! Feature row I5: what somebody can check who has public keys and a checkpoint, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::sync::Arc;

use serde_json::Value;

use countersign::audit::prove::{Place, ProveError, prove as prove_record};
use countersign::audit::verify::{Against, Report, VerifyError, verify_against};
use countersign::audit::witness::{Witness, WitnessSigner};
use countersign::audit::{Audit, Checkpoint, Config, LogKey, Restored, VerifyingKey};
use countersign::clock::SystemClock;
use countersign::id::{Ids, SystemSource};
use countersign::record::{Event, Hash, Start};

use crate::world::{Ran, World, run_in};

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `audit verify` with the noted key and more.
pub fn verify(world: &World, more: &[&str]) -> Ran {
    let (data, key) = (world.data(), world.data().join("keys/log.pub"));
    let args = ["audit", "verify", "--data", text(&data), "--key", text(&key)];
    run_in(world.dir.path(), &[&args[..], more].concat())
}

/// `audit prove` by the administrator; the file.
pub fn prove(world: &World, name: &str, args: &[&str]) -> (PathBuf, Ran) {
    let file = world.dir.path().join(name);
    let ran = world.cli(
        "admin",
        &[&["audit", "prove"][..], args, &["--output", text(&file)]].concat(),
    );
    (file, ran)
}

/// `audit check-proof` somewhere else: with the files that are named and nothing more.
pub fn check(proof: &Path, key: &Path, more: &[&str]) -> Ran {
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

    // The mint record, which a provider is handed; and the checkpoint that a trace carries pins both.
    let (mint, ran) = prove(&world, "mint", &[&id, "--vo", "imense", "--event", "mint"]);
    ran.ok();
    let mint = check(&mint, &key, &["--json"]).ok().json();
    let serial = mint["shows"]["record"]["event"]["mint"]["serial"]
        .as_str()
        .unwrap()
        .to_owned();
    let kept = world.dir.path().join("case.txt");
    let traced = ["trace", &serial, "--vo", "imense", "--checkpoint", text(&kept)];
    let said = world.cli("admin", &traced).ok().stdout;
    assert!(said.contains("Log checkpoint of "), "{said}");
    assert!(
        Checkpoint::parse(&fs::read_to_string(&kept).unwrap())
            .unwrap()
            .size
            > mint["shows"]["index"].as_u64().unwrap()
    );
    verify(&world, &["--checkpoint", text(&kept)]).ok();

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
    assert_eq!(tasks.iter().filter(|task| **task == "audit.prove").count(), 4);
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
    let record = String::from_utf8(record).unwrap();
    let seq = serde_json::from_str::<Value>(&record).unwrap()["seq"]
        .as_u64()
        .unwrap();
    let changed = record.replacen("granted", "grunted", 1);
    let checked = [&bytes[head + 4..head + 12], changed.as_bytes()].concat();
    bytes.splice(head + 16..head + 16 + length, changed.into_bytes());
    bytes[head + 12..head + 16].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let ran = verify(&world, &["--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("was changed"), "{}", ran.stderr);
    let between = &ran.json()["first_bad_between"];
    let (from, before) = (between[0].as_u64().unwrap(), between[1].as_u64().unwrap());
    assert!((from..before).contains(&seq), "{seq} in {between}");
    let data = world.data();
    let (_, ran) = prove(&world, "altered", &[&id, "--data", text(&data)]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("audit verify"), "{}", ran.stderr);
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
        self.write_with(records, None).await;
    }

    async fn write_with(&self, records: u64, outside: Option<PathBuf>) {
        let config = Config {
            folder: self.path(),
            outside,
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
        self.against(Against {
            since: Some(since),
            ..Against::default()
        })
    }

    fn against(&self, against: Against<'_>) -> Result<Report, VerifyError> {
        let key = VerifyingKey::load(&self.folder.path().join("log.pub")).unwrap();
        verify_against(&self.path(), &key, against, |_| {})
    }

    /// An older copy, to be gone on with by somebody who has the key.
    fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = format!("{}/.", self.folder.path().display());
        let done = Command::new("cp").args(["-a", &from]).arg(folder.path()).status();
        assert!(done.unwrap().success());
        Self { folder }
    }

    /// Puts the cosignature of a witness beside the log: what it has of each epoch.
    fn cosigned(&self, witness: &Witness, checkpoints: &[&Checkpoint]) {
        let mut text = String::new();
        for checkpoint in checkpoints {
            let answer = witness.add_checkpoint(format!("old 0\n\n{}", checkpoint.note).as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.body);
            text.push_str(&format!("{}{}\n", checkpoint.note, answer.body));
        }
        fs::write(self.path().join("cosignatures"), text).unwrap();
    }

    /// A witness that trusts it, whose operator has accepted its later epochs.
    fn witness(&self) -> Witness {
        let key = VerifyingKey::load(&self.folder.path().join("log.pub")).unwrap();
        let signer = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        let state = self.folder.path().join("state");
        Witness::open(signer, vec![key], &state, SystemClock::shared())
            .unwrap()
            .accepting((2..10).map(|epoch| format!("{ORIGIN}/{epoch}")).collect())
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

/// A log, and a fork of it: an older copy of it that was gone on with.
async fn forked() -> (Log, Log) {
    let log = Log::new(300).await;
    let fork = log.copied();
    log.write(300).await;
    fork.write(3_000).await;
    (log, fork)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_checkpoint_than_that_to_begin_from_is_compared_all_the_same_and_finds_a_fork() {
    let (log, fork) = forked().await;
    let (kept, newest) = (log.checkpoint(), fork.checkpoint());
    let both = |outside, since| Against {
        outside: Some(outside),
        since: Some(since),
        ..Against::default()
    };
    let begun = fork.since(&newest).unwrap().since.unwrap().1;
    assert!(
        begun > kept.size,
        "{begun}: it lies before the segment that is begun with"
    );
    for against in [both(&kept, &newest), both(&newest, &kept)] {
        let found = fork.against(against);
        assert!(matches!(found, Err(VerifyError::Root { .. })), "{found:?}");
    }
    // Both of the log itself: both are compared, and said to be.
    let older = log.checkpoint();
    log.write(3_000).await;
    let report = log.against(both(&older, &log.checkpoint())).unwrap();
    assert!(report.is_held(&older) && report.is_held(&log.checkpoint()));
    // A cosigned one is not passed over either.
    fs::write(fork.path().join("cosignatures"), format!("{}\n", kept.note)).unwrap();
    let found = fork.since(&newest);
    assert!(matches!(found, Err(VerifyError::Root { .. })), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_an_earlier_epoch_than_that_to_begin_from_is_compared_all_the_same() {
    let (log, fork) = forked().await;
    let (kept, last) = (log.checkpoint(), fork.checkpoint());
    fs::remove_file(segments(&fork.path()).pop().unwrap()).unwrap();
    fork.write(100).await;
    assert_eq!(fork.checkpoint().epoch, 2);
    for outside in [&kept, &last] {
        let found = fork.against(Against {
            outside: Some(outside),
            since: Some(&fork.checkpoint()),
            ..Against::default()
        });
        assert!(
            matches!(
                found,
                Err(VerifyError::Root { .. } | VerifyError::Record { .. } | VerifyError::Cut { .. })
            ),
            "{found:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigned_checkpoint_of_an_epoch_without_files_is_an_error() {
    let log = Log::new(100).await;
    let older = log.copied();
    fs::remove_file(segments(&log.path()).pop().unwrap()).unwrap();
    log.write(100).await;
    let (witness, later) = (log.witness(), log.checkpoint());
    assert_eq!(later.epoch, 2);
    older.cosigned(&witness, &[&older.checkpoint(), &later]);
    for against in [
        Against::default(),
        Against {
            witnesses: slice::from_ref(witness.key()),
            ..Against::default()
        },
        Against {
            since: Some(&older.checkpoint()),
            ..Against::default()
        },
    ] {
        let found = older.against(against);
        assert!(matches!(found, Err(VerifyError::Epoch(2))), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_does_not_make_a_log_good_that_was_rolled_back_before_it_began() {
    let log = Log::new(300).await;
    let (older, fork) = (log.copied(), log.copied());
    fork.write(100).await;
    log.write(600).await;
    for rolled_back in [older, fork] {
        let kept = rolled_back.folder.path().join("kept");
        fs::write(&kept, &log.checkpoint().note).unwrap();
        rolled_back.write_with(100, Some(kept)).await;
        assert_eq!(rolled_back.checkpoint().epoch, 2);
        let witness = rolled_back.witness();
        rolled_back.cosigned(&witness, &[&rolled_back.checkpoint()]);
        let report = rolled_back
            .against(Against {
                witnesses: slice::from_ref(witness.key()),
                ..Against::default()
            })
            .unwrap();
        let damage = report.earlier[0].damage.clone().unwrap_or_default();
        assert!(damage.contains("epoch 1 was cut or replaced"), "{damage}");
        assert_eq!(report.cosigned.len(), 1);
        assert_eq!(
            report.alone,
            [1],
            "the word for the second epoch is none for the first"
        );
        let found = rolled_back.against(Against {
            outside: Some(&log.checkpoint()),
            ..Against::default()
        });
        assert!(matches!(found, Err(VerifyError::Cut { .. })), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosigned_checkpoint_of_an_epoch_that_ended_counts_as_one_that_was_kept_elsewhere() {
    let log = Log::new(300).await;
    let first = log.checkpoint();
    fs::remove_file(segments(&log.path()).pop().unwrap()).unwrap();
    log.write(100).await;
    let witness = log.witness();
    log.cosigned(&witness, &[&first, &log.checkpoint()]);
    assert!(
        log.against(Against::default()).unwrap().earlier[0]
            .damage
            .is_some()
    );
    let found = log.against(Against {
        witnesses: slice::from_ref(witness.key()),
        ..Against::default()
    });
    assert!(found.is_err(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_ended_whole_has_the_head_that_the_next_one_names() {
    let log = Log::new(300).await;
    let first = log.checkpoint();
    Restored {
        epoch: 7,
        reason: "restored from a backup".into(),
        key: None,
    }
    .mark(
        &log.path(),
        &LogKey::load(&log.folder.path().join("log.key")).unwrap(),
        ORIGIN,
    )
    .unwrap();
    log.write(100).await;
    assert_eq!(log.checkpoint().epoch, 7);
    let report = log.against(Against::default()).unwrap();
    assert_eq!(
        (report.earlier[0].records, &report.earlier[0].damage),
        (first.size, &None)
    );
    assert_eq!(report.alone, [1, 7]);
    let report = log.since(&first).unwrap();
    assert_eq!((&report.earlier[0].damage, report.alone), (&None, vec![7]));
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
    // A log beside which there is such a file is not continued either.
    fs::remove_file(log.path().join("cosignatures")).unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_with_its_checkpoints_is_found_with_a_checkpoint_kept_elsewhere_only() {
    let log = Log::new(300).await;
    let files = |log: &Log| segments(&log.path());
    let (before, older) = (files(&log), log.checkpoint());
    let notes = fs::read(log.path().join("checkpoints")).unwrap();
    log.write(300).await;
    let newest = log.checkpoint();
    // Whoever cuts it takes away the files, the checkpoints that speak of them, and the newest one.
    for file in files(&log).iter().filter(|file| !before.contains(file)) {
        fs::remove_file(file).unwrap();
    }
    fs::write(log.path().join("checkpoints"), notes).unwrap();
    fs::write(log.path().join("checkpoint"), &older.note).unwrap();
    let key = VerifyingKey::load(&log.folder.path().join("log.pub")).unwrap();
    let verified = |outside: Option<&Checkpoint>| {
        let against = Against {
            outside,
            ..Against::default()
        };
        verify_against(&log.path(), &key, against, |_| {})
    };
    let alone = verified(None).unwrap();
    assert_eq!((alone.records, alone.outside), (older.size, false));
    assert!(verified(Some(&older)).unwrap().outside);
    let found = verified(Some(&newest));
    assert!(
        matches!(found, Err(VerifyError::Cut { size, records }) if (size, records) == (newest.size, older.size)),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_proved_against_a_checkpoint_of_its_own_epoch_also_when_later_ones_are_lost() {
    let log = Log::new(300).await;
    let before = log.checkpoint().size;
    let whole = segments(&log.path());
    log.write(300).await;
    let lost = log.checkpoint().size - 1;
    // What was acknowledged is missing: a new epoch begins.
    for file in segments(&log.path()).iter().filter(|file| !whole.contains(file)) {
        fs::remove_file(file).unwrap();
    }
    log.write(100).await;
    assert_eq!(log.checkpoint().epoch, 2);
    let key = VerifyingKey::load(&log.folder.path().join("log.pub")).unwrap();
    let proved = |epoch, seq| {
        let proof = prove_record(&log.path(), Place { epoch, seq })?;
        let proved = proof.check(&key, &[]).unwrap();
        assert_eq!((proved.epoch, proved.index), (epoch, seq));
        Ok(proved.size)
    };
    assert_eq!(proved(2, 0).unwrap(), log.checkpoint().size);
    assert_eq!(proved(1, before - 1).unwrap(), before);
    assert!(proved(1, 0).unwrap() <= before);
    assert!(
        matches!(proved(1, lost), Err(ProveError::Damaged(_))),
        "what is lost is not proved"
    );
    assert!(matches!(proved(1, lost + 1), Err(ProveError::NotCovered { .. })));
    assert!(matches!(proved(3, 0), Err(ProveError::Epoch(3))));
}

/// The segments of a log, in order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|ending| ending == "log"))
        .collect();
    files.sort();
    files
}

#[test]
fn verify_says_from_where_it_read_and_which_checkpoints_speak_for_the_log() {
    let mut world = World::start();
    world.admin();
    world.stop();
    let kept = world.dir.path().join("kept");
    fs::copy(world.data().join("log/checkpoint"), &kept).unwrap();
    world.serve();
    world.stop();
    let shown = verify(&world, &["--json"]).ok().json();
    assert_eq!((&shown["alone"], &shown["since"]), (&true.into(), &Value::Null));
    let shown = verify(&world, &["--since", text(&kept), "--json"]).ok().json();
    assert_eq!(
        (&shown["alone"], &shown["since"]["elsewhere"]),
        (&false.into(), &true.into())
    );
    let from = shown["report"]["read_from"].as_str().unwrap().to_owned();
    let said = verify(&world, &["--since", text(&kept)]).ok().stdout;
    assert!(
        said.contains(&format!("What is before record {from} was not read")),
        "{said}"
    );
    // One out of the folder itself speaks for nothing.
    let own = world.data().join("log/checkpoint");
    let shown = verify(&world, &["--since", text(&own), "--json"]).ok().json();
    assert_eq!(shown["alone"], true);
    let changed = fs::read_to_string(&kept)
        .unwrap()
        .replace("gw.localhost/log/1\n", "gw.localhost/log/2\n");
    fs::write(&kept, changed).unwrap();
    assert_eq!(verify(&world, &["--since", text(&kept)]).code, 1);
    let ran = verify(&world, &["--witness-key", "nobody"]);
    assert_ne!(ran.code, 0);
}
