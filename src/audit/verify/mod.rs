//! Checks a log offline: every record, every segment, every checkpoint, against the log's public key and, if there is
//! one, a checkpoint that was kept elsewhere. Needs no gateway and memory for one record.
//!
//! What the answer means: records newer than the newest checkpoint ([`Report::signed`]) are not signed, and without a
//! checkpoint from elsewhere whoever holds the folder could have put an older state of it back; neither needs a key.
//! Whoever holds the log key too could have rebuilt all of it. [`Report::outside`] says whether one was given.
//!
//! A witness's cosignatures, kept beside the log, are somebody else's word, with a time: they count for those whose keys are
//! given ([`Report::cosigned`]).
//!
//! With a trusted checkpoint to begin from ([`Against::since`]) the records before it are not read, but for those of the
//! segment in which it ends: the tree's edge at the head of that segment and these records must give its root, so the
//! tree that is built on continues the one that was trusted. That the older records are still there is then not checked.
//! Where something smaller is to be compared too, another checkpoint or a cosigned one, reading begins with its segment:
//! nothing that was given is passed over.
//!
//! Epochs that ended are compared with what the epoch after them recorded when it began, file by file: damage of that
//! moment is told ([`Earlier::damage`]), anything that was changed later is an error. The epoch after them names the head
//! that was known as well: an epoch whose own files fit each other, but not that head, was shortened or replaced.

mod begun;
mod report;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read, Take};
use std::path::Path;

use super::checkpoint::{Checkpoint, CheckpointError, next_note};
use super::dropped::{self, Dropped};
use super::key::VerifyingKey;
use super::key_change::{self, Keys, KeysError};
use super::proof::Cosigned;
use super::prove::{COSIGNATURES, cosignatures};
use super::segment::{self, Frames, Header};
use super::tree::{self, Edge};
use super::witness::WitnessKey;
use crate::record::{Event, Hash, Record};

use begun::{Begun, ended, is_of};
pub use report::{DroppedRecords, Earlier, Report, VerifyError, Void, Witnessed};

/// What a log is held against, beside its own checkpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against<'a> {
    /// A checkpoint that was kept elsewhere.
    pub outside: Option<&'a Checkpoint>,
    /// A checkpoint that is trusted: what is before it is not read again.
    pub since: Option<&'a Checkpoint>,
    /// Witnesses that must have cosigned.
    pub witnesses: &'a [WitnessKey],
}

impl<'a> Against<'a> {
    /// Of what is given, that which is of `epoch`.
    fn of(self, epoch: u64) -> Self {
        let this = |checkpoint: &&Checkpoint| checkpoint.epoch == epoch;
        Self {
            outside: self.outside.filter(this),
            since: self.since.filter(this),
            ..self
        }
    }

    /// Whether an epoch lies before the one from which on is read.
    fn skips(&self, epoch: u64) -> bool {
        // SECURITY: what is given is compared, also where the other one would let reading begin later.
        self.since.is_some() && self.given().all(|given| epoch < given.epoch)
    }

    /// Whether a witness whose key was given cosigned a checkpoint of the log's key.
    fn is_cosigned(&self, checkpoint: &Checkpoint, keys: &Keys) -> bool {
        keys.check(checkpoint).is_ok()
            && self
                .witnesses
                .iter()
                .any(|one| one.cosigned(checkpoint).is_some())
    }

    fn given(self) -> impl Iterator<Item = &'a Checkpoint> {
        [self.outside, self.since].into_iter().flatten()
    }
}

/// Verifies the log in `folder`.
///
/// `outside` is a checkpoint that was kept elsewhere. `progress` is called with the number of records checked so far,
/// about every 10,000.
///
/// # Errors
/// [`VerifyError`] names the first record, segment or checkpoint that is wrong.
pub fn verify(
    folder: &Path,
    key: &VerifyingKey,
    outside: Option<&Checkpoint>,
    progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let against = Against {
        outside,
        ..Against::default()
    };
    verify_against(folder, key, against, progress)
}

/// The same, held against all that is given.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_against(
    folder: &Path,
    key: &VerifyingKey,
    against: Against<'_>,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    // What is read now is not dropped meanwhile.
    let _hold = dropped::hold(folder);
    let keys = Keys::read(folder, key, None).map_err(|error| match error {
        KeysError::Unsigned(epoch) => VerifyError::KeyChange(epoch),
        KeysError::Lost(_) => file_error(folder, io::Error::other(error.to_string())),
        KeysError::File(source) => file_error(folder, source),
    })?;
    // SECURITY: no reason to take what the key before signed: whoever has that one can leave a mark as well.
    match key_change::pending(folder) {
        Ok(Some(change)) if change.new == key.to_string() => {
            return Err(VerifyError::KeyPending(change.epoch));
        }
        _ => {}
    }
    for given in against.given() {
        keys.check(given)?;
    }
    let keys = &keys;
    let newest = keys.newest().unwrap_or(key);
    let cosigned = cosigned(folder)?;
    let mut run = Run::new(folder, newest, against, &mut progress);
    let mut report = run.epoch(&cosigned)?;
    report.key_changes = keys.changes();
    // What is before a trusted checkpoint of this epoch is not looked at again, earlier epochs least of all.
    if !against.skips(report.epoch.saturating_sub(1)) {
        let mut there = segment::aside(folder).map_err(|source| file_error(folder, source))?;
        let gone = report.gone;
        there.retain(|name, _| !is_of(name, gone));
        // SECURITY: where the beginning of the epoch was dropped, the ones before were too, and nothing may be there of them.
        if run.base() == 0 {
            run.begun.check(report.epoch)?;
        }
        run.begun.forget(gone);
        run.begun.hold(report.epoch, &there)?;
        if let Some(file) = there.keys().find(|name| !run.begun.files.contains_key(*name)) {
            return Err(ended(report.epoch, file, "was added since"));
        }
        let left = (run.begun, &there);
        earlier(folder, keys, against, left, &mut report, &mut progress)?;
    }
    held(keys, against, &cosigned, &report)?;
    for witness in against.witnesses {
        if !report
            .cosigned
            .iter()
            .any(|seen| seen.by.witness == witness.name())
        {
            return Err(VerifyError::NotCosigned(witness.name().to_owned()));
        }
    }
    let names = cosigned.iter().flat_map(Checkpoint::names);
    let known = |name: &String| name == key.name() || against.witnesses.iter().any(|one| one.name() == name);
    report.unchecked = names.filter(|name| !known(name)).collect();
    report.unchecked.sort();
    report.unchecked.dedup();
    Ok(report)
}

/// SECURITY: nothing that was given speaks for the log without having been compared, and nothing that was cosigned is
/// passed over because the files of its epoch are gone.
fn held(
    keys: &Keys,
    against: Against<'_>,
    cosigned: &[Checkpoint],
    report: &Report,
) -> Result<(), VerifyError> {
    let gone = |epoch| epoch <= report.gone;
    let found = |epoch| report.epoch == epoch || report.earlier.iter().any(|earlier| earlier.epoch == epoch);
    if let Some(missing) = against.given().find(|given| !report.is_held(given)) {
        return Err(match found(missing.epoch) {
            true => VerifyError::NotCompared {
                epoch: missing.epoch,
                size: missing.size,
            },
            false => VerifyError::Epoch(missing.epoch),
        });
    }
    for seen in cosigned {
        if !against.skips(seen.epoch) && !report.is_held(seen) && !found(seen.epoch) && !gone(seen.epoch) {
            keys.check(seen)?;
            return Err(VerifyError::Epoch(seen.epoch));
        }
    }
    Ok(())
}

/// The checkpoints that were cosigned, kept in a file beside those of the log itself.
fn cosigned(folder: &Path) -> Result<Vec<Checkpoint>, VerifyError> {
    let path = folder.join(COSIGNATURES);
    match cosignatures(folder) {
        Ok(Some(cosigned)) => Ok(cosigned),
        Ok(None) => Err(VerifyError::Cosignatures(path)),
        Err(source) => Err(file_error(&path, source)),
    }
}

/// Verifies the epochs that ended, as far as their files are kept: the newest first, for each says what the one before it was. Given is what the present one says, and the files that are there.
fn earlier(
    folder: &Path,
    keys: &Keys,
    against: Against<'_>,
    (mut after, there): (Begun, &BTreeMap<String, (u64, Hash)>),
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<(), VerifyError> {
    let cosigned = cosigned(folder)?;
    let epochs = segment::epochs(folder).map_err(|source| file_error(folder, source))?;
    let gone = report.gone;
    let wanted = |epoch: &u64| *epoch > gone && !against.skips(*epoch);
    for epoch in epochs.into_iter().rev().filter(wanted) {
        let (path, of_this) = (segment::epoch_folder(folder, epoch), against.of(epoch));
        let Some(key) = keys.of(epoch) else {
            return Err(VerifyError::KeyChange(epoch));
        };
        let mut run = Run::new(&path, key, of_this, progress);
        run.head = after.head;
        let result = run.epoch(&cosigned);
        // What was changed before a later epoch began shows by what this one recorded.
        run.begun
            .forget(run.dropped.as_ref().map_or(0, |dropped| dropped.epochs));
        run.begun.hold(epoch, there)?;
        let before = std::mem::take(&mut run.begun);
        // SECURITY: the damage of an old epoch is on record, with the files as they were then, but what was signed and kept elsewhere must hold.
        let is_seen = |seen: &&Checkpoint| seen.epoch == epoch && against.is_cosigned(seen, keys);
        let pinned = of_this.given().next().is_some() || cosigned.iter().any(|seen| is_seen(&seen));
        let earlier = match result {
            Ok(found) => {
                report.outside |= found.outside;
                report.alone.extend(found.alone);
                report.held.extend(found.held);
                report.cosigned.extend(found.cosigned);
                report.since = report.since.or(found.since);
                Earlier {
                    epoch,
                    records: found.records,
                    damage: after.lost(epoch, found.head)?,
                }
            }
            Err(error) if pinned => return Err(error),
            Err(error) => {
                report.alone.push(epoch);
                Earlier {
                    epoch,
                    records: 0,
                    damage: Some(error.to_string()),
                }
            }
        };
        report.earlier.push(earlier);
        after = before;
    }
    report.earlier.reverse();
    report.alone.sort_unstable();
    Ok(())
}

struct Run<'a> {
    folder: &'a Path,
    key: &'a VerifyingKey,
    against: Against<'a>,
    /// Cosigned checkpoints of this epoch that are still to be compared, the largest first.
    cosigned: Vec<Checkpoint>,
    progress: &'a mut dyn FnMut(u64),
    edge: Edge,
    signed: Signed,
    begun: Begun,
    /// What the edge file says is gone.
    dropped: Option<Dropped>,
    /// What the epoch after this one recorded as its head.
    head: Option<(u64, Hash)>,
    report: Report,
    /// Records under the newest checkpoint when verification began: all of these were durable before.
    durable: u64,
}

/// The folder's own checkpoints, as they were when it was begun to be verified: the gateway may write more meanwhile.
struct Signed {
    /// All of them in order, read as they are needed.
    reader: Option<BufReader<Take<File>>>,
    next: Option<Checkpoint>,
    /// The newest, which stands in a file of its own too.
    newest: Option<Checkpoint>,
}

impl<'a> Run<'a> {
    fn new(
        folder: &'a Path,
        key: &'a VerifyingKey,
        against: Against<'a>,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let signed = Signed {
            reader: None,
            next: None,
            newest: None,
        };
        Self {
            folder,
            key,
            against,
            cosigned: Vec::new(),
            progress,
            edge: Edge::default(),
            signed,
            begun: Begun::default(),
            dropped: None,
            head: None,
            report: Report::default(),
            durable: 0,
        }
    }

    fn epoch(&mut self, cosigned: &[Checkpoint]) -> Result<Report, VerifyError> {
        // What they cover was durable before they were signed, so it is in the segments that are listed next.
        self.report.live = is_written_to(self.folder);
        self.signed.newest = self.newest()?;
        self.durable = self.signed.newest.as_ref().map_or(0, |newest| newest.size);
        self.signed.reader = self
            .own_checkpoints()
            .map_err(|source| file_error(self.folder, source))?;
        self.advance()?;
        self.dropped = dropped::read(self.folder).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => VerifyError::Edge(self.folder.join(dropped::NAME)),
            _ => file_error(self.folder, source),
        })?;
        let base = self.base();
        let mut indexes = segment::list(self.folder).map_err(|source| file_error(self.folder, source))?;
        if indexes.is_empty() {
            return Err(VerifyError::NoLog(self.folder.to_owned()));
        }
        // What is before that is about to go.
        indexes.retain(|index| *index >= base);
        if indexes.is_empty() {
            return Err(VerifyError::SegmentMissing(base));
        }
        if let Some(missing) = (base..)
            .zip(&indexes)
            .find_map(|(at, index)| (at != *index).then_some(at))
        {
            return Err(VerifyError::SegmentMissing(missing));
        }
        let begin = self.begin(&indexes, cosigned)?;
        for index in indexes.iter().filter(|index| **index >= begin) {
            let last = indexes.last() == Some(index);
            self.segment(*index, last)?;
        }
        self.finish()?;
        Ok(std::mem::take(&mut self.report))
    }

    /// The segment to begin with, and what is known at its head.
    fn begin(&mut self, indexes: &[u64], cosigned: &[Checkpoint]) -> Result<u64, VerifyError> {
        let mut begin = self.base();
        self.report.epoch = self.header(begin)?.epoch;
        self.against = self.against.of(self.report.epoch);
        if let Some(dropped) = &self.dropped {
            if dropped.epoch != self.report.epoch {
                return Err(VerifyError::Edge(self.folder.join(dropped::NAME)));
            }
            // SECURITY: not believed either. The first segment must have it at its head, a signed record must name its root, and
            // it must give the root of every checkpoint behind it.
            self.edge = dropped.edge.clone();
            self.report.gone = dropped.epochs;
            let older = |given: &&Checkpoint| given.size < dropped.records();
            if let Some(given) = self.against.given().find(older) {
                return Err(VerifyError::Older {
                    epoch: given.epoch,
                    size: given.size,
                    records: dropped.records(),
                });
            }
        }
        if self.against.since.is_some() {
            let of_this = cosigned.iter().filter(|seen| seen.epoch == self.report.epoch);
            let sizes = of_this.chain(self.against.given()).map(|one| one.size);
            let sizes = sizes.chain(self.head.map(|(size, _)| size));
            // SECURITY: from the smallest that is to be compared. One before the place where reading begins would never be.
            let smallest = sizes.min().unwrap_or(0);
            for index in indexes.iter().rev() {
                let header = self.header(*index)?;
                if header.first() <= smallest {
                    // SECURITY: the head is not believed. With the records up to the first checkpoint that is compared it
                    // must give that one's root, so no other edge will do.
                    (begin, self.edge) = (*index, header.edge);
                    break;
                }
            }
            self.report.since = Some((self.report.epoch, self.edge.size()));
        }
        let from = self.edge.size();
        let of_this = |other: &&Checkpoint| other.epoch == self.report.epoch;
        self.cosigned = cosigned.iter().filter(of_this).cloned().collect();
        self.cosigned.sort_by_key(|other| std::cmp::Reverse(other.size));
        while self.signed.next.as_ref().is_some_and(|next| next.size < from) {
            self.advance()?;
        }
        self.checkpoints()?;
        Ok(begin)
    }

    /// The checkpoint in a file of its own. SECURITY: one that cannot be read is not as good as none: it was changed.
    fn newest(&self) -> Result<Option<Checkpoint>, VerifyError> {
        let path = self.folder.join("checkpoint");
        match std::fs::read(&path) {
            Ok(note) => {
                let note = String::from_utf8(note).map_err(|_| CheckpointError::Malformed);
                let newest = note.and_then(|note| Checkpoint::parse(&note));
                newest
                    .map(Some)
                    .map_err(|source| VerifyError::Newest { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file_error(&path, source)),
        }
    }

    fn own_checkpoints(&self) -> io::Result<Option<BufReader<Take<File>>>> {
        match File::open(self.folder.join("checkpoints")) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some(BufReader::new(file.take(length))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn segment(&mut self, index: u64, last: bool) -> Result<(), VerifyError> {
        let path = segment::path(self.folder, index);
        let seq = self.edge.size();
        let header = self.header(index)?;
        let same_log =
            header.origin == Hash::of(self.key.name().as_bytes()) && header.epoch == self.report.epoch;
        if header.index != index || !same_log || header.edge != self.edge {
            return Err(VerifyError::Continuation { segment: index, seq });
        }
        self.report.segments += 1;
        let until = if last {
            u64::MAX
        } else {
            self.header(index + 1)?.first()
        };
        let mut frames = Frames::open(&path).map_err(|source| file_error(&path, source))?;
        let mut batch = 1;
        // What the last batch of all holds counts once it is whole, as at the next start.
        let mut ended = last.then(|| (self.edge.clone(), frames.offset));
        let mut within = false;
        while within || self.edge.size() < until {
            let seq = self.edge.size();
            let Some((frame, record)) = frames.step().map_err(|source| file_error(&path, source))? else {
                break;
            };
            batch = if frame.last { frame.batch + 1 } else { frame.batch };
            within = !frame.last;
            if frame.tag {
                if last {
                    ended = Some((self.edge.clone(), frames.offset));
                }
                continue;
            }
            if segment::position(record) != Some(seq) {
                return Err(VerifyError::Order { seq, segment: index });
            }
            if index == 0
                && frame.batch == 1
                && let Ok(Record { event, .. }) = serde_json::from_slice(record)
            {
                self.begun.take(event);
            }
            if let Some(dropped) = self.dropped.as_ref().filter(|dropped| dropped.record == seq) {
                self.report.dropped = dropped_by(dropped, record);
            }
            self.edge.push(tree::leaf(record));
            if last && frame.last {
                ended = Some((self.edge.clone(), frames.offset));
            }
            self.checkpoints()?;
        }
        let offset = match ended {
            Some((edge, offset)) => {
                self.edge = edge;
                offset
            }
            None => frames.offset,
        };
        self.tail(&path, index, offset, batch, last)
    }

    fn header(&self, index: u64) -> Result<Header, VerifyError> {
        let path = segment::path(self.folder, index);
        match Header::read(&path) {
            Ok(header) => header.ok_or(VerifyError::Header(index)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VerifyError::SegmentMissing(index)),
            Err(source) => Err(file_error(&path, source)),
        }
    }

    /// What lies beyond a segment's last record: nothing, a torn write, void records, or damage.
    fn tail(
        &mut self,
        path: &Path,
        segment: u64,
        offset: u64,
        batch: u32,
        last: bool,
    ) -> Result<(), VerifyError> {
        let seq = self.edge.size();
        if last && seq >= self.durable && (self.report.live || is_written_to(self.folder)) {
            // A batch that is being written looks like one that broke off, or like one with a hole before it.
            self.report.live = true;
            return Ok(());
        }
        let rest = segment::rest(path, offset).map_err(|source| file_error(path, source))?;
        if last {
            if rest.batch > batch {
                return Err(VerifyError::Record { seq, segment });
            }
            self.report.torn_bytes += rest.bytes;
            return Ok(());
        }
        if seq < self.header(segment + 1)?.first() {
            return Err(VerifyError::Record { seq, segment });
        }
        if rest.frames > 0 {
            self.report.void.push(Void {
                segment,
                from: seq,
                records: rest.frames,
            });
        } else {
            self.report.torn_bytes += rest.bytes;
        }
        Ok(())
    }

    /// Compares the tree with every checkpoint of its present size.
    fn checkpoints(&mut self) -> Result<(), VerifyError> {
        let size = self.edge.size();
        if size.is_multiple_of(10_000) {
            (self.progress)(size);
        }
        while self.signed.next.as_ref().is_some_and(|next| next.size <= size) {
            let Some(next) = self.signed.next.take() else {
                break;
            };
            self.compare(&next)?;
            self.report.checkpoints += 1;
            self.report.signed = next.size;
            self.advance()?;
        }
        if let Some(newest) = self.signed.newest.as_ref().filter(|newest| newest.size == size) {
            self.compare(newest)?;
            self.report.signed = size;
        }
        for given in self.against.given().filter(|given| given.size == size) {
            self.compare(given)?;
            self.report.outside = true;
            self.report.held.push((given.epoch, given.size));
            self.witnessed(given);
        }
        while let Some(seen) = self.cosigned.pop_if(|seen| seen.size <= size) {
            self.compare(&seen)?;
            self.report.held.push((seen.epoch, seen.size));
            self.witnessed(&seen);
        }
        if let Some((_, root)) = self.head.filter(|(head, _)| *head == size) {
            self.report.head = root == self.edge.root();
        }
        Ok(())
    }

    /// Notes who saw a checkpoint that holds.
    fn witnessed(&mut self, checkpoint: &Checkpoint) {
        for witness in self.against.witnesses {
            let by = witness.cosigned(checkpoint).map(|time| Cosigned {
                witness: witness.name().to_owned(),
                time,
            });
            let seen = by.map(|by| Witnessed {
                by,
                epoch: checkpoint.epoch,
                size: checkpoint.size,
            });
            self.report.cosigned.extend(seen);
        }
    }

    fn compare(&self, checkpoint: &Checkpoint) -> Result<(), VerifyError> {
        checkpoint.check(self.key)?;
        if checkpoint.epoch != self.report.epoch {
            return Err(CheckpointError::Origin(checkpoint.origin.clone()).into());
        }
        if checkpoint.size != self.edge.size() || checkpoint.root != self.edge.root() {
            return Err(VerifyError::Root {
                size: checkpoint.size,
                after: self.report.signed,
            });
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), VerifyError> {
        let Some(reader) = &mut self.signed.reader else {
            return Ok(());
        };
        let note =
            next_note(reader).map_err(|source| file_error(&self.folder.join("checkpoints"), source))?;
        self.signed.next = note.map(|note| Checkpoint::parse(&note)).transpose()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        let records = self.edge.size();
        (self.progress)(records);
        self.report.records = records;
        self.report.root = self.edge.root();
        while let Some(next) = self.signed.next.take() {
            next.check(self.key)?;
            self.reaches(next.size)?;
            self.compare(&next)?;
            self.advance()?;
        }
        for given in self.against.given() {
            self.reaches(given.size)?;
        }
        for seen in std::mem::take(&mut self.cosigned) {
            seen.check(self.key)?;
            self.reaches(seen.size)?;
        }
        if let Some(newest) = self.signed.newest.take() {
            newest.check(self.key)?;
            self.reaches(newest.size)?;
        }
        self.said()?;
        if records > 0 && self.report.signed == 0 {
            return Err(VerifyError::Unsigned(records));
        }
        if !self.report.outside && self.report.cosigned.is_empty() {
            self.report.alone.push(self.report.epoch);
        }
        Ok(())
    }

    /// SECURITY: an edge file is written by whoever can write in the folder. That records are gone is said by the log, in a
    /// record under one of its checkpoints, or else they were deleted.
    fn said(&self) -> Result<(), VerifyError> {
        let Some(dropped) = &self.dropped else {
            return Ok(());
        };
        let skipped = self.report.since.is_some_and(|(_, from)| from > dropped.record);
        let signed = self.report.dropped.is_some() && dropped.record < self.report.signed;
        match signed || skipped {
            true => Ok(()),
            false => Err(VerifyError::NotDropped {
                records: dropped.records(),
                record: dropped.record,
            }),
        }
    }

    /// Number of the first segment that was not dropped.
    fn base(&self) -> u64 {
        self.dropped.as_ref().map_or(0, |dropped| dropped.segments)
    }

    fn reaches(&self, size: u64) -> Result<(), VerifyError> {
        let records = self.edge.size();
        if size <= records {
            return Ok(());
        }
        if self.report.torn_bytes > 0 {
            return Err(VerifyError::Record {
                seq: records,
                segment: self.base() + self.report.segments.saturating_sub(1),
            });
        }
        Err(VerifyError::Cut { size, records })
    }
}

/// What `record` says was dropped, when that is what the edge file says.
fn dropped_by(dropped: &Dropped, record: &[u8]) -> Option<DroppedRecords> {
    let Ok(Record {
        event: Event::LogDropped(said),
        time,
        ..
    }) = serde_json::from_slice(record)
    else {
        return None;
    };
    dropped.is_said_by(&said).then_some(DroppedRecords {
        records: said.records,
        epochs: said.epochs,
        record: dropped.record,
        time,
        before: said.before,
    })
}

/// Whether a gateway holds the log.
fn is_written_to(folder: &Path) -> bool {
    // Shared, so that two verifications never take each other for a gateway.
    match File::open(folder.join("lock")).map(|lock| lock.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(_) | Err(_) => false,
    }
}

fn file_error(path: &Path, source: io::Error) -> VerifyError {
    VerifyError::File {
        path: path.to_owned(),
        source,
    }
}
