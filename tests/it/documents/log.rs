//! Runs the program of `docs/guides/verify_log.py` on real logs, whole and changed, beside our own verifier.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use countersign::audit::key_change::change;
use countersign::audit::verify::verify;
use countersign::audit::{Audit, Checkpoint, Config, LogKey, VerifyingKey};
use countersign::clock::{SystemClock, Timestamp};
use countersign::id::{Ids, SystemSource};
use countersign::record::{Event, Hash, Start};

const ORIGIN: &str = "gw.example.org/log";
const FRAME_HEAD: usize = 16;
const HEADER: usize = 4096;

/// A folder with a log in it that was closed in order.
struct Log {
    folder: tempfile::TempDir,
}

impl Log {
    /// A log of several files.
    async fn written() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
        LogKey::generate(&**ids.random())
            .unwrap()
            .save(&folder.path().join("log.key"), ORIGIN)
            .unwrap();
        let log = Self { folder };
        log.write(ids, 3_000).await;
        log
    }

    async fn write(&self, ids: Ids, records: u64) {
        let audit = self.open(ids);
        for epoch in 0..records / 100 {
            let event = Event::Start(Start {
                version: "x".repeat(200),
                config: Hash::of(&epoch.to_le_bytes()),
                epoch,
            });
            audit.write_all(vec![event; 100]).await.unwrap();
        }
        audit.close("done").await;
    }

    fn open(&self, ids: Ids) -> Audit {
        self.open_with(ids, None)
    }

    fn open_with(&self, ids: Ids, outside: Option<PathBuf>) -> Audit {
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
        Audit::open(config, key, ORIGIN, ids).unwrap().audit
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn file(&self, index: usize) -> PathBuf {
        self.path().join(format!("{index:010}.log"))
    }

    fn key(&self) -> VerifyingKey {
        VerifyingKey::load(&self.folder.path().join("log.pub")).unwrap()
    }

    /// What our verifier says: the root, or why not.
    fn ours(&self, kept: Option<&Path>) -> Result<Hash, String> {
        let kept = kept.map(|path| Checkpoint::parse(&fs::read_to_string(path).unwrap()).unwrap());
        verify(&self.path(), &self.key(), kept.as_ref(), |_| {})
            .map(|report| report.root)
            .map_err(|error| error.to_string())
    }

    fn run(&self, kept: Option<&Path>) -> std::process::Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("tests/peers/.cache/venv/bin/python");
        Command::new(&python)
            .arg(root.join("docs/guides/verify_log.py"))
            .arg(self.path())
            .arg(self.folder.path().join("log.pub"))
            .args(kept)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error} (tests/peers/install brings it)", python.display()))
    }

    /// What the program of the guide says.
    fn theirs(&self, kept: Option<&Path>) -> Result<Hash, String> {
        let output = self.run(kept);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {
                let line = said
                    .lines()
                    .find_map(|line| line.strip_prefix("root "))
                    .expect("a root");
                Ok(Hash::parse(line).unwrap())
            }
            Some(1) if why.starts_with("NOT VERIFIED: ") => Err(why),
            code => panic!("{code:?}: {said}{why} (if a package is missing: tests/peers/install)"),
        }
    }

    /// Changes a copy of the log and expects both verifiers to find it out.
    fn found_out(&self, what: &str, kept: Option<&Path>, change: impl FnOnce(&Self)) {
        let copy = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        copy_folder(&self.path(), &copy.path());
        fs::copy(
            self.folder.path().join("log.pub"),
            copy.folder.path().join("log.pub"),
        )
        .unwrap();
        change(&copy);
        let (ours, theirs) = (copy.ours(kept), copy.theirs(kept));
        assert!(
            ours.is_err() && theirs.is_err(),
            "{what}: ours {ours:?}, the guide's {theirs:?}"
        );
    }

    fn edit(&self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file(index)).unwrap();
        change(&mut bytes);
        fs::write(self.file(index), bytes).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}

fn length(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize
}

/// Bytes of the frame at an offset, with the tag of its batch where it is followed by that.
fn with_tag(bytes: &[u8], at: usize) -> usize {
    let frame = FRAME_HEAD + length(bytes, at);
    match bytes[at + frame + 11] & 0x40 {
        0 => frame,
        _ => frame + FRAME_HEAD + length(bytes, at + frame),
    }
}

/// Changes a character of the first record that has one to spare, and makes its checksum right again.
fn change_a_record(bytes: &mut [u8]) {
    let mut start = HEADER;
    let (at, end) = loop {
        let end = start + FRAME_HEAD + length(bytes, start);
        match bytes[start..end].windows(4).position(|window| window == b"xxxx") {
            Some(at) => break (start + at, end),
            None => start = end,
        }
    };
    bytes[at] = b'y';
    let checked = [&bytes[start + 4..start + 12], &bytes[start + FRAME_HEAD..end]].concat();
    bytes[start + 12..start + FRAME_HEAD].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_program_verifies_what_ours_does_and_finds_what_was_changed() {
    let log = Log::written().await;
    assert!(log.file(2).exists(), "the log should have several files");
    let whole = log.ours(None).unwrap();
    assert_eq!(log.theirs(None), Ok(whole));

    // A checkpoint that was kept elsewhere before the log went on.
    let kept = log.folder.path().join("kept");
    fs::copy(log.path().join("checkpoint"), &kept).unwrap();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids, 200).await;
    let longer = log.ours(Some(&kept)).unwrap();
    assert_ne!(longer, whole);
    assert_eq!(log.theirs(Some(&kept)), Ok(longer));

    log.found_out("a record is changed", None, |log| {
        log.edit(0, |bytes| change_a_record(bytes))
    });
    log.found_out("a byte is changed", None, |log| {
        log.edit(1, |bytes| bytes[HEADER + 100] ^= 1)
    });
    log.found_out("a header is changed", None, |log| {
        log.edit(1, |bytes| bytes[20] ^= 1)
    });
    log.found_out("a file is deleted", None, |log| {
        fs::remove_file(log.file(1)).unwrap()
    });
    log.found_out("the first two records are swapped", None, |log| {
        log.edit(0, |bytes| {
            let first = with_tag(bytes, HEADER);
            let second = with_tag(bytes, HEADER + first);
            bytes[HEADER..HEADER + first + second].rotate_left(first);
        });
    });
    log.found_out("the log is cut", None, |log| {
        let last = (0..)
            .take_while(|index| log.file(*index).exists())
            .last()
            .unwrap();
        log.edit(last, |bytes| bytes[HEADER + FRAME_HEAD..].fill(0));
    });
    log.found_out("a checkpoint is changed", None, |log| {
        let path = log.path().join("checkpoint");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\n3", "\n2", 1)).unwrap();
    });
    log.found_out("its checkpoints are gone", None, |log| {
        fs::remove_file(log.path().join("checkpoint")).unwrap();
        fs::remove_file(log.path().join("checkpoints")).unwrap();
    });
    log.found_out("it was rebuilt by whoever has the log key", Some(&kept), |log| {
        fs::remove_dir_all(log.path()).unwrap();
        fs::copy(kept.with_file_name("log.key"), log.folder.path().join("log.key")).unwrap();
        let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(log.write(ids, 4_000)));
        assert!(
            log.ours(None).is_ok() && log.theirs(None).is_ok(),
            "without the kept checkpoint it looks whole"
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_forgive_a_broken_off_write_and_tell_a_damaged_epoch() {
    let log = Log::written().await;
    let whole = log.ours(None).unwrap();
    let last = (0..)
        .take_while(|index| log.file(*index).exists())
        .last()
        .unwrap();
    // The beginning of the frame that would have come next, as a power cut leaves it.
    log.edit(last, |bytes| {
        let mut end = HEADER;
        while bytes[end..].starts_with(&bytes[HEADER..HEADER + 4]) {
            end += FRAME_HEAD + length(bytes, end);
        }
        let head = bytes[HEADER..HEADER + 8].to_vec();
        bytes.resize(bytes.len().max(end + 100), 0);
        bytes[end..end + 8].copy_from_slice(&head);
    });
    assert_eq!(log.ours(None), Ok(whole));
    assert_eq!(log.theirs(None), Ok(whole));

    // What was acknowledged is missing: the next start begins a new epoch and keeps what is left of the old one.
    let kept = log.folder.path().join("kept");
    fs::copy(log.path().join("checkpoint"), &kept).unwrap();
    fs::remove_file(log.file(1)).unwrap();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids, 100).await;
    assert!(log.path().join("epoch-000001").is_dir());
    let second = log.ours(None).unwrap();
    assert_eq!(log.theirs(None), Ok(second));
    let newest = log.folder.path().join("newest");
    fs::copy(log.path().join("checkpoint"), &newest).unwrap();
    assert_eq!(log.ours(Some(&newest)), Ok(second));
    assert_eq!(log.theirs(Some(&newest)), Ok(second));

    // What was put aside is pinned by the new epoch.
    let old = log.path().join("epoch-000001").join("0000000000.log");
    let bytes = fs::read(&old).unwrap();
    let mut changed = bytes.clone();
    change_a_record(&mut changed);
    fs::write(&old, changed).unwrap();
    assert!(log.ours(Some(&newest)).is_err() && log.theirs(Some(&newest)).is_err());
    fs::remove_file(&old).unwrap();
    assert!(log.ours(Some(&newest)).is_err() && log.theirs(Some(&newest)).is_err());
    fs::write(&old, bytes).unwrap();
    assert_eq!(log.theirs(Some(&newest)), Ok(second));
    assert!(log.ours(Some(&kept)).is_err() && log.theirs(Some(&kept)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_follow_another_key() {
    let log = Log::written().await;
    let (kept, old) = (log.folder.path().join("kept"), log.folder.path().join("old.pub"));
    fs::copy(log.path().join("checkpoint"), &kept).unwrap();
    fs::copy(log.folder.path().join("log.pub"), &old).unwrap();
    change(&log.path(), log.folder.path(), &SystemSource::new()).unwrap();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids, 200).await;
    let root = log.ours(Some(&kept)).unwrap();
    assert_eq!(log.theirs(Some(&kept)), Ok(root), "with the new key");
    let new = fs::read(log.folder.path().join("log.pub")).unwrap();
    fs::copy(&old, log.folder.path().join("log.pub")).unwrap();
    assert_eq!(log.ours(Some(&kept)), Ok(root));
    assert_eq!(log.theirs(Some(&kept)), Ok(root), "with the old key");
    fs::write(log.folder.path().join("log.pub"), new).unwrap();
    log.found_out("a signature of the change is another", None, |log| {
        log.edit(0, |bytes| {
            let at = bytes
                .windows(17)
                .position(|part| part == b"\"old_signature\":\"")
                .unwrap()
                + 20;
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let mut start = HEADER;
            while start + FRAME_HEAD + length(bytes, start) < at {
                start += FRAME_HEAD + length(bytes, start);
            }
            let end = start + FRAME_HEAD + length(bytes, start);
            let checked = [&bytes[start + 4..start + 12], &bytes[start + FRAME_HEAD..end]].concat();
            bytes[start + 12..start + FRAME_HEAD].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
        });
    });
}

/// A log of one record in epoch 1, signed with a private key.
fn forge(folder: &Path, key: &[u8], public: &str, event: &serde_json::Value) {
    use aws_lc_rs::digest::{SHA256, digest};
    let record = format!("{{\"v\":1,\"seq\":0,\"event\":{event}}}");
    let mut file = b"countersign log\0".to_vec();
    file.extend(1_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend([0; 16]);
    file.extend(digest(&SHA256, ORIGIN.as_bytes()).as_ref());
    file.resize(HEADER - 4, 0);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    let mut checked = u32::try_from(record.len()).unwrap().to_le_bytes().to_vec();
    checked.extend((1_u32 | 1 << 31).to_le_bytes());
    let head = [b"\xc5fr1", &checked[..]].concat();
    checked.extend(record.as_bytes());
    file.extend(head);
    file.extend(crc32fast::hash(&checked).to_le_bytes());
    file.extend(record.as_bytes());
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("0000000000.log"), file).unwrap();

    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let root = digest(&SHA256, &[b"\0", record.as_bytes()].concat());
    let text = format!("{ORIGIN}/1\n1\n{}\n", base64(root.as_ref()));
    let key = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(key).unwrap();
    let id = public.trim().split('+').nth(1).unwrap();
    let mut signature = data_encoding::HEXLOWER_PERMISSIVE.decode(id.as_bytes()).unwrap();
    signature.extend(key.sign(text.as_bytes()).as_ref());
    let note = format!("{text}\n\u{2014} {ORIGIN} {}\n", base64(&signature));
    fs::write(folder.join("checkpoint"), &note).unwrap();
    fs::write(folder.join("checkpoints"), format!("{note}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verifier_takes_what_the_key_before_signed_after_the_change() {
    let log = Log::written().await;
    let (old, public) = (
        fs::read(log.folder.path().join("log.key")).unwrap(),
        fs::read_to_string(log.folder.path().join("log.pub")).unwrap(),
    );
    change(&log.path(), log.folder.path(), &SystemSource::new()).unwrap();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids, 200).await;
    assert_eq!(log.theirs(None), Ok(log.ours(None).unwrap()));
    // The record of the change, which both keys signed, is there to be copied.
    let bytes = fs::read(log.file(0)).unwrap();
    let mut at = HEADER;
    let changed = loop {
        let end = at + FRAME_HEAD + length(&bytes, at);
        let record: serde_json::Value = serde_json::from_slice(&bytes[at + FRAME_HEAD..end]).unwrap();
        if record["event"].get("key_changed").is_some() {
            break record["event"].clone();
        }
        at = end;
    };
    let nothing = serde_json::json!({ "stop": { "reason": "done" } });
    for (what, event) in [("the change in its first epoch", &changed), ("nothing", &nothing)] {
        log.found_out(what, None, |log| {
            fs::remove_dir_all(log.path()).unwrap();
            forge(&log.path(), &old, &public, event);
        });
    }
    log.found_out("the true epochs are put aside", None, |log| {
        let (all, aside) = (log.folder.path().join("all"), log.path().join("epoch-000002"));
        fs::rename(log.path(), &all).unwrap();
        forge(&log.path(), &old, &public, &nothing);
        fs::create_dir(&aside).unwrap();
        for name in ["0000000000.log", "checkpoint", "checkpoints"] {
            fs::copy(all.join(name), aside.join(name)).unwrap();
        }
    });
    // It is a log of that key; otherwise none of this shows anything.
    let alone = Log {
        folder: tempfile::tempdir().unwrap(),
    };
    fs::write(alone.folder.path().join("log.pub"), &public).unwrap();
    forge(&alone.path(), &old, &public, &nothing);
    alone.theirs(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_epoch_without_the_head_that_was_known_is_told_as_damaged() {
    let log = Log::written().await;
    let older = log.folder.path().join("older");
    copy_folder(&log.path(), &older);
    let ids = || Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids(), 200).await;
    let outside = log.folder.path().join("outside");
    fs::copy(log.path().join("checkpoint"), &outside).unwrap();
    fs::remove_dir_all(log.path()).unwrap();
    fs::rename(&older, log.path()).unwrap();
    log.open_with(ids(), Some(outside)).close("done").await;
    let report = verify(&log.path(), &log.key(), None, |_| {}).unwrap();
    assert!(report.earlier[0].damage.is_some(), "{report:?}");
    let output = log.run(None);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("epoch-000001: damaged"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_read_compressed_segments() {
    let log = Log::written().await;
    let whole = log.ours(None).unwrap();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    log.write(ids, 3_000).await;
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let audit = log.open(ids);
    while audit.tidy_one().await.unwrap() {}
    audit.close("done").await;
    assert!(!log.file(0).exists() && log.path().join("0000000000.log.zst").exists());
    let longer = log.ours(None).unwrap();
    assert_ne!(longer, whole);
    assert_eq!(log.theirs(None), Ok(longer));
    log.found_out("a compressed one is cut", None, |log| {
        let path = log.path().join("0000000001.log.zst");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_go_on_behind_what_was_dropped_and_find_what_was_deleted() {
    let log = Log::written().await;
    let (kept, ids) = (log.folder.path().join("kept"), || {
        Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()))
    });
    let audit = log.open(ids());
    audit.search().catch_up().await.unwrap();
    let later = Timestamp::from_secs(40_000_000_000);
    let dropped = audit.drop_older(later).await.unwrap().expect("old segments");
    audit.close("done").await;
    assert!(!log.file(0).exists());
    let rest = log.ours(None).unwrap();
    assert_eq!(log.theirs(None), Ok(rest));
    fs::copy(log.path().join("checkpoint"), &kept).unwrap();
    log.write(ids(), 200).await;
    assert_eq!(log.theirs(Some(&kept)), Ok(log.ours(Some(&kept)).unwrap()));

    let first = usize::try_from(dropped.segments).unwrap();
    let edit = |log: &Log, from: &str, to: &str| {
        let path = log.path().join("dropped");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    log.found_out("one more is deleted", None, |log| {
        fs::remove_file(log.file(first)).unwrap()
    });
    log.found_out("the edge file is deleted", None, |log| {
        fs::remove_file(log.path().join("dropped")).unwrap();
    });
    log.found_out("a byte of the edge is changed", None, |log| {
        edit(log, "\"peaks\":[\"", "\"peaks\":[\"00");
    });
    log.found_out("another record is named", None, |log| {
        edit(log, "\"record\":", "\"record\":1");
    });
    log.found_out("whole epochs are said to be gone", None, |log| {
        edit(log, "\"epoch\":1,", "\"epoch\":9,");
    });
}
