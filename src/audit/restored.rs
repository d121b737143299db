//! The mark that a restore, or a change of the key, leaves in a log's folder: what is there ends, and the next start begins a
//! new epoch.
//!
//! It is signed with the log's key: the new epoch may have another key and another state of who may do what, which nobody
//! brings about who can only write the folder. It lies beside the folder, not in it, and is gone once the new epoch has begun:
//! whoever takes that epoch away does not make it begin again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::AuditError;
use super::key::{LogKey, VerifyingKey, verifies};
use super::writer::sync_folder;
use crate::record::KeyChanged;

const NAME: &str = "log.restored";
/// What is signed is, in its first line, nothing else that the key signs.
const FIRST: &str = "countersign log mark";

/// What the next epoch is, and why it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// Its number at least.
    pub epoch: u64,
    /// In words, for its first record.
    pub reason: String,
    /// The change of the log's key with which it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyChanged>,
}

impl Restored {
    /// Leaves the mark beside the `folder` of the log `name`, durably and signed with the log's key: that until now, where it
    /// changes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, folder: &Path, key: &LogKey, name: &str) -> io::Result<()> {
        let text = serde_json::to_string(self)?;
        let signature = key.sign(statement(name, &text).as_bytes());
        let signature = data_encoding::BASE64.encode(&signature);
        put(beside(folder), NAME, format!("{text}\n{signature}\n").as_bytes())
    }
}

fn statement(name: &str, text: &str) -> String {
    format!("{FIRST}\n{name}\n{text}\n")
}

/// A mark as it lies there.
#[derive(Debug)]
pub(super) struct Marked {
    /// What it says, whoever wrote it.
    pub(super) mark: Restored,
    text: String,
    signature: Vec<u8>,
}

impl Marked {
    /// Whether it was signed with the log's key, or with the one before, where it says that `key` follows that.
    pub(super) fn is_signed(&self, key: &VerifyingKey) -> bool {
        let by = match &self.mark.key {
            None => Some(key.clone()),
            // SECURITY: that the new key signed the change says whose successor it is, and from which epoch on.
            Some(change) => change
                .keys(key.name())
                .and_then(|(old, new)| (new == *key && change.epoch == self.mark.epoch).then_some(old)),
        };
        by.is_some_and(|by| {
            let said = statement(key.name(), &self.text);
            verifies(by.bytes(), said.as_bytes(), &self.signature)
        })
    }
}

fn beside(folder: &Path) -> &Path {
    let beside = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    beside.unwrap_or(Path::new("."))
}

/// Where the mark of the log in `folder` lies.
pub(super) fn path(folder: &Path) -> PathBuf {
    beside(folder).join(NAME)
}

/// The epoch that it says has begun: it is used up.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(path(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(beside(folder)),
    }
}

/// The mark of the log in `folder`. One that cannot be read is not passed over: the old epoch must not go on.
pub(super) fn read(folder: &Path) -> Result<Option<Marked>, AuditError> {
    let path = path(folder);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::from_io(&path, &error)),
    };
    // Before they were signed, there was one line.
    let (text, signature) = text.split_once('\n').unwrap_or((&text, ""));
    let mark = serde_json::from_str(text).map_err(io::Error::from);
    Ok(Some(Marked {
        mark: mark.map_err(|error| AuditError::from_io(&path, &error))?,
        text: text.to_owned(),
        signature: data_encoding::BASE64
            .decode(signature.trim_end().as_bytes())
            .unwrap_or_default(),
    }))
}

/// Puts a small file into `folder` in one step, durably.
pub(super) fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{ORIGIN, config, ids, key, open, public};
    use crate::audit::verify::verify;
    use crate::audit::{Audit, LogKey};
    use crate::id::SystemSource;

    fn mark(epoch: u64) -> Restored {
        Restored {
            epoch,
            reason: "restored: a test".into(),
            key: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mark_that_the_log_key_did_not_sign_keeps_the_log_from_starting() {
        let data = tempfile::tempdir().unwrap();
        open(data.path()).audit.close("test").await;
        let (log, stranger) = (
            data.path().join("log"),
            LogKey::generate(&SystemSource::new()).unwrap(),
        );
        let refused = || {
            let opened = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids());
            let error = opened.unwrap_err();
            assert!(matches!(error, AuditError::Mark(_)), "{error}");
            assert!(error.to_string().contains("not signed"), "{error}");
        };
        fs::write(path(&log), serde_json::to_vec(&mark(77)).unwrap()).unwrap();
        refused();
        mark(77).mark(&log, &stranger, ORIGIN).unwrap();
        refused();
        mark(77)
            .mark(&log, &key(data.path()), "other.example.org/log")
            .unwrap();
        refused();
        // A change between keys of which none is the log's.
        let other = LogKey::generate(&SystemSource::new()).unwrap();
        let change = KeyChanged::sign(&stranger, &other, ORIGIN, 77);
        let strange = Restored {
            key: Some(change),
            ..mark(77)
        };
        strange.mark(&log, &stranger, ORIGIN).unwrap();
        refused();
        // The key before does not begin another epoch with the change that led to this one.
        let own = Restored {
            key: Some(KeyChanged::sign(&stranger, &key(data.path()), ORIGIN, 2)),
            ..mark(77)
        };
        own.mark(&log, &stranger, ORIGIN).unwrap();
        refused();
        mark(77).mark(&log, &key(data.path()), ORIGIN).unwrap();
        let text = fs::read_to_string(path(&log)).unwrap();
        fs::write(path(&log), text.replace("77", "78")).unwrap();
        refused();

        fs::write(path(&log), text).unwrap();
        let opened = open(data.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (77, 0));
        opened.audit.close("test").await;
        verify(&log, &public(data.path()), None, |_| {}).unwrap();
        assert!(!log.join("restored.new").exists());
        // One that says nothing any more is of a time before they were signed.
        fs::write(path(&log), serde_json::to_vec(&mark(77)).unwrap()).unwrap();
        let opened = open(data.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (77, 0));
        opened.audit.close("test").await;
    }
}
