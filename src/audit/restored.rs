//! The mark that a restore leaves in a log's folder: what is there ends, and the next start begins a new epoch.
//!
//! It stays; once the new epoch has begun it says nothing any more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::AuditError;
use crate::record::KeyChanged;

const NAME: &str = "restored";

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
    /// Leaves the mark in `folder`, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, folder: &Path) -> io::Result<()> {
        let mut file = File::create(folder.join(NAME))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }
}

/// The mark in `folder`. One that cannot be read is not passed over: the old epoch must not go on.
pub(super) fn read(folder: &Path) -> Result<Option<Restored>, AuditError> {
    let path = folder.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => {
            let mark = serde_json::from_slice(&bytes).map_err(io::Error::from);
            mark.map(Some).map_err(|error| AuditError::from_io(&path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AuditError::from_io(&path, &error)),
    }
}
