//! The SQL store: one set of queries on two engines.
//!
//! [`Db`] is SQLite (embedded, `synchronous=FULL`) or PostgreSQL. A capability writes one portable SQL text (`$1`,
//! `RETURNING`, `ON CONFLICT`; integers, text, bytes, bool, uuid), and the macros `rows!`, `row!` and `run!`
//! expand it for each pool. Whatever differs between the engines has a name here, and nowhere else.
//!
//! The audit log leads and the store follows: a change of state is recorded first, then committed together with a row
//! in `applied`, so that recovery can look which of the two happened ([`Tx::applied`]).

mod copy;
mod migrations;
mod scrub;
#[cfg(test)]
pub(crate) mod tests_support;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};

pub use copy::copy;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The driver or the database failed.
    #[error("the store failed")]
    Driver(#[source] sqlx::Error),
    /// A unique name or id is taken already.
    #[error("something with this name is there already")]
    Taken,
    /// Somebody else changed the same rows meanwhile.
    #[error("something else changed the same at the same time")]
    Overtaken,
    /// The data is not what the program wrote.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
    /// The store's address or file cannot be used.
    #[error("the store cannot be opened: {0}")]
    Open(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Taken,
            // PostgreSQL's serialisation failure.
            sqlx::Error::Database(database) if database.code().as_deref() == Some("40001") => Self::Overtaken,
            _ => Self::Driver(error),
        }
    }
}

const OVERTAKEN: &str = "something else changed the same at the same time; try again";

/// Whether the problem is that of [`StoreError::Overtaken`]: the same, begun anew, may well be done.
#[must_use]
pub fn is_overtaken(problem: &Problem) -> bool {
    problem.kind == Kind::Conflict && problem.detail == OVERTAKEN
}

impl AsProblem for StoreError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Taken => Problem::new(Kind::Conflict, "something with this name is there already"),
            Self::Overtaken => Problem::new(Kind::Conflict, OVERTAKEN),
            Self::Driver(_) | Self::Open(_) => {
                Problem::new(Kind::StoreUnavailable, "the store does not answer").retry_after(1)
            }
            Self::Inconsistent(_) => Problem::new(Kind::Internal, "the store is inconsistent"),
        }
    }
}

/// The store's pools.
#[derive(Clone, Debug)]
pub enum Db {
    /// Embedded SQLite.
    Sqlite(SqlitePool),
    /// A PostgreSQL server.
    Postgres(PgPool),
}

/// One transaction. Dropped without [`Tx::commit`], it changes nothing.
pub enum Tx {
    /// On SQLite.
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    /// On PostgreSQL.
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// All rows of a query: `rows!(db, (i64, String), "SELECT ... WHERE id = $1", id)`. `db` is a `&Db`.
macro_rules! rows {
    ($db:expr, $row:ty, $sql:literal $(, $bind:expr)* $(,)?) => {
        match $db {
            $crate::store::Db::Sqlite(pool) => sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_all(pool).await,
            $crate::store::Db::Postgres(pool) => sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_all(pool).await,
        }.map_err($crate::store::StoreError::from)
    };
}

/// At most one row of a query, as an `Option`. `db` is a `&Db`.
macro_rules! row {
    ($db:expr, $row:ty, $sql:literal $(, $bind:expr)* $(,)?) => {
        match $db {
            $crate::store::Db::Sqlite(pool) => sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_optional(pool).await,
            $crate::store::Db::Postgres(pool) => sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_optional(pool).await,
        }.map_err($crate::store::StoreError::from)
    };
}

/// Runs a statement inside a transaction and gives the number of rows it changed. `tx` is a `&mut Tx`.
macro_rules! run {
    ($tx:expr, $sql:literal $(, $bind:expr)* $(,)?) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*.execute(&mut **tx).await.map(|done| done.rows_affected()),
            $crate::store::Tx::Postgres(tx) => sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.execute(&mut **tx).await.map(|done| done.rows_affected()),
        }.map_err($crate::store::StoreError::from)
    };
}

/// All rows of a query inside a transaction. `tx` is a `&mut Tx`.
macro_rules! tx_rows {
    ($tx:expr, $row:ty, $sql:literal $(, $bind:expr)* $(,)?) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_all(&mut **tx).await,
            $crate::store::Tx::Postgres(tx) => sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_all(&mut **tx).await,
        }.map_err($crate::store::StoreError::from)
    };
}

pub(crate) use {row, rows, run, tx_rows};

impl Db {
    /// Opens (and makes, if need be) an SQLite file and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be opened or its tables are newer than this program.
    pub async fn sqlite(file: &Path) -> Result<Self, StoreError> {
        let options = sqlite_options(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = sqlite_pool(options).await?;
        migrations::sqlite()
            .run(&pool)
            .await
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self::Sqlite(pool))
    }

    /// Opens an SQLite file to be read only, as it is.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn look_sqlite(file: &Path) -> Result<Self, StoreError> {
        let beside = |end: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(end);
            Path::new(&name).exists()
        };
        // A reader, too, makes the files of the journal, unless it is told that nobody writes.
        let at_rest = !beside("-wal") && !beside("-shm");
        let options = sqlite_options(file).read_only(true).immutable(at_rest);
        Ok(Self::Sqlite(sqlite_pool(options).await?))
    }

    /// Connects to PostgreSQL by URL (`postgres://...`) and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the URL is wrong, the server does not answer, or its tables are newer.
    pub async fn postgres(url: &str) -> Result<Self, StoreError> {
        let pool = postgres_pool(postgres_options(url)?).await?;
        migrations::postgres()
            .run(&pool)
            .await
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self::Postgres(pool))
    }

    /// Connects to PostgreSQL to read only, as it is.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the URL is wrong or the server does not answer.
    pub async fn look_postgres(url: &str) -> Result<Self, StoreError> {
        let options = postgres_options(url)?.options([("default_transaction_read_only", "on")]);
        Ok(Self::Postgres(postgres_pool(options).await?))
    }

    /// Starts a transaction that will write (on SQLite it takes the write lock at once).
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn begin_write(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(pool) => Ok(Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?)),
            Self::Postgres(pool) => Ok(Tx::Postgres(pool.begin().await?)),
        }
    }

    /// Starts a transaction that will write, and that sees everything as it was at one moment.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn begin_whole(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(_) => self.begin_write().await,
            Self::Postgres(pool) => Ok(Tx::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?,
            )),
        }
    }

    /// Starts a transaction that reads, all of it as it was at one moment.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn begin_read(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(pool) => Ok(Tx::Sqlite(pool.begin().await?)),
            Self::Postgres(pool) => Ok(Tx::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?,
            )),
        }
    }

    /// Whether the change of state that `request` made was committed.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn was_applied(&self, request: RequestId) -> Result<bool, StoreError> {
        let found = row!(
            self,
            (i64,),
            "SELECT at FROM applied WHERE request = $1",
            request.uuid()
        )?;
        Ok(found.is_some())
    }

    /// Whether any change of state was ever applied.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn has_history(&self) -> Result<bool, StoreError> {
        row!(self, (i64,), "SELECT at FROM applied LIMIT 1").map(|found| found.is_some())
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn answers(&self) -> Result<(), StoreError> {
        row!(self, (i64,), "SELECT CAST(1 AS BIGINT)").map(|_| ())
    }

    /// Closes the pools.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

fn sqlite_options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
}

async fn sqlite_pool(options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options)
        .await
        .map_err(|error| StoreError::Open(error.to_string()))
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Open("the address must be a postgres:// URL".into()))
}

async fn postgres_pool(options: PgConnectOptions) -> Result<PgPool, StoreError> {
    PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options)
        .await
        .map_err(|error| StoreError::Open(error.to_string()))
}

impl Tx {
    /// Marks `request` as applied; commits together with everything else of this transaction.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the request was applied before: it is never applied twice.
    pub async fn applied(&mut self, request: RequestId, at: Timestamp) -> Result<(), StoreError> {
        run!(
            self,
            "INSERT INTO applied (request, at) VALUES ($1, $2)",
            request.uuid(),
            at.micros()
        )
        .map(|_| ())
    }

    /// Commits.
    ///
    /// # Errors
    /// [`StoreError::Driver`]: then it is not known whether the commit happened; look with [`Db::was_applied`].
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(StoreError::from)
    }
}
