//! The writer: one thread that takes all that is queued, writes it once, syncs it once, and hands the batch on.
//!
//! INVARIANT: nothing is acknowledged before the fdatasync that covers it returned without an error; after an error the
//! segment is left for good, and the next one continues from the last acknowledged record.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::AuditError;
use super::answers::{Answer, Reply};
use super::blocks::Blocks;
use super::draft::{Draft, Mark};
use super::handover::Handed;
use super::keeper::Keeper;
use super::key::TagKey;
use super::queue::{Item, Shared, Unwritten, held};
use super::segment::{self, Batch, FRAME, Header, TAGGED};
use super::tree::{self, Edge};
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Event, Hash, Recovery};

/// How long to wait before trying again whether writes work.
const PROBE: Duration = Duration::from_millis(200);
/// A checkpoint after so many records, or after [`CHECKPOINT_TIME`].
const CHECKPOINT_RECORDS: u64 = 1_000;
const CHECKPOINT_TIME: Duration = Duration::from_secs(1);
/// How often the open requests are listed in the log.
const OPEN_TIME: Duration = Duration::from_secs(60);
/// Request ids in one `log_open` record.
const OPEN_IDS: usize = 1_500;
/// Outcomes kept in memory while the log cannot be written.
const KEPT: usize = 100_000;

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    blocks: Blocks,
    index: u64,
    /// Where it ends.
    size: u64,
    batch: u32,
}

impl Segment {
    /// Whether `item` fits behind what is there and `used` more bytes.
    fn fits(&self, used: usize, item: &Item) -> bool {
        let bytes: usize = item.drafts.iter().map(|draft| draft.bound() + FRAME).sum();
        self.blocks.offset() + (used + bytes + TAGGED) as u64 <= self.size
    }
}

/// The log's writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    origin: Hash,
    tags: TagKey,
    segment: Option<Segment>,
    /// The segment is the reserved one.
    reserved: bool,
    /// Nothing comes after this: even the reserve takes whatever is left.
    closing: bool,
    next_index: u64,
    /// The tree over the acknowledged records.
    acked: Edge,
    batch: Batch,
    kept: VecDeque<Item>,
    damage: Vec<String>,
    checkpoint_size: u64,
    checkpoint_time: Duration,
    open_time: Duration,
}

/// Where the writer begins.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) origin: Hash,
    pub(crate) tags: TagKey,
    pub(crate) next_index: u64,
    pub(crate) edge: Edge,
    pub(crate) checkpoint_size: u64,
}

impl Writer {
    /// Opens the first segment; `leading` stands at its start.
    pub(crate) fn begin(
        shared: Arc<Shared>,
        keeper: Arc<Keeper>,
        begin: Begin,
        leading: &[Event],
    ) -> io::Result<Self> {
        let now = shared.ids.clock().monotonic();
        let mut writer = Self {
            shared,
            keeper,
            origin: begin.origin,
            tags: begin.tags,
            segment: None,
            reserved: false,
            closing: false,
            next_index: begin.next_index,
            acked: begin.edge,
            batch: Batch::default(),
            kept: VecDeque::new(),
            damage: Vec::new(),
            checkpoint_size: begin.checkpoint_size,
            checkpoint_time: now,
            open_time: now,
        };
        writer.probe_file()?;
        writer.roll(leading)?;
        let fresh = writer.checkpoint_size == 0;
        writer.checkpoint_size = writer.acked.size();
        let signed = writer.keeper.sign_first(writer.acked.size(), writer.acked.root());
        match signed {
            // A log that has one goes on where there is no room for another.
            Err(error) if !fresh => {
                tracing::error!("the first checkpoint of this run is not stored: {error}");
                let (size, root) = (writer.acked.size(), writer.acked.root());
                writer.keeper.checkpoint(size, root, true);
            }
            signed => signed?,
        }
        Ok(writer)
    }

    /// The thread.
    pub(crate) fn run(mut self) {
        loop {
            let taken = self.shared.take();
            self.commit(taken.items);
            self.look_around(taken.idle);
            if self.segment.is_none() {
                self.mend();
            }
            while self.segment.is_some() && self.kept.iter().any(|item| self.takes(item)) {
                self.commit(Vec::new());
            }
            if taken.stop {
                break;
            }
        }
        self.closing = true;
        let rest = self.shared.take_now();
        self.commit(rest.items);
        if !self.kept.is_empty() {
            tracing::error!(
                "{} records are lost: the log takes none any more",
                self.kept.len()
            );
        }
        self.sign();
        self.keeper.stop();
    }

    /// Writes `items` and what was kept, in as few batches as the segments allow.
    fn commit(&mut self, items: Vec<Item>) {
        let mut waiting = std::mem::take(&mut self.kept);
        waiting.extend(items);
        waiting.retain(|item| !item.reply.is_void());
        while !waiting.is_empty() {
            let done = match self.compose(&mut waiting) {
                Ok(batch) => self.put_down(batch),
                Err(error) => Err((Vec::new(), error)),
            };
            if let Err((batch, error)) = done {
                self.fail(batch, waiting, &error);
                return;
            }
        }
    }

    /// Whether the present segment is one for `item`.
    fn takes(&self, item: &Item) -> bool {
        !self.reserved || self.closing || item.is_vital()
    }

    /// Where only the reserved segment is left: refuses what is not vital, or keeps it for later.
    fn put_aside(&mut self, waiting: &mut VecDeque<Item>) {
        if !self.reserved || self.closing {
            return;
        }
        let (vital, others): (Vec<_>, Vec<_>) = waiting.drain(..).partition(Item::is_vital);
        waiting.extend(vital);
        self.refuse(others.into_iter(), &AuditError::NoSpace);
    }

    /// Moves items from `waiting` into one batch of frames, opening a new segment when the present one is full.
    fn compose(&mut self, waiting: &mut VecDeque<Item>) -> io::Result<Composed> {
        self.put_aside(waiting);
        let full = match (&self.segment, waiting.front()) {
            (Some(_), None) => return Ok(Composed::default()),
            (Some(segment), Some(item)) => !segment.fits(0, item),
            _ => true,
        };
        if full {
            self.roll(&[])?;
        }
        // The next one may be the reserve.
        self.put_aside(waiting);
        let Some(segment) = &self.segment else {
            return Err(io::Error::other("no segment"));
        };
        self.batch.begin(&[]);
        let clock = self.shared.ids.clock();
        let (time, mono) = (clock.now(), micros(clock.monotonic()));
        let mut composed = Composed {
            items: Vec::with_capacity(waiting.len()),
            edge: self.acked.clone(),
            places: Places {
                segment: segment.index,
                first: self.acked.size(),
                time,
                offsets: Vec::with_capacity(2 * waiting.len()),
            },
        };
        self.shared
            .meters
            .newest_record
            .fetch_max(time.0, Ordering::Relaxed);
        while let Some(item) = waiting.pop_front() {
            if !composed.items.is_empty() && !segment.fits(self.batch.len(), &item) {
                waiting.push_front(item);
                break;
            }
            let first = composed.edge.size();
            for draft in &item.drafts {
                composed
                    .places
                    .offsets
                    .push(segment.blocks.offset() + self.batch.len() as u64);
                add(
                    &mut self.batch,
                    segment.batch,
                    draft,
                    &mut composed.edge,
                    (time, mono),
                );
            }
            composed.items.push((item, first));
        }
        Ok(composed)
    }

    /// One write, one fdatasync; then the batch is acknowledged.
    fn put_down(&mut self, composed: Composed) -> Result<(), (Vec<(Item, u64)>, io::Error)> {
        if composed.items.is_empty() {
            return Ok(());
        }
        let Some(segment) = &mut self.segment else {
            return Err((composed.items, io::Error::other("no segment")));
        };
        let place = (self.shared.epoch, segment.index);
        let tag = self.tags.tag(place, segment.batch, &composed.edge);
        let bytes = self.batch.end(segment.batch, &tag);
        let (clock, meters) = (self.shared.ids.clock(), &self.shared.meters);
        let begun = clock.monotonic();
        if let Err(error) = segment.blocks.append(bytes) {
            return Err((composed.items, error));
        }
        meters.syncs.observe(clock.monotonic().saturating_sub(begun));
        meters.batches.count(composed.edge.size() - self.acked.size());
        segment.batch += 1;
        self.acked = composed.edge;
        self.acknowledge(composed.items, composed.places);
        Ok(())
    }

    fn acknowledge(&mut self, mut items: Vec<(Item, u64)>, places: Places) {
        {
            let mut open = held(&self.shared.open);
            for draft in items.iter().flat_map(|(item, _)| &item.drafts) {
                match draft.mark {
                    Mark::Opens(request) => {
                        open.insert(request);
                    }
                    Mark::Closes(request) => {
                        open.remove(&request);
                    }
                    Mark::None => {}
                }
            }
        }
        self.shared.late.store(false, Ordering::Release);
        let signed = items
            .iter()
            .flat_map(|(item, _)| &item.drafts)
            .any(|draft| draft.signed);
        if signed {
            self.checkpoint_size = self.acked.size();
            let (size, root) = (self.acked.size(), self.acked.root());
            self.keeper.checkpoint(size, root, true);
        }
        let drafts = items.iter_mut().flat_map(|(item, _)| &mut item.drafts);
        self.hand_over(drafts, places);
        self.shared.head.send_replace(self.acked.size());
        let mut answers = Vec::with_capacity(items.len());
        for (item, first) in items {
            if !matches!(item.reply, Reply::None) {
                let seqs = (first..).take(item.drafts.len()).collect();
                answers.push(Answer {
                    lane: item.lane,
                    reply: item.reply,
                    result: Ok(seqs),
                });
            }
        }
        self.shared.answers.send(answers);
    }

    /// Gives the index what is durable, before it hears that it is.
    fn hand_over<'a>(&self, drafts: impl Iterator<Item = &'a mut Draft>, places: Places) {
        let Places {
            segment, first, time, ..
        } = places;
        let records = drafts.zip(places.offsets).zip(first..);
        self.shared
            .handover
            .give(records.filter_map(|((draft, offset), seq)| {
                let facts = draft.facts.take()?;
                let handed = Handed {
                    seq,
                    segment,
                    offset,
                    time,
                    facts,
                };
                Some((handed, draft.size()))
            }));
    }

    /// A write or sync failed: the segment is given up, waiters are refused, what must be written is kept.
    fn fail(&mut self, batch: Vec<(Item, u64)>, waiting: VecDeque<Item>, error: &io::Error) {
        // SECURITY: never again on this descriptor: after a failed fdatasync the kernel may report success for
        // pages that it dropped.
        self.segment = None;
        tracing::error!(
            records = self.acked.size(),
            "the audit log cannot be written: {error}"
        );
        *held(&self.shared.broken) = Some(error.to_string());
        self.shared.refusing.store(true, Ordering::Release);
        let error = self.shared.unwritable();
        self.refuse(batch.into_iter().map(|(item, _)| item).chain(waiting), &error);
    }

    fn refuse(&mut self, items: impl Iterator<Item = Item>, error: &AuditError) {
        let mut answers = Vec::new();
        for mut item in items {
            let reply = std::mem::replace(&mut item.reply, Reply::None);
            if !matches!(reply, Reply::None) {
                answers.push(Answer {
                    lane: item.lane,
                    reply,
                    result: Err(error.clone()),
                });
            }
            if !item.must {
                self.shared.refused_one();
            } else {
                self.keep(item);
            }
        }
        self.shared.answers.send(answers);
    }

    /// Keeps what must be written until it can be. Outcomes are the last to go where too many wait.
    fn keep(&mut self, mut item: Item) {
        let is_outcome = |item: &Item| {
            item.drafts
                .iter()
                .any(|draft| matches!(draft.mark, Mark::Closes(_)))
        };
        if self.kept.len() >= KEPT {
            let lost = match self.kept.iter().position(|kept| !is_outcome(kept)) {
                Some(other) => self.kept.remove(other),
                None => None,
            };
            tracing::error!("a record is lost: {KEPT} are waiting for the log");
            if lost.is_none() {
                return;
            }
        }
        // Very many may have to be kept: the index reads them from the log.
        item.drafts.iter_mut().for_each(|draft| draft.facts = None);
        self.kept.push_back(item);
    }

    /// Refuses until a new segment can be opened.
    fn mend(&mut self) {
        loop {
            std::thread::sleep(PROBE);
            let taken = self.shared.take_now();
            let error = self.shared.unwritable();
            self.refuse(taken.items.into_iter(), &error);
            if taken.stop {
                return;
            }
            match self.probe().and_then(|()| self.roll(&[])) {
                Ok(()) => break,
                Err(error) => *held(&self.shared.broken) = Some(error.to_string()),
            }
        }
        tracing::warn!(records = self.acked.size(), "the audit log can be written again");
        *held(&self.shared.broken) = None;
        self.shared.refusing.store(false, Ordering::Release);
    }

    fn probe_path(&self) -> PathBuf {
        self.shared.config.folder.join("probe")
    }

    fn probe_file(&self) -> io::Result<()> {
        fs::write(self.probe_path(), [0; 512])?;
        self.probe()
    }

    /// Tries whether a write and a sync succeed at all, in a small file that has its space already.
    fn probe(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.probe_path())?;
        file.write_all_at(&[0; 512], 0)?;
        file.sync_data()
    }

    /// Opens the next segment, continuing from the last acknowledged record. Its first records list the requests
    /// that are open; `leading`, the sum of refused requests and found damage follow.
    fn roll(&mut self, leading: &[Event]) -> io::Result<()> {
        let unwritten = self.shared.take_unwritten();
        let done = self.open_next(leading, unwritten);
        if done.is_err() {
            unwritten
                .into_iter()
                .for_each(|unwritten| self.shared.put_unwritten(unwritten));
        }
        done
    }

    fn open_next(&mut self, leading: &[Event], unwritten: Option<Unwritten>) -> io::Result<()> {
        let (spare, reserved) = match self.keeper.spare() {
            Ok(spare) => (spare, false),
            Err(error) => (self.keeper.reserved().ok_or(error)?, true),
        };
        let mut events = self.open_events();
        events.extend_from_slice(leading);
        self.shared.set_reserved(reserved);
        if reserved || self.reserved {
            events.push(Event::LogDegraded(self.shared.degraded()));
        }
        events.extend(unwritten.map(unwritten_event));
        if !self.damage.is_empty() {
            let damage = self.damage.clone();
            events.push(Event::Recovery(Recovery {
                records: self.acked.size(),
                damage,
                ..Recovery::default()
            }));
        }
        let index = self.next_index;
        let clock = self.shared.ids.clock();
        let (time, mono) = (clock.now(), micros(clock.monotonic()));
        let header = Header {
            epoch: self.shared.epoch,
            index,
            time,
            origin: self.origin,
            edge: self.acked.clone(),
        };
        let mut edge = self.acked.clone();
        self.batch.begin(&header.encode());
        let mut places = Places {
            segment: index,
            first: edge.size(),
            time,
            offsets: Vec::with_capacity(events.len()),
        };
        let mut drafts = Vec::with_capacity(events.len());
        for event in events {
            let draft = Draft::new(event, &**self.shared.ids.random()).map_err(io::Error::other)?;
            places.offsets.push(self.batch.len() as u64);
            add(&mut self.batch, 1, &draft, &mut edge, (time, mono));
            drafts.push(draft);
        }
        let path = segment::path(&self.shared.config.folder, index);
        let tag = self.tags.tag((header.epoch, index), 1, &edge);
        let bytes = self.batch.end(1, &tag);
        let blocks = match take_into_use(&spare, &path, bytes) {
            Ok(blocks) => blocks,
            Err(error) => {
                let _ = fs::remove_file(&spare);
                return Err(error);
            }
        };
        // INVARIANT: every item fits into a new segment, however long its list of open requests is.
        let least = blocks.offset() + self.shared.config.segment_bytes / 2;
        let size = match reserved {
            // It may be a small one, and there is no room for more.
            true => blocks.file().metadata()?.len(),
            false => self.shared.config.segment_bytes.max(least),
        };
        self.segment = Some(Segment {
            path,
            blocks,
            index,
            size,
            batch: 2,
        });
        self.reserved = reserved;
        self.next_index = index + 1;
        self.acked = edge;
        self.damage.clear();
        self.hand_over(drafts.iter_mut(), places);
        self.shared.head.send_replace(self.acked.size());
        self.shared.late.store(false, Ordering::Release);
        Ok(())
    }

    /// `log_open` records: all requests that have an intent and no outcome. At least one, even when none is open.
    fn open_events(&self) -> Vec<Event> {
        let mut open: Vec<RequestId> = held(&self.shared.open).iter().copied().collect();
        open.sort_unstable();
        if open.is_empty() {
            return vec![Event::LogOpen { open }];
        }
        open.chunks(OPEN_IDS)
            .map(|chunk| Event::LogOpen { open: chunk.to_vec() })
            .collect()
    }

    /// What is due beside the requests: checkpoint, list of open requests, sums.
    fn look_around(&mut self, idle: bool) {
        if self.reserved && self.segment.is_some() && self.keeper.has_spare() {
            tracing::warn!("the audit log has room again");
            if let Err(error) = self.roll(&[]) {
                self.fail(Vec::new(), VecDeque::new(), &error);
            }
        }
        let clock = self.shared.ids.clock();
        let (now, mono) = (clock.now(), clock.monotonic());
        let strangers = held(&self.shared.strangers).flush_before(now);
        let mut events: Vec<Event> = strangers.into_iter().map(Event::Strangers).collect();
        if self.segment.is_some() {
            // The writer is here, so it does not hang; a deadline that was missed for want of a processor ends here.
            self.shared.late.store(false, Ordering::Release);
            events.extend(self.shared.take_unwritten().map(unwritten_event));
        }
        if mono.saturating_sub(self.open_time) >= OPEN_TIME {
            self.open_time = mono;
            if !held(&self.shared.open).is_empty() {
                events.extend(self.open_events());
            }
        }
        for event in events {
            let name = event.name();
            match Draft::new(event, &**self.shared.ids.random()) {
                Ok(draft) => self.kept.push_back(Item {
                    drafts: vec![draft],
                    must: true,
                    reply: Reply::None,
                    lane: 0,
                }),
                Err(error) => tracing::error!(event = name, "record lost: {error}"),
            }
        }
        let due = self.acked.size() - self.checkpoint_size >= CHECKPOINT_RECORDS
            || mono.saturating_sub(self.checkpoint_time) >= CHECKPOINT_TIME;
        if due || idle {
            self.checkpoint_time = mono;
            self.sign();
            self.look_at_file();
        }
        if idle && self.segment.is_some() {
            // Nobody writes now: whether a record would be taken shows before somebody needs it.
            if let Err(error) = self.probe() {
                self.fail(Vec::new(), VecDeque::new(), &error);
            }
        }
    }

    fn sign(&mut self) {
        if self.acked.size() > self.checkpoint_size {
            self.checkpoint_size = self.acked.size();
            self.keeper
                .checkpoint(self.acked.size(), self.acked.root(), false);
        }
    }

    /// A segment that was removed or replaced under our feet is noticed here: writing to it would go nowhere.
    fn look_at_file(&mut self) {
        let Some(segment) = &self.segment else { return };
        let same = match (fs::metadata(&segment.path), segment.blocks.file().metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            _ => false,
        };
        if same {
            return;
        }
        let message = format!(
            "segment {} was removed or replaced while it was written",
            segment.index
        );
        tracing::error!("{message}");
        self.damage.push(message);
        if let Err(error) = self.roll(&[]) {
            self.fail(Vec::new(), VecDeque::new(), &error);
        }
    }
}

#[derive(Debug, Default)]
struct Composed {
    items: Vec<(Item, u64)>,
    edge: Edge,
    places: Places,
}

/// Where the records of a batch stand.
#[derive(Debug, Default)]
struct Places {
    segment: u64,
    /// Position of the first.
    first: u64,
    time: Timestamp,
    /// Offsets of their frames in the segment.
    offsets: Vec<u64>,
}

fn add(batch: &mut Batch, number: u32, draft: &Draft, edge: &mut Edge, (time, mono): (Timestamp, i64)) {
    let seq = edge.size();
    let record = batch.add(number, |bytes| draft.write(bytes, seq, time, mono));
    edge.push(tree::leaf(record));
}

fn unwritten_event(sum: Unwritten) -> Event {
    Event::Unwritten {
        count: sum.count,
        from: sum.from,
        to: sum.to,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Turns a spare into the segment `path`: its first batch is durable before it has the name.
fn take_into_use(spare: &Path, path: &Path, bytes: &[u8]) -> io::Result<Blocks> {
    let mut blocks = Blocks::open(spare)?;
    blocks.append(bytes)?;
    fs::rename(spare, path)?;
    sync_folder(path.parent().unwrap_or(path))?;
    Ok(blocks)
}

/// Makes creations and renames in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
