//! The auditor's daily mail: the log's newest checkpoint leaves the machine, so that whoever owns the machine cannot
//! rebuild what came before it unseen.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{AlertError, Inner, Letter};
use crate::clock::Timestamp;
use crate::store::rows;
use crate::vo::Directory;

/// Kind of these mails in the outbox.
const CHECKPOINT: &str = "checkpoint";
/// One in this time.
const DAY: Duration = Duration::from_secs(86_400);

impl Inner {
    /// Puts the day's checkpoint into the outbox when none was for a day.
    pub(super) async fn mail_checkpoint(&self, now: Timestamp, checkpoint: &str) -> Result<(), AlertError> {
        let Some(auditor) = &self.config.auditor else {
            return Ok(());
        };
        if checkpoint.is_empty() || now.micros() < self.checkpoint_due.load(Ordering::Relaxed) {
            return Ok(());
        }
        let newest = rows!(
            &self.db,
            (i64,),
            "SELECT at FROM mail WHERE kind = 'checkpoint' ORDER BY at DESC LIMIT 1"
        )?;
        let due = newest.first().map_or(now, |(at,)| Timestamp(*at).plus(DAY));
        if now >= due {
            let letter = Letter {
                to: vec![auditor.clone()],
                subject: "[Countersign] checkpoint of the audit log".to_owned(),
                body: format!(
                    "This is the signed head of the audit log. Keep it where the gateway's owner cannot change it:\n\
                     nothing that it covers can be changed, taken away or rebuilt unseen.\n\n{checkpoint}\n\
                     To verify a log against it, save the lines above as FILE:\n\
                     countersign audit verify --data DIR --key PUB --checkpoint FILE\n"
                ),
            };
            let mut tx = self.db.begin_write().await?;
            self.post(&mut tx, Directory::gateway(), CHECKPOINT, &letter)
                .await?;
            tx.commit().await?;
        }
        let next = if now >= due { now.plus(DAY) } else { due };
        self.checkpoint_due.store(next.micros(), Ordering::Relaxed);
        Ok(())
    }
}
