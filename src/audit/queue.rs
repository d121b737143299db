//! What the tasks of the gateway and the log's threads share: the queue of records, and the state of the log.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::answers::{Answers, Reply};
use super::checkpoint::Checkpoint;
use super::draft::Draft;
use super::handover::Handover;
use super::segment::FRAME;
use super::strangers::Strangers;
use super::{AuditError, Config, Space};
use crate::clock::Timestamp;
use crate::id::{Ids, RequestId};
use crate::record::{Event, LogDegraded};
use crate::telemetry::Histogram;

/// How long a record that nobody waits for may wait for company.
const SOON: Duration = Duration::from_millis(20);
/// How long a record that somebody waits for may wait for the others that asked at the same time as the last ones did.
///
/// A sync costs the processor as much as several requests do. Where requests follow each other closely, the writer would
/// otherwise run for each of them.
const GATHER: Duration = Duration::from_millis(1);
/// How often the writer looks around when nothing is written.
const TICK: Duration = Duration::from_secs(1);

/// Records that belong together: adjacent, durable at the same time.
#[derive(Debug)]
pub(crate) struct Item {
    /// The records.
    pub(crate) drafts: Vec<Draft>,
    /// Kept and written later when the log cannot be written now (outcomes); else refused.
    pub(crate) must: bool,
    /// Who waits.
    pub(crate) reply: Reply,
    /// In which lane.
    pub(crate) lane: usize,
}

impl Item {
    /// Whether it is written even where only the reserved segment is left.
    pub(crate) fn is_vital(&self) -> bool {
        self.drafts.iter().any(|draft| draft.vital)
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    records: usize,
    /// Items that somebody waits for.
    awaited: usize,
    /// How many of them the writer takes together, as long as they come soon.
    company: Company,
    /// When the first of them came, on the monotonic clock.
    since: Option<Duration>,
    stop: bool,
}

impl Queue {
    /// Takes everything out. What stays is the wish to stop, and how many came together.
    fn empty(&mut self) -> Self {
        let left = Self {
            company: self.company.after(self.awaited),
            stop: self.stop,
            ..Self::default()
        };
        std::mem::replace(self, left)
    }
}

/// How many records that somebody waits for are worth waiting for: as many as came together last time, and now and then
/// some more, to find out whether more would come. One client alone, or a few, are never made to wait for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Company {
    last: usize,
    wanted: usize,
    /// Batches until more are waited for again.
    patience: u8,
}

impl Company {
    const FEW: usize = 4;
    const PATIENCE: u8 = 16;

    /// What is wanted after a batch in which `awaited` came together.
    fn after(self, awaited: usize) -> Self {
        if awaited == 0 {
            return self;
        }
        let patience = if self.wanted <= self.last {
            self.patience.saturating_sub(1)
        } else if awaited >= self.wanted {
            0
        } else {
            Self::PATIENCE
        };
        let more = if awaited >= Self::FEW && patience == 0 {
            awaited.div_ceil(4)
        } else {
            0
        };
        Self {
            last: awaited,
            wanted: awaited + more,
            patience,
        }
    }
}

/// What the writer finds when it looks.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) items: Vec<Item>,
    /// Nothing came for a whole tick.
    pub(crate) idle: bool,
    pub(crate) stop: bool,
}

/// Requests that were refused because their record could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwritten {
    pub(crate) count: u64,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) ids: Ids,
    pub(crate) epoch: u64,
    queue: Mutex<Queue>,
    bell: Condvar,
    /// A write failed and no new segment could be opened yet.
    pub(crate) broken: Mutex<Option<String>>,
    /// The same, to look at without a lock.
    pub(crate) refusing: AtomicBool,
    /// The writer has not acknowledged within the deadline, and nothing since.
    pub(crate) late: AtomicBool,
    stopped: AtomicBool,
    space: AtomicU8,
    /// Free bytes when that was looked at.
    free: AtomicU64,
    /// The reserved segment is being written.
    reserved: AtomicBool,
    unwritten: Mutex<Option<Unwritten>>,
    pub(crate) open: Mutex<HashSet<RequestId>>,
    /// Number of durable records.
    pub(crate) head: watch::Sender<u64>,
    /// The way to those who wait.
    pub(crate) answers: Answers,
    /// Durable records on their way to the index.
    pub(crate) handover: Arc<Handover>,
    pub(crate) newest: ArcSwapOption<Checkpoint>,
    /// Size of the newest checkpoint that is known to be durable.
    pub(crate) signed: watch::Sender<u64>,
    pub(crate) strangers: Mutex<Strangers>,
    /// What monitoring is told.
    pub(crate) meters: Meters,
}

/// What monitoring is told of the writer's and the keeper's work.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Records in each batch.
    pub(crate) batches: Histogram,
    /// Time of each write with its sync.
    pub(crate) syncs: Histogram,
    /// When the newest record was taken, in microseconds since 1970; 0 before the first.
    pub(crate) newest_record: AtomicI64,
    /// When the newest checkpoint was signed, on the monotonic clock, in microseconds.
    pub(crate) signed: AtomicI64,
}

/// Locks `mutex`; a panic elsewhere does not stop the log.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(config: Config, ids: Ids, epoch: u64, newest: Option<Checkpoint>) -> Self {
        Self {
            config,
            ids,
            epoch,
            queue: Mutex::default(),
            bell: Condvar::new(),
            broken: Mutex::default(),
            refusing: AtomicBool::new(false),
            late: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            space: AtomicU8::new(Space::Ok as u8),
            free: AtomicU64::new(0),
            reserved: AtomicBool::new(false),
            unwritten: Mutex::default(),
            open: Mutex::default(),
            head: watch::Sender::new(0),
            answers: Answers::default(),
            handover: Arc::default(),
            newest: ArcSwapOption::new(newest.map(Arc::new)),
            signed: watch::Sender::new(0),
            strangers: Mutex::default(),
            meters: Meters {
                batches: Histogram::numbers(),
                syncs: Histogram::times(),
                newest_record: AtomicI64::new(0),
                signed: AtomicI64::new(0),
            },
        }
    }

    /// How many records wait, and since when the oldest of them (on the monotonic clock).
    pub(crate) fn waiting(&self) -> (usize, Option<Duration>) {
        let queue = held(&self.queue);
        (queue.records, queue.since)
    }

    /// Queues `item`. With `urgent` the writer takes it at once, else within 20 ms.
    pub(crate) fn submit(&self, item: Item, urgent: bool) -> Result<(), AuditError> {
        let must = item.must;
        let queued = self.check(&item).and_then(|()| self.push(item, urgent));
        if queued.is_err() && !must {
            self.refused_one();
        }
        queued
    }

    fn push(&self, item: Item, urgent: bool) -> Result<(), AuditError> {
        let mut queue = held(&self.queue);
        if !item.must && queue.records + item.drafts.len() > self.config.queue {
            return Err(AuditError::Full(self.config.queue));
        }
        queue.awaited += usize::from(urgent);
        let ring = if urgent {
            queue.awaited == 1 || queue.awaited == queue.company.wanted
        } else {
            queue.items.is_empty()
        };
        if queue.items.is_empty() {
            queue.since = Some(self.ids.clock().monotonic());
        }
        queue.records += item.drafts.len();
        queue.items.push(item);
        drop(queue);
        if ring {
            self.bell.notify_one();
        }
        Ok(())
    }

    fn check(&self, item: &Item) -> Result<(), AuditError> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(AuditError::Stopped);
        }
        let bytes: usize = item.drafts.iter().map(|draft| draft.bound() + FRAME).sum();
        if bytes as u64 > self.config.segment_bytes / 2 {
            return Err(AuditError::TooMany(item.drafts.len()));
        }
        if item.must {
            return Ok(());
        }
        if self.refusing.load(Ordering::Acquire) {
            return Err(self.unwritable());
        }
        if self.space() >= Space::Stopped && !item.is_vital() {
            return Err(AuditError::NoSpace);
        }
        Ok(())
    }

    pub(crate) fn unwritable(&self) -> AuditError {
        let reason = held(&self.broken).clone().unwrap_or_default();
        AuditError::Unwritable { reason }
    }

    /// Queues an event that nobody waits for and that must not get lost.
    pub(crate) fn must(&self, event: Event) {
        let name = event.name();
        let item = match Draft::new(event, &**self.ids.random()) {
            Ok(draft) => Item {
                drafts: vec![draft],
                must: true,
                reply: Reply::None,
                lane: 0,
            },
            Err(error) => return tracing::error!(event = name, "record lost: {error}"),
        };
        if let Err(error) = self.submit(item, false) {
            tracing::error!(event = name, "record lost: {error}");
        }
    }

    /// Waits for records and takes all that there are. What nobody waits for comes at most 20 ms later.
    pub(crate) fn take(&self) -> Taken {
        let mut queue = held(&self.queue);
        let mut idle = false;
        while !(queue.awaited > 0 || queue.stop || idle) {
            let patience = if queue.items.is_empty() { TICK } else { SOON };
            let (again, timeout) = self
                .bell
                .wait_timeout(queue, patience)
                .unwrap_or_else(PoisonError::into_inner);
            queue = again;
            idle = timeout.timed_out();
        }
        if (1..queue.company.wanted).contains(&queue.awaited) {
            let gathering = |queue: &mut Queue| queue.awaited < queue.company.wanted && !queue.stop;
            (queue, _) = self
                .bell
                .wait_timeout_while(queue, GATHER, gathering)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let taken = queue.empty();
        Taken {
            idle: idle && taken.items.is_empty(),
            items: taken.items,
            stop: taken.stop,
        }
    }

    /// Takes what is queued without waiting.
    pub(crate) fn take_now(&self) -> Taken {
        let taken = held(&self.queue).empty();
        Taken {
            items: taken.items,
            idle: false,
            stop: taken.stop,
        }
    }

    /// No more records from now on; the writer ends when it has written what is queued.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        held(&self.queue).stop = true;
        self.bell.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Counts a request that was refused because of the log.
    pub(crate) fn refused_one(&self) {
        let now = self.ids.clock().now();
        let mut unwritten = held(&self.unwritten);
        let sum = unwritten.get_or_insert(Unwritten {
            count: 0,
            from: now,
            to: now,
        });
        sum.count += 1;
        sum.to = sum.to.max(now);
    }

    /// The sum of refused requests, to be written down; the counting starts anew.
    pub(crate) fn take_unwritten(&self) -> Option<Unwritten> {
        held(&self.unwritten).take()
    }

    /// Puts a sum back that could not be written.
    pub(crate) fn put_unwritten(&self, old: Unwritten) {
        let mut unwritten = held(&self.unwritten);
        let sum = unwritten.get_or_insert(Unwritten { count: 0, ..old });
        sum.count += old.count;
        sum.from = sum.from.min(old.from);
        sum.to = sum.to.max(old.to);
    }

    pub(crate) fn space(&self) -> Space {
        if self.reserved.load(Ordering::Acquire) {
            return Space::Reserved;
        }
        self.space_left()
    }

    /// The same by the bytes that are free alone.
    pub(crate) fn space_left(&self) -> Space {
        match self.space.load(Ordering::Relaxed) {
            0 => Space::Ok,
            1 => Space::Low,
            _ => Space::Stopped,
        }
    }

    pub(crate) fn set_space(&self, space: Space, free: u64) {
        self.free.store(free, Ordering::Relaxed);
        self.space.store(space as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_reserved(&self, reserved: bool) {
        self.reserved.store(reserved, Ordering::Release);
    }

    /// What a record says of the room that there is.
    pub(crate) fn degraded(&self) -> LogDegraded {
        LogDegraded {
            room: self.space().as_str().into(),
            free_bytes: match self.free.load(Ordering::Relaxed) {
                0 => None,
                free => Some(free),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(batches: impl IntoIterator<Item = usize>) -> Company {
        batches.into_iter().fold(Company::default(), Company::after)
    }

    #[test]
    fn few_are_never_made_to_wait_for_others() {
        for alone in 1..Company::FEW {
            assert_eq!(after(vec![alone; 100]).wanted, alone);
        }
    }

    #[test]
    fn company_grows_while_more_come_and_is_left_alone_when_they_do_not() {
        let growing = after([8]);
        assert_eq!(growing.wanted, 10);
        assert_eq!(growing.after(10).wanted, 13);
        let disappointed = growing.after(8);
        assert_eq!(
            (disappointed.wanted, disappointed.patience),
            (8, Company::PATIENCE)
        );
        let later = (0..Company::PATIENCE).fold(disappointed, |company, _| company.after(8));
        assert_eq!(later.wanted, 10, "asked again after a while");
    }

    #[test]
    fn batches_that_nobody_waits_for_change_nothing() {
        let company = after([8, 10]);
        assert_eq!(company.after(0), company);
    }
}
