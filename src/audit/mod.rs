//! The audit log: what the product is trusted for.
//!
//! Every [`Event`] goes through one writer thread, which takes all that is queued, writes it once, syncs it once and
//! then answers everybody who waited. Over the records stands a Merkle tree (RFC 6962) whose head is signed every second
//! as a C2SP checkpoint. What the module promises:
//!
//! - **Durable before acknowledged.** A [`Receipt`] exists only when its intent is on stable storage; every other
//!   `Ok` means the same. After a crash nothing acknowledged is missing.
//! - **Fail closed, in bounded time.** When the log cannot be written, or does not answer within
//!   [`Config::deadline`], the caller gets an [`AuditError`] and must refuse; the log tries to heal itself and writes
//!   down how many requests it refused.
//! - **No hole.** A request with an intent gets an outcome: from its [`Receipt`], from the receipt's drop guard, or from
//!   recovery ([`Recovered::open`]).
//! - **Tampering shows**: see [`verify`].
//!
//! ```no_run
//! # use countersign::audit::{Audit, Config, LogKey};
//! # use countersign::{id::Ids, record::{Entry, Outcome}};
//! # async fn run(ids: Ids, entry: Entry, outcome: Outcome) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { folder: "log".into(), ..Config::default() };
//! let audit = Audit::open(config, LogKey::load("keys/log.key".as_ref())?, "gw.example.org/log", ids)?.audit;
//! let receipt = audit.intent(entry, Vec::new()).await?; // durable from here on: now the tool may be called
//! receipt.outcome(outcome).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The store follows the log, never the other way round; the [`index`] can be dropped at any time.

pub mod access;
mod answers;
mod archive;
mod blocks;
mod checkpoint;
mod config;
pub mod copy;
mod draft;
mod dropped;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod export;
mod handover;
pub mod index;
mod keeper;
mod key;
pub mod key_change;
pub mod ocsf;
mod ongoing;
mod packed;
pub mod proof;
pub mod prove;
mod queue;
pub mod read;
mod receipt;
mod recover;
pub mod render;
pub mod report;
mod restored;
mod retain;
mod segment;
mod strangers;
pub mod syslog;
mod tree;
pub mod verify;
pub mod witness;
mod writer;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod retain_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::id::{Ids, RequestId};
use crate::record::{Ending, Entry, EpochBegun, Event, Hash, Outcome, Record, Recovery, Refused};
use crate::telemetry::family;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::{Config, Reasons};
pub use error::AuditError;
pub use index::Index;
pub use key::{KeyError, LogKey, VerifyingKey};
pub use proof::Proof;
pub use receipt::{Intended, Receipt, Written};
pub use restored::Restored;

use answers::Reply;
use draft::Draft;
use queue::{Item, Shared, held};

/// How much room the log has, from much to little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Enough.
    Ok,
    /// Less than [`Config::min_free_bytes`]: what brings data into tools, and new proxies, are refused.
    Low,
    /// Less than [`Config::stop_free_bytes`]: every request is refused.
    Stopped,
    /// No segment is left but the reserved one, which takes only what is vital ([`Event::is_vital`]).
    Reserved,
}

impl Space {
    /// The name in records and mails.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Stopped => "stopped",
            Self::Reserved => "reserved",
        }
    }
}

/// How the log does, for monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Durable records of this epoch.
    pub records: u64,
    /// Records that wait.
    pub queued: usize,
    /// How long the oldest of them has waited.
    pub queue_age: Duration,
    /// Permitted requests without an outcome.
    pub open: usize,
    /// Durable records that no checkpoint covers.
    pub unsigned: u64,
    /// Time since the newest checkpoint was signed.
    pub checkpoint_age: Duration,
    /// Durable records that searches do not find yet.
    pub index_lag: u64,
    /// When the newest record was taken.
    pub newest_record: Timestamp,
}

/// The open log. Cheap to clone; the last clone ends the writer, [`Audit::close`] ends it in order.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The log's own public key.
    key: VerifyingKey,
    /// Held by whoever compresses, moves or drops old segments: one at a time.
    old_segments: tokio::sync::Mutex<()>,
    /// The time of the newest record that was there when the log was opened.
    newest_found: Timestamp,
    index: Index,
    done: tokio::sync::watch::Receiver<bool>,
}

/// An opened log and what was found when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub audit: Audit,
    /// What was found.
    pub recovery: Recovered,
}

/// How long a change waits for the checkpoint that signs its record.
const SIGNING: Duration = Duration::from_secs(10);

/// What was found when the log was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Permitted requests without an outcome, to be settled by whoever can tell how they ended ([`Audit::settle`]).
    pub open: Vec<Entry>,
    /// `mint`, `change`, `refused`, `ownership_conflict` records and outcomes that made, removed or signed something, in order,
    /// from the end of the log: at least everything since the newest checkpoint, so that the store can catch up.
    pub recent: Vec<Record>,
    /// What the end of the log says of the authorisation state, from the newest whole list on; empty where there is none.
    pub states: Vec<Event>,
    /// Whether the log was restored from a backup, and a new epoch began for that.
    pub restored: bool,
    /// Whether `states` would hold a whole list if there were one: the log was read from its first record on.
    pub whole: bool,
    /// What is missing although it was acknowledged; then a new epoch has begun. Empty when nothing is.
    pub damage: Vec<String>,
    /// Records found whole.
    pub records: u64,
    /// Bytes of a broken-off write that was never acknowledged.
    pub torn_bytes: u64,
    /// The epoch that is written now.
    pub epoch: u64,
    /// Whether there was no log before.
    pub fresh: bool,
    /// Whether a `recovery` record that says this stands in the log already.
    pub told: bool,
}

impl Audit {
    /// Opens the log in `config.folder` (made when it is not there), recovers what a crash left, and starts the
    /// writer. Blocks; must be called within a tokio runtime. `origin` is the log's name, e.g. `gw.example.org/log`.
    ///
    /// # Errors
    /// [`AuditError`]: the folder is in use, on a file system that does not keep what is written, of another log or
    /// key, or cannot be read or written.
    pub fn open(config: Config, key: LogKey, origin: &str, ids: Ids) -> Result<Opened, AuditError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| AuditError::Runtime)?;
        let folder = config.folder.clone();
        let file_error = |error: std::io::Error| AuditError::from_io(&folder, &error);
        fs::create_dir_all(&folder)
            .and_then(|()| sync_parent(&folder))
            .map_err(file_error)?;
        check_file_system(&config, &folder)?;
        let lock = lock(&folder)?;
        // From now on whoever reads all of the log finds what to hold.
        drop(dropped::hold_alone(&folder).map_err(file_error)?);
        let public = key.public(origin);
        let tags = key.tags().map_err(|_| AuditError::Key)?;
        let mut found = recover::recover(&config, &public, &tags)?;

        let shared = Arc::new(Shared::new(config, ids, found.epoch, found.newest.take()));
        held(&shared.open).extend(found.open.keys().copied());
        shared
            .meters
            .newest_record
            .store(found.latest.0, Ordering::Relaxed);
        let checkpoint_size = shared.newest.load().as_ref().map_or(0, |newest| newest.size);
        let keeper = Arc::new(keeper::Keeper::new(shared.clone(), key, origin.to_owned()));
        keeper.adopt_spares().map_err(file_error)?;
        let begin = writer::Begin {
            origin: Hash::of(origin.as_bytes()),
            tags,
            next_index: found.next_index,
            edge: std::mem::take(&mut found.edge),
            checkpoint_size,
        };
        let leading = leading(&found);
        let writer =
            writer::Writer::begin(shared.clone(), keeper.clone(), begin, &leading).map_err(file_error)?;
        restored::remove(&folder).map_err(file_error)?;
        keeper.look_at_space();
        let index = Index::start(&runtime, &shared);
        let done = start_threads(writer, keeper, lock).map_err(file_error)?;
        let audit = Self(Arc::new(Inner {
            shared,
            key: public,
            old_segments: tokio::sync::Mutex::default(),
            newest_found: found.latest,
            index,
            done,
        }));
        audit.lane();
        let recovery = audit.recovered(found);
        Ok(Opened { audit, recovery })
    }

    fn recovered(&self, found: recover::Found) -> Recovered {
        let mut open = Vec::new();
        let told = found.is_told();
        for (request, entry) in found.open {
            match entry {
                Some(entry) => open.push(entry),
                // Its intent is in a segment that is gone: nobody can say more about it.
                None => self.write_soon(Event::Outcome(Box::new(unknown(request)))),
            }
        }
        open.sort_by_key(|entry| entry.request);
        Recovered {
            open,
            states: found.states,
            // Another key is no reason to believe the store: what the log said until then is there.
            restored: found.begun.is_some_and(|begun| begun.reason.is_some()) && found.key_change.is_none(),
            whole: found.whole,
            recent: found.recent,
            damage: found.damage,
            records: found.records,
            torn_bytes: found.torn_bytes,
            epoch: found.epoch,
            fresh: !found.existed,
            told,
        }
    }

    /// Writes one event. Durable when it returns; gives its position.
    ///
    /// # Errors
    /// [`AuditError`]; nothing was promised then.
    pub async fn write(&self, event: Event) -> Result<u64, AuditError> {
        let seqs = self.write_all(vec![event]).await?;
        seqs.first().copied().ok_or(AuditError::Stopped)
    }

    /// Writes events as neighbours, durable at the same time; gives their positions.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn write_all(&self, events: Vec<Event>) -> Result<Vec<u64>, AuditError> {
        self.written(events, false).await
    }

    /// Writes records that belong to a request whose intent is durable; durable when it returns.
    ///
    /// # Errors
    /// [`AuditError`]; then nothing may be done that they were to permit.
    pub async fn write_for(&self, intended: &Intended, events: Vec<Event>) -> Result<Written, AuditError> {
        self.write_all(events).await?;
        Ok(Written::new(intended.request()))
    }

    async fn written(&self, events: Vec<Event>, must: bool) -> Result<Vec<u64>, AuditError> {
        let drafts = self.drafts(events)?;
        let (waiter, answer) = oneshot::channel();
        self.0.shared.submit(
            Item {
                drafts,
                must,
                reply: Reply::Seqs(waiter),
                lane: self.lane(),
            },
            true,
        )?;
        self.wait(answer, must).await
    }

    /// The lane of whoever waits from here on.
    fn lane(&self) -> usize {
        self.0.shared.answers.here(&self.0)
    }

    fn drafts(&self, events: Vec<Event>) -> Result<Vec<Draft>, AuditError> {
        let random = self.0.shared.ids.random();
        Ok(events
            .into_iter()
            .map(|event| Draft::new(event, &**random))
            .collect::<Result<_, _>>()?)
    }

    /// Writes an event that nobody waits for: with the next batch, at most 20 ms later. It is kept and written later
    /// when the log cannot be written now.
    pub fn write_soon(&self, event: Event) {
        self.0.shared.must(event);
    }

    /// Writes the intent of a permitted request, and `with` it the records of the same batch (`mint`). The receipt is the
    /// proof that they are durable.
    ///
    /// # Errors
    /// [`AuditError`]: the request must be refused.
    pub async fn intent(&self, entry: Entry, with: Vec<Event>) -> Result<Receipt, AuditError> {
        let request = entry.request;
        let mut events = Vec::with_capacity(1 + with.len());
        events.push(Event::Intent(Box::new(entry)));
        events.extend(with);
        let drafts = self.drafts(events)?;
        let (waiter, answer) = oneshot::channel();
        self.0.shared.submit(
            Item {
                drafts,
                must: false,
                reply: Reply::Receipt(request, waiter),
                lane: self.lane(),
            },
            true,
        )?;
        self.wait(answer, false).await
    }

    /// Waits until a durable checkpoint signs the record at `seq`, of an event that is signed first ([`Event::is_signed_first`]).
    ///
    /// # Errors
    /// [`AuditError::Deadline`], [`AuditError::Stopped`]; what it says must not be done then.
    pub async fn signed(&self, seq: u64) -> Result<(), AuditError> {
        let mut signed = self.0.shared.signed.subscribe();
        let waited = tokio::time::timeout(SIGNING, signed.wait_for(|size| *size > seq)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(AuditError::Stopped),
            Err(_) => Err(AuditError::Deadline(SIGNING)),
        }
    }

    /// Waits for the writer's acknowledgement, which alone decides, but no longer than the deadline. What `must` be
    /// written is written later all the same, so nothing is counted as refused then.
    async fn wait<T>(
        &self,
        mut answer: oneshot::Receiver<Result<T, AuditError>>,
        must: bool,
    ) -> Result<T, AuditError> {
        let shared = &self.0.shared;
        match tokio::time::timeout(shared.config.deadline, &mut answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AuditError::Stopped),
            Err(_) => {
                // From here on the writer cannot deliver; what it delivered before still counts.
                answer.close();
                if let Ok(result) = answer.try_recv() {
                    return result;
                }
                shared.late.store(true, Ordering::Release);
                if !must {
                    shared.refused_one();
                }
                Err(AuditError::Deadline(shared.config.deadline))
            }
        }
    }

    /// Writes the refusal of an identified person (or of a login), before it is answered.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn refused(&self, refused: Refused) -> Result<(), AuditError> {
        self.write(Event::Refused(Box::new(refused))).await.map(|_| ())
    }

    /// Counts the refusal of a stranger. One record per problem, source network and minute says how many there were.
    pub fn stranger(&self, problem: &str, source: &str, example: RequestId) {
        let shared = &self.0.shared;
        let done = held(&shared.strangers).count(shared.ids.clock().now(), problem, source, example);
        for record in done {
            shared.must(Event::Strangers(record));
        }
    }

    /// Writes the outcome of a request that recovery found open.
    ///
    /// # Errors
    /// [`AuditError`]; the outcome is kept all the same and written as soon as the log can be written.
    pub async fn settle(&self, outcome: Outcome) -> Result<(), AuditError> {
        self.written(vec![Event::Outcome(Box::new(outcome))], true)
            .await
            .map(|_| ())
    }

    /// The newest signed checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.0.shared.newest.load().as_deref().cloned()
    }

    /// Number of durable records.
    #[must_use]
    pub fn size(&self) -> u64 {
        *self.0.shared.head.borrow()
    }

    /// Whether a record would be accepted now: the readiness of the gateway.
    #[must_use]
    pub fn accepting(&self) -> bool {
        let shared = &self.0.shared;
        let late = shared.late.load(Ordering::Acquire);
        !(shared.is_stopped()
            || late
            || shared.refusing.load(Ordering::Acquire)
            || shared.space() >= Space::Stopped)
    }

    /// What monitoring is told of the log.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let shared = &self.0.shared;
        let now = shared.ids.clock().monotonic();
        let (queued, since) = shared.waiting();
        let signed = u64::try_from(shared.meters.signed.load(Ordering::Relaxed)).unwrap_or(0);
        let covered = shared.newest.load().as_ref().map_or(0, |newest| newest.size);
        Vitals {
            records: self.size(),
            queued,
            queue_age: since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            open: held(&shared.open).len(),
            unsigned: self.size().saturating_sub(covered),
            checkpoint_age: now.saturating_sub(Duration::from_micros(signed)),
            index_lag: self.0.index.lag(),
            newest_record: Timestamp(shared.meters.newest_record.load(Ordering::Relaxed)),
        }
    }

    /// Registers `audit_batch_records` and `audit_sync_seconds`.
    pub fn register(&self, registry: &mut Registry) {
        let meters = &self.0.shared.meters;
        family::register(registry, "audit_batch_records", meters.batches.clone());
        family::register(registry, "audit_sync_seconds", meters.syncs.clone());
    }

    /// How much room the log has.
    #[must_use]
    pub fn space(&self) -> Space {
        self.0.shared.space()
    }

    /// Requests that have an intent and no outcome, in the order of their ids.
    #[must_use]
    pub fn open_requests(&self) -> Vec<RequestId> {
        let mut open: Vec<_> = held(&self.0.shared.open).iter().copied().collect();
        open.sort_unstable();
        open
    }

    /// The index over the log.
    #[must_use]
    pub fn search(&self) -> &Index {
        &self.0.index
    }

    /// How long records are kept; `None`: for ever.
    #[must_use]
    pub fn keep(&self) -> Option<Duration> {
        self.0.shared.config.keep
    }

    /// The time of the newest record that was there when the log was opened; `None` where there was none.
    #[must_use]
    pub fn newest_found(&self) -> Option<Timestamp> {
        Some(self.0.newest_found).filter(|newest| *newest > Timestamp::default())
    }

    /// Whether there is something to do with old segments ([`Audit::tidy_one`]).
    #[must_use]
    pub fn tidies(&self) -> bool {
        self.0.shared.config.compress || self.0.shared.config.archive.is_some()
    }

    /// Folder of the log's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.shared.config.folder
    }

    /// Ends the log in order: what is queued, the strangers counted so far, a `stop` record, the last checkpoint. When it
    /// returns, the folder can be opened again. Later records are refused.
    pub async fn close(&self, reason: &str) {
        let shared = &self.0.shared;
        for record in held(&shared.strangers).flush() {
            shared.must(Event::Strangers(record));
        }
        let stop = Event::Stop {
            reason: reason.to_owned(),
        };
        if let Err(error) = self.written(vec![stop], true).await {
            tracing::error!("the log ends without a stop record: {error}");
        }
        shared.stop();
        let mut done = self.0.done.clone();
        // An error means that the threads are gone, which is what is waited for.
        let _ = done.wait_for(|done| *done).await;
        self.0.index.close().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Makes the creation of `folder` itself durable.
fn sync_parent(folder: &Path) -> std::io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    writer::sync_folder(parent.unwrap_or(Path::new(".")))
}

/// What stands first in the segment that recovery opens.
fn leading(found: &recover::Found) -> Vec<Event> {
    if !found.is_told() {
        return Vec::new();
    }
    let mut settled: Vec<_> = found.open.keys().copied().collect();
    settled.sort_unstable();
    let (records, torn_bytes, damage) = (found.records, found.torn_bytes, found.damage.clone());
    let mut leading = vec![Event::Recovery(Recovery {
        records,
        torn_bytes,
        settled,
        damage,
    })];
    leading.extend(
        found
            .key_change
            .clone()
            .map(|change| Event::KeyChanged(Box::new(change))),
    );
    if let Some(begun) = &found.begun {
        // So few that no record is cut, however long the names are.
        let mut lists = begun.files.chunks(100).map(<[_]>::to_vec).collect::<Vec<_>>();
        if lists.is_empty() {
            lists.push(Vec::new());
        }
        let part = |files| EpochBegun {
            files,
            ..begun.clone()
        };
        leading.extend(lists.into_iter().map(|files| Event::Epoch(part(files))));
    }
    leading
}

fn unknown(request: RequestId) -> Outcome {
    crate::record::Outcome::ended(request, Ending::Unknown)
}

fn start_threads(
    writer: writer::Writer,
    keeper: Arc<keeper::Keeper>,
    lock: File,
) -> std::io::Result<tokio::sync::watch::Receiver<bool>> {
    let (tell, done) = tokio::sync::watch::channel(false);
    let helper = std::thread::Builder::new().name("audit-keeper".into()).spawn({
        let keeper = keeper.clone();
        move || keeper.run()
    })?;
    let started = std::thread::Builder::new()
        .name("audit-writer".into())
        .spawn(move || {
            writer.run();
            // The folder is free when both threads are done.
            if helper.join().is_err() {
                tracing::error!("the log's helper thread panicked");
            }
            drop(lock);
            tell.send_replace(true);
        });
    if started.is_err() {
        keeper.stop();
    }
    started.map(|_| done)
}

fn lock(folder: &Path) -> Result<File, AuditError> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|error| AuditError::from_io(&path, &error))?;
    file.try_lock()
        .map_err(|_| AuditError::Locked(folder.to_owned()))?;
    Ok(file)
}

/// Whether a log can lie where `config` says. Nothing is made; a folder that is not there yet is judged by the one in which
/// it would be.
///
/// # Errors
/// [`AuditError::FileSystem`], [`AuditError::File`].
pub fn check(config: &Config) -> Result<(), AuditError> {
    let there = config.folder.ancestors().find(|folder| folder.exists());
    check_file_system(config, there.unwrap_or(&config.folder))
}

/// Refuses file systems on which a sync promises nothing, warns of those on which space is not kept.
fn check_file_system(config: &Config, folder: &Path) -> Result<(), AuditError> {
    const REFUSED: [(u32, &str); 7] = [
        (0x6969, "NFS"),
        (0x0102_1994, "tmpfs"),
        (0x8584_58f6, "ramfs"),
        (0x794c_7630, "overlay"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9p"),
    ];
    const WARNED: [(u32, &str); 3] = [
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "ZFS"),
        (0xca45_1a4e, "bcachefs"),
    ];
    let stat = rustix::fs::statfs(folder)
        .map_err(|error| AuditError::from_io(folder, &std::io::Error::from(error)))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a 32-bit constant in a wider field"
    )]
    let kind = stat.f_type as u32;
    let named = |table: &[(u32, &'static str)]| {
        table
            .iter()
            .find(|(magic, _)| *magic == kind)
            .map(|(_, name)| *name)
    };
    match named(&REFUSED) {
        Some(name) if !config.allow_any_fs => {
            return Err(AuditError::FileSystem {
                path: config.folder.clone(),
                name,
            });
        }
        _ => {}
    }
    if let Some(name) = named(&WARNED) {
        tracing::warn!(
            "the audit log lies on {name}, where space made ready before is not kept when the disk is full"
        );
    }
    Ok(())
}
