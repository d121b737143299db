//! What was deleted is gone from the disk, too.

use super::{Db, StoreError};

impl Db {
    /// Rebuilds the store without anything that was deleted, its journal included. Changes wait meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Driver`]; then traces of what was deleted may still lie in the store's files.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                sqlx::query("VACUUM").execute(&mut *connection).await?;
                // Pages as they were before lie in the journal until it is cut off.
                let (busy, ..): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
                    .fetch_one(&mut *connection)
                    .await?;
                if busy != 0 {
                    let what = "the journal is in use, it cannot be cut off now";
                    return Err(StoreError::Inconsistent(what.into()));
                }
                Ok(())
            }
            Self::Postgres(pool) => {
                for vacuum in [
                    "VACUUM card",
                    "VACUUM person",
                    "VACUUM password",
                    "VACUUM login_count",
                    "VACUUM person_certificate",
                    "VACUUM mail",
                    "VACUUM delivery",
                ] {
                    sqlx::query(vacuum).execute(pool).await?;
                }
                Ok(())
            }
        }
    }
}
