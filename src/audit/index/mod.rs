//! The index over the log: a SQLite file of its own that follows the log.
//!
//! It answers searches and nothing else: no security decision reads it, and it can be deleted at any time. The
//! records themselves are read from the segments. An outcome, a lease and a trace name only their request, so they are found by
//! person, place and resource of the request's intent.
//!
//! The writer hands over what is durable (`audit/handover.rs`), so that nothing is read back; what it
//! had no room for, and what was written before the gateway started, is read from the segments. Records are gathered in
//! memory into blocks of about a thousand (`block`), and only whole blocks go into the file (`file`): a start
//! reads the rest again.

mod block;
mod facts;
mod file;
mod matching;
mod rebuild;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use block::fuzz as fuzz_block;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use matching::Matching;
pub use rebuild::rebuild;

use block::{Block, Place, Wanted};
pub(super) use facts::Facts;
use facts::Origin;
use file::File;

use super::dropped::{self, Dropped};
use super::handover::{Handed, Handover};
use super::ongoing::Ongoing;
use super::queue::{Shared, held};
use super::read::{ReadError, Reader, record_at};
use super::segment;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Event, Record, TraceId};

/// Records that are read from the segments at once.
const ROUND: usize = 1_000;
/// How long new records may wait to be taken in together, unless somebody asks.
const PAUSE: Duration = Duration::from_millis(25);
/// How long until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the end waits for what still reads.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a search waits for the index to catch up.
const FRESH: Duration = Duration::from_secs(5);
/// How long one waits that does not insist on it.
const SOON: Duration = Duration::from_secs(1);
/// Records that a search for a text reads at once.
const SLICE: usize = 500;
/// Records that a search for a text reads for one page.
const LOOKED: usize = 20_000;
/// Searches for a text that read records at the same time.
const READING: usize = 2;
/// Most records in one page.
const PAGE: u32 = 1_000;
/// Requests that are looked up with one statement.
const LOOK_UP: usize = 250;

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The index's file cannot be used.
    #[error("the audit index cannot be used: {0}")]
    Database(#[from] sqlx::Error),
    /// The records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index did not catch up in time.
    #[error("the audit index is {0} records behind")]
    Behind(u64),
    /// The index's file holds what this program did not write.
    #[error("the audit index is damaged: delete its file while the gateway is stopped, and it is made anew")]
    Damaged,
    /// The index is not open.
    #[error("the audit index is not open yet")]
    Closed,
    /// As many searches for a text as may run are running.
    #[error("{READING} searches for a text are running already: ask again, or search without `text`")]
    Full,
    /// Whoever asked has left.
    #[error("nobody waits for this search any more")]
    Left,
}

impl AsProblem for IndexError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Behind(_) | Self::Closed | Self::Full | Self::Left => {
                Problem::new(Kind::Busy, self.to_string()).retry_after(1)
            }
            Self::Database(_) | Self::Read(_) | Self::Damaged => {
                Problem::new(Kind::Internal, "the audit log could not be searched")
            }
        }
    }
}

/// Whose records are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The gateway's own: those of the VO with this id, which stands for the gateway, and those that name none.
    Gateway(VoId),
    /// Those of one VO.
    Vo(VoId),
}

impl Level {
    fn holds(self, vo: Option<VoId>) -> bool {
        match self {
            Self::Gateway(own) => vo.is_none_or(|vo| vo == own),
            Self::Vo(own) => vo == Some(own),
        }
    }
}

/// What to search for; every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Who asked, or whom it concerns.
    pub person: Option<PersonId>,
    /// Name or id of the VO.
    pub vo: Option<String>,
    /// Whose records count at all: of others a search tells nothing, not even by where its pages end.
    pub level: Option<Level>,
    /// Name of the tool.
    pub tool: Option<String>,
    /// Name of the task.
    pub task: Option<String>,
    /// The resource, as `type/id`.
    pub resource: Option<String>,
    /// Permitted (true) or refused (false) requests.
    pub permit: Option<bool>,
    /// Name of the event ([`Event::name`](crate::record::Event::name)).
    pub event: Option<String>,
    /// The request.
    pub request: Option<RequestId>,
    /// Serial of the credential, in decimal.
    pub serial: Option<String>,
    /// The trace; a request whose record names none is its own.
    pub trace: Option<TraceId>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// A text that stands in the record, see [`has_text`].
    pub text: Option<String>,
    /// Records older than this position: [`Page::next`] of the page before.
    pub before: Option<Position>,
    /// Oldest first, from this position on: [`Page::next`] of the page before, or [`Page::head`].
    pub onward: Option<Position>,
    /// At most so many records (1,000 at most; 0 means 100).
    pub limit: u32,
    /// Wait until the index has reached the durable head, and fail if it does not. Else the answer may lag behind.
    pub fresh: bool,
}

impl Query {
    /// Goes on with the next page.
    pub fn go_on(&mut self, next: Position) {
        match &mut self.onward {
            Some(onward) => *onward = next,
            None => self.before = Some(next),
        }
    }
}

/// A record's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u64,
    /// Position in that epoch.
    pub seq: u64,
}

/// A part of the answer, newest records first unless [`Query::onward`] asks otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` when there is none. A search for a text may give one with few records, or none.
    pub next: Option<Position>,
    /// Behind the newest record that this search could find: a later one can go on from here.
    pub head: Position,
    /// Records that the index has not reached yet.
    pub lag: u64,
    /// Records older than this were dropped from the log, where some were.
    pub dropped: Option<Timestamp>,
}

/// The index over the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Index(Arc<State>);

#[derive(Debug)]
struct State {
    folder: PathBuf,
    path: PathBuf,
    epoch: u64,
    head: watch::Receiver<u64>,
    indexed: watch::Sender<u64>,
    hurry: Notify,
    handover: Arc<Handover>,
    file: OnceCell<File>,
    newest: Mutex<Newest>,
    /// Up to which time records were dropped.
    dropped: Mutex<Option<Timestamp>>,
    reading: Semaphore,
    closing: CancellationToken,
    follower: Mutex<Option<JoinHandle<()>>>,
}

/// Blocks of the present epoch that are not in the file.
#[derive(Clone, Debug, Default)]
struct Newest {
    /// The one that grows.
    open: Block,
    /// The whole one before it, on its way into the file.
    whole: Option<Arc<Block>>,
}

impl Newest {
    /// Its blocks, newest first.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::once(&self.open).chain(self.whole.as_deref())
    }

    /// Position of the first record in it: what is before that is in the file.
    fn first(&self) -> Position {
        let first = self.blocks().last().map_or(0, |block| block.first);
        Position {
            epoch: self.open.epoch,
            seq: first,
        }
    }
}

impl Index {
    /// Starts to follow the log.
    pub(super) fn start(runtime: &tokio::runtime::Handle, shared: &Shared) -> Self {
        let folder = shared.config.folder.clone();
        let beside = || folder.parent().unwrap_or(&folder).join("index.db");
        let index = Self(Arc::new(State {
            path: shared.config.index.clone().unwrap_or_else(beside),
            folder,
            epoch: shared.epoch,
            head: shared.head.subscribe(),
            indexed: watch::Sender::new(0),
            hurry: Notify::new(),
            handover: shared.handover.clone(),
            file: OnceCell::new(),
            newest: Mutex::default(),
            dropped: Mutex::default(),
            reading: Semaphore::new(READING),
            closing: CancellationToken::new(),
            follower: Mutex::default(),
        }));
        *held(&index.0.follower) = Some(runtime.spawn(index.clone().follow()));
        index
    }

    /// Records that are durable and not indexed yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.0.head.borrow().saturating_sub(*self.0.indexed.borrow())
    }

    /// Number of records that it has reached.
    pub(super) fn indexed(&self) -> u64 {
        *self.0.indexed.borrow()
    }

    /// Forgets what was dropped from the log.
    pub(super) async fn forget(&self, dropped: &Dropped) -> Result<(), IndexError> {
        *held(&self.0.dropped) = Some(dropped.before);
        self.file()?.forget_dropped(dropped).await
    }

    /// Searches.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search(&self, query: &Query) -> Result<Page, IndexError> {
        self.search_for(query, &CancellationToken::new()).await
    }

    /// The same for as long as somebody waits for it: a search for a text ends between two slices when `gone` is cancelled.
    ///
    /// # Errors
    /// [`IndexError`]; [`IndexError::Left`] then.
    pub async fn search_for(&self, query: &Query, gone: &CancellationToken) -> Result<Page, IndexError> {
        if query.fresh {
            self.catch_up().await?;
        } else {
            // Late records are no reason to refuse an answer: it says how many there are.
            let _ = tokio::time::timeout(SOON, self.catch_up()).await;
        }
        let head = Position {
            epoch: self.0.epoch,
            seq: *self.0.indexed.borrow(),
        };
        let query = &Query {
            before: Some(query.before.map_or(head, |before| before.min(head))),
            ..query.clone()
        };
        let limit = match query.limit {
            0 => 100,
            limit => limit.min(PAGE) as usize,
        };
        let requests = self.narrowed(query).await?;
        let (records, next) = match &query.text {
            None => self.page(query, requests.as_ref(), limit).await?,
            Some(text) => {
                let wanted = Wanted {
                    query,
                    requests: requests.as_ref(),
                };
                self.page_with(wanted, limit, text, gone).await?
            }
        };
        Ok(Page {
            records,
            next,
            head,
            lag: self.lag(),
            dropped: *held(&self.0.dropped),
        })
    }

    async fn page(
        &self,
        query: &Query,
        requests: Option<&BTreeSet<RequestId>>,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<Position>), IndexError> {
        let mut places = self.places(&Wanted { query, requests }, limit + 1).await?;
        let more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().filter(|_| more).map(|last| behind(query, last));
        Ok((self.records(places).await?, next))
    }

    /// The same for records in which a text stands: the index does not know it, so the records are read, but only so many
    /// for one page.
    async fn page_with(
        &self,
        Wanted { query, requests }: Wanted<'_>,
        limit: usize,
        text: &str,
        gone: &CancellationToken,
    ) -> Result<(Vec<Record>, Option<Position>), IndexError> {
        // A search takes a core, a connection of the index and threads for files for as long as it reads, so that without a
        // bound one person's searches are everybody's wait.
        let waited = tokio::time::timeout(SOON, self.0.reading.acquire()).await;
        let _turn = waited.ok().and_then(Result::ok).ok_or(IndexError::Full)?;
        let (mut query, text) = (query.clone(), text.to_lowercase());
        let mut found = Vec::new();
        for _ in 0..LOOKED / SLICE {
            if gone.is_cancelled() {
                return Err(IndexError::Left);
            }
            let wanted = Wanted {
                query: &query,
                requests,
            };
            let places = self.places(&wanted, SLICE).await?;
            let Some(last) = places.last().copied() else {
                return Ok((found, None));
            };
            for (place, record) in self.records_at(places, Some(text.clone())).await? {
                found.push(record);
                if found.len() == limit {
                    return Ok((found, Some(behind(&query, &place))));
                }
            }
            query.go_on(behind(&query, &last));
        }
        let next = query.onward.or(query.before);
        Ok((found, next))
    }

    /// All records of one request, in order; waits until the index has reached the durable head.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn request(&self, request: RequestId) -> Result<Vec<Record>, IndexError> {
        let query = Query {
            request: Some(request),
            limit: PAGE,
            fresh: true,
            ..Query::default()
        };
        let mut records = self.search(&query).await?.records;
        records.reverse();
        Ok(records)
    }

    /// The intents of `requests`, as far as the index knows them.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn intents(&self, requests: &[RequestId]) -> Result<BTreeMap<RequestId, Record>, IndexError> {
        let query = Query {
            event: Some("intent".into()),
            ..Query::default()
        };
        let mut places = Vec::new();
        for requests in requests.chunks(LOOK_UP) {
            let requests = requests.iter().copied().collect();
            let wanted = Wanted {
                query: &query,
                requests: Some(&requests),
            };
            places.extend(self.places(&wanted, requests.len()).await?);
        }
        let records = self.records(places).await?.into_iter();
        Ok(records
            .filter_map(|record| Some((record.event.request()?, record)))
            .collect())
    }

    /// Waits until the index has reached the records that are durable now.
    ///
    /// # Errors
    /// [`IndexError::Behind`] after five seconds.
    pub async fn catch_up(&self) -> Result<(), IndexError> {
        let head = *self.0.head.borrow();
        let mut indexed = self.0.indexed.subscribe();
        self.0.hurry.notify_one();
        let caught = tokio::time::timeout(FRESH, indexed.wait_for(|indexed| *indexed >= head)).await;
        match caught {
            Ok(Ok(_)) => Ok(()),
            _ => Err(IndexError::Behind(self.lag())),
        }
    }

    fn file(&self) -> Result<&File, IndexError> {
        self.0
            .file
            .get()
            .filter(|file| !file.is_closed())
            .ok_or(IndexError::Closed)
    }

    /// The requests that a search is narrowed to: the one that it names, and those of its trace.
    async fn narrowed(&self, query: &Query) -> Result<Option<BTreeSet<RequestId>>, IndexError> {
        let Some(trace) = query.trace else {
            return Ok(query.request.map(|request| BTreeSet::from([request])));
        };
        // All records of a request are found, though only the first of them names its trace.
        let newest = held(&self.0.newest).clone();
        let mut requests: BTreeSet<_> = newest.blocks().flat_map(|block| block.traced(trace)).collect();
        requests.extend(self.file()?.traced(trace).await?);
        requests.insert(uuid::Uuid::from_bytes(trace.0).into());
        if let Some(request) = query.request {
            requests.retain(|one| *one == request);
        }
        Ok(Some(requests))
    }

    /// Where the first records stand that are asked for, at most so many.
    async fn places(&self, wanted: &Wanted<'_>, most: usize) -> Result<Vec<Place>, IndexError> {
        let oldest_first = wanted.query.onward.is_some();
        let (mut here, first) = {
            let newest = held(&self.0.newest);
            let mut blocks: Vec<&Block> = newest.blocks().collect();
            if oldest_first {
                blocks.reverse();
            }
            let mut here = Vec::new();
            for block in blocks {
                block.find_some(wanted, most, &mut here);
            }
            (here, newest.first())
        };
        let before = wanted.query.before.map_or(first, |before| before.min(first));
        if oldest_first {
            let mut places = Vec::new();
            self.file()?.find(wanted, before, most, &mut places).await?;
            places.append(&mut here);
            places.truncate(most);
            return Ok(places);
        }
        if here.len() < most {
            self.file()?.find(wanted, before, most, &mut here).await?;
        }
        Ok(here)
    }

    async fn records(&self, places: Vec<Place>) -> Result<Vec<Record>, IndexError> {
        let found = self.records_at(places, None).await?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }

    /// Reads records, and leaves out those without `text`.
    async fn records_at(
        &self,
        places: Vec<Place>,
        text: Option<String>,
    ) -> Result<Vec<(Place, Record)>, IndexError> {
        let (folder, present) = (self.0.folder.clone(), self.0.epoch);
        let read = move || {
            let mut records = Vec::with_capacity(places.len());
            for place in places {
                let folder = folder_of(&folder, place.epoch, present);
                let record = record_at(&folder, place.segment, place.offset)?;
                let record =
                    record.filter(|record| text.as_ref().is_none_or(|text| has_text(&record.event, text)));
                records.extend(record.map(|record| (place, record)));
            }
            Ok(records)
        };
        blocking(read).await
    }

    /// Afterwards nothing is written any more.
    pub(super) async fn close(&self) {
        self.0.closing.cancel();
        self.close_file().await;
        let follower = held(&self.0.follower).take();
        if let Some(mut follower) = follower
            && tokio::time::timeout(PATIENCE, &mut follower).await.is_err()
        {
            // It reads from a disk that does not answer.
            follower.abort();
        }
        // It may have been about to open it.
        self.close_file().await;
    }

    async fn close_file(&self) {
        if let Some(file) = self.0.file.get() {
            file.close().await;
        }
    }

    /// The task that follows the log until it is closed.
    async fn follow(self) {
        let mut head = self.0.head.clone();
        let closing = &self.0.closing;
        while head.has_changed().is_ok() && !closing.is_cancelled() {
            match self.clone().run(&mut head).await {
                Ok(()) => return,
                Err(IndexError::Database(sqlx::Error::PoolClosed)) => return,
                Err(error) => tracing::error!("the audit index stands still: {error}"),
            }
            closing.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }

    async fn run(&self, head: &mut watch::Receiver<u64>) -> Result<(), IndexError> {
        // Whoever waits for the newest records waits until they are here again.
        self.0.indexed.send_replace(0);
        let file = self.0.file.get_or_try_init(|| File::open(&self.0.path)).await?;
        if self.0.closing.is_cancelled() {
            return Ok(());
        }
        let gone = self.0.folder.clone();
        let gone =
            move || dropped::read(&gone).map_err(|source| ReadError::File { path: gone, source }.into());
        if let Some(gone) = blocking(gone).await? {
            *held(&self.0.dropped) = Some(gone.before);
            file.forget_dropped(&gone).await?;
        }
        self.earlier(file).await?;
        let next = self
            .first_missing(file, self.0.epoch, self.0.folder.clone())
            .await?;
        let mut intake = Intake::new(self, self.0.folder.clone(), self.0.epoch, next);
        *held(&self.0.newest) = Newest {
            open: Block::new(self.0.epoch, next),
            whole: None,
        };
        let closing = &self.0.closing;
        while !closing.is_cancelled() {
            self.0.indexed.send_replace(intake.next);
            let limit = *head.borrow_and_update();
            let before = intake.next;
            if before < limit {
                for handed in self.0.handover.take() {
                    intake.read_up_to(handed.seq).await?;
                    intake.take(handed).await?;
                }
                intake.read_up_to(limit).await?;
                if intake.next == before {
                    // Somebody took the segment away; the writer notices.
                    closing.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
                continue;
            }
            match closing.run_until_cancelled(head.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Ok(()),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.0.hurry.notified() => {}
            }
        }
        Ok(())
    }

    /// Position of the first record that is not in the file. Everything is indexed anew when the file is not of this log.
    async fn first_missing(&self, file: &File, epoch: u64, folder: PathBuf) -> Result<u64, IndexError> {
        let first = {
            let folder = folder.clone();
            let first = move || {
                dropped::first(&folder).map_err(|source| ReadError::File { path: folder, source }.into())
            };
            blocking(first).await?
        };
        // What was dropped meanwhile is no gap.
        let whole = |last: &Block, from: u64, count: u64| from <= first && from + count == last.end();
        match file.last(epoch).await {
            Ok(None) => return Ok(first),
            // What an ended epoch has in the file may be more than can be read of it now.
            Ok(Some((last, from, count))) if whole(&last, from, count) && epoch != self.0.epoch => {
                return Ok(last.end());
            }
            Ok(Some((last, from, count))) if whole(&last, from, count) => {
                let place = last.last();
                let same = move || {
                    let Some(place) = place else { return Ok(false) };
                    let there = record_at(&folder, place.segment, place.offset)?;
                    Ok(there.is_some_and(|record| (record.seq, record.time) == (place.seq, place.time)))
                };
                let within = last.end() <= *self.0.head.borrow();
                if within && blocking(same).await? {
                    return Ok(last.end());
                }
            }
            Ok(Some(_)) | Err(IndexError::Damaged) => {}
            Err(error) => return Err(error),
        }
        tracing::warn!("the audit index does not fit the log and is built anew");
        file.forget(epoch).await?;
        Ok(first)
    }

    /// Indexes what is not in the file of the epochs that ended, as far as it can be read.
    async fn earlier(&self, file: &File) -> Result<(), IndexError> {
        let folder = self.0.folder.clone();
        let list = move || {
            segment::epochs(&folder).map_err(|source| ReadError::File { path: folder, source }.into())
        };
        for epoch in blocking(list).await? {
            let folder = segment::epoch_folder(&self.0.folder, epoch);
            let next = self.first_missing(file, epoch, folder.clone()).await?;
            *held(&self.0.newest) = Newest {
                open: Block::new(epoch, next),
                whole: None,
            };
            let mut intake = Intake::new(self, folder, epoch, next);
            match intake.read_up_to(u64::MAX).await {
                Ok(()) | Err(IndexError::Read(_)) => {}
                Err(error) => return Err(error),
            }
            intake.save(Block::new(epoch, intake.next)).await?;
        }
        Ok(())
    }
}

/// Takes records in, one after the other.
struct Intake<'a> {
    index: &'a Index,
    folder: PathBuf,
    epoch: u64,
    /// Position of the record that comes next.
    next: u64,
    reader: Option<Reader>,
    /// Where requests were made that have no outcome yet.
    origins: Ongoing<Origin>,
}

impl<'a> Intake<'a> {
    fn new(index: &'a Index, folder: PathBuf, epoch: u64, next: u64) -> Self {
        Self {
            index,
            folder,
            epoch,
            next,
            reader: None,
            origins: Ongoing::default(),
        }
    }

    /// Reads the records before `limit` from the segments.
    async fn read_up_to(&mut self, limit: u64) -> Result<(), IndexError> {
        while self.next < limit {
            let (folder, next) = (self.folder.clone(), self.next);
            let reader = self.reader.take().filter(|reader| reader.next() <= next);
            let (back, found) = blocking(move || read(reader, &folder, next, limit)).await?;
            self.reader = Some(back);
            if found.is_empty() {
                return Ok(());
            }
            for handed in found {
                self.take(handed).await?;
            }
        }
        Ok(())
    }

    /// Takes one record in; one that is there already is left out.
    async fn take(&mut self, handed: Handed) -> Result<(), IndexError> {
        if handed.seq != self.next {
            return Ok(());
        }
        let place = (handed.segment, handed.offset, handed.time);
        let mut facts = handed.facts;
        if let (name @ ("outcome" | "lease" | "trace"), Some(request)) = (facts.event, facts.request) {
            let known = match name {
                "outcome" => self.origins.end(request),
                _ => self.origins.about(request).cloned(),
            };
            facts.origin = match known {
                Some(origin) => origin,
                None => self.look_up(request).await?,
            };
        }
        let full = {
            let mut newest = held(&self.index.0.newest);
            newest.open.push(place, &facts);
            newest.open.is_full()
        };
        self.next += 1;
        if let ("intent", Some(request)) = (facts.event, facts.request) {
            self.origins.begin(request, facts.origin);
        }
        if full {
            self.save(Block::new(self.epoch, self.next)).await?;
        }
        Ok(())
    }

    /// Puts the block that grows into the file; `next` grows instead.
    async fn save(&self, next: Block) -> Result<(), IndexError> {
        let whole = {
            let mut newest = held(&self.index.0.newest);
            let whole = Arc::new(std::mem::replace(&mut newest.open, next));
            newest.whole = Some(whole.clone());
            whole
        };
        self.index.file()?.save(&whole).await?;
        held(&self.index.0.newest).whole = None;
        Ok(())
    }

    /// Of a request that began before this index was opened, or one of too many to be kept.
    async fn look_up(&self, request: RequestId) -> Result<Origin, IndexError> {
        let here = {
            let newest = held(&self.index.0.newest);
            newest.blocks().find_map(|block| block.origin(request))
        };
        match here {
            Some(origin) => Ok(origin),
            None => Ok(self.index.file()?.origin(request).await?.unwrap_or_default()),
        }
    }
}

/// Where the page behind `last` begins.
fn behind(query: &Query, last: &Place) -> Position {
    Position {
        epoch: last.epoch,
        seq: last.seq + u64::from(query.onward.is_some()),
    }
}

/// Whether `text` (in lower case) stands in one of the event's values, capital letters or not: paths, parameters, ids of
/// resources, reasons, errors, names of VO, tool and task. Names of members do not count, and numbers do.
#[must_use]
pub fn has_text(event: &Event, text: &str) -> bool {
    fn has(value: &serde_json::Value, text: &str) -> bool {
        match value {
            serde_json::Value::String(value) => value.to_lowercase().contains(text),
            serde_json::Value::Number(value) => value.to_string().contains(text),
            serde_json::Value::Array(items) => items.iter().any(|item| has(item, text)),
            serde_json::Value::Object(members) => members.values().any(|value| has(value, text)),
            _ => false,
        }
    }
    serde_json::to_value(event).is_ok_and(|value| has(&value, text))
}

fn folder_of(folder: &Path, epoch: u64, present: u64) -> PathBuf {
    if epoch == present {
        folder.to_owned()
    } else {
        segment::epoch_folder(folder, epoch)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| IndexError::Closed)?
}

/// Reads some records from `next` on.
fn read(
    reader: Option<Reader>,
    folder: &Path,
    next: u64,
    limit: u64,
) -> Result<(Reader, Vec<Handed>), IndexError> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => Reader::to(folder, next, limit)?,
    };
    reader.set_limit(limit)?;
    // Records may have been handed over since it was used.
    reader.skip_to(next);
    let mut found = Vec::new();
    while found.len() < ROUND {
        match reader.read() {
            Ok(Some(next)) => found.push(Handed {
                seq: next.record.seq,
                segment: next.segment,
                offset: next.offset,
                time: next.record.time,
                facts: Facts::of(next.record.event),
            }),
            Ok(None) => break,
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((reader, found))
}
