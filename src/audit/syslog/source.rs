//! The records behind a position: of epochs that ended, then of the present one up to what is durable.

use std::io;
use std::path::PathBuf;

use crate::audit::index::Position;
use crate::audit::read::{ReadError, Reader};
use crate::audit::segment;
use crate::record::Record;

/// Reads on from a position.
#[derive(Debug)]
pub(super) struct Source {
    folder: PathBuf,
    /// The epoch that is written now.
    present: u64,
    /// Where the next record stands.
    next: Position,
    reader: Option<Reader>,
    /// Records that were gone from the log before they were read.
    missed: u64,
}

impl Source {
    pub(super) const fn new(folder: PathBuf, present: u64, next: Position) -> Self {
        Self {
            folder,
            present,
            next,
            reader: None,
            missed: 0,
        }
    }

    /// Goes back, or forward, to `position`.
    pub(super) fn go_to(&mut self, position: Position) {
        self.next = position;
        self.reader = None;
    }

    /// Where the next record stands.
    pub(super) const fn next(&self) -> Position {
        self.next
    }

    /// Records of the present epoch that are durable and were not read.
    pub(super) const fn behind(&self, head: u64) -> u64 {
        if self.next.epoch < self.present {
            return head;
        }
        head.saturating_sub(self.next.seq)
    }

    /// Records that were gone since this was asked last.
    pub(super) fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// The next record with its place; `None` where there is none yet. `head` records of the present epoch are durable.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) fn read(&mut self, head: u64) -> Result<Option<(Record, Position)>, ReadError> {
        loop {
            let present = self.next.epoch >= self.present;
            if present {
                self.next.epoch = self.present;
                if self.next.seq >= head {
                    return Ok(None);
                }
            }
            let Some(reader) = self.reader(head)? else {
                self.go_to(Position {
                    epoch: self.following()?,
                    seq: 0,
                });
                continue;
            };
            // Each look for a newer segment opens a file.
            if present && head > reader.limit() {
                reader.set_limit(head)?;
            }
            let read = reader.read();
            match read {
                Ok(Some(found)) => {
                    let at = Position {
                        epoch: self.next.epoch,
                        seq: found.record.seq,
                    };
                    self.missed += at.seq.saturating_sub(self.next.seq);
                    self.next.seq = at.seq + 1;
                    return Ok(Some((found.record, at)));
                }
                Ok(None) if present => return Ok(None),
                // The end of an epoch that ended, however it did.
                Ok(None) => self.go_on()?,
                Err(ReadError::Damaged { .. }) if !present => self.go_on()?,
                Err(error) => {
                    // Opened anew: what it held may have been moved meanwhile.
                    self.reader = None;
                    return Err(error);
                }
            }
        }
    }

    fn go_on(&mut self) -> Result<(), ReadError> {
        let epoch = self.following()?;
        self.go_to(Position { epoch, seq: 0 });
        Ok(())
    }

    /// The epoch behind the one that is read.
    fn following(&self) -> Result<u64, ReadError> {
        let ended = segment::epochs(&self.folder).map_err(|source| ReadError::File {
            path: self.folder.clone(),
            source,
        })?;
        let next = ended.into_iter().find(|epoch| *epoch > self.next.epoch);
        Ok(next.unwrap_or(self.present))
    }

    /// The reader of the epoch; `None` where nothing of one that ended is there.
    fn reader(&mut self, head: u64) -> Result<Option<&mut Reader>, ReadError> {
        if self.reader.is_none() {
            let seq = self.next.seq;
            self.reader = if self.next.epoch >= self.present {
                Some(Reader::to(&self.folder, seq, head)?)
            } else {
                let folder = segment::epoch_folder(&self.folder, self.next.epoch);
                match Reader::to(&folder, seq, u64::MAX) {
                    Ok(reader) => Some(reader),
                    // Nothing of it is there any more; anything else (a folder out of reach) is tried again.
                    Err(ReadError::NoLog(_)) => None,
                    Err(ReadError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                }
            };
        }
        Ok(self.reader.as_mut())
    }
}
