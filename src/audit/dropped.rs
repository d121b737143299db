//! What was dropped of a log because it had been kept for long enough: the edge file.
//!
//! The log itself says what is dropped, in a `log_dropped` record under a signed checkpoint. The file `dropped` beside the
//! segments repeats it, with the tree's edge from which everybody goes on, so that no reader has to look for that record
//! first. It proves nothing by itself: whoever verifies compares it with the record and with the checkpoints that follow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tree::Edge;
use super::writer::sync_folder;
use super::{packed, segment};
use crate::clock::Timestamp;
use crate::record::{Hash, LogDropped};

/// Name of the file.
pub(crate) const NAME: &str = "dropped";
/// Name of the file that is locked: exclusively by whoever drops, shared by whoever reads all of a log.
pub(crate) const HOLD: &str = "hold";
const VERSION: u32 = 1;

/// What is gone, and where the rest begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The epoch whose beginning is gone.
    pub(crate) epoch: u64,
    /// Number of its first segment that is kept.
    pub(crate) segments: u64,
    /// The tree over its records that are gone.
    pub(crate) edge: Edge,
    /// All epochs up to this one are gone whole; 0 when none is.
    pub(crate) epochs: u64,
    /// Position of the record that says so.
    pub(crate) record: u64,
    /// Everything that is gone was older than this.
    pub(crate) before: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    v: u32,
    epoch: u64,
    segments: u64,
    records: u64,
    root: Hash,
    peaks: Vec<Hash>,
    epochs: u64,
    record: u64,
    before: Timestamp,
}

impl Dropped {
    /// Number of records that are gone.
    pub(crate) const fn records(&self) -> u64 {
        self.edge.size()
    }

    /// Reads what [`Dropped::encode`] wrote; `None` when it is something else, or cannot be true.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let form: Form = serde_json::from_slice(bytes).ok()?;
        let edge = Edge::new(form.records, form.peaks)?;
        let possible = form.v == VERSION
            && form.root == edge.root()
            && form.epochs < form.epoch
            && form.records <= form.record
            && (form.segments > 0 || form.records == 0);
        possible.then_some(Self {
            epoch: form.epoch,
            segments: form.segments,
            edge,
            epochs: form.epochs,
            record: form.record,
            before: form.before,
        })
    }

    /// The content of the file.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Form {
            v: VERSION,
            epoch: self.epoch,
            segments: self.segments,
            records: self.records(),
            root: self.edge.root(),
            peaks: self.edge.peaks().to_vec(),
            epochs: self.epochs,
            record: self.record,
            before: self.before,
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Whether a record of the log says the same.
    pub(crate) fn is_said_by(&self, said: &LogDropped) -> bool {
        let same = |hash: &Hash| *hash == self.edge.root();
        (said.epoch, said.segments, said.records) == (self.epoch, self.segments, self.records())
            && same(&said.root)
            && said.epochs == self.epochs
    }

    /// Puts the file into `folder`, durably.
    pub(crate) fn store(&self, folder: &Path) -> io::Result<()> {
        let temporary = folder.join("dropped.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&self.encode()?)?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(NAME))?;
        sync_folder(folder)
    }

    /// Removes the files of which the edge file says that they are gone. Says whether there were any.
    ///
    /// INVARIANT: oldest first, so that what a crash leaves is one piece. Nothing goes while something of it is out of reach:
    /// without its link nobody would find it any more.
    pub(crate) fn remove(&self, folder: &Path) -> io::Result<bool> {
        let (mut epochs, mut segments) = (Vec::new(), Vec::new());
        for epoch in segment::epochs(folder)? {
            if epoch <= self.epochs {
                epochs.push((epoch, segment::epoch_folder(folder, epoch)));
            }
        }
        for (epoch, folder) in &epochs {
            let indexes = segment::list(folder)?.into_iter();
            segments.extend(indexes.map(|index| (*epoch, segment::path(folder, index))));
        }
        let indexes = segment::list(folder)?.into_iter();
        let present = indexes.filter(|index| *index < self.segments);
        let present: Vec<_> = present
            .map(|index| (self.epoch, segment::path(folder, index)))
            .collect();
        segments
            .iter()
            .chain(&present)
            .try_for_each(|(_, path)| reached(path))?;
        segments
            .iter()
            .try_for_each(|(epoch, path)| remove_segment(*epoch, path))?;
        epochs
            .iter()
            .try_for_each(|(_, folder)| fs::remove_dir_all(folder))?;
        present
            .iter()
            .try_for_each(|(epoch, path)| remove_segment(*epoch, path))?;
        let removed = !epochs.is_empty() || !present.is_empty();
        if removed {
            sync_folder(folder)?;
        }
        Ok(removed)
    }
}

/// Whether the archive is there to which a segment was moved. That the segment itself is not is what a crash leaves.
fn reached(path: &Path) -> io::Result<()> {
    let Some(moved) = packed::out_of_reach(path) else {
        return Ok(());
    };
    let is_there = moved
        .parent()
        .and_then(|archive| fs::read_dir(archive).ok())
        .is_some_and(|mut files| files.next().is_some());
    let away = || {
        io::Error::other(format!(
            "`{}` is to be dropped and cannot be reached: mount the archive",
            moved.display()
        ))
    };
    is_there.then_some(()).ok_or_else(away)
}

/// Removes a segment of an epoch in all its forms, wherever it was moved to.
fn remove_segment(epoch: u64, path: &Path) -> io::Result<()> {
    let small = packed::packed(path);
    // SECURITY: whoever writes the log's folder may have made a link to anything.
    let is_its = |moved: &PathBuf| {
        let names = moved.file_name().zip(small.file_name());
        let names = names.and_then(|(moved, own)| moved.to_str().zip(own.to_str()));
        names.is_some_and(|(moved, own)| moved.ends_with(&format!("-{epoch:06}-{own}")))
    };
    let moved = fs::read_link(&small).ok().filter(is_its);
    for file in moved.iter().map(PathBuf::as_path).chain([path, &small]) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What was dropped of the log in `folder`: `None` when nothing was. An edge file that is none is an error of the kind
/// `InvalidData`.
pub(crate) fn read(folder: &Path) -> io::Result<Option<Dropped>> {
    let bytes = match fs::read(folder.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = Dropped::decode(&bytes);
    let flaw = || io::Error::new(io::ErrorKind::InvalidData, "the edge file `dropped` was changed");
    read.map(Some).ok_or_else(flaw)
}

/// Position of the first record of the log in `folder` that is kept.
pub(crate) fn first(folder: &Path) -> io::Result<u64> {
    Ok(read(folder)?.map_or(0, |dropped| dropped.records()))
}

/// Keeps whatever is in `folder` from being dropped for as long as the file is held. `None` where nobody drops anything.
pub(crate) fn hold(folder: &Path) -> Option<File> {
    let file = File::open(folder.join(HOLD)).ok()?;
    file.lock_shared().ok()?;
    Some(file)
}

/// The other side: `None` while somebody reads all of the log.
pub(crate) fn hold_alone(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(HOLD);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree;
    use proptest::prelude::*;

    fn edge(size: u64) -> Edge {
        let mut edge = Edge::default();
        (0..size).for_each(|n| edge.push(tree::leaf(&n.to_le_bytes())));
        edge
    }

    #[test]
    fn what_a_link_leads_to_goes_only_where_it_is_that_segment_in_an_archive() {
        let place = tempfile::tempdir().unwrap();
        let (log, archive) = (place.path().join("log"), place.path().join("archive"));
        fs::create_dir(&log).unwrap();
        fs::create_dir(&archive).unwrap();
        let own = archive.join("0123456789abcdef-000003-0000000000.log.zst");
        let others = [
            place.path().join("log.key"),
            archive.join("0123456789abcdef-000003-0000000001.log.zst"),
            archive.join("0123456789abcdef-000004-0000000000.log.zst"),
        ];
        let link = log.join("0000000000.log.zst");
        let dropped = Dropped {
            epoch: 3,
            segments: 1,
            edge: edge(5),
            epochs: 0,
            record: 9,
            before: Timestamp(0),
        };
        for victim in others.iter().chain([&own]) {
            fs::write(victim, "kept").unwrap();
            std::os::unix::fs::symlink(victim, &link).unwrap();
            assert!(dropped.remove(&log).unwrap());
            assert!(fs::symlink_metadata(&link).is_err());
            assert_eq!(victim.exists(), *victim != own, "{}", victim.display());
        }
    }

    proptest! {
        #[test]
        fn an_edge_file_is_read_as_it_was_written_and_no_other_edge_passes(
            size in 1..300_u64, segments in 1..9_u64, epochs in 0..3_u64, later in 0..9_u64, flip in 0..64_usize,
        ) {
            let before = Timestamp::from_secs(1_795_262_400);
            let dropped = Dropped { epoch: 3, segments, edge: edge(size), epochs, record: size + later, before };
            let bytes = dropped.encode().unwrap();
            prop_assert_eq!(Dropped::decode(&bytes), Some(dropped));
            // One digit of the first peak.
            let text = String::from_utf8(bytes).unwrap();
            let at = text.find("\"peaks\":[\"").unwrap() + 10 + flip;
            let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(Dropped::decode(changed.as_bytes()), None);
        }

        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Dropped::decode(&bytes), None);
        }
    }

    #[test]
    fn whoever_reads_all_of_a_log_keeps_it_from_being_dropped_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        assert!(hold(folder.path()).is_none(), "nobody has dropped anything here");
        let alone = hold_alone(folder.path()).unwrap();
        assert!(alone.is_some());
        drop(alone);
        let reader = hold(folder.path()).unwrap();
        assert!(hold(folder.path()).is_some(), "there may be several");
        assert!(hold_alone(folder.path()).unwrap().is_none());
        drop(reader);
        assert!(hold_alone(folder.path()).unwrap().is_some());
    }
}
