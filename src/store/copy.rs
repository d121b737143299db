//! A copy of the embedded store, taken while it is in use.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::StoreError;

/// Copies the SQLite store `file` to the new file `to`: one state of it, without what was deleted. Nobody waits meanwhile.
///
/// # Errors
/// [`StoreError::Open`] when there is no such store, or when the copy cannot be written.
pub async fn copy(file: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::Open(format!("`{}` cannot be copied: {error}", file.display()))
    };
    let target = to
        .to_str()
        .ok_or_else(|| failed(&"the name of the copy is not UTF-8"))?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(30));
    let mut connection = options.connect().await.map_err(|error| failed(&error))?;
    let copied = sqlx::query("VACUUM INTO $1")
        .bind(target)
        .execute(&mut connection)
        .await;
    copied.map_err(|error| failed(&error))?;
    connection.close().await.map_err(|error| failed(&error))?;
    File::open(to)
        .and_then(|copy| copy.sync_all())
        .map_err(|error| failed(&error))
}
