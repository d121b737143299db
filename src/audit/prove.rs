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
use super::dropped;
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
    /// The record was dropped.
    #[error(
        "record {epoch}.{seq} was dropped: records before {epoch}.{first} were kept for long enough, as record {epoch}.{said} says"
    )]
    Dropped {
        /// Epoch of the log.
        epoch: u64,
        /// Position in it.
        seq: u64,
        /// The first one that is kept.
        first: u64,
        /// The record that says so.
        said: u64,
    },
    /// The epoch was dropped.
    #[error(
        "epoch {epoch} was dropped: it was kept for long enough, as record {said} of the log's present epoch says"
    )]
    EpochDropped {
        /// Which.
        epoch: u64,
        /// The record that says so.
        said: u64,
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
    let gone = dropped::read(&of_epoch).map_err(|source| file_error(&of_epoch, source))?;
    if let Some(gone) = gone.filter(|gone| gone.records() > place.seq) {
        return Err(ProveError::Dropped {
            epoch: place.epoch,
            seq: place.seq,
            first: gone.records(),
            said: gone.record,
        });
    }
    let mut files = Files::open(&of_epoch)?;
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
    Ok(Files::open(folder)?.roots(&subtrees, old)?.roots)
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

/// The epochs of a log that ended and whose files are kept, in order.
///
/// # Errors
/// What the system says.
pub fn ended(folder: &Path) -> io::Result<Vec<u64>> {
    segment::epochs(folder)
}

/// Where the files of an epoch are.
fn epoch_folder(folder: &Path, epoch: u64) -> Result<PathBuf, ProveError> {
    let present = newest_checkpoint(folder).ok_or_else(|| ProveError::NoLog(folder.to_owned()))?;
    if present.epoch == epoch {
        return Ok(folder.to_owned());
    }
    let earlier = segment::epoch_folder(folder, epoch);
    if earlier.is_dir() {
        return Ok(earlier);
    }
    let gone = dropped::read(folder).map_err(|source| file_error(folder, source))?;
    Err(match gone.filter(|gone| gone.epochs >= epoch) {
        Some(gone) => ProveError::EpochDropped {
            epoch,
            said: gone.record,
        },
        None => ProveError::Epoch(epoch),
    })
}

/// The segments of one epoch. Their headers are read as they are needed: there may be very many.
struct Files {
    folder: PathBuf,
    /// Numbers of the segments, in order.
    segments: Vec<u64>,
    headers: BTreeMap<usize, Header>,
}

/// What was asked for.
struct Found {
    roots: Vec<Hash>,
    record: Option<Vec<u8>>,
}

impl Files {
    fn open(folder: &Path) -> Result<Self, ProveError> {
        let segments = segment::list(folder).map_err(|source| file_error(folder, source))?;
        match segments.is_empty() {
            true => Err(ProveError::NoLog(folder.to_owned())),
            false => Ok(Self {
                folder: folder.to_owned(),
                segments,
                headers: BTreeMap::new(),
            }),
        }
    }

    /// The header of the segment that stands at `nth` place.
    fn header(&mut self, nth: usize) -> Result<Header, ProveError> {
        if let Some(header) = self.headers.get(&nth) {
            return Ok(header.clone());
        }
        let index = self.segments.get(nth).copied().unwrap_or(u64::MAX);
        let path = segment::path(&self.folder, index);
        let header = Header::read(&path).map_err(|source| file_error(&path, source))?;
        let header = header.ok_or_else(|| damaged(format!("the header of segment {index} was changed")))?;
        self.headers.insert(nth, header.clone());
        Ok(header)
    }

    /// The place of the segment in which record `seq` stands, or would stand.
    fn place_of(&mut self, seq: u64) -> Result<usize, ProveError> {
        let (mut from, mut to) = (0, self.segments.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.header(middle)?.first() <= seq {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from.checked_sub(1)
            .ok_or_else(|| damaged("the first segment is missing".into()))
    }

    /// Proves the record `index` under a checkpoint that covers it.
    fn prove(&mut self, index: u64, checkpoint: Checkpoint) -> Result<Proof, ProveError> {
        let found = self.roots(&tree::inclusion(index, checkpoint.size), index)?;
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

    /// The roots of `subtrees`, in their order, and the record at `from`: what lies before that is at the edge of the tree
    /// there, and is not read.
    fn roots(&mut self, subtrees: &[Range<u64>], from: u64) -> Result<Found, ProveError> {
        let nodes: Vec<Vec<Node>> = subtrees.iter().map(Node::of).collect();
        let asked: BTreeSet<Node> = nodes.iter().flatten().copied().collect();
        let own = self.place_of(from)?;
        let edge = self.header(own)?.edge;
        let peaks = Node::of(&(0..edge.size())).into_iter().zip(edge.peaks().to_vec());
        let mut hashes: BTreeMap<Node, Hash> = peaks.filter(|(node, _)| asked.contains(node)).collect();
        // How far each segment has to be read.
        let mut until = BTreeMap::from([(own, from)]);
        for node in asked.iter().filter(|node| !hashes.contains_key(node)) {
            let end = until.entry(self.place_of(node.last())?).or_default();
            *end = node.last().max(*end);
        }
        let mut record = None;
        for (nth, last) in until {
            let mut edge = self.header(nth)?.edge;
            self.segment(nth, (last + 1).saturating_sub(edge.size()), |payload| {
                if edge.size() == from {
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
    fn each(&mut self, end: u64, mut show: impl FnMut(u64, &[u8]) -> bool) -> Result<(), ProveError> {
        let (mut seq, mut more) = (0, true);
        for nth in 0..self.segments.len() {
            seq = seq.max(self.header(nth)?.first());
            let until = match nth + 1 < self.segments.len() {
                true => self.header(nth + 1)?.first().min(end),
                false => end,
            };
            if more && seq < until {
                self.segment(nth, until - seq, |payload| {
                    more = show(seq, payload);
                    seq += 1;
                    more
                })?;
            }
        }
        Ok(())
    }

    /// Shows the first `count` records of a segment, as long as it is asked for more.
    fn segment(&self, nth: usize, count: u64, mut show: impl FnMut(&[u8]) -> bool) -> Result<(), ProveError> {
        let index = self.segments.get(nth).copied().unwrap_or(u64::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{entry, ids, open};
    use crate::record::Event;

    /// A closed log of several segments, with the roots of its tree by size and the first position of each segment.
    async fn log() -> (tempfile::TempDir, Vec<Hash>, Vec<u64>) {
        let data = tempfile::tempdir().unwrap();
        let (audit, ids) = (open(data.path()).audit, ids());
        for _ in 0..10 {
            let events = (0..100).map(|_| Event::Intent(Box::new(entry(&ids)))).collect();
            audit.write_all(events).await.unwrap();
        }
        audit.close("test").await;
        let folder = data.path().join("log");
        let (mut edge, mut roots) = (tree::Edge::default(), vec![tree::Edge::default().root()]);
        let mut files = Files::open(&folder).unwrap();
        let size = newest_checkpoint(&folder).unwrap().size;
        files
            .each(size, |seq, record| {
                assert_eq!(seq, edge.size());
                edge.push(tree::leaf(record));
                roots.push(edge.root());
                true
            })
            .unwrap();
        let firsts = (0..files.segments.len()).map(|nth| files.header(nth).unwrap().first());
        let firsts: Vec<u64> = firsts.collect();
        assert!(firsts.len() > 2, "{firsts:?}");
        (data, roots, firsts)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_proves_that_it_continues_what_it_was_from_any_size_on() {
        let (data, roots, firsts) = log().await;
        let (folder, most) = (data.path().join("log"), roots.len() - 1);
        let near = firsts.iter().flat_map(|first| {
            [
                *first as usize,
                *first as usize + 1,
                first.saturating_sub(1) as usize,
            ]
        });
        let sizes: BTreeSet<usize> = near
            .chain([1, 2, 511, 512, 513, most - 1, most])
            .filter(|size| (1..=most).contains(size))
            .collect();
        for old in &sizes {
            for size in sizes.iter().filter(|size| *size >= old) {
                let proof = consistency(&folder, *old as u64, *size as u64).unwrap();
                let (was, is) = ((*old as u64, roots[*old]), (*size as u64, roots[*size]));
                assert!(tree::continues(was, is, &proof), "{old} to {size}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lies_before_the_segment_of_the_older_size_is_not_read_for_it() {
        let (data, roots, firsts) = log().await;
        let folder = data.path().join("log");
        let last = *firsts.last().unwrap();
        for index in 0..firsts.len() as u64 - 1 {
            let path = segment::path(&folder, index);
            let mut bytes = fs::read(&path).unwrap();
            bytes[segment::HEADER..].fill(0);
            fs::write(&path, bytes).unwrap();
        }
        let size = roots.len() as u64 - 1;
        for old in [last, last + 1, size - 1] {
            let proof = consistency(&folder, old, size).unwrap();
            let (was, is) = ((old, roots[old as usize]), (size, roots[size as usize]));
            assert!(tree::continues(was, is, &proof), "{old}");
        }
        assert!(matches!(
            consistency(&folder, 5, size),
            Err(ProveError::Damaged(_))
        ));
        let place = Place {
            epoch: 1,
            seq: size - 1,
        };
        assert!(
            prove(&folder, place).is_ok(),
            "nor for a record of the last segment"
        );
    }
}
