//! The index over the log: a SQLite file of its own that follows the segments.
//!
//! It answers searches and nothing else: no security decision reads it, and it can be deleted at any time. The
//! records themselves are read from the segments. An outcome names only its request, so its row takes person, place and
//! resource from the request's intent.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{QueryBuilder, Row, Sqlite};
use tokio::sync::{Notify, OnceCell, watch};

use super::queue::Shared;
use super::read::{Found, ReadError, Reader, record_at};
use super::segment;
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Entry, Event, Record, TraceId};

/// Version of the table; another one is rebuilt.
const SCHEMA: i64 = 3;
/// Records that are indexed at once.
const ROUND: usize = 1_000;
/// How long new records may wait to be indexed together, unless somebody asks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a search waits for the index to catch up.
const FRESH: Duration = Duration::from_secs(5);
/// Most records in one page.
const PAGE: u32 = 1_000;
/// Most open requests whose origin is kept in memory; that of the others is looked up in the index.
const OPEN: usize = 16_384;
/// Requests that are looked up with one statement.
const LOOK_UP: usize = 250;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS record (
        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, segment INTEGER NOT NULL, place INTEGER NOT NULL,
        time INTEGER NOT NULL, event TEXT NOT NULL, request TEXT, person TEXT, vo TEXT, vo_id TEXT, tool TEXT, task TEXT,
        resource TEXT, permit INTEGER, problem TEXT, status INTEGER, serial TEXT, source TEXT, trace TEXT,
        PRIMARY KEY (epoch, seq)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS record_request ON record (request) WHERE request IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_person ON record (person, epoch, seq) WHERE person IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_serial ON record (serial) WHERE serial IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_trace ON record (trace) WHERE trace IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_time ON record (time);
    PRAGMA user_version = 3;";

/// Rows that go into one statement. Few sizes, so that every statement is worded and prepared once.
const ROWS: [usize; 4] = [256, 32, 4, 1];

/// The statement for each number of rows.
static INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        format!(
            "INSERT OR REPLACE INTO record (epoch, seq, segment, place, time, event, request, person, vo, vo_id, tool,
                task, resource, permit, problem, status, serial, source, trace)
             VALUES {}",
            vec![row; rows].join(", ")
        )
    })
});

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
    /// The trace; a request whose record names none is its own.
    pub trace: Option<TraceId>,
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

    /// The intents of `requests`, as far as the index knows them.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn intents(&self, requests: &[RequestId]) -> Result<BTreeMap<RequestId, Record>, IndexError> {
        let mut places: Vec<Place> = Vec::new();
        for requests in requests.chunks(LOOK_UP) {
            let mut sql = of_requests("SELECT epoch, seq, segment, place", requests);
            places.extend(
                sql.build_query_as::<Place>()
                    .persistent(false)
                    .fetch_all(self.pool()?)
                    .await?,
            );
        }
        let records = self.records(places).await?.into_iter();
        Ok(records
            .filter_map(|record| match &record.event {
                Event::Intent(entry) => Some((entry.request, record)),
                _ => None,
            })
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
        let mut origins = Origins::default();
        loop {
            self.0.indexed.send_replace(next);
            let limit = *head.borrow_and_update();
            if next < limit {
                let folder = self.0.folder.clone();
                let (back, found) = blocking(move || read(reader, &folder, next, limit)).await?;
                reader = Some(back);
                next += found.len() as u64;
                insert(pool, self.0.epoch, &found, &mut origins).await?;
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
            let mut origins = Origins::default();
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
                insert(pool, epoch, &found, &mut origins).await?;
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
    if let Some(trace) = query.trace {
        // All records of a request are found, though only the first of them names its trace.
        sql.push(" AND request IN (SELECT request FROM record WHERE trace = ")
            .push_bind(trace.to_string())
            .push(" UNION ALL SELECT ")
            .push_bind(RequestId::from(uuid::Uuid::from_bytes(trace.0)).to_string())
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

/// The intents of some requests.
fn of_requests(columns: &'static str, requests: &[RequestId]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(columns);
    sql.push(" FROM record WHERE event = 'intent' AND request IN (");
    let mut ids = sql.separated(", ");
    for request in requests {
        ids.push_bind(request.to_string());
    }
    sql.push(")");
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

async fn insert(
    pool: &SqlitePool,
    epoch: u64,
    found: &[Found],
    origins: &mut Origins,
) -> Result<(), IndexError> {
    let mut transaction = pool.begin().await?;
    let mut facts: Vec<Facts> = found.iter().map(|found| facts(&found.record.event)).collect();
    origins.complete(&mut transaction, found, &mut facts).await?;
    let mut left = found;
    let mut facts = facts.into_iter();
    for (rows, sql) in ROWS.into_iter().zip(&*INSERTS) {
        while let Some((now, later)) = left.split_at_checked(rows) {
            let statement = now
                .iter()
                .zip(&mut facts)
                .fold(sqlx::query(sql.as_str()), |statement, (found, facts)| {
                    bind(statement, epoch, found, facts)
                });
            statement.execute(&mut *transaction).await?;
            left = later;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// Where requests were made that have no outcome yet.
#[derive(Default)]
struct Origins(HashMap<RequestId, Origin>);

impl Origins {
    /// Gives every outcome of a batch the origin of its request.
    async fn complete(
        &mut self,
        connection: &mut SqliteConnection,
        found: &[Found],
        facts: &mut [Facts],
    ) -> Result<(), IndexError> {
        let mut missing = Vec::new();
        for (found, facts) in found.iter().zip(facts.iter()) {
            match &found.record.event {
                Event::Intent(entry) => drop(self.0.insert(entry.request, facts.origin.clone())),
                Event::Outcome(outcome) if !self.0.contains_key(&outcome.request) => {
                    missing.push(outcome.request);
                }
                _ => {}
            }
        }
        for requests in missing.chunks(LOOK_UP) {
            self.look_up(connection, requests).await?;
        }
        for (found, facts) in found.iter().zip(facts) {
            if let Event::Outcome(outcome) = &found.record.event {
                facts.origin = self.0.remove(&outcome.request).unwrap_or_default();
            }
        }
        if self.0.len() > OPEN {
            self.0.clear();
        }
        Ok(())
    }

    /// Of requests that began before this index was opened, or that are too many to be kept.
    async fn look_up(
        &mut self,
        connection: &mut SqliteConnection,
        requests: &[RequestId],
    ) -> Result<(), IndexError> {
        let columns = "SELECT request, person, vo, vo_id, tool, task, resource";
        let rows = of_requests(columns, requests)
            .build()
            .persistent(false)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let text = |column: usize| row.try_get::<Option<String>, _>(column);
            let Some(request) = text(0)?.and_then(|request| request.parse().ok()) else {
                continue;
            };
            let origin = Origin {
                person: text(1)?.and_then(|person| person.parse().ok()),
                vo: text(2)?,
                vo_id: text(3)?,
                tool: text(4)?,
                task: text(5)?,
                resource: text(6)?,
            };
            self.0.insert(request, origin);
        }
        Ok(())
    }
}

/// What a record is found by.
#[derive(Default)]
struct Facts {
    origin: Origin,
    permit: Option<bool>,
    problem: Option<String>,
    status: Option<u16>,
    serial: Option<String>,
    source: Option<String>,
    trace: Option<TraceId>,
}

/// Whom a record concerns, and where.
#[derive(Clone, Default)]
struct Origin {
    person: Option<PersonId>,
    vo: Option<String>,
    vo_id: Option<String>,
    tool: Option<String>,
    task: Option<String>,
    resource: Option<String>,
}

type Statement = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

fn bind(statement: Statement, epoch: u64, found: &Found, facts: Facts) -> Statement {
    let record = &found.record;
    let origin = facts.origin;
    statement
        .bind(signed(epoch))
        .bind(signed(record.seq))
        .bind(signed(found.segment))
        .bind(signed(found.offset))
        .bind(record.time.0)
        .bind(record.event.name())
        .bind(record.event.request().map(|request| request.to_string()))
        .bind(origin.person.map(|person| person.to_string()))
        .bind(origin.vo)
        .bind(origin.vo_id)
        .bind(origin.tool)
        .bind(origin.task)
        .bind(origin.resource)
        .bind(facts.permit)
        .bind(facts.problem)
        .bind(facts.status)
        .bind(facts.serial)
        .bind(facts.source)
        .bind(facts.trace.map(|trace| trace.to_string()))
}

fn facts(event: &Event) -> Facts {
    let origin = origin(event);
    match event {
        Event::Intent(entry) => of_entry(entry, origin),
        Event::Refused(refused) => Facts {
            permit: Some(false),
            problem: Some(refused.problem.clone()),
            status: Some(refused.status),
            ..of_entry(&refused.entry, origin)
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
            origin,
            source: Some(login.source.clone()),
            ..Facts::default()
        },
        Event::Mint(mint) => Facts {
            origin,
            serial: Some(mint.serial.clone()),
            ..Facts::default()
        },
        Event::Trace(trace) => Facts {
            serial: trace.found.first().cloned(),
            ..Facts::default()
        },
        _ => Facts {
            origin,
            ..Facts::default()
        },
    }
}

fn of_entry(entry: &Entry, origin: Origin) -> Facts {
    Facts {
        origin,
        permit: entry.decision.as_ref().map(|decision| decision.permit),
        serial: entry
            .delegation
            .as_ref()
            .and_then(|delegation| delegation.serial.clone()),
        source: Some(entry.source.clone()),
        trace: entry.trace,
        ..Facts::default()
    }
}

/// What a record itself says of it; an outcome says nothing ([`Origins`]).
fn origin(event: &Event) -> Origin {
    match event {
        Event::Intent(entry) => origin_of(entry),
        Event::Refused(refused) => origin_of(&refused.entry),
        Event::Login(login) => Origin {
            person: login.person,
            ..Origin::default()
        },
        Event::SessionEnded(ended) => Origin {
            person: Some(ended.person),
            ..Origin::default()
        },
        Event::Change(change) => Origin {
            person: change.change.person,
            vo_id: Some(change.change.vo.to_string()),
            task: Some(change.change.action.clone()),
            resource: Some(format!("{}/{}", change.change.kind, change.change.target)),
            ..Origin::default()
        },
        Event::Mint(mint) => Origin {
            person: Some(mint.person),
            vo_id: Some(mint.vo.to_string()),
            tool: Some(mint.tool.clone()),
            ..Origin::default()
        },
        Event::Alert(alert) => Origin {
            person: Some(alert.person),
            vo_id: Some(alert.vo.to_string()),
            tool: alert.tool.clone(),
            task: Some(alert.task.clone()),
            ..Origin::default()
        },
        Event::OwnershipConflict(conflict) => Origin {
            person: conflict.owner,
            vo_id: Some(conflict.claimed.vo.to_string()),
            tool: Some(conflict.claimed.tool.clone()),
            resource: Some(format!("{}/{}", conflict.claimed.kind, conflict.claimed.id)),
            ..Origin::default()
        },
        _ => Origin::default(),
    }
}

fn origin_of(entry: &Entry) -> Origin {
    let resource = entry.resource.as_ref();
    Origin {
        person: entry.subject.person,
        vo: entry.place.vo.clone(),
        vo_id: entry.place.vo_id.map(|id| id.to_string()),
        tool: entry.place.tool.clone(),
        task: entry.place.task.clone(),
        resource: resource.map(|resource| format!("{}/{}", resource.kind, resource.id)),
    }
}

/// SQLite's integers are signed; no log grows past 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
