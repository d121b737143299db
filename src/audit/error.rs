//! Why a record was not written, or the log not opened.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::id::RandomError;
use crate::problem::{AsProblem, Kind, Problem};

/// Why a record was not written, or the log not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// As many records wait as may wait.
    #[error("{0} records are waiting for the audit log already")]
    Full(usize),
    /// The writer did not acknowledge in time.
    #[error("the audit log did not take the record within {0:?}")]
    Deadline(Duration),
    /// Writes fail.
    #[error("the audit log cannot be written: {reason}")]
    Unwritable {
        /// What the system said.
        reason: String,
    },
    /// The disk is nearly full.
    #[error("the audit log has no space left to go on safely")]
    NoSpace,
    /// The log was closed.
    #[error("the audit log is closed")]
    Stopped,
    /// More records at once than half a segment holds.
    #[error("{0} records are too many to be written at once")]
    TooMany(usize),
    /// No salt.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Another process writes this log.
    #[error("the log in `{}` is in use by another process", .0.display())]
    Locked(PathBuf),
    /// What is written here may be gone after a crash.
    #[error(
        "the log cannot lie in `{}`: {name} does not keep what was synced; accepted: a local disk (ext4, XFS), or for trying \
         things out `[audit] allow_any_fs = true`",
        path.display()
    )]
    FileSystem {
        /// The folder.
        path: PathBuf,
        /// Kind of file system.
        name: &'static str,
    },
    /// The files are of another log.
    #[error("the folder `{}` holds the log of another gateway", .0.display())]
    OtherLog(PathBuf),
    /// A checkpoint that is there does not fit.
    #[error("the checkpoint in `{}` does not fit this log and key: {reason}", path.display())]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The log's key is being changed, or is not the newest one.
    #[error(
        "the log goes on under another key than the one in the data folder: end the change with `countersign audit key change`, \
         or put the newest key back"
    )]
    Key,
    /// The mark that the log was restored is nobody's who has its key.
    #[error(
        "`{}` says that the log was restored or its key changed, but is not signed with the log's key: repeat `countersign \
         restore` with this version if that wrote it; otherwise find out who writes this folder, and remove the file",
        .0.display()
    )]
    Mark(PathBuf),
    /// A whole record that this version does not understand.
    #[error("record {seq} was written by a newer version")]
    Unreadable {
        /// Its position.
        seq: u64,
    },
    /// A file of the log cannot be used.
    #[error("cannot use the audit log at `{}`: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Not called within a tokio runtime.
    #[error("the audit log needs the gateway's runtime")]
    Runtime,
}

impl AuditError {
    pub(crate) fn from_io(path: &Path, source: &io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: source.to_string(),
        }
    }
}

impl AsProblem for AuditError {
    fn as_problem(&self) -> Problem {
        // SECURITY: clients learn that it cannot be written, not where it lies.
        let detail = match self {
            Self::Full(_) => "too many records are waiting for the audit log",
            Self::Deadline(_) => "the audit log did not take the record in time",
            Self::NoSpace => "the audit log has no space left to go on safely",
            _ => "the audit log does not take records at the moment",
        };
        Problem::new(Kind::LogUnavailable, detail).retry_after(1)
    }
}
