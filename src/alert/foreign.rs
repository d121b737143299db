//! Mails to the gateway's administrators about an authorisation state that was changed past the gateway.

use super::episode::take_turn;
use super::{Alert, AlertError, Letter, mail};
use crate::record::StateForeignChange;
use crate::vo::Directory;

/// Kind of these mails in the outbox.
const FOREIGN: &str = "foreign_change";
/// Most of them in an hour, for whoever writes into the store again and again. The log has them all.
const PER_HOUR: usize = 20;

impl Alert {
    /// Tells the gateway's administrators of a foreign change of `level`. `checkpoint` is the present signed head of the log,
    /// as text.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails.
    pub async fn foreign_change(
        &self,
        level: &str,
        said: &StateForeignChange,
        checkpoint: &str,
    ) -> Result<(), AlertError> {
        let (gateway, now) = (Directory::gateway(), self.0.ids.clock().now());
        let mut to = self.0.system_administrators(now).await?;
        if to.is_empty() {
            // Where the gateway's own level is in doubt, nobody is known to be an administrator; the settings name somebody.
            to.extend(self.0.config.auditor.clone());
        }
        let (subject, body) = mail::foreign_change(level, said, now, checkpoint);
        let mut tx = self.0.db.begin_write().await?;
        take_turn(&mut tx, gateway).await?;
        if self.0.mails_within(&mut tx, gateway, FOREIGN, now).await? < PER_HOUR {
            self.0
                .post(&mut tx, gateway, FOREIGN, &Letter { to, subject, body })
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
