//! Reading a log's files without the gateway: in order, from any position, and on as more is written.
//!
//! A reader stops at the newest checkpoint in the folder: what lies beyond it may not be durable yet.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::dropped;
use super::segment::{self, Frames, Header};
use super::tree::{self, Edge};
use crate::record::Record;

/// How much of the end of a file of notes is looked at: many of them.
const TAIL: u64 = 64 * 1024;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("cannot read the log in `{}`: {source}", path.display())]
    File {
        /// Folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no log in the folder.
    #[error("there is no log in `{}`", .0.display())]
    NoLog(PathBuf),
    /// A record that should be there cannot be read: see [`super::verify`].
    #[error("record {seq} cannot be read in segment {segment}")]
    Damaged {
        /// Its position.
        seq: u64,
        /// The segment in which it should stand.
        segment: u64,
    },
}

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// Number of its segment.
    pub segment: u64,
    /// Offset of its frame in the segment.
    pub offset: u64,
}

/// Reads the records of one epoch in order.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    segment: u64,
    frames: Frames,
    next_first: Option<u64>,
    seq: u64,
    from: u64,
    limit: u64,
    /// The tree before the first record of the segment in which reading began.
    start: Edge,
    /// The tree over the records that were read, where it is wanted.
    edge: Option<Edge>,
}

impl Reader {
    /// A reader that starts at record `from` and stops at the newest checkpoint in `folder`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(folder: &Path, from: u64) -> Result<Self, ReadError> {
        let limit = newest_size(folder);
        Self::to(folder, from, limit)
    }

    /// A reader of the last `count` records under the newest checkpoint.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last(folder: &Path, count: u64) -> Result<Self, ReadError> {
        let limit = newest_size(folder);
        Self::to(folder, limit.saturating_sub(count), limit)
    }

    /// A reader that starts at record `from` and stops before record `limit`.
    pub(crate) fn to(folder: &Path, from: u64, limit: u64) -> Result<Self, ReadError> {
        let indexes = segment::list(folder).map_err(|source| file_error(folder, source))?;
        for index in indexes.iter().rev() {
            let path = segment::path(folder, *index);
            let header = Header::read(&path).map_err(|source| file_error(&path, source))?;
            let Some(header) = header else { continue };
            if header.first() <= from || Some(index) == indexes.first() {
                let frames = Frames::open(&path).map_err(|source| file_error(&path, source))?;
                let folder = folder.to_owned();
                let seq = header.first();
                let start = header.edge;
                let mut reader = Self {
                    folder,
                    segment: *index,
                    frames,
                    next_first: None,
                    seq,
                    from,
                    limit: 0,
                    start,
                    edge: None,
                };
                reader.set_limit(limit)?;
                return Ok(reader);
            }
        }
        Err(ReadError::NoLog(folder.to_owned()))
    }

    /// Keeps the tree over the records that are read, on top of what was dropped before them.
    pub(super) fn keep_edge(&mut self) {
        self.edge = Some(self.start.clone());
    }

    /// That tree. The edge that it began with is nobody's word: with what was read it has to give a signed root.
    pub(super) const fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    /// Position of the first record that is not read.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Position of the record that [`Reader::read`] gives next.
    pub(crate) fn next(&self) -> u64 {
        self.seq.max(self.from)
    }

    /// Leaves out the records before `seq`.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        self.from = self.from.max(seq);
    }

    /// Looks for a newer checkpoint, so that [`Reader::read`] goes on where it stopped. Gives the new limit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn refresh(&mut self) -> Result<u64, ReadError> {
        self.set_limit(newest_size(&self.folder))?;
        Ok(self.limit)
    }

    /// Moves the limit forward to `limit`, of which the caller knows that everything before it is durable.
    pub(crate) fn set_limit(&mut self, limit: u64) -> Result<(), ReadError> {
        if limit > self.limit {
            self.limit = limit;
            // What was read ahead may be older than the records that are asked for now.
            self.frames
                .forget()
                .map_err(|source| file_error(&segment::path(&self.folder, self.segment), source))?;
        }
        // INVARIANT: a new segment is in place before any record in it is acknowledged, so what voids the end of this
        // one is seen here before those records are asked for.
        self.next_first = self.first_of(self.segment + 1)?;
        Ok(())
    }

    fn first_of(&self, index: u64) -> Result<Option<u64>, ReadError> {
        let path = segment::path(&self.folder, index);
        match Header::read(&path) {
            Ok(header) => Ok(header.map(|header| header.first())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_error(&path, source)),
        }
    }

    /// The next record; `None` at the limit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            if self.seq >= self.limit {
                return Ok(None);
            }
            if self.next_first.is_some_and(|first| first <= self.seq) {
                self.segment += 1;
                let path = segment::path(&self.folder, self.segment);
                self.frames = Frames::open(&path).map_err(|source| file_error(&path, source))?;
                self.next_first = self.first_of(self.segment + 1)?;
                continue;
            }
            let damaged = ReadError::Damaged {
                seq: self.seq,
                segment: self.segment,
            };
            let offset = self.frames.offset;
            let next = self
                .frames
                .next()
                .map_err(|source| file_error(&self.folder, source))?;
            let Some((_, payload)) = next else {
                return Err(damaged);
            };
            self.seq += 1;
            if let Some(edge) = &mut self.edge {
                edge.push(tree::leaf(payload));
            }
            if self.seq <= self.from {
                continue;
            }
            let record: Record = serde_json::from_slice(payload).map_err(|_| damaged)?;
            return Ok(Some(Found {
                record,
                segment: self.segment,
                offset,
            }));
        }
    }
}

/// Position of the first record that is kept of all that a log had, in its oldest epoch, where some were dropped; `None` where
/// none were.
///
/// # Errors
/// [`ReadError`].
pub fn kept_from(folder: &Path) -> Result<Option<u64>, ReadError> {
    let read = |folder: &Path| dropped::read(folder).map_err(|source| file_error(folder, source));
    let present = read(folder)?;
    let epochs = segment::epochs(folder).map_err(|source| file_error(folder, source))?;
    let gone = present.as_ref().map_or(0, |present| present.epochs);
    let first = match epochs.into_iter().find(|epoch| *epoch > gone) {
        Some(oldest) => read(&segment::epoch_folder(folder, oldest))?,
        None => present.clone(),
    };
    Ok(first
        .map(|first| first.records())
        .or_else(|| present.filter(|present| present.epochs > 0).map(|_| 0)))
}

/// The record whose frame stands at `offset` of a segment.
pub(crate) fn record_at(folder: &Path, index: u64, offset: u64) -> Result<Option<Record>, ReadError> {
    let path = segment::path(folder, index);
    let mut frames = match Frames::at(&path, offset) {
        Ok(frames) => frames,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error(&path, source)),
    };
    let found = frames.next().map_err(|source| file_error(&path, source))?;
    Ok(found.and_then(|(_, payload)| serde_json::from_slice(payload).ok()))
}

/// The checkpoint that the log's folder holds as its newest, without a check of its signature: the one in `checkpoint`, or
/// the last whole one in `checkpoints`, whichever is newer. An older `checkpoint` alone must not hide records.
#[must_use]
pub fn newest_checkpoint(folder: &Path) -> Option<Checkpoint> {
    let alone = || Checkpoint::parse(&fs::read_to_string(folder.join("checkpoint")).ok()?).ok();
    let last = last_checkpoint(&folder.join("checkpoints")).ok().flatten();
    // Of two that are equally new the one that stands alone may be cosigned.
    last.into_iter()
        .chain(alone())
        .max_by_key(|checkpoint| (checkpoint.epoch, checkpoint.size))
}

/// The last whole note in a file of notes, read from its end.
fn last_checkpoint(path: &Path) -> io::Result<Option<Checkpoint>> {
    let mut file = File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    // Text and signatures of each note end with an empty line; behind the last of these stands what is not whole.
    let mut parts: Vec<&str> = tail.split("\n\n").collect();
    parts.pop();
    let whole = parts.windows(2).rev().find_map(|parts| match parts {
        [text, signatures] if signatures.starts_with('\u{2014}') => {
            Checkpoint::parse(&format!("{text}\n\n{signatures}\n")).ok()
        }
        _ => None,
    });
    Ok(whole)
}

fn newest_size(folder: &Path) -> u64 {
    newest_checkpoint(folder).map_or(0, |checkpoint| checkpoint.size)
}

fn file_error(path: &Path, source: io::Error) -> ReadError {
    ReadError::File {
        path: path.to_owned(),
        source,
    }
}
