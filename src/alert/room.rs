//! Mails to the gateway's administrators about the room that the audit log has.

use std::sync::PoisonError;

use super::episode::take_turn;
use super::mail;
use super::{Alert, AlertError, Inner, Letter};
use crate::audit::Space;
use crate::vo::Directory;

/// Kind of these mails in the outbox.
const ROOM: &str = "room";
/// Most of them in an hour, for a disk that is filled and emptied again and again.
const PER_HOUR: usize = 4;

impl Alert {
    /// Tells the gateway's administrators when the log's room is another than they were told last. `checkpoint` is the
    /// present signed head of the log, as text.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails; the next call tells them.
    pub async fn room(&self, space: Space, checkpoint: &str) -> Result<(), AlertError> {
        let told = *self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        if space == told || !self.0.mail_room(space, checkpoint).await? {
            return Ok(());
        }
        *self.0.room.lock().unwrap_or_else(PoisonError::into_inner) = space;
        Ok(())
    }
}

impl Inner {
    /// False when there were so many such mails that this one waits.
    async fn mail_room(&self, space: Space, checkpoint: &str) -> Result<bool, AlertError> {
        let (gateway, now) = (Directory::gateway(), self.ids.clock().now());
        let to = self.system_administrators(now).await?;
        let (subject, body) = mail::room(space, now, checkpoint);
        let mut tx = self.db.begin_write().await?;
        take_turn(&mut tx, gateway).await?;
        if self.mails_within(&mut tx, gateway, ROOM, now).await? >= PER_HOUR {
            return Ok(false);
        }
        self.post(&mut tx, gateway, ROOM, &Letter { to, subject, body })
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}
