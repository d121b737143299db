//! What verification found: a report, or the first thing that is wrong.

use std::io;
use std::path::PathBuf;

use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::proof::Cosigned;
use crate::clock::Timestamp;
use crate::record::Hash;

/// What a log was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records of the present epoch.
    pub records: u64,
    /// Its segments.
    pub segments: u64,
    /// Its checkpoints, each signed and with the root that the records give.
    pub checkpoints: u64,
    /// Records under the newest of them; the rest is not signed yet.
    pub signed: u64,
    /// Root of the tree over all records.
    pub root: Hash,
    /// The present epoch.
    pub epoch: u64,
    /// Epochs that ended before, whose files are kept.
    pub earlier: Vec<Earlier>,
    /// Whether a checkpoint from elsewhere was given and holds.
    pub outside: bool,
    /// Epoch and size of each checkpoint, given or cosigned, that was compared with the records and holds.
    pub held: Vec<(u64, u64)>,
    /// Epochs that were read and of which no checkpoint was given or cosigned by a witness whose key was given: an older
    /// state of them may have been put back.
    pub alone: Vec<u64>,
    /// Of an epoch that ended: whether it has the head that the next one recorded.
    pub(super) head: bool,
    /// Checkpoints that witnesses saw, of those whose keys were given.
    pub cosigned: Vec<Witnessed>,
    /// Witnesses whose cosignatures are there and were not checked, because their keys were not given.
    pub unchecked: Vec<String>,
    /// Where reading began, when a trusted checkpoint was given: epoch, and position of the first record that was read.
    pub since: Option<(u64, u64)>,
    /// What was dropped, as a signed record of the log says; `None` where nothing was, or where reading began behind that
    /// record.
    pub dropped: Option<DroppedRecords>,
    /// All epochs up to this one are gone, by the edge file.
    pub(super) gone: u64,
    /// Changes of the log's key, each signed by both: first epoch, key before, key from then on.
    pub key_changes: Vec<(u64, String, String)>,
    /// Bytes of writes that broke off and were never acknowledged.
    pub torn_bytes: u64,
    /// Records that were written but never acknowledged, and do not count.
    pub void: Vec<Void>,
    /// Whether a gateway was writing to the log meanwhile. What lies beyond its last whole record is then a batch that is
    /// being written, of which nothing is said.
    pub live: bool,
}

impl Report {
    /// Whether a checkpoint was compared with the records.
    #[must_use]
    pub fn is_held(&self, checkpoint: &Checkpoint) -> bool {
        self.held.contains(&(checkpoint.epoch, checkpoint.size))
    }
}

/// What is gone of a log because it had been kept for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRecords {
    /// Records of the present epoch, from the first one on.
    pub records: u64,
    /// All epochs up to this one; 0 when none.
    pub epochs: u64,
    /// Position of the record that says so.
    pub record: u64,
    /// The time of that record.
    pub time: Timestamp,
    /// All of it was older than this.
    pub before: Timestamp,
}

/// An epoch that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Which.
    pub epoch: u64,
    /// Its records, where it verifies.
    pub records: u64,
    /// Why it ended damaged; `None` when it verifies.
    pub damage: Option<String>,
}

/// A checkpoint that a witness saw, and that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Who, and when.
    pub by: Cosigned,
    /// Epoch of the checkpoint.
    pub epoch: u64,
    /// Records under it.
    pub size: u64,
}

/// Records at the end of a segment that do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// The segment.
    pub segment: u64,
    /// Position from which they were void.
    pub from: u64,
    /// How many.
    pub records: u64,
}

/// What is wrong, and where it shows first.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is nothing to verify.
    #[error("there is no log in `{}`", .0.display())]
    NoLog(PathBuf),
    /// The edge file is none, or of another epoch.
    #[error("`{}` was changed: it is not the edge of what was dropped", .0.display())]
    Edge(PathBuf),
    /// Records are gone, and the log itself does not say so.
    #[error(
        "records before {records} are gone, and no signed record of the log says that they were dropped (`dropped` names record {record})"
    )]
    NotDropped {
        /// Position of the first one that is there.
        records: u64,
        /// Where it should be said.
        record: u64,
    },
    /// A checkpoint from elsewhere is older than what is kept.
    #[error(
        "the checkpoint of {size} records of epoch {epoch} cannot be compared any more: records before {epoch}.{records} were dropped; take a newer one"
    )]
    Older {
        /// Its epoch.
        epoch: u64,
        /// Its size.
        size: u64,
        /// Position of the first record that is kept.
        records: u64,
    },
    /// A change of the key is not one.
    #[error("the change of the log's key at the beginning of epoch {0} is not signed by both keys")]
    KeyChange(u64),
    /// The key that was given is that of the epoch which the next start begins.
    #[error(
        "the log's key was changed, and nothing is signed with the new one before epoch {0} begins: start the gateway, or \
         verify with the key until now, `keys/log-until-{0:06}.pub`"
    )]
    KeyPending(u64),
    /// A segment is missing.
    #[error("segment {0} is missing")]
    SegmentMissing(u64),
    /// A segment's header is not whole.
    #[error("the header of segment {0} was changed")]
    Header(u64),
    /// A segment is of another log or epoch, or does not continue the one before.
    #[error("segment {segment} does not continue the log at record {seq}")]
    Continuation {
        /// Which.
        segment: u64,
        /// Where the log stood.
        seq: u64,
    },
    /// A record is missing or was changed.
    #[error("record {seq} in segment {segment} is missing or was changed")]
    Record {
        /// Its position.
        seq: u64,
        /// Where it should stand.
        segment: u64,
    },
    /// A record stands where another belongs.
    #[error("record {seq} in segment {segment} is out of place")]
    Order {
        /// The position.
        seq: u64,
        /// Where it stands.
        segment: u64,
    },
    /// A checkpoint is not one of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The newest checkpoint, in a file of its own, cannot be read.
    #[error("`{}` was changed: {source}", path.display())]
    Newest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A checkpoint's root is not what the records give.
    #[error(
        "the first {size} records are not those that were signed: a record between {after} and {size} was changed"
    )]
    Root {
        /// Size of the checkpoint that does not hold.
        size: u64,
        /// Size of the last checkpoint that does.
        after: u64,
    },
    /// Fewer records than were signed.
    #[error("the log was cut: {size} records were signed, {records} are there")]
    Cut {
        /// Size of the checkpoint.
        size: u64,
        /// Records found.
        records: u64,
    },
    /// Records without any checkpoint.
    #[error("{0} records are there, but no checkpoint: nothing is signed")]
    Unsigned(u64),
    /// An epoch that ended is not what it was then.
    #[error("the file `{file}` of an epoch that ended before epoch {epoch} began {what}")]
    Ended {
        /// The epoch that recorded the file.
        epoch: u64,
        /// Folder of the epoch that ended, and name of the file.
        file: String,
        /// What happened to it.
        what: &'static str,
    },
    /// An epoch that ended does not have the head that the next one found.
    #[error(
        "epoch {epoch} was cut or replaced: the newest checkpoint that was known when epoch {next} began, of {size} records, is not one of it"
    )]
    Head {
        /// The epoch that ended.
        epoch: u64,
        /// The one that recorded its head.
        next: u64,
        /// Records under that head.
        size: u64,
    },
    /// The beginning of an epoch does not say what the ones before left.
    #[error("epoch {0} does not say what the epochs before it left")]
    Beginning(u64),
    /// The cosignatures beside the log are not what a gateway writes.
    #[error("`{}` was changed: it does not hold cosigned checkpoints", .0.display())]
    Cosignatures(PathBuf),
    /// A witness whose key was given cosigned nothing of this.
    #[error(
        "no checkpoint here is cosigned by the witness `{0}`: its cosignatures were taken away or changed, or it never saw this log"
    )]
    NotCosigned(String),
    /// A checkpoint from elsewhere, or one that was cosigned, is of an epoch that is not there.
    #[error("a checkpoint is of epoch {0}, of which there are no files")]
    Epoch(u64),
    /// A checkpoint that was given could not be compared.
    #[error(
        "the checkpoint of {size} records of epoch {epoch} fits none of the files there: it was compared with nothing"
    )]
    NotCompared {
        /// Its epoch.
        epoch: u64,
        /// Its size.
        size: u64,
    },
}
