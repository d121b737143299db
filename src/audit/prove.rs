//! Makes proofs from a log's files: that a record is in the log, and that the log continues what it was.
//!
//! A proof consists of roots of complete subtrees. Each stands at the tree's edge when its last leaf is appended, and each
//! segment begins with the edge, so only the segments in which these leaves stand are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, next_note};
use super::proof::Proof;
use super::read::newest_checkpoint;
use super::segment::{self, Frames, Header};
use super::tree::{self, Node};
use crate::id::RequestId;
use crate::record::{Hash, Record};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is nothing to prove from.
    #[error("there is no log in `{}`", .0.display())]
    NoLog(PathBuf),
    /// There are no files of the epoch.
    #[error("there are no files of epoch {0}")]
    Epoch(u64),
    /// No record of the request, or none of this kind.
    #[error("there is no such record of request `{0}` under the newest checkpoint")]
    Request(RequestId),
    /// The record is not there.
    #[error("there is no record {epoch}.{seq}: the newest checkpoint of epoch {epoch} covers {size} records")]
    NotCovered {
        /// Epoch of the log.
        epoch: u64,
        /// Position in it.
        seq: u64,
        /// Records under the checkpoint.
        size: u64,
    },
    /// The files are not what was signed.
    #[error("the log cannot be proved from: {0}")]
    Damaged(String),
}

/// A record's place, as commands and the API name it: `EPOCH.SEQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Epoch of the log.
    pub epoch: u64,
    /// Position in that epoch.
    pub seq: u64,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.');
        let read = parts.and_then(|(epoch, seq)| {
            Some(Self {
                epoch: epoch.parse().ok()?,
                seq: seq.parse().ok()?,
            })
        });
        read.ok_or_else(|| {
            format!("`{text}` is not the place of a record (accepted: `EPOCH.NUMBER`, such as `1.4711`)")
        })
    }
}

/// Proves the record at `place` of the log in `folder`: under the newest checkpoint that a witness cosigned where that
/// covers it, else under the newest one of its epoch. Where later records are damaged, it is proved under the first checkpoint
/// that covers it.
///
/// # Errors
/// [`ProveError`].
pub fn prove(folder: &Path, place: Place) -> Result<Proof, ProveError> {
    let of_epoch = epoch_folder(folder, place.epoch)?;
    let newest = newest_checkpoint(&of_epoch).filter(|newest| newest.epoch == place.epoch);
    let newest = newest.ok_or(ProveError::Epoch(place.epoch))?;
    if place.seq >= newest.size {
        return Err(ProveError::NotCovered {
            epoch: place.epoch,
            seq: place.seq,
            size: newest.size,
        });
    }
    let covers = |cosigned: &Checkpoint| {
        cosigned.epoch == place.epoch && cosigned.size > place.seq && cosigned.size <= newest.size
    };
    let files = Files::open(&of_epoch)?;
    let first_choice = cosigned(folder).into_iter().find(covers).unwrap_or(newest);
    let proved = files.prove(place.seq, first_choice);
    let Err(ProveError::Damaged(what)) = proved else {
        return proved;
    };
    match first_covering(&of_epoch, place)? {
        Some(first) => files.prove(place.seq, first),
        None => Err(damaged(what)),
    }
}

/// The first of an epoch's checkpoints that covers a record.
fn first_covering(folder: &Path, place: Place) -> Result<Option<Checkpoint>, ProveError> {
    let path = folder.join("checkpoints");
    let mut reader = match fs::File::open(&path) {
        Ok(file) => io::BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error(&path, source)),
    };
    while let Some(note) = next_note(&mut reader).map_err(|source| file_error(&path, source))? {
        let covers = |read: &Checkpoint| read.epoch == place.epoch && read.size > place.seq;
        if let Some(first) = Checkpoint::parse(&note).ok().filter(covers) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// The place of the record of `request` in the log in `folder`: of the kind `event`, or the one with which it began.
///
/// # Errors
/// [`ProveError`].
pub fn find(folder: &Path, request: RequestId, event: Option<&str>) -> Result<Place, ProveError> {
    let epochs = segment::epochs(folder).map_err(|source| file_error(folder, source))?;
    let earlier = epochs
        .iter()
        .rev()
        .map(|epoch| segment::epoch_folder(folder, *epoch));
    let mut failed = None;
    for folder in std::iter::once(folder.to_owned()).chain(earlier) {
        match find_in(&folder, request, event) {
            Ok(Some(place)) => return Ok(place),
            Ok(None) => {}
            // It may stand in another epoch.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or(ProveError::Request(request)))
}

fn find_in(folder: &Path, request: RequestId, event: Option<&str>) -> Result<Option<Place>, ProveError> {
    let newest = newest_checkpoint(folder).ok_or_else(|| ProveError::NoLog(folder.to_owned()))?;
    let (needle, mut found) = (request.to_string(), None);
    Files::open(folder)?.each(newest.size, |seq, record| {
        if contains(record, needle.as_bytes()) && is_of(record, request, event) {
            found = Some(seq);
        }
        found.is_none()
    })?;
    let epoch = newest.epoch;
    Ok(found.map(|seq| Place { epoch, seq }))
}

fn is_of(record: &[u8], request: RequestId, event: Option<&str>) -> bool {
    let Ok(record) = serde_json::from_slice::<Record>(record) else {
        return false;
    };
    let name = record.event.name();
    let right = event.map_or(matches!(name, "intent" | "refused"), |event| event == name);
    right && record.event.request() == Some(request)
}

fn contains(record: &[u8], needle: &[u8]) -> bool {
    record.windows(needle.len()).any(|window| window == needle)
}

/// The proof that the present epoch of the log in `folder` had its first `old` records when it had `size`.
pub(crate) fn consistency(folder: &Path, old: u64, size: u64) -> Result<Vec<Hash>, ProveError> {
    let subtrees = tree::consistency(old, size);
    if subtrees.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Files::open(folder)?.roots(&subtrees, None)?.roots)
}

/// The newest cosigned checkpoint of each epoch, newest epoch first: none where there never was a witness. Nothing of it is
/// believed before it is checked.
#[must_use]
pub fn cosigned(folder: &Path) -> Vec<Checkpoint> {
    cosignatures(folder).ok().flatten().unwrap_or_default()
}

/// The same; `None` when the file holds something else.
pub(crate) fn cosignatures(folder: &Path) -> io::Result<Option<Vec<Checkpoint>>> {
    let file = match fs::File::open(folder.join(COSIGNATURES)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MOST_COSIGNATURES + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).ok();
    Ok(text
        .filter(|text| text.len() as u64 <= MOST_COSIGNATURES)
        .and_then(|text| notes(&text)))
}

/// Largest file of cosigned checkpoints, in bytes: room for thousands of epochs.
const MOST_COSIGNATURES: u64 = 4 * 1024 * 1024;

/// File of the newest cosigned checkpoint of each epoch.
pub(crate) const COSIGNATURES: &str = "cosignatures";

/// Checkpoints that stand one after the other, each followed by an empty line, newest epoch first. `None` when they do not.
fn notes(text: &str) -> Option<Vec<Checkpoint>> {
    let (mut reader, mut read, mut length) = (text.as_bytes(), Vec::new(), 0);
    while let Ok(Some(note)) = next_note(&mut reader) {
        length += note.len() + 1;
        read.push(Checkpoint::parse(&note).ok()?);
    }
    read.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.epoch));
    (length == text.len()).then_some(read)
}

/// Where the files of an epoch are.
fn epoch_folder(folder: &Path, epoch: u64) -> Result<PathBuf, ProveError> {
    let present = newest_checkpoint(folder).ok_or_else(|| ProveError::NoLog(folder.to_owned()))?;
    if present.epoch == epoch {
        return Ok(folder.to_owned());
    }
    let earlier = segment::epoch_folder(folder, epoch);
    match earlier.is_dir() {
        true => Ok(earlier),
        false => Err(ProveError::Epoch(epoch)),
    }
}

/// The segments of one epoch.
struct Files {
    folder: PathBuf,
    /// Number and header of each, in order.
    segments: Vec<(u64, Header)>,
}

/// What was asked for.
struct Found {
    roots: Vec<Hash>,
    record: Option<Vec<u8>>,
}

impl Files {
    fn open(folder: &Path) -> Result<Self, ProveError> {
        let indexes = segment::list(folder).map_err(|source| file_error(folder, source))?;
        let mut segments = Vec::new();
        for index in indexes {
            let path = segment::path(folder, index);
            let header = Header::read(&path).map_err(|source| file_error(&path, source))?;
            // One without a header is damaged, or not in use yet; what is missing shows when it is needed.
            segments.extend(header.map(|header| (index, header)));
        }
        match segments.is_empty() {
            true => Err(ProveError::NoLog(folder.to_owned())),
            false => Ok(Self {
                folder: folder.to_owned(),
                segments,
            }),
        }
    }

    /// Proves the record `index` under a checkpoint that covers it.
    fn prove(&self, index: u64, checkpoint: Checkpoint) -> Result<Proof, ProveError> {
        let found = self.roots(&tree::inclusion(index, checkpoint.size), Some(index))?;
        let Some(record) = found.record else {
            return Err(damaged(format!("record {index} cannot be read")));
        };
        // What would not hold is not given out.
        let root = tree::root_by(tree::leaf(&record), index, checkpoint.size, &found.roots);
        if root != Some(checkpoint.root) {
            return Err(damaged("its records are not those that were signed".into()));
        }
        Ok(Proof {
            record,
            index,
            path: found.roots,
            checkpoint,
        })
    }

    /// The roots of `subtrees`, in their order, and the record at `wanted`.
    fn roots(&self, subtrees: &[Range<u64>], wanted: Option<u64>) -> Result<Found, ProveError> {
        let nodes: Vec<Vec<Node>> = subtrees.iter().map(Node::of).collect();
        let asked: BTreeSet<Node> = nodes.iter().flatten().copied().collect();
        let mut hashes = BTreeMap::new();
        let mut record = None;
        for (at, (index, header)) in self.segments.iter().enumerate() {
            let until = self
                .segments
                .get(at + 1)
                .map_or(u64::MAX, |(_, next)| next.first());
            let within = |leaf: &u64| (header.first()..until).contains(leaf);
            let leaves = asked.iter().map(|node| node.last()).chain(wanted);
            let Some(last) = leaves.filter(within).max() else {
                continue;
            };
            let mut edge = header.edge.clone();
            self.segment(*index, last + 1 - header.first(), |payload| {
                if Some(edge.size()) == wanted {
                    record = Some(payload.to_vec());
                }
                edge.push_seen(tree::leaf(payload), |node, hash| {
                    if asked.contains(&node) {
                        hashes.insert(node, hash);
                    }
                });
                true
            })?;
        }
        let root = |nodes: &Vec<Node>| {
            let found: Option<Vec<Hash>> = nodes.iter().map(|node| hashes.get(node).copied()).collect();
            tree::joined(&found?)
        };
        let roots: Option<Vec<Hash>> = nodes.iter().map(root).collect();
        let roots = roots.ok_or_else(|| damaged("records are missing".into()))?;
        Ok(Found { roots, record })
    }

    /// Shows the records before `end` with their positions, as long as it is asked for more.
    fn each(&self, end: u64, mut show: impl FnMut(u64, &[u8]) -> bool) -> Result<(), ProveError> {
        let (mut seq, mut more) = (0, true);
        for (at, (index, header)) in self.segments.iter().enumerate() {
            let until = self
                .segments
                .get(at + 1)
                .map_or(u64::MAX, |(_, next)| next.first());
            seq = seq.max(header.first());
            if more && seq < until.min(end) {
                self.segment(*index, until.min(end) - seq, |payload| {
                    more = show(seq, payload);
                    seq += 1;
                    more
                })?;
            }
        }
        Ok(())
    }

    /// Shows the first `count` records of a segment, as long as it is asked for more.
    fn segment(&self, index: u64, count: u64, mut show: impl FnMut(&[u8]) -> bool) -> Result<(), ProveError> {
        let path = segment::path(&self.folder, index);
        let mut frames = Frames::open(&path).map_err(|source| file_error(&path, source))?;
        for nth in 0..count {
            let next = frames.next().map_err(|source| file_error(&path, source))?;
            let Some((_, payload)) = next else {
                return Err(damaged(format!("segment {index} ends after {nth} records")));
            };
            if !show(payload) {
                break;
            }
        }
        Ok(())
    }
}

fn damaged(what: String) -> ProveError {
    ProveError::Damaged(what)
}

fn file_error(path: &Path, source: io::Error) -> ProveError {
    ProveError::File {
        path: path.to_owned(),
        source,
    }
}
