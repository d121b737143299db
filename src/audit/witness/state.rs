//! The witness itself: what it saw last of each log, and what it answers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::request::{AddCheckpoint, LONGEST};
use super::{WitnessKey, WitnessSigner};
use crate::audit::VerifyingKey;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::tree;
use crate::clock::Clock;

/// Why a witness cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("cannot use `{}`: {source}", path.display())]
    File {
        /// Folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another witness works in the folder.
    #[error("another witness works in `{}`", .0.display())]
    Locked(PathBuf),
    /// A file is not what a witness wrote.
    #[error("`{}` is not a checkpoint of a log that is trusted here, cosigned by this witness: {why}", path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What the witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

impl Answer {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// Which size is known.
    fn known(size: u64) -> Self {
        Self {
            content_type: "text/x.tlog.size",
            ..Self::new(409, format!("{size}\n"))
        }
    }
}

/// A witness: it cosigns a checkpoint of a log that it trusts when that continues the newest one it cosigned.
#[derive(Debug)]
pub struct Witness {
    signer: WitnessSigner,
    logs: Vec<VerifyingKey>,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// Origins (log and epoch) of later epochs that whoever runs the witness has accepted.
    accepted: Vec<String>,
    /// Newest checkpoint of each origin. Held from the look at it until the next one is on stable storage.
    seen: Mutex<BTreeMap<String, Checkpoint>>,
    /// Held as long as the witness lives.
    _lock: File,
}

impl Witness {
    /// Largest body of a request, in bytes.
    pub const LONGEST: usize = LONGEST;

    /// Opens the state in `folder` (made when it is not there): a file for each log and epoch with the newest checkpoint
    /// that was cosigned.
    ///
    /// # Errors
    /// [`StateError`]. SECURITY: a state that cannot be read is not an empty one; the witness does not begin.
    pub fn open(
        signer: WitnessSigner,
        logs: Vec<VerifyingKey>,
        folder: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StateError> {
        let file_error = |path: &Path, source| StateError::File {
            path: path.to_owned(),
            source,
        };
        let folder_error = |source| file_error(folder, source);
        fs::create_dir_all(folder).map_err(folder_error)?;
        let lock = File::create(folder.join("lock")).map_err(folder_error)?;
        lock.try_lock()
            .map_err(|_| StateError::Locked(folder.to_owned()))?;
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(folder_error)? {
            let path = entry.map_err(folder_error)?.path();
            if path.extension().is_none_or(|extension| extension != ENDING) {
                continue;
            }
            let note = fs::read_to_string(&path).map_err(|source| file_error(&path, source))?;
            let checkpoint = read(&note, &logs, signer.public()).map_err(|why| StateError::NotOurs {
                path: path.clone(),
                why,
            })?;
            if path != folder.join(file_name(&checkpoint.origin)) {
                let why = "it is of another log or epoch than its name says";
                return Err(StateError::NotOurs { path, why });
            }
            seen.insert(checkpoint.origin.clone(), checkpoint);
        }
        Ok(Self {
            signer,
            logs,
            folder: folder.to_owned(),
            clock,
            accepted: Vec::new(),
            seen: Mutex::new(seen),
            _lock: lock,
        })
    }

    /// The same, which also begins with these epochs (as the first line of their checkpoints names them) of logs of which it
    /// has seen an earlier one.
    #[must_use]
    pub fn accepting(self, origins: Vec<String>) -> Self {
        Self {
            accepted: origins,
            ..self
        }
    }

    /// The public key.
    #[must_use]
    pub const fn key(&self) -> &WitnessKey {
        self.signer.public()
    }

    /// Answers `POST /add-checkpoint` (C2SP tlog-witness). Blocks: the new state is on stable storage when it answers.
    #[must_use]
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let Some(AddCheckpoint {
            old,
            proof,
            checkpoint,
        }) = AddCheckpoint::parse(body)
        else {
            return Answer::new(400, "not an old size, a consistency proof and a checkpoint\n");
        };
        // Several keys of one log: it was changed, and its epochs before have the old one.
        let mut logs = self
            .logs
            .iter()
            .filter(|log| log.name() == checkpoint.log())
            .peekable();
        if logs.peek().is_none() {
            return Answer::new(404, "this log is not trusted here\n");
        }
        // SECURITY: before this nothing in it is believed, and nobody but the log learns anything of the state. What else
        // stands under it is nobody's word, and is not kept.
        let signed = |log| Some((checkpoint.signed_by(log).ok()?, log));
        let Some((checkpoint, key)) = logs.find_map(signed) else {
            return Answer::new(403, "no signature of a key that is trusted here\n");
        };
        if old > checkpoint.size {
            return Answer::new(400, "the old size is larger than the new one\n");
        }
        // INVARIANT: one at a time from the look at the state to its new state on the disk, so that none goes back.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = |known: &&Checkpoint| known.log() == checkpoint.log() && known.epoch > checkpoint.epoch;
        if seen.values().any(|known| newer(&known)) {
            // Not 404: the log is known, and somebody goes on with what the log itself gave up.
            return Answer::new(410, "this epoch of the log has ended\n");
        }
        // SECURITY: an epoch has one key, and none comes back once another followed it: it may be the one that was stolen.
        let of_log = || seen.values().filter(|known| known.log() == checkpoint.log());
        let is_own = |known: &&Checkpoint| known.check(key).is_ok();
        let own = of_log().filter(is_own).map(|known| known.epoch).min();
        let other = of_log()
            .filter(|known| !is_own(known))
            .map(|known| known.epoch)
            .max();
        if other.is_some_and(|other| other == checkpoint.epoch || own.is_some_and(|own| own < other)) {
            tracing::error!(
                log = checkpoint.origin,
                "signed with a key that another one followed"
            );
            return Answer::new(403, "another key of this log followed the one that signed this\n");
        }
        let known = seen.get(&checkpoint.origin);
        let (size, root) = known.map_or((0, Default::default()), |known| (known.size, known.root));
        if old != size {
            return Answer::known(size);
        }
        if old == checkpoint.size && known.is_some() && root != checkpoint.root {
            tracing::error!(
                log = checkpoint.origin,
                size,
                "a second checkpoint of the same size: a fork"
            );
            return Answer::known(size);
        }
        if !tree::continues((old, root), (checkpoint.size, checkpoint.root), &proof) {
            tracing::error!(
                log = checkpoint.origin,
                from = size,
                to = checkpoint.size,
                "no proof that this log only grew"
            );
            return Answer::new(
                422,
                "the proof does not show that the log continues the one that was seen\n",
            );
        }
        // SECURITY: whoever has a copy of the newest checkpoint may send it; neither a later time nor a write comes of that.
        if let Some(line) = known
            .filter(|_| old == checkpoint.size)
            .and_then(|known| self.line(known))
        {
            return Answer::new(200, line);
        }
        let ended = seen
            .values()
            .filter(|known| known.log() == checkpoint.log() && known.epoch < checkpoint.epoch);
        if let Some(ended) = ended.max_by_key(|ended| ended.epoch).filter(|_| known.is_none()) {
            // SECURITY: nothing in a request shows that a new epoch comes after what was seen of the one before. A restored log
            // must go on, a log that was rolled back must not: only somebody who asks why can tell one from the other.
            if !self.accepted.contains(&checkpoint.origin) {
                tracing::error!(
                    log = checkpoint.origin,
                    ended = ended.epoch,
                    seen = ended.size,
                    "a new epoch of this log is held: unless it was restored or found damaged, it was rolled back; compare the epoch that ended with its file here, then serve with `--accept-epoch {}`",
                    checkpoint.origin
                );
                return Answer::new(403, "a new epoch of this log, which nobody has accepted here\n");
            }
            tracing::warn!(
                log = checkpoint.origin,
                ended = ended.epoch,
                "a new epoch of this log begins, which was accepted"
            );
        }
        self.cosign(&mut seen, checkpoint)
    }

    /// The line with which this witness cosigned a checkpoint.
    fn line(&self, known: &Checkpoint) -> Option<String> {
        let begin = format!("\u{2014} {} ", self.key().name());
        let line = known.note.lines().rfind(|line| line.starts_with(&begin))?;
        Some(format!("{line}\n"))
    }

    fn cosign(&self, seen: &mut BTreeMap<String, Checkpoint>, mut checkpoint: Checkpoint) -> Answer {
        let line = self.signer.cosign(&checkpoint, self.clock.now());
        checkpoint.note.push_str(&line);
        let path = self.folder.join(file_name(&checkpoint.origin));
        if let Err(error) = store(&path, checkpoint.note.as_bytes()) {
            tracing::error!("the state in `{}` cannot be written: {error}", path.display());
            return Answer::new(500, "the state cannot be written\n");
        }
        seen.insert(checkpoint.origin.clone(), checkpoint);
        Answer::new(200, line)
    }
}

/// Ending of the files in the state's folder.
const ENDING: &str = "checkpoint";

fn read(note: &str, logs: &[VerifyingKey], own: &WitnessKey) -> Result<Checkpoint, &'static str> {
    let checkpoint = Checkpoint::parse(note).map_err(|_| "not a checkpoint")?;
    let mut logs = logs
        .iter()
        .filter(|log| log.name() == checkpoint.log())
        .peekable();
    logs.peek().ok_or("no key of this log was given")?;
    if !logs.any(|log| checkpoint.check(log).is_ok()) {
        return Err("not signed by the log's key that was given");
    }
    own.cosigned(&checkpoint)
        .map(|_| checkpoint)
        .ok_or("not cosigned by this witness")
}

/// A file name for an origin: one for each, and no part of a path.
fn file_name(origin: &str) -> String {
    let mut name = String::new();
    for byte in origin.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    format!("{name}.{ENDING}")
}

/// Replaces a file; it is on stable storage when this returns.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::LogKey;
    use crate::audit::tree::{Edge, Node, consistency, joined, leaf};
    use crate::clock::{HandClock, Timestamp};
    use crate::id::SystemSource;
    use crate::record::Hash;

    const LOG: &str = "gw.example.org/log";

    struct World {
        folder: tempfile::TempDir,
        key: LogKey,
        clock: Arc<HandClock>,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            WitnessSigner::generate("witness.example.org", &SystemSource::new())
                .unwrap()
                .save(&folder.path().join("witness.key"))
                .unwrap();
            Self {
                folder,
                key: LogKey::generate(&SystemSource::new()).unwrap(),
                clock: Arc::new(HandClock::new(Timestamp::from_secs(1_795_262_400))),
            }
        }

        fn state(&self) -> PathBuf {
            self.folder.path().join("state")
        }

        fn open(&self) -> Result<Witness, StateError> {
            let signer = WitnessSigner::load(&self.folder.path().join("witness.key")).unwrap();
            Witness::open(
                signer,
                vec![self.key.public(LOG)],
                &self.state(),
                self.clock.clone(),
            )
        }

        /// The checkpoint of a log whose records are `records`, in `epoch`, with the proof from the size `old`.
        fn request(&self, epoch: u64, records: &[&str], old: u64) -> AddCheckpoint {
            let (mut edge, mut nodes) = (Edge::default(), BTreeMap::new());
            for record in records {
                edge.push_seen(leaf(record.as_bytes()), |node, hash| {
                    nodes.insert(node, hash);
                });
            }
            let subtrees = consistency(old, edge.size());
            let hash = |range| {
                let nodes: Vec<Hash> = Node::of(range).iter().map(|node| nodes[node]).collect();
                joined(&nodes).unwrap()
            };
            AddCheckpoint {
                old,
                proof: subtrees.iter().map(hash).collect(),
                checkpoint: Checkpoint::sign(&self.key, LOG, epoch, edge.size(), edge.root()).unwrap(),
            }
        }
    }

    fn ask(witness: &Witness, request: &AddCheckpoint) -> Answer {
        witness.add_checkpoint(request.text().as_bytes())
    }

    #[test]
    fn a_log_that_grows_is_cosigned_with_the_time_and_across_restarts() {
        let world = World::new();
        let records = ["a", "b", "c", "d", "e", "f", "g"];
        let (mut old, mut time) = (0, world.clock.now());
        for size in [0, 1, 3, 3, 7] {
            let witness = world.open().unwrap();
            let request = world.request(1, &records[..size], old);
            let answer = ask(&witness, &request);
            assert_eq!(answer.status, 200, "{size}: {}", answer.body);
            let cosigned = format!("{}{}", request.checkpoint.note, answer.body);
            let cosigned = Checkpoint::parse(&cosigned).unwrap();
            if size as u64 > old || size == 0 {
                time = world.clock.now();
            }
            assert_eq!(
                witness.key().cosigned(&cosigned),
                Some(time),
                "when it was seen first"
            );
            let kept = fs::read_to_string(world.state().join("gw.example.org%2flog%2f1.checkpoint")).unwrap();
            assert_eq!(kept, cosigned.note, "on the disk before the answer");
            world.clock.advance(Duration::from_secs(10));
            old = size as u64;
        }
    }

    #[test]
    fn what_does_not_continue_the_newest_checkpoint_is_refused_and_changes_nothing() {
        let world = World::new();
        let witness = world.open().unwrap();
        let records = ["a", "b", "c", "d", "e"];
        assert_eq!(ask(&witness, &world.request(1, &records[..3], 0)).status, 200);
        let known = Answer::known(3);

        assert_eq!(
            ask(&witness, &world.request(1, &records, 0)),
            known,
            "another old size"
        );
        assert_eq!(
            ask(&witness, &world.request(1, &records[..2], 2)),
            known,
            "rolled back"
        );
        let fork = ["a", "b", "X", "d", "e"];
        assert_eq!(
            ask(&witness, &world.request(1, &fork[..3], 3)),
            known,
            "a fork of the same size"
        );
        assert_eq!(
            ask(&witness, &world.request(1, &fork, 3)).status,
            422,
            "a fork that went on"
        );
        let mut bad = world.request(1, &records, 3);
        bad.proof.pop();
        assert_eq!(ask(&witness, &bad).status, 422, "a proof that is none");
        let mut bad = world.request(1, &records[..3], 3);
        bad.proof.push(Hash::of(b"more"));
        assert_eq!(ask(&witness, &bad).status, 422, "a proof where none belongs");
        let mut bad = world.request(1, &records[..3], 0);
        bad.old = 4;
        assert_eq!(ask(&witness, &bad).status, 400, "an old size that is larger");
        assert_eq!(witness.add_checkpoint(b"old 3\n\n").status, 400);

        assert_eq!(
            ask(&witness, &world.request(1, &records, 3)).status,
            200,
            "nothing was changed"
        );
    }

    #[test]
    fn logs_and_keys_that_are_not_trusted_are_refused_as_the_specification_says() {
        let world = World::new();
        let witness = world.open().unwrap();
        let request = world.request(1, &["a"], 0);
        let other = Checkpoint::sign(&world.key, "other/log", 1, 1, request.checkpoint.root).unwrap();
        let asked = AddCheckpoint {
            checkpoint: other,
            ..request.clone()
        };
        assert_eq!(ask(&witness, &asked).status, 404, "an unknown log");
        let stranger = LogKey::generate(&SystemSource::new()).unwrap();
        let forged = Checkpoint::sign(&stranger, LOG, 1, 1, request.checkpoint.root).unwrap();
        let asked = AddCheckpoint {
            checkpoint: forged,
            ..request.clone()
        };
        assert_eq!(ask(&witness, &asked).status, 403, "another key");
        let mut unsigned = request.clone();
        unsigned.checkpoint.note = request.checkpoint.note.replace("\n1\n", "\n2\n");
        assert_eq!(ask(&witness, &unsigned).status, 403, "a changed text");
        let mut more = request.clone();
        let line = format!("\u{2014} {LOG} {}\n", data_encoding::BASE64.encode(&[9; 68]));
        more.checkpoint.note = more.checkpoint.note.replace("\n\n", &format!("\n\n{line}"));
        assert_eq!(
            ask(&witness, &more).status,
            200,
            "signatures of unknown keys are passed over"
        );
        drop(witness);
        let witness = world.open().expect("and are not kept");
        assert_eq!(ask(&witness, &AddCheckpoint { old: 1, ..request }).status, 200);
    }

    #[test]
    fn an_epoch_that_ended_is_not_gone_on_with() {
        let world = World::new();
        let witness = world.open().unwrap();
        assert_eq!(ask(&witness, &world.request(1, &["a", "b"], 0)).status, 200);
        // Not by itself: somebody looks first, and says which.
        let held = ask(&witness, &world.request(2, &["x"], 0));
        assert_eq!(held.status, 403, "{held:?}");
        let other = witness.accepting(vec![format!("{LOG}/3")]);
        assert_eq!(ask(&other, &world.request(2, &["x"], 0)).status, 403);
        let witness = other.accepting(vec![format!("{LOG}/2")]);
        assert_eq!(
            ask(&witness, &world.request(2, &["x"], 0)).status,
            200,
            "the next epoch begins"
        );
        assert_eq!(ask(&witness, &world.request(1, &["a", "b", "c"], 2)).status, 410);
        assert_eq!(ask(&witness, &world.request(2, &["x", "y"], 1)).status, 200);
    }

    #[test]
    fn a_key_that_another_one_followed_signs_nothing_more() {
        let world = World::new();
        let next = LogKey::generate(&SystemSource::new()).unwrap();
        let logs = vec![world.key.public(LOG), next.public(LOG)];
        let accepted = (2..5).map(|epoch| format!("{LOG}/{epoch}")).collect();
        let mut witness = world.open().unwrap().accepting(accepted);
        witness.logs = logs;
        let by = |key: &LogKey, epoch, records: &[&str], old| {
            let mut request = world.request(epoch, records, old);
            let (size, root) = (request.checkpoint.size, request.checkpoint.root);
            request.checkpoint = Checkpoint::sign(key, LOG, epoch, size, root).unwrap();
            ask(&witness, &request).status
        };
        assert_eq!(by(&world.key, 1, &["a"], 0), 200);
        assert_eq!(by(&next, 1, &["a", "b"], 1), 403, "an epoch has one key");
        assert_eq!(by(&world.key, 2, &["a"], 0), 200);
        assert_eq!(by(&next, 3, &["a"], 0), 200, "the key was changed");
        assert_eq!(by(&world.key, 3, &["a", "b"], 1), 403);
        assert_eq!(by(&world.key, 4, &["a"], 0), 403);
        assert_eq!(by(&next, 3, &["a", "b"], 1), 200);
        assert_eq!(by(&next, 4, &["a"], 0), 200);
    }

    #[test]
    fn a_state_that_was_changed_or_is_in_use_lets_no_witness_begin() {
        let world = World::new();
        let witness = world.open().unwrap();
        assert!(matches!(world.open(), Err(StateError::Locked(_))));
        assert_eq!(ask(&witness, &world.request(1, &["a", "b"], 0)).status, 200);
        drop(witness);
        let path = world.state().join("gw.example.org%2flog%2f1.checkpoint");
        let note = fs::read_to_string(&path).unwrap();
        let smaller = world.request(1, &["a"], 0).checkpoint.note;
        let moved = path.with_file_name("gw.example.org%2flog%2f2.checkpoint");
        for bad in [note.replace("\n2\n", "\n1\n"), String::new(), smaller] {
            fs::write(&path, &bad).unwrap();
            assert!(matches!(world.open(), Err(StateError::NotOurs { .. })), "{bad:?}");
        }
        fs::remove_file(&path).unwrap();
        fs::write(&moved, &note).unwrap();
        assert!(
            matches!(world.open(), Err(StateError::NotOurs { .. })),
            "under another name"
        );
        fs::remove_file(&moved).unwrap();
        fs::write(&path, &note).unwrap();
        assert!(world.open().is_ok());
    }

    #[test]
    fn a_state_that_cannot_be_written_gives_no_cosignature() {
        let world = World::new();
        let witness = world.open().unwrap();
        let path = world.state().join("gw.example.org%2flog%2f1.new");
        // A folder where the new file should be written.
        fs::create_dir(&path).unwrap();
        let answer = ask(&witness, &world.request(1, &["a"], 0));
        assert_eq!(answer.status, 500);
        assert!(!answer.body.contains('\u{2014}'));
        fs::remove_dir(&path).unwrap();
        assert_eq!(
            ask(&witness, &world.request(1, &["a"], 0)).status,
            200,
            "nothing was taken up before"
        );
    }

    #[test]
    fn every_origin_has_a_file_name_of_its_own() {
        assert_eq!(
            file_name("gw.example.org/log/1"),
            "gw.example.org%2flog%2f1.checkpoint"
        );
        assert_eq!(file_name("../../etc"), "%2e.%2f..%2fetc.checkpoint");
        assert_ne!(file_name("a/b"), file_name("a%2fb"));
    }
}
