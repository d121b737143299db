//! After a restore: whatever let somebody in when the backup was made lets nobody in any more.

use crate::clock::Timestamp;
use crate::store::{Db, StoreError, run};

/// What was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct AllEnded {
    /// Sessions, those of the command line included.
    pub sessions: u64,
    /// One-time passwords that nobody had used.
    pub one_time_passwords: u64,
    /// Recovery codes that nobody had used.
    pub recovery_codes: u64,
}

/// Ends every session, every one-time password and every recovery code.
///
/// # Errors
/// [`StoreError`]; then nothing has changed.
pub async fn end_all(db: &Db, at: Timestamp) -> Result<AllEnded, StoreError> {
    let mut tx = db.begin_write().await?;
    let sessions = run!(
        &mut tx,
        "UPDATE session SET ended_at = $1, end_reason = 'restored', version = version + 1 WHERE ended_at IS NULL",
        at.micros()
    )?;
    // SECURITY: one that was used after the backup was made would be good once more.
    let one_time_passwords = run!(
        &mut tx,
        "UPDATE password SET expires_at = $1, version = version + 1
         WHERE one_time AND used_at IS NULL AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > $1)",
        at.micros()
    )?;
    let recovery_codes = run!(
        &mut tx,
        "UPDATE recovery_code SET ended_at = $1, version = version + 1 WHERE used_at IS NULL AND ended_at IS NULL",
        at.micros()
    )?;
    tx.commit().await?;
    Ok(AllEnded {
        sessions,
        one_time_passwords,
        recovery_codes,
    })
}
