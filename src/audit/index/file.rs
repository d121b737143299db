//! The index's file: whole blocks, and what they can be found by.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{QueryBuilder, Sqlite};

use super::block::{self, Block, Place, Wanted};
use super::facts::Origin;
use super::{IndexError, Position, Query};
use crate::audit::dropped::Dropped;
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::TraceId;

/// Version of the tables; another one is rebuilt.
const SCHEMA: i64 = 5;
/// Blocks that are fetched at once.
const BLOCKS: i64 = 8;
/// Keys that go into one statement.
const KEYS: usize = 256;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS block (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
        oldest INTEGER NOT NULL, newest INTEGER NOT NULL, UNIQUE (epoch, first)
    );
    CREATE TABLE IF NOT EXISTS content (block INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS block_key (key INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (key, block))
        WITHOUT ROWID;
    PRAGMA user_version = 5;";

/// The file.
#[derive(Debug)]
pub(super) struct File(SqlitePool);

impl File {
    /// Opens it; one that is damaged or of another version is made anew.
    pub(super) async fn open(path: &Path) -> Result<Self, IndexError> {
        match connect(path).await {
            Ok(pool) => Ok(Self(pool)),
            Err(error) => {
                tracing::warn!("the audit index is built anew: {error}");
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    match tokio::fs::remove_file(&name).await {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(sqlx::Error::Io(error).into());
                        }
                        _ => {}
                    }
                }
                Ok(Self(connect(path).await?))
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub(super) async fn close(&self) {
        self.0.close().await;
    }

    /// Adds a block. One without records is left out.
    pub(super) async fn save(&self, block: &Block) -> Result<(), IndexError> {
        if block.len() == 0 {
            return Ok(());
        }
        let (oldest, newest) = block.times();
        let mut transaction = self.0.begin().await?;
        let (id,): (i64,) = sqlx::query_as(
            "INSERT INTO block (epoch, first, count, oldest, newest) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(signed(block.epoch))
        .bind(signed(block.first))
        .bind(signed(block.len()))
        .bind(oldest.0)
        .bind(newest.0)
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query("INSERT INTO content (block, bytes) VALUES ($1, $2)")
            .bind(id)
            .bind(block.encode())
            .execute(&mut *transaction)
            .await?;
        let keys: Vec<i64> = block.keys().into_iter().collect();
        for keys in keys.chunks(KEYS) {
            QueryBuilder::new("INSERT OR IGNORE INTO block_key (key, block) ")
                .push_values(keys, |mut row, key| {
                    row.push_bind(*key).push_bind(id);
                })
                .build()
                .persistent(false)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The last block of an epoch, position of the first record of that epoch, and how many there are.
    pub(super) async fn last(&self, epoch: u64) -> Result<Option<(Block, u64, u64)>, IndexError> {
        let last: Option<(i64, i64, i64, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT block.epoch, first, (SELECT MIN(first) FROM block WHERE epoch = $1),
                    (SELECT SUM(count) FROM block WHERE epoch = $1), bytes
             FROM block JOIN content ON content.block = block.id WHERE block.epoch = $1 ORDER BY first DESC LIMIT 1",
        )
        .bind(signed(epoch))
        .fetch_optional(&self.0)
        .await?;
        let Some((epoch, first, from, count, bytes)) = last else {
            return Ok(None);
        };
        Ok(Some((
            read((epoch, first, bytes))?,
            unsigned(from),
            unsigned(count),
        )))
    }

    /// Removes an epoch.
    pub(super) async fn forget(&self, epoch: u64) -> Result<(), IndexError> {
        let mut transaction = self.0.begin().await?;
        for statement in [
            "DELETE FROM block_key WHERE block IN (SELECT id FROM block WHERE epoch = $1)",
            "DELETE FROM content WHERE block IN (SELECT id FROM block WHERE epoch = $1)",
            "DELETE FROM block WHERE epoch = $1",
        ] {
            sqlx::query(statement)
                .bind(signed(epoch))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Removes the blocks of which every record was dropped.
    pub(super) async fn forget_dropped(&self, dropped: &Dropped) -> Result<(), IndexError> {
        const GONE: &str = "SELECT id FROM block WHERE epoch <= $1 OR (epoch = $2 AND first + count <= $3)";
        let mut transaction = self.0.begin().await?;
        for statement in [
            format!("DELETE FROM block_key WHERE block IN ({GONE})"),
            format!("DELETE FROM content WHERE block IN ({GONE})"),
            format!("DELETE FROM block WHERE id IN ({GONE})"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(signed(dropped.epochs))
                .bind(signed(dropped.epoch))
                .bind(signed(dropped.records()))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Adds the places of records that are wanted and stand before `before`, until there are `most`, in the order that the
    /// search asks for.
    pub(super) async fn find(
        &self,
        wanted: &Wanted<'_>,
        before: Position,
        most: usize,
        places: &mut Vec<Place>,
    ) -> Result<(), IndexError> {
        let condition = of(wanted);
        let mut within = Within {
            before,
            onward: wanted.query.onward,
        };
        while places.len() < most {
            let rows = self.rows(&condition, within).await?;
            let Some(next) = scan(rows, wanted, most, places).await? else {
                return Ok(());
            };
            match &mut within.onward {
                Some(onward) => onward.clone_from(&next.1),
                None => within.before = next.0,
            }
        }
        Ok(())
    }

    /// The requests that belong to `trace`.
    pub(super) async fn traced(&self, trace: TraceId) -> Result<BTreeSet<RequestId>, IndexError> {
        let condition = Condition {
            keys: vec![vec![block::key_of_trace(trace)]],
            ..Condition::default()
        };
        let mut requests = BTreeSet::new();
        let mut before = LAST;
        loop {
            let blocks = self.blocks(&condition, before).await?;
            let Some(last) = blocks.last() else {
                return Ok(requests);
            };
            before = Position {
                epoch: last.epoch,
                seq: last.first,
            };
            requests.extend(blocks.iter().flat_map(|block| block.traced(trace)));
        }
    }

    /// What the intent of `request` says of it.
    pub(super) async fn origin(&self, request: RequestId) -> Result<Option<Origin>, IndexError> {
        let requests = BTreeSet::from([request]);
        let condition = of(&Wanted {
            query: &Query::default(),
            requests: Some(&requests),
        });
        let mut before = LAST;
        loop {
            let blocks = self.blocks(&condition, before).await?;
            if let Some(origin) = blocks.iter().find_map(|block| block.origin(request)) {
                return Ok(Some(origin));
            }
            let Some(last) = blocks.last() else {
                return Ok(None);
            };
            before = Position {
                epoch: last.epoch,
                seq: last.first,
            };
        }
    }

    /// Some blocks that begin before `before`, newest first.
    async fn blocks(&self, condition: &Condition, before: Position) -> Result<Vec<Block>, IndexError> {
        let within = Within { before, onward: None };
        let rows = self.rows(condition, within).await?;
        rows.into_iter().map(read).collect()
    }

    async fn rows(&self, condition: &Condition, within: Within) -> Result<Vec<Bytes>, IndexError> {
        let mut sql = condition.select(within);
        let rows = sql.build_query_as().persistent(false).fetch_all(&self.0);
        Ok(rows.await?)
    }
}

/// A block as the file has it: epoch, position of the first record, content.
type Bytes = (i64, i64, Vec<u8>);

/// Which blocks are looked at: those that begin before a position, newest first; or those that do not end before one, oldest
/// first.
#[derive(Clone, Copy, Debug)]
struct Within {
    before: Position,
    onward: Option<Position>,
}

/// Looks through blocks. Gives where the last of them begins, and where it ends.
///
/// To decode a block takes a while, and a search that finds nothing decodes all: others run in between.
async fn scan(
    rows: Vec<Bytes>,
    wanted: &Wanted<'_>,
    most: usize,
    places: &mut Vec<Place>,
) -> Result<Option<(Position, Position)>, IndexError> {
    let mut last = None;
    for row in rows {
        let block = read(row)?;
        block.find_some(wanted, most, places);
        let at = |seq| Position {
            epoch: block.epoch,
            seq,
        };
        last = Some((at(block.first), at(block.end())));
        tokio::task::yield_now().await;
    }
    Ok(last)
}

/// Behind every record.
const LAST: Position = Position {
    epoch: u64::MAX,
    seq: u64::MAX,
};

/// In which blocks something can be.
#[derive(Debug, Default)]
struct Condition {
    /// A block has one key of each.
    keys: Vec<Vec<i64>>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    requests: Option<Requests>,
}

/// Where records of some requests can be: a block has one of the keys, or touches one of the spans of time.
#[derive(Debug)]
struct Requests {
    keys: Vec<i64>,
    spans: Vec<(Timestamp, Timestamp)>,
}

/// In which blocks a search can find something.
fn of(wanted: &Wanted<'_>) -> Condition {
    let (mut from, to) = (wanted.query.from, wanted.query.to);
    let few = wanted
        .requests
        .filter(|requests| requests.len() <= super::LOOK_UP);
    if let Some(requests) = wanted.requests.filter(|_| few.is_none()) {
        // A statement has no room for so many: whatever is not older than the first of them is looked at.
        let began: Option<Vec<_>> = requests.iter().map(|request| block::span(*request)).collect();
        let first = began.and_then(|spans| spans.into_iter().map(|(from, _)| from).min());
        from = from.max(first);
    }
    let requests = few.map(|requests| {
        let keys = requests.iter().map(|request| block::key_of_request(*request));
        let mut spans: Vec<_> = requests
            .iter()
            .filter_map(|request| block::span(*request))
            .collect();
        spans.sort_unstable();
        Requests {
            keys: keys.collect(),
            spans: joined(spans),
        }
    });
    Condition {
        keys: wanted.keys(),
        from,
        to,
        requests,
    }
}

/// Sorted spans, those that overlap made one.
fn joined(spans: Vec<(Timestamp, Timestamp)>) -> Vec<(Timestamp, Timestamp)> {
    let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    joined
}

impl Condition {
    fn select(&self, Within { before, onward }: Within) -> QueryBuilder<Sqlite> {
        let mut sql = QueryBuilder::new(
            "SELECT epoch, first, bytes FROM block JOIN content ON content.block = block.id WHERE (epoch, first) < (",
        );
        sql.push_bind(signed(before.epoch)).push(", ");
        sql.push_bind(signed(before.seq)).push(")");
        if let Some(onward) = onward {
            sql.push(" AND (epoch, first + count) > (")
                .push_bind(signed(onward.epoch));
            sql.push(", ").push_bind(signed(onward.seq)).push(")");
        }
        if let Some(from) = self.from {
            sql.push(" AND newest >= ").push_bind(from.0);
        }
        if let Some(to) = self.to {
            sql.push(" AND oldest < ").push_bind(to.0);
        }
        for keys in &self.keys {
            sql.push(" AND ");
            has_key(&mut sql, keys);
        }
        if let Some(Requests { keys, spans }) = &self.requests {
            sql.push(" AND (");
            has_key(&mut sql, keys);
            for (from, to) in spans {
                sql.push(" OR newest >= ").push_bind(from.0);
                sql.push(" AND oldest <= ").push_bind(to.0);
            }
            sql.push(")");
        }
        sql.push(match onward {
            Some(_) => " ORDER BY epoch, first LIMIT ",
            None => " ORDER BY epoch DESC, first DESC LIMIT ",
        })
        .push_bind(BLOCKS);
        sql
    }
}

fn has_key(sql: &mut QueryBuilder<Sqlite>, keys: &[i64]) {
    sql.push("EXISTS (SELECT 1 FROM block_key WHERE block_key.block = block.id AND key IN (");
    let mut list = sql.separated(", ");
    for key in keys {
        list.push_bind(*key);
    }
    sql.push("))");
}

fn read((epoch, first, bytes): Bytes) -> Result<Block, IndexError> {
    let (epoch, first) = (unsigned(epoch), unsigned(first));
    Block::decode(epoch, first, &bytes).ok_or(IndexError::Damaged)
}

async fn connect(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    // Losing the end of it in a crash costs nothing: it is indexed again.
    let options = SqliteConnectOptions::new()
        .filename(path)
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

/// SQLite's integers are signed; no log grows past 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::super::facts::Facts;
    use super::*;

    #[test]
    fn a_search_that_finds_nothing_lets_others_run_after_each_block() {
        let block = |first: u64| {
            let mut block = Block::new(1, first);
            for at in 0..block::ROWS as u64 {
                block.push((0, at, Timestamp(0)), &Facts::default());
            }
            (1, signed(first), block.encode())
        };
        let blocks = 5;
        let rows: Vec<Bytes> = (0..blocks).map(|at| block(at * block::ROWS as u64)).collect();
        let query = Query {
            resource: Some("job/7".into()),
            ..Query::default()
        };
        let wanted = Wanted {
            query: &query,
            requests: None,
        };
        let mut places = Vec::new();
        let mut scanned = Box::pin(scan(rows, &wanted, 10, &mut places));
        let mut context = Context::from_waker(Waker::noop());
        let mut pauses = 0;
        while scanned.as_mut().poll(&mut context).is_pending() {
            pauses += 1;
        }
        assert_eq!(pauses, blocks);
        drop(scanned);
        assert!(places.is_empty());
    }
}
