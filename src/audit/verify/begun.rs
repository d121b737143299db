//! What an epoch says of the ones before it, which ended damaged: their files, as they were then.

use std::collections::BTreeMap;

use super::VerifyError;
use crate::record::{EpochBegun, Hash};

/// What an epoch recorded about the ones before, when it began.
#[derive(Debug, Default)]
pub(super) struct Begun {
    total: Option<u64>,
    pub(super) files: BTreeMap<String, (u64, Hash)>,
}

impl Begun {
    pub(super) fn take(&mut self, begun: EpochBegun) {
        self.total = Some(begun.total);
        self.files.extend(
            begun
                .files
                .into_iter()
                .map(|file| (file.name, (file.bytes, file.hash))),
        );
    }

    /// SECURITY: a later epoch without its list would leave the earlier ones to whoever holds the folder.
    pub(super) fn check(&self, epoch: u64) -> Result<(), VerifyError> {
        match self.total {
            None if epoch == 1 => Ok(()),
            Some(total) if total == self.files.len() as u64 => Ok(()),
            _ => Err(VerifyError::Beginning(epoch)),
        }
    }

    pub(super) fn hold(&self, epoch: u64, there: &BTreeMap<String, (u64, Hash)>) -> Result<(), VerifyError> {
        for (name, was) in &self.files {
            match there.get(name) {
                None => return Err(ended(epoch, name, "is missing")),
                Some(is) if is != was => return Err(ended(epoch, name, "was changed since")),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

pub(super) fn ended(epoch: u64, file: &str, what: &'static str) -> VerifyError {
    let file = file.to_owned();
    VerifyError::Ended { epoch, file, what }
}
