//! The log goes on under another key: in a new epoch, whose first records say so, signed by the key before and by the new one.
//!
//! An epoch has one key. So no checkpoint of the old key ever fits what is signed with the new one, and whoever trusts either
//! key comes to the other by these records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::key::{KeyError, LogKey, VerifyingKey, verifies};
use super::packed;
use super::recover;
use super::restored::{self, Restored};
use super::segment::{self, Frames, Header};
use super::writer::sync_folder;
use crate::id::Random;
use crate::record::{Event, KeyChanged, Record};

/// What is signed by both, in its first line, is nothing else that these keys sign.
const FIRST: &str = "countersign log key change";

/// Why the key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file of the log or a key could not be read or written.
    #[error("cannot change the key with `{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The gateway ended without signing what it had written.
    #[error(
        "{0} records at the end of the log are not signed: the gateway did not end by itself (start it and stop it, then change the key)"
    )]
    Unsigned(u64),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// The public key beside the log key is another's.
    #[error("`{}` is not the public half of the log key beside it", .0.display())]
    Pair(PathBuf),
    /// The log is about to begin an epoch for another reason.
    #[error(
        "the log begins a new epoch at its next start: start the gateway once, stop it, and change the key then"
    )]
    Pending,
    /// There is no log.
    #[error("there is no log in `{}`: start the gateway once", .0.display())]
    NoLog(PathBuf),
}

/// What was changed.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The key until now.
    pub old: VerifyingKey,
    /// The key from now on.
    pub new: VerifyingKey,
    /// The epoch that begins with it, at the next start.
    pub epoch: u64,
    /// Where the old public key is kept.
    pub kept: PathBuf,
}

fn statement(name: &str, epoch: u64, old: &str, new: &str) -> String {
    format!("{FIRST}\n{name}\n{epoch}\n{old}\n{new}\n")
}

impl KeyChanged {
    pub(super) fn sign(old: &LogKey, new: &LogKey, name: &str, epoch: u64) -> Self {
        let (before, after) = (old.public(name).to_string(), new.public(name).to_string());
        let text = statement(name, epoch, &before, &after);
        let signed = |key: &LogKey| data_encoding::BASE64.encode(&key.sign(text.as_bytes()));
        Self {
            epoch,
            old_signature: signed(old),
            new_signature: signed(new),
            old: before,
            new: after,
        }
    }

    /// Both keys, when both signed it for the log `name`.
    pub(super) fn keys(&self, name: &str) -> Option<(VerifyingKey, VerifyingKey)> {
        let read = |key: &str| key.parse::<VerifyingKey>().ok().filter(|key| key.name() == name);
        let (old, new) = (read(&self.old)?, read(&self.new)?);
        let text = statement(name, self.epoch, &self.old, &self.new);
        let signed = |key: &VerifyingKey, signature: &str| {
            let signature = data_encoding::BASE64.decode(signature.as_bytes());
            signature.is_ok_and(|signature| verifies(key.bytes(), text.as_bytes(), &signature))
        };
        // SECURITY: of both. The old key's says that this is the successor, the new one's that somebody has it.
        let both = signed(&old, &self.old_signature) && signed(&new, &self.new_signature);
        both.then_some((old, new))
    }
}

/// Why the keys of a log are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("the change of the log's key at the beginning of epoch {0} is not signed by both keys")]
    Unsigned(u64),
    #[error(
        "`{}` cannot be read, so it is not known which key the log went on with there; mount the archive, or put the file back",
        .0.display()
    )]
    Lost(PathBuf),
    #[error(transparent)]
    File(#[from] io::Error),
}

/// The keys of a log, by epoch.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The first epoch of each, in order.
    keys: Vec<(u64, VerifyingKey)>,
}

impl Keys {
    /// The keys to which `given` leads, by the changes that stand at the beginning of the epochs in `folder`, and one that is
    /// about to (`next`).
    pub(crate) fn read(
        folder: &Path,
        given: &VerifyingKey,
        next: Option<&KeyChanged>,
    ) -> Result<Self, KeysError> {
        let mut changes = Vec::new();
        for epoch in segment::epochs(folder)? {
            changes.extend(change_in(&segment::epoch_folder(folder, epoch))?);
        }
        changes.extend(change_in(folder)?);
        changes.extend(next.filter(|next| !changes.contains(next)).cloned());
        Self::of_changes(given, &changes).map_err(|error| lost(folder).map_or(error, KeysError::Lost))
    }

    fn of_changes(given: &VerifyingKey, changes: &[KeyChanged]) -> Result<Self, KeysError> {
        let mut keys: Vec<(u64, VerifyingKey)> = Vec::new();
        for change in changes {
            let wrong = || KeysError::Unsigned(change.epoch);
            let (old, new) = change.keys(given.name()).ok_or_else(wrong)?;
            match keys.last() {
                // SECURITY: each continues the one before, or they are not the changes of one log.
                Some((epoch, last)) if *last != old || *epoch >= change.epoch => return Err(wrong()),
                Some(_) => {}
                None => keys.push((0, old)),
            }
            keys.push((change.epoch, new));
        }
        // SECURITY: a key that none of them names is believed alone, and signed nothing of this.
        if !keys.iter().any(|(_, key)| key == given) {
            keys = vec![(0, given.clone())];
        }
        Ok(Self { keys })
    }

    /// The key of an epoch.
    pub(crate) fn of(&self, epoch: u64) -> Option<&VerifyingKey> {
        let mut keys = self.keys.iter().rev();
        keys.find(|(first, _)| *first <= epoch).map(|(_, key)| key)
    }

    /// The newest one.
    pub(crate) fn newest(&self) -> Option<&VerifyingKey> {
        self.keys.last().map(|(_, key)| key)
    }

    /// Checks that the key of its epoch signed a checkpoint.
    pub(crate) fn check(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let key = self.of(checkpoint.epoch);
        checkpoint.check(key.ok_or(CheckpointError::Signature(checkpoint.size))?)
    }

    /// The changes: epoch, key before, key from then on.
    pub(crate) fn changes(&self) -> Vec<(u64, String, String)> {
        let pairs = self.keys.iter().zip(self.keys.iter().skip(1));
        pairs
            .map(|((_, old), (epoch, new))| (*epoch, old.to_string(), new.to_string()))
            .collect()
    }
}

/// The first segment of an ended epoch that was moved to where it cannot be reached.
fn lost(folder: &Path) -> Option<PathBuf> {
    let epochs = segment::epochs(folder).ok()?.into_iter();
    let mut first = epochs.map(|epoch| segment::path(&segment::epoch_folder(folder, epoch), 0));
    first.find_map(|path| packed::out_of_reach(&path))
}

/// The change that stands in the first batch of an epoch.
fn change_in(folder: &Path) -> io::Result<Option<KeyChanged>> {
    let path = segment::path(folder, 0);
    let mut frames = match Frames::open(&path) {
        Ok(frames) => frames,
        // Dropped, in an archive that is not there, or damaged: whoever needs it says so, and what it says leads nowhere.
        Err(error) if is_lost(&error, &path) => return Ok(None),
        Err(error) => return Err(error),
    };
    loop {
        let (frame, bytes) = match frames.next() {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) if is_lost(&error, &path) => break,
            Err(error) => return Err(error),
        };
        if frame.batch != 1 {
            break;
        }
        if let Ok(Record {
            event: Event::KeyChanged(change),
            ..
        }) = serde_json::from_slice(bytes)
        {
            return Ok(Some(*change));
        }
    }
    Ok(None)
}

fn is_lost(error: &io::Error, path: &Path) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | InvalidData | UnexpectedEof) || packed::out_of_reach(path).is_some()
}

/// Gives the log in `folder` another key, in place of `log.key` and `log.pub` in `keys`. The gateway is stopped; at its next
/// start the log goes on in a new epoch that begins with the change. Goes on where an earlier run was cut short.
///
/// # Errors
/// [`KeyChangeError`]; then the key is what it was, or the same command ends the change.
pub fn change(folder: &Path, keys: &Path, random: &dyn Random) -> Result<Changed, KeyChangeError> {
    let (key_path, pub_path) = (keys.join("log.key"), keys.join("log.pub"));
    let (next_key, next_pub) = (keys.join("next.key"), keys.join("next.pub"));
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyChangeError::File { path, source }
    };
    let noted = VerifyingKey::load(&pub_path)?;
    let (name, present) = (noted.name(), LogKey::load(&key_path)?);
    let epoch = present_epoch(folder).map_err(file_error(folder))?;
    let epoch = epoch.ok_or_else(|| KeyChangeError::NoLog(folder.to_owned()))?;
    let mark = restored::read(folder).map_err(|error| KeyChangeError::File {
        path: folder.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    let begun = mark.map(|marked| marked.mark).filter(|mark| mark.epoch > epoch);
    let change = match begun {
        None if present.public(name) != noted => return Err(KeyChangeError::Pair(pub_path)),
        None => {
            for old in [&next_key, &next_pub] {
                remove(old).map_err(file_error(old))?;
            }
            // What the old key has tagged and not signed, nobody could believe any more.
            let unsigned = present
                .tags()
                .map(|tags| recover::unsigned(folder, &noted, &tags))?;
            match unsigned.map_err(|error| KeyChangeError::Unreadable(error.to_string()))? {
                0 => {}
                records => return Err(KeyChangeError::Unsigned(records)),
            }
            let new = LogKey::generate(random)?;
            new.save_with(&next_key, &new.public(name).to_string())?;
            sync_folder(keys).map_err(file_error(keys))?;
            let change = KeyChanged::sign(&present, &new, name, epoch + 1);
            let mark = Restored {
                epoch: epoch + 1,
                reason: "the log's key was changed".into(),
                key: Some(change.clone()),
            };
            mark.mark(folder, &present, name).map_err(file_error(folder))?;
            change
        }
        Some(mark) => mark.key.ok_or(KeyChangeError::Pending)?,
    };
    let (old, new) = change.keys(name).ok_or(KeyChangeError::Pending)?;
    // SECURITY: whoever writes the log's folder may have left a change between other keys.
    if ![&old, &new].contains(&&present.public(name)) {
        return Err(KeyChangeError::Pair(pub_path));
    }
    let name_kept = format!("log-until-{:06}.pub", change.epoch);
    let kept = keys.join(&name_kept);
    // INVARIANT: the old public key is kept, then the private key changes in one step, then what goes beside it.
    if !kept.exists() {
        restored::put(keys, &name_kept, format!("{old}\n").as_bytes()).map_err(file_error(&kept))?;
    }
    if present.public(name) == old {
        if LogKey::load(&next_key)?.public(name) != new {
            return Err(KeyChangeError::Pair(next_key));
        }
        fs::rename(&next_key, &key_path).map_err(file_error(&key_path))?;
    }
    if next_pub.exists() {
        fs::rename(&next_pub, &pub_path).map_err(file_error(&pub_path))?;
    }
    sync_folder(keys).map_err(file_error(keys))?;
    Ok(Changed {
        old,
        new,
        epoch: change.epoch,
        kept,
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The change of the log's key with which its next start begins an epoch.
pub(crate) fn pending(folder: &Path) -> io::Result<Option<KeyChanged>> {
    let marked = restored::read(folder).map_err(|error| io::Error::other(error.to_string()))?;
    let Some((epoch, change)) = marked.and_then(|marked| Some((marked.mark.epoch, marked.mark.key?))) else {
        return Ok(None);
    };
    let present = present_epoch(folder)?;
    Ok(present.is_none_or(|present| present < epoch).then_some(change))
}

/// The epoch that was written last.
pub(super) fn present_epoch(folder: &Path) -> io::Result<Option<u64>> {
    let ended = segment::epochs(folder)?.last().copied();
    for index in segment::list(folder)?.into_iter().rev() {
        if let Some(header) = Header::read(&segment::path(folder, index))? {
            return Ok(Some(header.epoch.max(ended.unwrap_or(0))));
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::audit::testing::{ORIGIN, entry, ids, key, open, public};
    use crate::audit::verify::{VerifyError, verify};
    use crate::id::SystemSource;

    fn log(data: &Path) -> PathBuf {
        data.join("log")
    }

    /// A log with a record, closed, whose keys lie in a folder of their own name.
    async fn written(data: &Path) -> VerifyingKey {
        let audit = open(data).audit;
        audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
        audit.close("test").await;
        public(data)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_key_stays_while_the_end_of_the_log_is_not_signed() {
        let data = tempfile::tempdir().unwrap();
        written(data.path()).await;
        let log = log(data.path());
        let notes = fs::read_to_string(log.join("checkpoints")).unwrap();
        let first: Vec<&str> = notes.split("\n\n").take(2).collect();
        let first = format!("{}\n\n{}\n", first[0], first[1]);
        fs::write(log.join("checkpoints"), format!("{first}\n")).unwrap();
        fs::write(log.join("checkpoint"), first).unwrap();
        let refused = change(&log, data.path(), &SystemSource::new()).unwrap_err();
        assert!(matches!(refused, KeyChangeError::Unsigned(1..)), "{refused}");
        open(data.path()).audit.close("test").await;
        assert_eq!(change(&log, data.path(), &SystemSource::new()).unwrap().epoch, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_changed_key_is_followed_from_the_old_one_and_back_from_the_new_one() {
        let data = tempfile::tempdir().unwrap();
        let first = written(data.path()).await;
        let old_checkpoint = crate::audit::read::newest_checkpoint(&log(data.path())).unwrap();
        let changed = change(&log(data.path()), data.path(), &SystemSource::new()).unwrap();
        assert_eq!((&changed.old, changed.epoch), (&first, 2));
        assert_eq!(public(data.path()), changed.new);
        assert_eq!(VerifyingKey::load(&changed.kept).unwrap(), first);
        // Until the next start the log is that of the key before, and the new one says why it is not its own yet.
        let report = verify(&log(data.path()), &first, Some(&old_checkpoint), |_| {}).unwrap();
        assert_eq!((report.epoch, report.outside), (1, true));
        let error = verify(&log(data.path()), &changed.new, None, |_| {}).unwrap_err();
        assert!(matches!(error, VerifyError::KeyPending(2)), "{error}");
        assert!(error.to_string().contains("log-until-000002.pub"), "{error}");
        assert!(pending(&log(data.path())).unwrap().is_some());
        let second = written(data.path()).await;
        assert_eq!(second, changed.new);
        assert!(pending(&log(data.path())).unwrap().is_none());
        let again = open(data.path());
        assert_eq!(again.recovery.damage, [""; 0]);
        again.audit.close("test").await;
        // A second change, so that one is followed over the other.
        let changed = change(&log(data.path()), data.path(), &SystemSource::new()).unwrap();
        let third = written(data.path()).await;
        assert_eq!((&third, changed.epoch), (&changed.new, 3));
        for key in [&first, &second, &third] {
            let report = verify(&log(data.path()), key, Some(&old_checkpoint), |_| {}).unwrap();
            assert_eq!(
                (report.epoch, report.key_changes.len(), report.outside),
                (3, 2, true)
            );
            assert!(
                report.earlier.iter().all(|earlier| earlier.damage.is_none()),
                "{report:?}"
            );
        }
        let other = LogKey::generate(&SystemSource::new()).unwrap().public(ORIGIN);
        let error = verify(&log(data.path()), &other, None, |_| {}).unwrap_err();
        assert!(matches!(error, VerifyError::Checkpoint(_)), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_that_was_cut_short_stops_the_start_and_is_ended_by_the_same_command() {
        let data = tempfile::tempdir().unwrap();
        let first = written(data.path()).await;
        let keys = |names: &[&str]| {
            names
                .iter()
                .map(|name| fs::read(data.path().join(name)).unwrap())
                .collect::<Vec<_>>()
        };
        let before = keys(&["log.key", "log.pub"]);
        let changed = change(&log(data.path()), data.path(), &SystemSource::new()).unwrap();
        let after = keys(&["log.key", "log.pub"]);
        // The mark stands, the keys are still the old ones; then the private one is new.
        for private_is_new in [false, true] {
            fs::write(data.path().join("log.pub"), &before[1]).unwrap();
            fs::write(data.path().join("next.pub"), &after[1]).unwrap();
            if !private_is_new {
                fs::write(data.path().join("log.key"), &before[0]).unwrap();
                let next = data.path().join("next.key");
                fs::write(&next, &after[0]).unwrap();
                fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
                let opened = crate::audit::Audit::open(
                    crate::audit::testing::config(data.path()),
                    key(data.path()),
                    ORIGIN,
                    ids(),
                );
                assert!(opened.unwrap_err().to_string().contains("audit key change"));
            }
            let again = change(&log(data.path()), data.path(), &SystemSource::new()).unwrap();
            assert_eq!((&again.new, &again.old), (&changed.new, &first));
            assert_eq!(keys(&["log.key", "log.pub"]), after);
        }
        let opened = open(data.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (2, 0));
        opened.audit.close("test").await;
        verify(&log(data.path()), &first, None, |_| {}).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn with_another_key_the_log_says_what_the_state_must_be_as_before() {
        let data = tempfile::tempdir().unwrap();
        let audit = open(data.path()).audit;
        let list = Event::State(crate::record::StateDigests {
            scheme: 2,
            parts: 1,
            ..crate::record::StateDigests::default()
        });
        audit.write(list.clone()).await.unwrap();
        audit.close("test").await;
        change(&log(data.path()), data.path(), &SystemSource::new()).unwrap();
        let opened = open(data.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.restored), (2, false));
        assert_eq!(opened.recovery.states, [list]);
        opened.audit.close("test").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_between_other_keys_that_somebody_left_in_the_log_changes_no_key() {
        let data = tempfile::tempdir().unwrap();
        written(data.path()).await;
        let strange = || LogKey::generate(&SystemSource::new()).unwrap();
        let (one, other) = (strange(), strange());
        let mark = Restored {
            epoch: 2,
            reason: "forged".into(),
            key: Some(KeyChanged::sign(&one, &other, ORIGIN, 2)),
        };
        mark.mark(&log(data.path()), &one, ORIGIN).unwrap();
        let files = || fs::read_dir(data.path()).unwrap().count();
        let before = files();
        let error = change(&log(data.path()), data.path(), &SystemSource::new()).unwrap_err();
        assert!(matches!(error, KeyChangeError::Pair(_)), "{error}");
        assert_eq!(files(), before);
    }

    #[test]
    fn a_change_that_one_of_the_keys_did_not_sign_is_none() {
        let key = || LogKey::generate(&SystemSource::new()).unwrap();
        let (old, new, other) = (key(), key(), key());
        let given = old.public(ORIGIN);
        let right = KeyChanged::sign(&old, &new, ORIGIN, 2);
        let keys = Keys::of_changes(&given, std::slice::from_ref(&right)).unwrap();
        assert_eq!(
            (keys.of(1), keys.of(2)),
            (Some(&given), Some(&new.public(ORIGIN)))
        );
        let by_other = KeyChanged::sign(&other, &other, ORIGIN, 2);
        for wrong in [
            KeyChanged {
                old_signature: by_other.old_signature.clone(),
                ..right.clone()
            },
            KeyChanged {
                new_signature: by_other.new_signature.clone(),
                ..right.clone()
            },
            KeyChanged {
                new: other.public(ORIGIN).to_string(),
                ..right.clone()
            },
            KeyChanged {
                epoch: 3,
                ..right.clone()
            },
            KeyChanged::sign(&old, &new, "other.example.org/log", 2),
        ] {
            assert!(matches!(
                Keys::of_changes(&given, &[wrong]),
                Err(KeysError::Unsigned(_))
            ));
        }
        let astray = [right, KeyChanged::sign(&other, &key(), ORIGIN, 3)];
        assert!(matches!(
            Keys::of_changes(&given, &astray),
            Err(KeysError::Unsigned(3))
        ));
    }
}
