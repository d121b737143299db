//! Making the index anew while no gateway serves the folder.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::block::Block;
use super::file::File;
use super::{Index, IndexError, Intake, Newest, READING, State};
use crate::audit::dropped;
use crate::audit::handover::Handover;
use crate::audit::queue::held;
use crate::audit::read::newest_checkpoint;
use crate::audit::segment::{self, Header};

/// Records after which the caller is told how far it is.
const STEP: u64 = 10_000;

/// Makes the index of the log in `folder` anew in the file at `path`, up to the newest checkpoint; gives the number of
/// records. The caller holds the log's lock. The few records at the end that fill no block are read by the gateway when it
/// starts.
///
/// # Errors
/// [`IndexError`]; what there was of an index is gone then, and the gateway makes it anew.
pub async fn rebuild(folder: &Path, path: &Path, mut told: impl FnMut(u64)) -> Result<u64, IndexError> {
    for name in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match tokio::fs::remove_file(&name).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(sqlx::Error::Io(error).into());
            }
            _ => {}
        }
    }
    let limit = newest_checkpoint(folder).map_or(0, |checkpoint| checkpoint.size);
    let index = Index(Arc::new(State {
        folder: folder.to_owned(),
        path: path.to_owned(),
        epoch: present(folder)?,
        head: watch::Sender::new(limit).subscribe(),
        indexed: watch::Sender::new(0),
        hurry: Notify::new(),
        handover: Arc::new(Handover::default()),
        file: OnceCell::new(),
        newest: Mutex::default(),
        dropped: Mutex::default(),
        reading: Semaphore::new(READING),
        closing: CancellationToken::new(),
        follower: Mutex::default(),
    }));
    let file = index.0.file.get_or_try_init(|| File::open(&index.0.path)).await?;
    let made = async {
        index.earlier(file).await?;
        let first = dropped::first(folder).map_err(|source| super::ReadError::File {
            path: folder.to_owned(),
            source,
        })?;
        *held(&index.0.newest) = Newest {
            open: Block::new(index.0.epoch, first),
            whole: None,
        };
        let mut intake = Intake::new(&index, folder.to_owned(), index.0.epoch, first);
        while intake.next < limit {
            let from = intake.next;
            intake.read_up_to(limit.min(from + STEP)).await?;
            told(intake.next);
            if intake.next == from {
                break;
            }
        }
        Ok(intake.next)
    };
    let made = made.await;
    index.close().await;
    made
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The epoch that is written now.
fn present(folder: &Path) -> Result<u64, IndexError> {
    let error = |source| super::ReadError::File {
        path: folder.to_owned(),
        source,
    };
    let indexes = segment::list(folder).map_err(error)?;
    for index in indexes.iter().rev() {
        let header = Header::read(&segment::path(folder, *index)).map_err(error)?;
        if let Some(header) = header {
            return Ok(header.epoch);
        }
    }
    Err(super::ReadError::NoLog(folder.to_owned()).into())
}
