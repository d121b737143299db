//! Dropping what has been kept for long enough: whole old segments, and whole epochs that ended.
//!
//! In this order, each step durable before the next: the `log_dropped` record and a checkpoint over it; the edge file; the
//! files go. A crash in between leaves a log that says more than is gone, or files of which it says that they are gone: the
//! one is harmless, the other is finished at the next run (`docs/decisions/0011-old-segments-are-dropped-in-this-order.md`).
//!
//! Never dropped is what anybody may need: a record that is younger, not indexed, under no checkpoint, or newer than what the
//! log's witness has seen; the intent of a request that has not ended; the newest segments; and what is not what was signed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, next_note};
use super::dropped::{self, Dropped};
use super::key::VerifyingKey;
use super::packed;
use super::queue::held;
use super::segment::{self, Frames, Header};
use super::tree::{self, Edge};
use super::{Audit, AuditError, prove};
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Event, FileAside, Hash, LogDropped, Record};

/// Segments that stay, however old they are.
const NEWEST: usize = 2;
/// Segments that are dropped at once.
const MOST: usize = 64;
/// Files in one record.
const FILES: usize = 100;
/// How often the index is waited for, some seconds each time.
const CATCHING_UP: usize = 12;

/// What may be dropped at all.
pub(crate) struct Bounds<'a> {
    /// Records before this position are indexed and under a checkpoint.
    pub(crate) records: u64,
    /// Records are older than this.
    pub(crate) before: Timestamp,
    /// Requests that have not ended.
    pub(crate) open: HashSet<RequestId>,
    pub(crate) key: &'a VerifyingKey,
}

/// What is about to be dropped. As long as it lives, nobody reads all of the log.
#[derive(Debug)]
pub(crate) struct Plan {
    folder: PathBuf,
    pub(crate) dropped: Dropped,
    files: Vec<FileAside>,
    _alone: File,
}

impl Audit {
    /// Waits for some time until the index has what the log has: what is not indexed is not dropped, and at a start the index may
    /// be some way behind.
    pub async fn indexed(&self) {
        for _ in 0..CATCHING_UP {
            if self.0.index.catch_up().await.is_ok() {
                break;
            }
        }
    }

    /// Drops whole old segments, as far as every record in them is older than `before` and nothing else keeps them; so many at
    /// once at most. Gives what was dropped, `None` when there is nothing (more) to drop.
    ///
    /// # Errors
    /// [`AuditError`]: the log could not be read or written, or is not what was signed; then it is left as it is.
    pub async fn drop_older(&self, before: Timestamp) -> Result<Option<LogDropped>, AuditError> {
        let _turn = self.0.old_segments.lock().await;
        let inner = self.0.clone();
        let plan = blocking(move || {
            let shared = &inner.shared;
            let signed = shared.newest.load().as_ref().map_or(0, |newest| newest.size);
            let indexed = inner.index.indexed();
            let bounds = Bounds {
                records: signed.min(indexed),
                before,
                open: held(&shared.open).clone(),
                key: &inner.key,
            };
            plan(&shared.config.folder, &bounds)
        });
        let folder = self.folder().to_owned();
        let file_error = |error: io::Error| AuditError::from_io(&folder, &error);
        let Some(mut plan) = plan.await.map_err(file_error)? else {
            return Ok(None);
        };
        let events = plan.events();
        let said = events.first().cloned();
        let seqs = self
            .write_all(events.into_iter().map(Event::LogDropped).collect())
            .await?;
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else {
            return Err(AuditError::Stopped);
        };
        plan.dropped.record = *first;
        self.signed(*last).await?;
        let dropped = plan.dropped.clone();
        blocking(move || plan.carry_out()).await.map_err(file_error)?;
        // What it still finds of these records is passed over, so this may be late.
        if let Err(error) = self.0.index.forget(&dropped).await {
            tracing::warn!("the audit index keeps what was dropped: {error}");
        }
        Ok(said)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// Finishes what a crash cut short, and plans what is dropped next. `None` when there is nothing, or somebody reads the log.
pub(crate) fn plan(folder: &Path, bounds: &Bounds<'_>) -> io::Result<Option<Plan>> {
    let Some(alone) = dropped::hold_alone(folder)? else {
        return Ok(None);
    };
    let there = dropped::read(folder)?;
    if let Some(there) = &there {
        // SECURITY: whoever holds the folder can write such a file.
        if !is_said(folder, there, |one| one.check(bounds.key).is_ok())? {
            let what = "the edge file `dropped` is not what a signed record says, so nothing is dropped: countersign audit verify says more";
            return Err(io::Error::other(what));
        }
        there.remove(folder)?;
    }
    let (epochs, whole) = old_epochs(folder, bounds)?;
    let base = there.as_ref().map_or(0, |there| there.segments);
    let mut rest = Rest {
        folder,
        bounds,
        headers: headers(folder, base)?,
        edge: there
            .as_ref()
            .map_or_else(Edge::default, |there| there.edge.clone()),
    };
    // The first segment of an epoch says what the ones before it were: it goes after them.
    let count = if whole { rest.old()? } else { 0 };
    let Some(first) = rest.headers.first().filter(|_| count > 0 || !epochs.is_empty()) else {
        return Ok(None);
    };
    let dropped = Dropped {
        epoch: first.epoch,
        segments: base + count as u64,
        epochs: epochs
            .last()
            .copied()
            .or(there.map(|there| there.epochs))
            .unwrap_or(0),
        edge: rest.edge.clone(),
        record: 0,
        before: bounds.before,
    };
    let mut files = Vec::new();
    for epoch in &epochs {
        let inner = segment::epoch_folder(folder, *epoch);
        let mut paths = fs::read_dir(&inner)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort_unstable();
        for path in paths.iter().filter(|path| path.is_file()) {
            files.push(aside(folder, path)?);
        }
    }
    for header in rest.headers.iter().take(count) {
        let path = packed::file_of(&segment::path(folder, header.index));
        files.push(aside(folder, &path)?);
    }
    Ok(Some(Plan {
        folder: folder.to_owned(),
        dropped,
        files,
        _alone: alone,
    }))
}

fn aside(folder: &Path, path: &Path) -> io::Result<FileAside> {
    let (bytes, hash) = segment::fingerprint(path)?;
    let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
    Ok(FileAside {
        name: name.into_owned(),
        bytes,
        hash,
    })
}

impl Plan {
    /// What is written down before anything goes.
    pub(crate) fn events(&self) -> Vec<LogDropped> {
        let part = |files: &[FileAside]| LogDropped {
            epoch: self.dropped.epoch,
            segments: self.dropped.segments,
            records: self.dropped.records(),
            root: self.dropped.edge.root(),
            epochs: self.dropped.epochs,
            before: self.dropped.before,
            total: self.files.len() as u64,
            files: files.to_vec(),
        };
        match self.files.is_empty() {
            // An epoch of which there was nothing but its folder.
            true => vec![part(&[])],
            false => self.files.chunks(FILES).map(part).collect(),
        }
    }

    /// The edge file, then the files go. The record is durable and signed.
    pub(crate) fn carry_out(self) -> io::Result<()> {
        for name in ["checkpoints", "checkpoint"] {
            File::open(self.folder.join(name))?.sync_all()?;
        }
        self.dropped.store(&self.folder)?;
        self.dropped.remove(&self.folder).map(drop)
    }
}

/// The oldest of the epochs that ended, as far as they ended long enough ago; and whether that is all of them.
///
/// SECURITY: what the records say counts, for anybody may write the heads of segments; and the files must be those that the
/// present epoch signed when it began.
fn old_epochs(folder: &Path, bounds: &Bounds<'_>) -> io::Result<(Vec<u64>, bool)> {
    let ended = segment::epochs(folder)?;
    let mut old = Vec::new();
    let is_old = |time: Timestamp| time < bounds.before;
    for (nth, epoch) in ended.iter().enumerate() {
        // It ended when the next one began, whatever its own files say.
        let next = ended.iter().skip(nth + 1);
        let mut next = next
            .map(|next| segment::epoch_folder(folder, *next))
            .chain([folder.to_owned()]);
        let began = next.find_map(|next| first_time(&next).transpose()).transpose()?;
        if !began.is_some_and(is_old) || has_younger(&segment::epoch_folder(folder, *epoch), bounds.before)? {
            break;
        }
        old.push(*epoch);
    }
    if let Some(last) = old.last() {
        let next = ended.get(old.len()).unwrap_or(last);
        let first = old.first().unwrap_or(last);
        // Nothing goes before the index has come to the present epoch.
        if bounds.records == 0 {
            return Ok((Vec::new(), false));
        }
        hold_against_beginning(folder, bounds.key, *first..=*next)?;
    }
    let whole = old.len() == ended.len();
    Ok((old, whole))
}

/// When the first record in `folder` was taken; `None` where there is none that can be read.
fn first_time(folder: &Path) -> io::Result<Option<Timestamp>> {
    let Some(first) = segment::list(folder)?.first().copied() else {
        return Ok(None);
    };
    let mut time = None;
    readable(read_times(&segment::path(folder, first), |read| {
        time = Some(read);
        false
    }))?;
    Ok(time)
}

/// Whether a record in `folder` was not taken before `before`. The newest come first, so that is seldom long in doubt.
fn has_younger(folder: &Path, before: Timestamp) -> io::Result<bool> {
    for index in segment::list(folder)?.into_iter().rev() {
        let mut younger = false;
        readable(read_times(&segment::path(folder, index), |time| {
            younger = time >= before;
            !younger
        }))?;
        if younger {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives `see` the times of a segment's records, until it has seen enough.
fn read_times(path: &Path, mut see: impl FnMut(Timestamp) -> bool) -> io::Result<()> {
    let mut frames = Frames::open(path)?;
    while let Some((_, bytes)) = frames.next()? {
        if serde_json::from_slice::<Record>(bytes).is_ok_and(|record| !see(record.time)) {
            break;
        }
    }
    Ok(())
}

/// An epoch may have ended because a compressed segment was damaged.
fn readable(read: io::Result<()>) -> io::Result<()> {
    read.or_else(|error| match error.kind() {
        io::ErrorKind::InvalidData => Ok(()),
        _ => Err(error),
    })
}

/// Holds the files of the `wanted` epochs against what the present one says of them under its first checkpoint.
fn hold_against_beginning(folder: &Path, key: &VerifyingKey, wanted: RangeInclusive<u64>) -> io::Result<()> {
    let headers = headers(folder, 0)?;
    let epoch = headers.first().map_or(0, |header| header.epoch);
    let signed = first_checkpoint(folder, epoch, 1, |one| one.check(key).is_ok())?;
    let mut files: BTreeMap<String, (u64, Hash)> = BTreeMap::new();
    let is_signed = signed.map(|signed| {
        goes_on_to(folder, &headers, Edge::default(), &signed, |_, bytes| {
            if let Ok(Record {
                event: Event::Epoch(begun),
                ..
            }) = serde_json::from_slice(bytes)
            {
                let begun = begun.files.into_iter();
                files.extend(begun.map(|file| (file.name, (file.bytes, file.hash))));
            }
        })
    });
    let is_of = |name: &str| {
        let number = name
            .strip_prefix("epoch-")
            .and_then(|rest| rest.split('/').next());
        let number = number.and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|epoch| wanted.contains(&epoch))
    };
    files.retain(|name, _| is_of(name));
    let mut there = segment::aside(folder)?;
    there.retain(|name, _| is_of(name));
    // SECURITY: what was changed is evidence, and stays.
    match is_signed.transpose()?.unwrap_or(false) && there == files {
        true => Ok(()),
        false => Err(io::Error::other(
            "the files of epochs that ended are not those that were signed, so they are kept: countersign audit verify says more",
        )),
    }
}

/// Whether the record that an edge file names says the same, and stands under a checkpoint that is `signed`.
pub(crate) fn is_said(
    folder: &Path,
    there: &Dropped,
    signed: impl Fn(&Checkpoint) -> bool,
) -> io::Result<bool> {
    let mut headers = Vec::new();
    // Only those that are needed: the ones before may be in an archive that is not there.
    for index in segment::list(folder)?.into_iter().rev() {
        let Some(header) = Header::read(&segment::path(folder, index))?.filter(|_| index >= there.segments)
        else {
            return Ok(false);
        };
        let begins = header.first() <= there.record;
        headers.insert(0, header);
        if begins {
            break;
        }
    }
    let edge = headers.first().map(|header| header.edge.clone());
    let edge = edge.filter(|edge| edge.size() <= there.record);
    let signed = first_checkpoint(folder, there.epoch, there.record.saturating_add(1), signed)?;
    let (Some(signed), Some(edge)) = (signed, edge) else {
        return Ok(false);
    };
    let mut said = false;
    // SECURITY: no other edge at the head gives the checkpoint's root, nor any other record.
    let is_signed = goes_on_to(folder, &headers, edge, &signed, |seq, bytes| {
        if seq == there.record {
            said = match serde_json::from_slice(bytes) {
                Ok(Record {
                    event: Event::LogDropped(record),
                    ..
                }) => there.is_said_by(&record),
                _ => false,
            };
        }
    })?;
    Ok(is_signed && said)
}

/// Whether the records in the segments from `headers` on, from `edge` on, give the root of a checkpoint. Each is told to `see`.
fn goes_on_to(
    folder: &Path,
    headers: &[Header],
    mut edge: Edge,
    signed: &Checkpoint,
    mut see: impl FnMut(u64, &[u8]),
) -> io::Result<bool> {
    for (nth, header) in headers.iter().enumerate() {
        let until = headers.get(nth + 1).map_or(signed.size, Header::first);
        if edge.size() >= signed.size {
            break;
        }
        let mut frames = Frames::open(&segment::path(folder, header.index))?;
        while edge.size() < until.min(signed.size) {
            let Some((_, bytes)) = frames.next()? else {
                return Ok(false);
            };
            see(edge.size(), bytes);
            edge.push(tree::leaf(bytes));
        }
    }
    Ok((edge.size(), edge.root()) == (signed.size, signed.root))
}

/// The headers of the segments that are kept, as far as they follow on each other.
fn headers(folder: &Path, base: u64) -> io::Result<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::new();
    let indexes = segment::list(folder)?.into_iter().filter(|index| *index >= base);
    for (at, index) in (base..).zip(indexes) {
        let header = Header::read(&segment::path(folder, index))?.filter(|_| at == index);
        let Some(header) = header else { break };
        headers.push(header);
    }
    Ok(headers)
}

/// What is not dropped yet.
struct Rest<'a> {
    folder: &'a Path,
    bounds: &'a Bounds<'a>,
    headers: Vec<Header>,
    /// The tree before the first segment that stays.
    edge: Edge,
}

impl Rest<'_> {
    /// Number of segments that can go; moves the edge behind them.
    fn old(&mut self) -> io::Result<usize> {
        let bound = self.bounds.records.min(self.seen());
        let sealed = self.headers.len().saturating_sub(NEWEST);
        let mut count = 0;
        while count < sealed.min(MOST) {
            let (Some(header), Some(next)) = (self.headers.get(count), self.headers.get(count + 1)) else {
                break;
            };
            let young = next.time >= self.bounds.before || next.first() > bound;
            let Some(edge) = (!young).then(|| self.is_old(header, next)).transpose()?.flatten() else {
                break;
            };
            self.edge = edge;
            count += 1;
        }
        if count > 0 {
            self.hold_against_checkpoint(count)?;
        }
        Ok(count)
    }

    /// How far the log's witness has followed: it will want to know how the log went on from there.
    fn seen(&self) -> u64 {
        let epoch = self.headers.first().map_or(0, |header| header.epoch);
        let seen = prove::cosigned(self.folder);
        seen.iter()
            .find(|seen| seen.epoch == epoch)
            .map_or(u64::MAX, |seen| seen.size)
    }

    /// The tree behind a segment whose records are all there and all old; `None` when they are not all old.
    fn is_old(&self, header: &Header, next: &Header) -> io::Result<Option<Edge>> {
        let path = segment::path(self.folder, header.index);
        let mut edge = self.edge.clone();
        let mut frames = Frames::open(&path)?;
        while edge.size() < next.first() {
            let read = frames.next()?.map(|(_, bytes)| bytes);
            let record = read.and_then(|bytes| serde_json::from_slice::<Record>(bytes).ok().zip(Some(bytes)));
            let Some((record, bytes)) = record else {
                return Err(changed(edge.size()));
            };
            let open = match &record.event {
                Event::Intent(entry) => self.bounds.open.contains(&entry.request),
                _ => false,
            };
            if open || record.time >= self.bounds.before {
                return Ok(None);
            }
            edge.push(tree::leaf(bytes));
        }
        // SECURITY: what was changed is evidence, and stays.
        match header.edge == self.edge && next.edge == edge {
            true => Ok(Some(edge)),
            false => Err(changed(next.first())),
        }
    }

    /// SECURITY: the edge that the log's key is about to sign for is the one that it has signed: the records up to the first
    /// checkpoint behind it are read too, and must give that one's root.
    fn hold_against_checkpoint(&self, count: usize) -> io::Result<()> {
        let epoch = self.headers.first().map_or(0, |header| header.epoch);
        let signed = first_checkpoint(self.folder, epoch, self.edge.size(), |_| true)?;
        let signed = signed.ok_or_else(|| io::Error::other("no checkpoint covers what would be dropped"))?;
        signed.check(self.bounds.key).map_err(io::Error::other)?;
        let rest = self.headers.get(count..).unwrap_or_default();
        match goes_on_to(self.folder, rest, self.edge.clone(), &signed, |_, _| {})? {
            true => Ok(()),
            false => Err(changed(self.edge.size())),
        }
    }
}

fn changed(seq: u64) -> io::Error {
    let what = format!(
        "the records before {seq} are not those that were signed, so they are kept: countersign audit verify says more"
    );
    io::Error::other(what)
}

/// The first checkpoint of `epoch` over `size` records or more that is `good`.
fn first_checkpoint(
    folder: &Path,
    epoch: u64,
    size: u64,
    good: impl Fn(&Checkpoint) -> bool,
) -> io::Result<Option<Checkpoint>> {
    let mut reader = match File::open(folder.join("checkpoints")) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    while let Some(note) = next_note(&mut reader)? {
        let fits = |one: &Checkpoint| one.epoch == epoch && one.size >= size && good(one);
        if let Some(found) = Checkpoint::parse(&note).ok().filter(fits) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
