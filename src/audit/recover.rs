//! Opening a log that is there: what is whole, what was torn off, what was open, what is damaged.
//!
//! Only what was never acknowledged is dropped. Anything else that is missing ends the epoch: its files are kept in a
//! folder of their own, and a new epoch begins whose first records name the loss.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::dropped::{self, Dropped};
use super::key::{TagKey, VerifyingKey};
use super::key_change::{self, Keys};
use super::packed::{self, Source};
use super::prove::{COSIGNATURES, cosignatures};
use super::restored::{self, Marked, Restored};
use super::retain;
use super::segment::{self, Frames, Header};
use super::tree::{self, Edge};
use super::writer::sync_folder;
use super::{AuditError, Config};
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Entry, EpochBegun, Event, FileAside, Hash, KeyChanged, Record};
use crate::state;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whether there was a log at all.
    pub(crate) existed: bool,
    /// Epoch to write in.
    pub(crate) epoch: u64,
    /// Number of the next segment.
    pub(crate) next_index: u64,
    /// The tree to continue from.
    pub(crate) edge: Edge,
    /// Records found whole.
    pub(crate) records: u64,
    /// Intents without an outcome; `None` where the intent itself was not found.
    pub(crate) open: HashMap<RequestId, Option<Entry>>,
    /// Records of the end of the log that the store may have missed, in order.
    pub(crate) recent: Vec<Record>,
    /// Records of the authorisation state at the end of the log, from its newest whole list on, in order.
    pub(crate) states: Vec<Event>,
    /// The latest time of a record that was read.
    pub(crate) latest: Timestamp,
    /// Bytes of a broken-off write.
    pub(crate) torn_bytes: u64,
    /// What is missing that was acknowledged.
    pub(crate) damage: Vec<String>,
    /// The epoch that begins, when the one before had to end.
    pub(crate) begun: Option<EpochBegun>,
    /// The change of the key with which it begins.
    pub(crate) key_change: Option<KeyChanged>,
    /// The newest checkpoint of the epoch to write in.
    pub(crate) newest: Option<Checkpoint>,
    /// The log ended with a `stop` record and nothing was open.
    pub(crate) clean: bool,
    /// What says what the authorisation state must be was looked for from the first record on.
    pub(crate) whole: bool,
}

impl Found {
    /// Whether the log goes on with a `recovery` record that says what was found.
    pub(crate) const fn is_told(&self) -> bool {
        self.existed && !self.clean
    }
}

/// Looks at the log in `config.folder` and makes it ready to be continued.
pub(crate) fn recover(config: &Config, key: &VerifyingKey, tags: &TagKey) -> Result<Found, AuditError> {
    let folder = config.folder.as_path();
    let marked = restored::read(folder)?;
    let change = marked.as_ref().and_then(|marked| marked.mark.key.as_ref());
    let keys = Keys::read(folder, key, change).map_err(|error| AuditError::File {
        path: folder.to_owned(),
        reason: error.to_string(),
    })?;
    // SECURITY: an old key signs nothing more, whoever put it back.
    if keys.newest() != Some(key) {
        return Err(AuditError::Key);
    }
    let restored = match marked {
        Some(marked) => believed(folder, marked, key)?,
        None => None,
    };
    let mut scan = Scan::begin(folder, key, tags, &keys, config.outside.as_deref())?;
    scan.restored = restored;
    scan.read()?;
    scan.settle()
}

/// How many records at the end of a log of which no gateway is running no checkpoint signs: what was written in the last
/// second before a crash. The log's key has to be the one that wrote them.
pub(super) fn unsigned(folder: &Path, key: &VerifyingKey, tags: &TagKey) -> Result<u64, AuditError> {
    let keys = Keys::read(folder, key, None).map_err(|error| AuditError::File {
        path: folder.to_owned(),
        reason: error.to_string(),
    })?;
    let mut scan = Scan::begin(folder, key, tags, &keys, None)?;
    scan.read()?;
    Ok(scan.found.records.saturating_sub(scan.signed))
}

/// What the mark of a restore says. SECURITY: with the new epoch a state of who may do what is taken up, so nobody brings it
/// about who can only write the folder.
fn believed(folder: &Path, marked: Marked, key: &VerifyingKey) -> Result<Option<Restored>, AuditError> {
    if marked.is_signed(key) {
        return Ok(Some(marked.mark));
    }
    // One whose epoch has begun says nothing any more; it may be of a key before, or of a time when none was signed.
    match key_change::present_epoch(folder) {
        Ok(Some(present)) if marked.mark.epoch <= present => Ok(None),
        _ => Err(AuditError::Mark(restored::path(folder))),
    }
}

/// The checkpoints that a witness has cosigned. SECURITY: who puts an older state back may leave them where they are, and must
/// not get the log signed anew from there.
fn cosigned_checkpoints(folder: &Path, keys: &Keys) -> Result<Vec<Checkpoint>, AuditError> {
    let unfit = |reason: String| AuditError::Checkpoint {
        path: folder.join(COSIGNATURES),
        reason,
    };
    let found = cosignatures(folder)
        .map_err(|error| AuditError::from_io(folder, &error))?
        .ok_or_else(|| unfit("it holds something else than cosigned checkpoints".into()))?;
    // Of epochs that were dropped nothing is held, and their key may not be known any more.
    let gone = dropped::read(folder)
        .ok()
        .flatten()
        .map_or(0, |dropped| dropped.epochs);
    let found: Vec<_> = found.into_iter().filter(|one| one.epoch > gone).collect();
    for checkpoint in &found {
        keys.check(checkpoint).map_err(|error| unfit(error.to_string()))?;
    }
    Ok(found)
}

struct Scan<'a> {
    folder: &'a Path,
    key: &'a VerifyingKey,
    tags: &'a TagKey,
    keys: &'a Keys,
    /// Every checkpoint that is known here or outside, the newest last. SECURITY: all of them are compared; one alone could be
    /// that of a fork, which has outgrown the others.
    known: Vec<Checkpoint>,
    /// The mark of a restore.
    restored: Option<Restored>,
    found: Found,
    headers: Vec<Header>,
    /// Number of the first segment that was not dropped.
    base: u64,
    /// Whether there are records that are written only once the first checkpoint is stored.
    acted: bool,
    /// Size of the newest checkpoint of the epoch.
    signed: u64,
    /// Changes of the authorisation state whose outcome was not read yet.
    changing: HashSet<RequestId>,
    /// Whether the store may have missed what is read; before that, records are read for the tree alone.
    recalls: bool,
    /// Whether the run of the gateway that wrote what is read has ended.
    stopped: bool,
}

impl<'a> Scan<'a> {
    fn begin(
        folder: &'a Path,
        key: &'a VerifyingKey,
        tags: &'a TagKey,
        keys: &'a Keys,
        outside: Option<&Path>,
    ) -> Result<Self, AuditError> {
        let stored = stored_checkpoint(folder, keys)?;
        let outside = match outside {
            Some(path) => read_checkpoint(path, keys)?,
            None => None,
        };
        let mut known: Vec<Checkpoint> = [stored, outside]
            .into_iter()
            .flatten()
            .chain(cosigned_checkpoints(folder, keys)?)
            .collect();
        known.sort_by_key(|known| (known.epoch, known.size));
        Ok(Self {
            folder,
            key,
            tags,
            keys,
            known,
            restored: None,
            found: Found::default(),
            headers: Vec::new(),
            base: 0,
            acted: false,
            signed: 0,
            changing: HashSet::new(),
            recalls: false,
            stopped: false,
        })
    }

    fn read(&mut self) -> Result<(), AuditError> {
        self.headers()?;
        if self.found.existed {
            self.records()?;
        }
        Ok(())
    }

    /// Reads all headers and checks that they follow on each other.
    fn headers(&mut self) -> Result<(), AuditError> {
        let indexes = segment::list(self.folder).map_err(|error| AuditError::from_io(self.folder, &error))?;
        let dropped = match dropped::read(self.folder) {
            Ok(dropped) => dropped,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.damaged(error.to_string());
                None
            }
            Err(error) => return Err(AuditError::from_io(self.folder, &error)),
        };
        self.found.existed = !indexes.is_empty();
        // What an epoch that was being ended left, or all that somebody left of the log.
        if dropped.is_some() && !self.found.existed {
            self.damaged("the records after what was dropped are not there".to_owned());
        }
        let dropped = match self.found.existed {
            true => self.believed(dropped)?,
            false => dropped,
        };
        // What is before that is gone, or about to go.
        let base = dropped.as_ref().map_or(0, |dropped| dropped.segments);
        self.base = base;
        let edge = dropped.as_ref().map(|dropped| dropped.edge.clone());
        let edge = edge.unwrap_or_default();
        let mut away = false;
        for (at, index) in (base..).zip(indexes.into_iter().filter(|index| *index >= base)) {
            if at != index {
                self.damaged(format!("segment {at} is missing"));
                break;
            }
            let path = segment::path(self.folder, index);
            let header = match Header::read(&path) {
                Ok(header) => header,
                // What is in an archive that cannot be reached, or was damaged there, is not needed to go on, and `audit verify`
                // misses it. Whatever is before it is not needed either.
                Err(error) if is_away(&error, &path) => {
                    away = true;
                    self.headers.clear();
                    continue;
                }
                Err(error) => return Err(AuditError::from_io(&path, &error)),
            };
            let Some(header) = header.filter(|header| header.index == index) else {
                self.damaged(format!("the header of segment {index} was changed"));
                break;
            };
            if header.origin != Hash::of(self.key.name().as_bytes()) {
                return Err(AuditError::OtherLog(self.folder.to_owned()));
            }
            let follows = self
                .headers
                .last()
                .is_none_or(|last| last.epoch == header.epoch && last.first() <= header.first());
            let own = dropped
                .as_ref()
                .is_none_or(|dropped| dropped.epoch == header.epoch);
            if !follows || !own || (index == base && !away && header.edge != edge) {
                self.damaged(format!("segment {index} does not continue the log"));
                break;
            }
            self.found.epoch = header.epoch;
            self.headers.push(header);
        }
        Ok(())
    }

    /// What was dropped, when a signed record says so.
    ///
    /// SECURITY: whoever holds the folder can write such a file, and would get the log signed on behind segments that she took.
    fn believed(&mut self, dropped: Option<Dropped>) -> Result<Option<Dropped>, AuditError> {
        let Some(there) = dropped else { return Ok(None) };
        let keys = self.keys;
        let said = retain::is_said(self.folder, &there, |one| keys.check(one).is_ok());
        match said {
            Ok(true) => Ok(Some(there)),
            Ok(false) => {
                self.damaged("the edge file `dropped` is not what a signed record says".to_owned());
                Ok(Some(there))
            }
            // The record is in an archive that is not there.
            Err(error) if is_lost(&error) || self.is_away() => Ok(Some(there)),
            Err(error) => Err(AuditError::from_io(self.folder, &error)),
        }
    }

    /// Whether a segment is in an archive that is not there.
    fn is_away(&self) -> bool {
        let indexes = segment::list(self.folder).unwrap_or_default();
        let mut paths = indexes.iter().map(|index| segment::path(self.folder, *index));
        paths.any(|path| packed::out_of_reach(&path).is_some())
    }

    fn damaged(&mut self, what: String) {
        self.found.damage.push(what);
    }

    /// Reads the end of the log: from the segment that holds the last record of the oldest checkpoint that is compared.
    fn records(&mut self) -> Result<(), AuditError> {
        let mut known = self.known.iter().filter(|known| known.epoch == self.found.epoch);
        let known = known.next().map_or(0, |known| known.size);
        let epoch = self.found.epoch;
        let newest = self.known.iter().filter(|known| known.epoch == epoch);
        self.signed = newest.map(|known| known.size).max().unwrap_or(0);
        // SECURITY: the newest of an honest log are never compressed or moved, so the newest checkpoint is always compared.
        let first = self.headers.first().map_or(0, Header::first);
        if self.signed < first {
            let signed = self.signed;
            self.damaged(format!(
                "{signed} records were signed, those that are there begin with record {first}"
            ));
        }
        let file_error = |error: io::Error| AuditError::from_io(self.folder, &error);
        let start = self.horizon(self.holding(known)).map_err(file_error)?;
        let recalled = self.horizon(self.holding(self.signed)).map_err(file_error)?;
        let headers = std::mem::take(&mut self.headers);
        for (at, header) in headers.iter().enumerate().skip(start) {
            self.recalls = at >= recalled;
            if at == start {
                self.found.edge = header.edge.clone();
                self.compare();
            }
            let until = headers.get(at + 1).map(Header::first);
            if self.found.edge != header.edge || !self.segment(header, until, at == start)? {
                let seq = self.found.edge.size();
                self.damaged(format!(
                    "record {seq} in segment {} is missing or was changed",
                    header.index
                ));
                break;
            }
        }
        self.headers = headers;
        self.found.records = self.found.edge.size();
        self.states(start)?;
        self.entries()
    }

    /// The segment that holds the last of the first `size` records.
    fn holding(&self, size: u64) -> usize {
        let last = self.headers.iter().rposition(|header| header.first() <= size);
        last.unwrap_or(0)
    }

    /// Goes back from segment `start` to the newest whole list of the authorisation state. It is written at each start and
    /// every so many records, so that is seldom far.
    fn states(&mut self, mut start: usize) -> Result<(), AuditError> {
        while state::told(&self.found.states).is_none() {
            let Some(header) = start.checked_sub(1).and_then(|before| self.headers.get(before)) else {
                // SECURITY: where the log was cut off in front, nothing follows from its silence.
                self.found.whole = self.headers.first().is_none_or(|first| first.first() == 0);
                return Ok(());
            };
            let path = segment::path(self.folder, header.index);
            let file_error = |error: io::Error| AuditError::from_io(&path, &error);
            let mut edge = header.edge.clone();
            let until = self.headers.get(start).map(|next| next.edge.clone());
            let mut frames = Frames::open(&path).map_err(file_error)?;
            let (mut events, mut changing) = (Vec::new(), HashSet::new());
            while until.as_ref().is_some_and(|until| edge.size() < until.size()) {
                let bytes = match frames.next() {
                    Ok(Some((_, bytes))) => bytes,
                    Ok(None) => break,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
                    Err(error) => return Err(file_error(error)),
                };
                edge.push(tree::leaf(bytes));
                if is_of_state(bytes, !changing.is_empty()) {
                    let record: Record = serde_json::from_slice(bytes)
                        .map_err(|_| AuditError::Unreadable { seq: edge.size() })?;
                    events.extend(of_state(&record.event, true, &mut changing));
                }
            }
            // SECURITY: what says who may do what is believed only as it was signed.
            if until != Some(edge) {
                self.damaged(format!(
                    "records in segment {} are missing or were changed",
                    header.index
                ));
                return Ok(());
            }
            events.append(&mut self.found.states);
            self.found.states = events;
            start -= 1;
        }
        Ok(())
    }

    /// Goes back from segment `start` as far as is cheap, so that a store whose recovery was itself cut short by a
    /// crash still finds what it missed.
    fn horizon(&self, mut start: usize) -> io::Result<usize> {
        const BYTES: u64 = 64 * 1024 * 1024;
        const TIME: Duration = Duration::from_secs(3600);
        let Some(newest) = self.headers.last().map(|header| header.time.minus(TIME)) else {
            return Ok(start);
        };
        let mut bytes = 0;
        while let Some(before) = start.checked_sub(1).and_then(|before| self.headers.get(before)) {
            bytes += Source::open(&segment::path(self.folder, before.index))?.length()?;
            if bytes > BYTES || before.time < newest {
                break;
            }
            start -= 1;
        }
        Ok(start)
    }

    /// Reads one segment. False when a record that was acknowledged is not whole.
    fn segment(&mut self, header: &Header, until: Option<u64>, first: bool) -> Result<bool, AuditError> {
        let path = segment::path(self.folder, header.index);
        let file_error = |error: io::Error| AuditError::from_io(&path, &error);
        let mut frames = Frames::open(&path).map_err(file_error)?;
        let mut batch = 1;
        let mut leading = first;
        // What a batch holds counts once the batch is whole, and signed or tagged: until then the log ends before it.
        let mut pending = Vec::new();
        let (mut ended, mut offset) = (self.found.edge.clone(), frames.offset);
        loop {
            let seq = self.found.edge.size();
            if pending.is_empty() && until.is_some_and(|until| seq >= until) {
                break;
            }
            let (frame, bytes) = match frames.step() {
                Ok(Some(read)) => read,
                Ok(None) => break,
                // A compressed one that was changed is what a plain one would be.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                Err(error) => return Err(file_error(error)),
            };
            if !frame.tag {
                let record: Record =
                    serde_json::from_slice(bytes).map_err(|_| AuditError::Unreadable { seq })?;
                if record.seq != seq || !self.may_follow(&record) {
                    return Ok(false);
                }
                self.found.edge.push(tree::leaf(bytes));
                self.compare();
                pending.push(record);
            }
            if frame.last {
                let place = (header.epoch, header.index);
                // SECURITY: no key is needed to write a frame behind the end that was signed, but for its batch's tag.
                let is_ours = self.found.edge.size() <= self.signed
                    || (frame.tag && self.tags.is_of(bytes, place, frame.batch, &self.found.edge));
                if !is_ours {
                    self.found.edge = ended;
                    return Ok(false);
                }
                for record in pending.drain(..) {
                    leading &= matches!(record.event, Event::LogOpen { .. });
                    self.take(record, leading);
                }
                batch = frame.batch + 1;
                (ended, offset) = (self.found.edge.clone(), frames.offset);
            }
        }
        // Nobody was told that it is written.
        self.found.edge = ended;
        match until {
            Some(until) => Ok(self.found.edge.size() == until),
            None => {
                let rest = segment::rest(&path, offset).map_err(file_error)?;
                // A frame of a later batch was written only after this one had been acknowledged.
                let whole = batch > 1 && rest.batch <= batch;
                self.found.torn_bytes = rest.bytes;
                self.found.clean &= rest.bytes == 0;
                if whole && rest.bytes == 0 {
                    shorten(&path, offset).map_err(file_error)?;
                }
                Ok(whole)
            }
        }
    }

    /// Whether the gateway can have written `record` behind the ones before.
    fn may_follow(&mut self, record: &Record) -> bool {
        // SECURITY: a start signs what it writes first before it takes anything else, so its checkpoint was taken away.
        let unsigned = record.seq >= self.signed;
        let (is_stop, is_first) = (
            matches!(record.event, Event::Stop { .. }),
            is_first(&record.event),
        );
        if self.stopped && unsigned && !is_first && !is_stop {
            return false;
        }
        self.stopped = is_stop || (self.stopped && is_first && unsigned);
        true
    }

    /// Compares the tree with the checkpoints that have its size.
    fn compare(&mut self) {
        let here =
            |known: &&Checkpoint| known.epoch == self.found.epoch && known.size == self.found.edge.size();
        let mut same_size = self.known.iter().filter(here).peekable();
        if same_size.peek().is_none() {
            return;
        }
        let root = self.found.edge.root();
        if let Some(known) = same_size.find(|known| known.root != root) {
            let what = format!("the first {} records are not those that were signed", known.size);
            self.found.damage.push(what);
        }
    }

    fn take(&mut self, record: Record, leading: bool) {
        self.found.clean = matches!(record.event, Event::Stop { .. });
        self.found.latest = self.found.latest.max(record.time);
        self.acted |= match &record.event {
            Event::LogOpen { .. } => false,
            Event::Recovery(recovery) => !recovery.damage.is_empty(),
            _ => true,
        };
        let signed = record.seq < self.signed;
        let state = of_state(&record.event, signed, &mut self.changing);
        self.found.states.extend(state);
        match &record.event {
            Event::LogOpen { open } if leading => {
                self.found
                    .open
                    .extend(open.iter().map(|request| (*request, None)));
            }
            Event::Intent(entry) if !entry.no_outcome => {
                self.found.open.insert(entry.request, Some((**entry).clone()));
            }
            Event::Outcome(outcome) => {
                self.found.open.remove(&outcome.request);
                let acted =
                    !outcome.created.is_empty() || !outcome.deleted.is_empty() || outcome.signed.is_some();
                if acted && self.recalls {
                    self.found.recent.push(record);
                }
            }
            Event::Mint(_) | Event::Change(_) | Event::OwnershipConflict(_) | Event::Refused(_)
                if self.recalls =>
            {
                self.found.recent.push(record);
            }
            _ => {}
        }
    }

    /// Looks in older segments for the intents of requests that have been open for long.
    fn entries(&mut self) -> Result<(), AuditError> {
        let mut missing = self.found.open.values().filter(|entry| entry.is_none()).count();
        // What stands behind the end, or behind where the next segment goes on, was written by nobody who counts.
        let mut until = self.found.edge.size();
        for header in self.headers.iter().rev() {
            if missing == 0 {
                break;
            }
            let path = segment::path(self.folder, header.index);
            let file_error = |error: io::Error| AuditError::from_io(&path, &error);
            let mut frames = Frames::open(&path).map_err(file_error)?;
            for _ in header.first()..std::mem::replace(&mut until, header.first()) {
                let bytes = match frames.next() {
                    Ok(Some((_, bytes))) => bytes,
                    Ok(None) => break,
                    // A compressed one that was damaged: verify names it.
                    Err(error) if is_lost(&error) => break,
                    Err(error) => return Err(file_error(error)),
                };
                let Ok(Record {
                    event: Event::Intent(entry),
                    ..
                }) = serde_json::from_slice(bytes)
                else {
                    continue;
                };
                if let Some(place @ None) = self.found.open.get_mut(&entry.request) {
                    *place = Some(*entry);
                    missing -= 1;
                }
            }
        }
        Ok(())
    }

    /// Decides whether the epoch goes on.
    fn settle(mut self) -> Result<Found, AuditError> {
        let known = self.known.pop();
        if let Some(known) = &known {
            let present = known.epoch >= self.found.epoch;
            if present && (known.epoch > self.found.epoch || known.size > self.found.records) {
                let (size, epoch, records) = (known.size, known.epoch, self.found.records);
                self.damaged(format!(
                    "{size} records of epoch {epoch} were signed, {records} are there"
                ));
            }
        }
        // SECURITY: the first checkpoint of an epoch is stored before anything else is written, so whoever removed all of
        // them may have rewritten the records, for which no key is needed.
        let signed = known
            .as_ref()
            .is_some_and(|known| known.epoch >= self.found.epoch);
        if self.found.records > 0 && !signed && (self.found.epoch > 1 || self.acted) {
            let records = self.found.records;
            self.damaged(format!(
                "{records} records are there, but no checkpoint that signs them"
            ));
        }
        let ended = segment::epochs(self.folder).map_err(|error| AuditError::from_io(self.folder, &error))?;
        // SECURITY: whoever else holds what was restored may have gone on with it, so nobody signs that epoch any further here.
        let last = ended.last().copied().unwrap_or(0).max(self.found.epoch);
        let restored = self.restored.take().filter(|restored| restored.epoch > last);
        let whole = self.found.damage.is_empty() && restored.is_none();
        if !self.found.existed && !ended.is_empty() && whole {
            self.damaged("an epoch ended, but the records of the next one are not there".to_owned());
        }
        let goes_on = self.found.damage.is_empty() && restored.is_none();
        self.found.clean &= self.found.open.is_empty() && goes_on;
        if goes_on {
            self.found.epoch = self.found.epoch.max(1);
            self.found.next_index = self.headers.last().map_or(self.base, |last| last.index + 1);
            self.found.newest = known.filter(|known| known.epoch == self.found.epoch);
        } else {
            let old = known
                .as_ref()
                .map_or(self.found.epoch, |known| known.epoch.max(self.found.epoch))
                .max(ended.last().copied().unwrap_or(0))
                .max(1);
            self.end_epoch(old, known.as_ref(), restored)
                .map_err(|error| AuditError::from_io(self.folder, &error))?;
        }
        Ok(self.found)
    }

    /// Fails when a file that the next epoch has to list was moved to where it cannot be reached. What was dropped may be gone.
    fn within_reach(&self) -> io::Result<()> {
        let ended = segment::epochs(self.folder)?.into_iter();
        let ended = ended.map(|epoch| (segment::epoch_folder(self.folder, epoch), 0));
        for (folder, base) in ended.chain([(self.folder.to_owned(), self.base)]) {
            for index in segment::list(&folder)?.into_iter().filter(|index| *index >= base) {
                let path = segment::path(&folder, index);
                if let Some(moved) = packed::out_of_reach(&path) {
                    return Err(io::Error::other(format!(
                        "a new epoch begins and lists all files of the ones before, but `{}` cannot be reached now: mount the archive",
                        moved.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Puts the files of an epoch that cannot go on aside and begins the next one.
    fn end_epoch(
        &mut self,
        mut old: u64,
        known: Option<&Checkpoint>,
        restored: Option<Restored>,
    ) -> io::Result<()> {
        // INVARIANT: nothing is moved before it is sure that all of it can be listed below.
        self.within_reach()?;
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder)? {
            let name = entry?.file_name();
            let text = name.to_str().unwrap_or_default();
            if segment::is_segment(text) || matches!(text, "checkpoints" | "checkpoint" | dropped::NAME) {
                names.push(name);
            }
        }
        for index in segment::list(self.folder)? {
            match Header::read(&segment::path(self.folder, index)) {
                Ok(Some(header)) => old = old.max(header.epoch),
                // One that does not decompress is part of the damage.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
        // What a crash leaves in between has to show: the edge file first, the checkpoints that know how long it was last.
        names.sort_by_key(|name| {
            let text = name.to_string_lossy().into_owned();
            let last = text.starts_with("checkpoint");
            (text != dropped::NAME, last, text)
        });
        // What was put aside before is never overwritten.
        while names
            .iter()
            .any(|name| segment::epoch_folder(self.folder, old).join(name).exists())
        {
            old += 1;
        }
        let aside = segment::epoch_folder(self.folder, old);
        fs::create_dir_all(&aside)?;
        for name in &names {
            let path = self.folder.join(name);
            // One that was moved is durable where it is.
            if !path.is_symlink() {
                File::open(&path)?.sync_all()?;
            }
            fs::rename(path, aside.join(name))?;
        }
        sync_folder(&aside)?;
        sync_folder(self.folder)?;
        self.found.existed = true;
        let begins = restored.as_ref().map_or(0, |restored| restored.epoch);
        self.found.key_change = restored.as_ref().and_then(|restored| restored.key.clone());
        self.found.epoch = begins.max(old + 1);
        self.found.next_index = 0;
        self.found.edge = Edge::default();
        self.found.newest = None;
        // SECURITY: from now on the files that were put aside are pinned by the new epoch's own checkpoints.
        let files = segment::aside(self.folder)?.into_iter();
        let files: Vec<_> = files
            .map(|(name, (bytes, hash))| FileAside { name, bytes, hash })
            .collect();
        self.found.begun = Some(EpochBegun {
            epoch: self.found.epoch,
            signed: known.map_or(0, |known| known.size),
            root: known.map(|known| known.root),
            reason: restored.map(|restored| restored.reason),
            total: files.len() as u64,
            files,
        });
        Ok(())
    }
}

/// Whether a segment is not needed where it stands only compressed, or moved: it is an old one.
fn is_away(error: &io::Error, path: &Path) -> bool {
    let is_old = fs::symlink_metadata(path).is_err() && fs::symlink_metadata(packed::packed(path)).is_ok();
    is_old && (is_lost(error) || packed::out_of_reach(path).is_some())
}

fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound)
}

/// Whether an event may stand at the beginning of a run, before its first checkpoint.
const fn is_first(event: &Event) -> bool {
    matches!(
        event,
        Event::LogOpen { .. } | Event::Recovery(_) | Event::KeyChanged(_) | Event::Epoch(_)
    )
}

/// What an event says of the authorisation state: digests, and how the changes of them in `changing` ended.
///
/// SECURITY: what no checkpoint signs says nothing, for it may be cut off without a trace: a change is made only once it is
/// signed. An outcome may be unsigned, for it says only that what was permitted and signed was made; whoever leaves it away
/// makes the level doubtful.
fn of_state(event: &Event, signed: bool, changing: &mut HashSet<RequestId>) -> Option<Event> {
    let request = match event {
        Event::State(list) if signed => match list.request {
            Some(request) => request,
            None => return Some(event.clone()),
        },
        Event::Change(change) if signed && !change.state.is_empty() => change.request,
        Event::Outcome(outcome) => {
            let ended = changing.remove(&outcome.request) && state::succeeded(outcome);
            return ended.then(|| event.clone());
        }
        _ => return None,
    };
    changing.insert(request);
    Some(event.clone())
}

/// Whether a record can be one of those, without reading it: most are not. Outcomes count where a change waits for one.
fn is_of_state(bytes: &[u8], outcomes: bool) -> bool {
    const NAMES: [&[u8]; 3] = [
        b"\"event\":{\"state\":",
        b"\"event\":{\"change\":",
        b"\"event\":{\"outcome\":",
    ];
    let names = if outcomes { 3 } else { 2 };
    NAMES
        .iter()
        .take(names)
        .any(|name| bytes.windows(name.len()).any(|window| window == *name))
}

/// Gives the zeros at the end of a segment back to the file system; it is not written any more.
fn shorten(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(())
}

fn read_checkpoint(path: &Path, keys: &Keys) -> Result<Option<Checkpoint>, AuditError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::from_io(path, &error)),
    };
    // A power cut may leave the file empty.
    if text.is_empty() {
        return Ok(None);
    }
    let read = Checkpoint::parse(&text).and_then(|checkpoint| keys.check(&checkpoint).map(|()| checkpoint));
    match read {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        // SECURITY: not overwritten and not passed over: it may be all that shows what is missing.
        Err(error) => Err(AuditError::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// The newest checkpoint in the folder. A half-written note at the end of `checkpoints` is removed.
fn stored_checkpoint(folder: &Path, keys: &Keys) -> Result<Option<Checkpoint>, AuditError> {
    let newest = read_checkpoint(&folder.join("checkpoint"), keys)?;
    let path = folder.join("checkpoints");
    let last = last_note(&path, keys).map_err(|error| AuditError::from_io(&path, &error))?;
    Ok([newest, last]
        .into_iter()
        .flatten()
        .max_by_key(|known| (known.epoch, known.size)))
}

fn last_note(path: &Path, keys: &Keys) -> io::Result<Option<Checkpoint>> {
    const TAIL: u64 = 16 * 1024;
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut end = bytes.len();
    // A note ends with a signature line and an empty line; go back to the last one that is whole and signed.
    while let Some(tail) = bytes.get(..end).filter(|tail| !tail.is_empty()) {
        let whole = tail.ends_with(b"\n\n");
        if let Some(checkpoint) = whole.then(|| note_before(tail, keys)).flatten() {
            if (end as u64) < length - start {
                file.set_len(start + end as u64)?;
            }
            return Ok(Some(checkpoint));
        }
        let shorter = tail.split_last().map(|(_, shorter)| shorter).unwrap_or_default();
        end = shorter
            .windows(2)
            .rposition(|pair| pair == b"\n\n")
            .map_or(0, |at| at + 2);
    }
    Ok(None)
}

/// The signed note that ends where `tail` ends.
fn note_before(tail: &[u8], keys: &Keys) -> Option<Checkpoint> {
    let text = String::from_utf8_lossy(tail);
    let body = text.strip_suffix("\n\n")?;
    let (before, signatures) = body.rsplit_once("\n\n")?;
    let head = before.rsplit_once("\n\n").map_or(before, |(_, head)| head);
    let checkpoint = Checkpoint::parse(&format!("{head}\n\n{signatures}\n")).ok()?;
    keys.check(&checkpoint).is_ok().then_some(checkpoint)
}
