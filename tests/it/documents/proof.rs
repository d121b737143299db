//! Runs the program of `docs/guides/check_proof.py` on proofs of a real log, good and changed, beside our own checker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use countersign::audit::prove::{Place, prove};
use countersign::audit::read::newest_checkpoint;
use countersign::audit::witness::{Witness, WitnessKey, WitnessSigner};
use countersign::audit::{Audit, Config, LogKey, Proof, VerifyingKey};
use countersign::clock::SystemClock;
use countersign::id::{Ids, SystemSource};
use countersign::record::{Event, Hash, Start};

const ORIGIN: &str = "gw.example.org/log";

/// A log with its key, and a witness that cosigned its newest checkpoint.
struct World {
    folder: tempfile::TempDir,
    key: VerifyingKey,
    witness: WitnessKey,
}

impl World {
    async fn new(records: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let random = SystemSource::new();
        let key = LogKey::generate(&random).unwrap();
        key.save(&path("log.key"), ORIGIN).unwrap();
        let signer = WitnessSigner::generate("witness.example.org", &random).unwrap();
        signer.save(&path("witness.key")).unwrap();
        let public = key.public(ORIGIN);
        write(&path("log"), key, records).await;
        let witness = signer.public().clone();
        let cosigner = Witness::open(
            signer,
            vec![public.clone()],
            &path("state"),
            SystemClock::shared(),
        )
        .unwrap();
        let newest = fs::read_to_string(path("log/checkpoint")).unwrap();
        let answer = cosigner.add_checkpoint(format!("old 0\n\n{newest}").as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
        fs::write(path("log/cosignatures"), format!("{newest}{}\n", answer.body)).unwrap();
        Self {
            folder,
            key: public,
            witness,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn proof(&self, seq: u64) -> String {
        prove(&self.path("log"), Place { epoch: 1, seq })
            .unwrap()
            .to_string()
    }

    /// What ours says: position and record, or why not.
    fn ours(&self, proof: &[u8], cosigned: bool) -> Result<String, String> {
        let witnesses = if cosigned {
            vec![self.witness.clone()]
        } else {
            Vec::new()
        };
        let proved = Proof::parse(proof).and_then(|proof| proof.check(&self.key, &witnesses));
        proved
            .map(|proved| {
                format!(
                    "record {} of the first {} of {ORIGIN}, epoch {}",
                    proved.index, proved.size, proved.epoch
                )
            })
            .map_err(|error| error.to_string())
    }

    /// What the program of the guide says.
    fn theirs(&self, proof: &[u8], cosigned: bool) -> Result<String, String> {
        let file = self.path("proof");
        fs::write(&file, proof).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("tests/peers/.cache/venv/bin/python");
        let mut command = Command::new(&python);
        command
            .arg(root.join("docs/guides/check_proof.py"))
            .arg(&file)
            .arg(self.path("log.pub"));
        if cosigned {
            command.arg(self.path("witness.pub"));
        }
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{}: {error} (tests/peers/install brings it)", python.display()));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(said.lines().next().unwrap().to_owned()),
            Some(1) if why.starts_with("NOT PROVED: ") => Err(why),
            code => panic!("{code:?}: {said}{why} (if a package is missing: tests/peers/install)"),
        }
    }

    /// Both must refuse it.
    fn refused(&self, what: &str, proof: &[u8], cosigned: bool) {
        let (ours, theirs) = (self.ours(proof, cosigned), self.theirs(proof, cosigned));
        assert!(
            ours.is_err() && theirs.is_err(),
            "{what}: ours {ours:?}, the guide's {theirs:?}\n{}",
            String::from_utf8_lossy(proof)
        );
    }
}

async fn write(folder: &Path, key: LogKey, records: u64) {
    let config = Config {
        folder: folder.to_owned(),
        segment_bytes: 256 * 1024,
        min_free_bytes: 0,
        stop_free_bytes: 0,
        allow_any_fs: true,
        ..Config::default()
    };
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let opened = Audit::open(config, key, ORIGIN, ids).unwrap();
    let event = |epoch: u64| {
        Event::Start(Start {
            version: "x".repeat(200),
            config: Hash::of(&epoch.to_le_bytes()),
            epoch,
        })
    };
    let events: Vec<Event> = (0..records).map(event).collect();
    for events in events.chunks(100) {
        opened.audit.write_all(events.to_vec()).await.unwrap();
    }
    opened.audit.close("done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_program_accepts_the_proofs_of_any_record_as_ours_does() {
    let world = World::new(1_500).await;
    assert!(
        world.path("log/0000000001.log").exists(),
        "the log should have several files"
    );
    let size = newest_checkpoint(&world.path("log")).unwrap().size;
    assert!(size > 1_500);
    for seq in [0, 1, 2, 511, 512, 1023, 1024, 1499, size - 1] {
        let proof = world.proof(seq);
        assert!(proof.len() < 4_096, "{} bytes", proof.len());
        for cosigned in [false, true] {
            let ours = world.ours(proof.as_bytes(), cosigned);
            assert_eq!(
                ours,
                Ok(format!("record {seq} of the first {size} of {ORIGIN}, epoch 1"))
            );
            assert_eq!(world.theirs(proof.as_bytes(), cosigned), ours);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_with_any_line_altered_is_refused_by_both() {
    let world = World::new(30).await;
    let proof = world.proof(21);
    let lines: Vec<&str> = proof.split_inclusive('\n').collect();
    // Header, record, number, five hashes, an empty line, the checkpoint's three lines, another empty one, two signatures.
    assert_eq!(lines.len(), 15, "{proof}");
    let other = world.proof(20);
    let other: Vec<&str> = other.split_inclusive('\n').collect();
    for (at, line) in lines.iter().enumerate() {
        let name = format!("line {}", at + 1);
        let with = |change: &str| {
            let mut changed = lines.clone();
            changed[at] = change;
            changed.concat()
        };
        let changes = [
            ("is taken away", with("")),
            ("stands twice", with(&line.repeat(2))),
            ("has a space before it", with(&format!(" {line}"))),
            ("has a space behind it", with(&line.replace('\n', " \n"))),
            ("ends with two characters", with(&line.replace('\n', "\r\n"))),
            ("has a character changed", with(&changed_in_the_middle(line))),
            ("is in capitals", with(&line.to_uppercase())),
        ];
        for (what, changed) in changes {
            // The same signature twice is one signature, and an empty line has no capitals.
            let harmless = changed == proof || (at >= 13 && what == "stands twice");
            if !harmless {
                // The last line is the witness's; without its key it would be passed over.
                world.refused(&format!("{name} {what}"), changed.as_bytes(), true);
            }
        }
        if at < other.len() && other[at] != *line {
            world.refused(
                &format!("{name} is of another proof"),
                with(other[at]).as_bytes(),
                true,
            );
        }
    }
}

/// One character of the line changed to another of its kind; the empty line gets one.
fn changed_in_the_middle(line: &str) -> String {
    let mut characters: Vec<char> = line.chars().collect();
    let at = characters.len() / 2;
    characters[at] = match characters[at] {
        '\n' => return format!("a{line}"),
        'a' => 'b',
        '0' => '1',
        _ => 'a',
    };
    if characters.iter().collect::<String>() == line {
        characters[at] = '2';
    }
    characters.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_that_were_put_together_are_refused_by_both() {
    let world = World::new(30).await;
    let proof = world.proof(21);
    let replaced = |from: &str, to: &str| {
        assert!(proof.contains(from), "{from}");
        proof.replacen(from, to, 1).into_bytes()
    };
    let note = proof.split_once("\n\n").unwrap().1;
    let record = proof.lines().nth(1).unwrap();
    for (what, bad) in [
        ("another number", replaced("index 21", "index 20")),
        ("a number beyond", replaced("index 21", "index 53")),
        (
            "a second spelling of the number",
            replaced("index 21", "index 021"),
        ),
        ("a number with a sign", replaced("index 21", "index +21")),
        ("no record", replaced(&format!("{record}\n"), "")),
        ("an empty record", replaced(record, "extra ")),
        ("a hash without padding", replaced("=\n", "\n")),
        ("another version", replaced("@v1", "@v2")),
        ("another epoch", replaced("log/1\n", "log/2\n")),
        ("another epoch's spelling", replaced("log/1\n", "log/01\n")),
        (
            "no checkpoint",
            proof.split_once("\n\n").unwrap().0.as_bytes().to_vec(),
        ),
        ("an empty file", Vec::new()),
        ("only the checkpoint", note.as_bytes().to_vec()),
        ("something behind it", format!("{proof}\n").into_bytes()),
        ("not text", [proof.as_bytes(), &[0xff]].concat()),
        ("cut", proof.as_bytes()[..proof.len() - 1].to_vec()),
    ] {
        world.refused(what, &bad, false);
        world.refused(what, &bad, true);
    }
    // The witness's line taken away: the log's word is still there, the witness's is not.
    let alone = proof.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    assert!(world.ours(alone.as_bytes(), false).is_ok() && world.theirs(alone.as_bytes(), false).is_ok());
    world.refused("no cosignature", alone.as_bytes(), true);
    // A log of another key that says the same.
    let stranger = World::new(30).await;
    world.refused("another log's", stranger.proof(21).as_bytes(), false);
}
