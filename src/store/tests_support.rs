//! Databases for the tests of every capability's store: the same test body runs on both engines.

use super::Db;
use crate::id::{Random, SystemSource};

/// A database of its own on the PostgreSQL server that `COUNTERSIGN_TEST_POSTGRES` names.
pub(crate) struct Postgres {
    pub(crate) db: Db,
    server: sqlx::PgPool,
    name: String,
}

/// An SQLite store in a folder that goes when the second value is dropped.
pub(crate) async fn sqlite() -> (Db, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
    (db, folder)
}

impl Postgres {
    pub(crate) async fn new() -> Self {
        let Ok(url) = std::env::var("COUNTERSIGN_TEST_POSTGRES") else {
            panic!("start one with `tests/peers/postgres up` and set COUNTERSIGN_TEST_POSTGRES to its URL");
        };
        let mut random = [0; 8];
        SystemSource::new().fill(&mut random).unwrap();
        let name = format!("test_{}", crate::body::hex(&random));
        let server = sqlx::PgPool::connect(&url).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&server).await.unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        let db = Db::postgres(&format!("{base}/{name}")).await.unwrap();
        Self { db, server, name }
    }

    pub(crate) async fn end(self) {
        self.db.close().await;
        let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {}", self.name));
        sqlx::query(drop).execute(&self.server).await.unwrap();
    }
}
