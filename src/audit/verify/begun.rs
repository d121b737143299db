//! What an epoch says of the ones before it, which ended damaged: their files, as they were then.

use std::collections::BTreeMap;

use super::VerifyError;
use crate::record::{Event, Hash};

/// What an epoch recorded about the ones before, when it began.
#[derive(Debug, Default)]
pub(super) struct Begun {
    total: Option<u64>,
    epoch: u64,
    /// Size and root of the newest checkpoint that was known.
    pub(super) head: Option<(u64, Hash)>,
    /// Whether it says that something was missing.
    damaged: bool,
    pub(super) files: BTreeMap<String, (u64, Hash)>,
}

impl Begun {
    /// Takes what one of the epoch's first records says.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Recovery(recovery) => self.damaged |= !recovery.damage.is_empty(),
            Event::Epoch(begun) => {
                self.total = Some(begun.total);
                self.epoch = begun.epoch;
                self.head = begun.root.map(|root| (begun.signed, root));
                let files = begun.files.into_iter();
                self.files
                    .extend(files.map(|file| (file.name, (file.bytes, file.hash))));
            }
            _ => {}
        }
    }

    /// How `epoch`, the one before, ended damaged although its files fit each other: when it does not have the head that was
    /// known.
    ///
    /// SECURITY: an older copy, or another log of the same key, verifies by itself. That a new epoch began after it makes it
    /// no better. Where the new epoch does not say so itself, it was exchanged later.
    pub(super) fn lost(&self, epoch: u64, has_head: bool) -> Result<Option<String>, VerifyError> {
        let Some((size, _)) = self.head.filter(|_| !has_head) else {
            return Ok(None);
        };
        let next = self.epoch;
        let lost = VerifyError::Head { epoch, next, size };
        match self.damaged {
            true => Ok(Some(lost.to_string())),
            false => Err(lost),
        }
    }

    /// SECURITY: a later epoch without its list would leave the earlier ones to whoever holds the folder.
    pub(super) fn check(&self, epoch: u64) -> Result<(), VerifyError> {
        match self.total {
            None if epoch == 1 => Ok(()),
            Some(total) if total == self.files.len() as u64 => Ok(()),
            _ => Err(VerifyError::Beginning(epoch)),
        }
    }

    /// What was dropped since need not be there.
    pub(super) fn forget(&mut self, epochs: u64) {
        self.files.retain(|name, _| !is_of(name, epochs));
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

/// Whether a file is one of the epochs up to `epochs`.
pub(super) fn is_of(name: &str, epochs: u64) -> bool {
    let number = name
        .strip_prefix("epoch-")
        .and_then(|rest| rest.split('/').next());
    number
        .and_then(|number| number.parse().ok())
        .is_some_and(|epoch: u64| epoch <= epochs)
}

pub(super) fn ended(epoch: u64, file: &str, what: &'static str) -> VerifyError {
    let file = file.to_owned();
    VerifyError::Ended { epoch, file, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EpochBegun, Recovery};

    #[test]
    fn an_epoch_without_the_head_that_the_next_one_names_is_an_error_unless_that_says_so_itself() {
        let root = Some(Hash::of(b"root"));
        let epoch = EpochBegun {
            epoch: 2,
            signed: 26,
            root,
            ..EpochBegun::default()
        };
        let mut begun = Begun::default();
        assert!(matches!(begun.lost(1, false), Ok(None)), "no head was known");
        begun.take(Event::Epoch(epoch));
        assert!(matches!(begun.lost(1, true), Ok(None)));
        assert!(matches!(
            begun.lost(1, false),
            Err(VerifyError::Head {
                epoch: 1,
                next: 2,
                size: 26
            })
        ));
        begun.take(Event::Recovery(Recovery {
            damage: vec!["26 records of epoch 1 were signed, 20 are there".into()],
            ..Recovery::default()
        }));
        assert!(begun.lost(1, false).unwrap().unwrap().contains("26 records"));
    }
}
