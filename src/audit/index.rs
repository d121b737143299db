//! The index over the log: a SQLite file of its own that follows the segments.
//!
//! It answers searches and nothing else: no security decision reads it, and it can be deleted at any time. The
//! records themselves are read from the segments.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::{Notify, OnceCell, watch};

use super::queue::Shared;
use super::read::{Found, ReadError, Reader, record_at};
use super::segment;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Entry, Event, PlaceEntry, Record};

/// Version of the table; another one is rebuilt.
const SCHEMA: i64 = 1;
/// Records that are indexed at once.
const ROUND: usize = 1_000;
/// How long new records may wait to be indexed together, unless somebody asks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a search waits for the index to catch up.
const FRESH: Duration = Duration::from_secs(5);
/// Most records in one page.
const PAGE: u32 = 1_000;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS record (
        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL,
        time INTEGER NOT NULL, event TEXT NOT NULL, request TEXT, person TEXT, vo TEXT, vo_id TEXT, tool TEXT, task TEXT,
        resource TEXT, permit INTEGER, problem TEXT, status INTEGER, serial TEXT, source TEXT,
        PRIMARY KEY (epoch, seq)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS record_request ON record (request) WHERE request IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_person ON record (person, epoch, seq) WHERE person IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_serial ON record (serial) WHERE serial IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_time ON record (time);
    PRAGMA user_version = 1;";

const INSERT: &str = "
    INSERT OR REPLACE INTO record (epoch, seq, segment, place, time, event, request, person, vo, vo_id, tool, task,
        resource, permit, problem, status, serial, source)
    SELECT $1, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
        value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15, value->>16
    FROM json_each($2)";

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
    /// The index is not open.
    #[error("the audit index is not open yet")]
    Closed,
}

impl AsProblem for IndexError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Behind(_) | Self::Closed => Problem::new(Kind::Busy, self.to_string()).retry_after(1),
            Self::Database(_) | Self::Read(_) => {
                Problem::new(Kind::Internal, "the audit log could not be searched")
            }
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
    /// Name of the tool.
    pub tool: Option<String>,
    /// Name of the task.
    pub task: Option<String>,
    /// The resource, as `type/id`.
    pub resource: Option<String>,
    /// Permitted (true) or refused (false) requests.
    pub permit: Option<bool>,
    /// Name of the event ([`Event::name`]).
    pub event: Option<String>,
    /// The request.
    pub request: Option<RequestId>,
    /// Serial of the credential, in decimal.
    pub serial: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Records older than this position: [`Page::next`] of the page before.
    pub before: Option<Position>,
    /// At most so many records (1,000 at most; 0 means 100).
    pub limit: u32,
    /// Wait until the index has reached the durable head.
    pub fresh: bool,
}

/// A record's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the log.
    pub epoch: u64,
    /// Position in that epoch.
    pub seq: u64,
}

/// A part of the answer, newest records first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<Position>,
    /// Records that the index has not reached yet.
    pub lag: u64,
}

/// The index over the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Index(Arc<State>);

#[derive(Debug)]
struct State {
    folder: PathBuf,
    file: PathBuf,
    epoch: u64,
    head: watch::Receiver<u64>,
    indexed: watch::Sender<u64>,
    hurry: Notify,
    pool: OnceCell<SqlitePool>,
}

impl Index {
    /// Starts to follow the log.
    pub(super) fn start(runtime: &tokio::runtime::Handle, shared: &Shared) -> Self {
        let folder = shared.config.folder.clone();
        let beside = || folder.parent().unwrap_or(&folder).join("index.db");
        let index = Self(Arc::new(State {
            file: shared.config.index.clone().unwrap_or_else(beside),
            folder,
            epoch: shared.epoch,
            head: shared.head.subscribe(),
            indexed: watch::Sender::new(0),
            hurry: Notify::new(),
            pool: OnceCell::new(),
        }));
        runtime.spawn(index.clone().follow());
        index
    }

    /// Records that are durable and not indexed yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.0.head.borrow().saturating_sub(*self.0.indexed.borrow())
    }

    /// Searches.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search(&self, query: &Query) -> Result<Page, IndexError> {
        if query.fresh {
            self.catch_up().await?;
        }
        let limit = if query.limit == 0 {
            100
        } else {
            query.limit.min(PAGE)
        };
        let mut places: Vec<Place> = select(query, limit + 1)
            .build_query_as()
            .fetch_all(self.pool()?)
            .await?;
        let more = places.len() > limit as usize;
        places.truncate(limit as usize);
        let last = places.last().map(|(epoch, seq, ..)| Position {
            epoch: unsigned(*epoch),
            seq: unsigned(*seq),
        });
        let next = last.filter(|_| more);
        Ok(Page {
            records: self.records(places).await?,
            next,
            lag: self.lag(),
        })
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

    fn pool(&self) -> Result<&SqlitePool, IndexError> {
        self.0
            .pool
            .get()
            .filter(|pool| !pool.is_closed())
            .ok_or(IndexError::Closed)
    }

    async fn records(&self, places: Vec<Place>) -> Result<Vec<Record>, IndexError> {
        let (folder, epoch) = (self.0.folder.clone(), self.0.epoch);
        let read = move || {
            let mut records = Vec::with_capacity(places.len());
            for (of, _, segment, offset) in places {
                let folder = folder_of(&folder, unsigned(of), epoch);
                records.extend(record_at(&folder, unsigned(segment), unsigned(offset))?);
            }
            Ok(records)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| IndexError::Closed)?
    }

    pub(super) async fn close(&self) {
        if let Some(pool) = self.0.pool.get() {
            pool.close().await;
        }
    }

    /// The task that follows the log until it is closed.
    async fn follow(self) {
        let mut head = self.0.head.clone();
        while head.has_changed().is_ok() {
            match self.clone().run(&mut head).await {
                Ok(()) => return,
                Err(IndexError::Database(sqlx::Error::PoolClosed)) => return,
                Err(error) => tracing::error!("the audit index stands still: {error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn run(&self, head: &mut watch::Receiver<u64>) -> Result<(), IndexError> {
        let pool = self.0.pool.get_or_try_init(|| open(&self.0.file)).await?;
        self.earlier(pool).await?;
        let mut next = self.first_missing(pool).await?;
        let mut reader = None;
        loop {
            self.0.indexed.send_replace(next);
            let limit = *head.borrow_and_update();
            if next < limit {
                let folder = self.0.folder.clone();
                let (back, found) = blocking(move || read(reader, &folder, next, limit)).await?;
                reader = Some(back);
                next += found.len() as u64;
                insert(pool, self.0.epoch, &found).await?;
                continue;
            }
            if head.changed().await.is_err() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.0.hurry.notified() => {}
            }
        }
    }

    /// Position of the first record that is not indexed. Everything is indexed anew when the index is not of this log.
    async fn first_missing(&self, pool: &SqlitePool) -> Result<u64, IndexError> {
        let epoch = signed(self.0.epoch);
        let last: Option<(i64, i64, i64, i64, i64)> =
            sqlx::query_as("SELECT seq, segment, place, time, (SELECT COUNT(*) FROM record WHERE epoch = $1) FROM record WHERE epoch = $1 ORDER BY seq DESC LIMIT 1")
                .bind(epoch)
                .fetch_optional(pool)
                .await?;
        let Some((seq, segment, offset, time, count)) = last else {
            return Ok(0);
        };
        let folder = self.0.folder.clone();
        let there = blocking(move || Ok(record_at(&folder, unsigned(segment), unsigned(offset))?)).await?;
        let same = there.is_some_and(|record| (record.seq, record.time.0) == (unsigned(seq), time));
        let within = unsigned(seq) < *self.0.head.borrow();
        if same && within && count == seq + 1 {
            return Ok(unsigned(seq) + 1);
        }
        tracing::warn!("the audit index does not fit the log and is built anew");
        sqlx::query("DELETE FROM record WHERE epoch = $1")
            .bind(epoch)
            .execute(pool)
            .await?;
        Ok(0)
    }

    /// Indexes epochs that ended and are not in the index, as far as they can be read.
    async fn earlier(&self, pool: &SqlitePool) -> Result<(), IndexError> {
        let folder = self.0.folder.clone();
        let list = move || {
            segment::epochs(&folder).map_err(|source| ReadError::File { path: folder, source }.into())
        };
        for epoch in blocking(list).await? {
            let there: Option<(i64,)> = sqlx::query_as("SELECT seq FROM record WHERE epoch = $1 LIMIT 1")
                .bind(signed(epoch))
                .fetch_optional(pool)
                .await?;
            let folder = segment::epoch_folder(&self.0.folder, epoch);
            let mut reader = None;
            let mut next = 0;
            while there.is_none() {
                let folder = folder.clone();
                let Ok((back, found)) = blocking(move || read(reader, &folder, next, u64::MAX)).await else {
                    break;
                };
                if found.is_empty() {
                    break;
                }
                reader = Some(back);
                next += found.len() as u64;
                insert(pool, epoch, &found).await?;
            }
        }
        Ok(())
    }
}

type Place = (i64, i64, i64, i64);

fn folder_of(folder: &Path, epoch: u64, present: u64) -> PathBuf {
    if epoch == present {
        folder.to_owned()
    } else {
        segment::epoch_folder(folder, epoch)
    }
}

fn select(query: &Query, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT epoch, seq, segment, place FROM record WHERE 1");
    let texts = [
        (" AND person = ", query.person.map(|person| person.to_string())),
        (" AND tool = ", query.tool.clone()),
        (" AND task = ", query.task.clone()),
        (" AND resource = ", query.resource.clone()),
        (" AND event = ", query.event.clone()),
        (
            " AND request = ",
            query.request.map(|request| request.to_string()),
        ),
        (" AND serial = ", query.serial.clone()),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            sql.push(condition).push_bind(value);
        }
    }
    if let Some(vo) = &query.vo {
        sql.push(" AND (vo = ")
            .push_bind(vo.clone())
            .push(" OR vo_id = ")
            .push_bind(vo.clone())
            .push(")");
    }
    if let Some(permit) = query.permit {
        sql.push(" AND permit = ").push_bind(permit);
    }
    if let Some(from) = query.from {
        sql.push(" AND time >= ").push_bind(from.0);
    }
    if let Some(to) = query.to {
        sql.push(" AND time < ").push_bind(to.0);
    }
    if let Some(before) = query.before {
        sql.push(" AND (epoch, seq) < (")
            .push_bind(signed(before.epoch))
            .push(", ");
        sql.push_bind(signed(before.seq)).push(")");
    }
    sql.push(" ORDER BY epoch DESC, seq DESC LIMIT ")
        .push_bind(i64::from(limit));
    sql
}

/// Opens the file; one that is damaged or of another version is made anew.
async fn open(file: &Path) -> Result<SqlitePool, IndexError> {
    match connect(file).await {
        Ok(pool) => Ok(pool),
        Err(error) => {
            tracing::warn!("the audit index is built anew: {error}");
            for suffix in ["", "-wal", "-shm"] {
                let mut name = file.as_os_str().to_owned();
                name.push(suffix);
                match tokio::fs::remove_file(&name).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(sqlx::Error::Io(error).into());
                    }
                    _ => {}
                }
            }
            Ok(connect(file).await?)
        }
    }
}

async fn connect(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    // Losing the end of it in a crash costs nothing: it is indexed again.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        .max_connections(3)
        .connect_with(options)
        .await?;
    let (version,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await?;
    if version != SCHEMA && version != 0 {
        pool.close().await;
        return Err(sqlx::Error::Configuration("another version".into()));
    }
    sqlx::raw_sql(CREATE).execute(&pool).await?;
    Ok(pool)
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
) -> Result<(Reader, Vec<Found>), IndexError> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => Reader::to(folder, next, limit)?,
    };
    reader.set_limit(limit)?;
    let mut found = Vec::new();
    while found.len() < ROUND {
        match reader.read() {
            Ok(Some(record)) => found.push(record),
            Ok(None) => break,
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((reader, found))
}

async fn insert(pool: &SqlitePool, epoch: u64, found: &[Found]) -> Result<(), IndexError> {
    let rows = serde_json::Value::Array(found.iter().map(row).collect());
    sqlx::query(INSERT)
        .bind(signed(epoch))
        .bind(rows.to_string())
        .execute(pool)
        .await?;
    Ok(())
}

/// What a record is found by.
#[derive(Default)]
struct Facts {
    person: Option<PersonId>,
    vo: Option<String>,
    vo_id: Option<String>,
    tool: Option<String>,
    task: Option<String>,
    resource: Option<String>,
    permit: Option<bool>,
    problem: Option<String>,
    status: Option<u16>,
    serial: Option<String>,
    source: Option<String>,
}

fn row(found: &Found) -> serde_json::Value {
    let record = &found.record;
    let facts = facts(&record.event);
    json!([
        record.seq,
        found.segment,
        found.offset,
        record.time,
        record.event.name(),
        record.event.request().map(|request| request.to_string()),
        facts.person,
        facts.vo,
        facts.vo_id,
        facts.tool,
        facts.task,
        facts.resource,
        facts.permit.map(i64::from),
        facts.problem,
        facts.status,
        facts.serial,
        facts.source,
    ])
}

fn facts(event: &Event) -> Facts {
    match event {
        Event::Intent(entry) => of_entry(entry),
        Event::Refused(refused) => Facts {
            permit: Some(false),
            problem: Some(refused.problem.clone()),
            status: Some(refused.status),
            ..of_entry(&refused.entry)
        },
        Event::Lease(lease) => Facts {
            permit: Some(lease.decision.permit),
            ..Facts::default()
        },
        Event::Outcome(outcome) => Facts {
            status: outcome.status,
            problem: outcome.error.clone(),
            serial: outcome.signed.as_ref().map(|signed| signed.serial.clone()),
            ..Facts::default()
        },
        Event::Strangers(strangers) => Facts {
            problem: Some(strangers.problem.clone()),
            source: Some(strangers.source.clone()),
            ..Facts::default()
        },
        Event::Login(login) => Facts {
            person: login.person,
            source: Some(login.source.clone()),
            ..Facts::default()
        },
        Event::SessionEnded(ended) => Facts {
            person: Some(ended.person),
            ..Facts::default()
        },
        Event::Change(change) => Facts {
            person: change.change.person,
            vo_id: Some(change.change.vo.to_string()),
            task: Some(change.change.action.clone()),
            resource: Some(format!("{}/{}", change.change.kind, change.change.target)),
            ..Facts::default()
        },
        Event::Mint(mint) => Facts {
            person: Some(mint.person),
            vo_id: Some(mint.vo.to_string()),
            tool: Some(mint.tool.clone()),
            serial: Some(mint.serial.clone()),
            ..Facts::default()
        },
        Event::Trace(trace) => Facts {
            serial: trace.found.first().cloned(),
            ..Facts::default()
        },
        Event::Alert(alert) => Facts {
            person: Some(alert.person),
            vo_id: Some(alert.vo.to_string()),
            tool: alert.tool.clone(),
            task: Some(alert.task.clone()),
            ..Facts::default()
        },
        Event::OwnershipConflict(conflict) => Facts {
            person: conflict.owner,
            vo_id: Some(conflict.claimed.vo.to_string()),
            tool: Some(conflict.claimed.tool.clone()),
            resource: Some(format!("{}/{}", conflict.claimed.kind, conflict.claimed.id)),
            ..Facts::default()
        },
        _ => Facts::default(),
    }
}

fn of_entry(entry: &Entry) -> Facts {
    let PlaceEntry {
        vo,
        vo_id,
        tool,
        task,
        ..
    } = entry.place.clone();
    Facts {
        person: entry.subject.person,
        vo,
        vo_id: vo_id.map(|id| id.to_string()),
        tool,
        task,
        resource: entry
            .resource
            .as_ref()
            .map(|resource| format!("{}/{}", resource.kind, resource.id)),
        permit: entry.decision.as_ref().map(|decision| decision.permit),
        serial: entry
            .delegation
            .as_ref()
            .and_then(|delegation| delegation.serial.clone()),
        source: Some(entry.source.clone()),
        ..Facts::default()
    }
}

/// SQLite's integers are signed; no log grows past 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
