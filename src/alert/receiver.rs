//! Mails to the gateway's administrators about receivers of the audit log that do not keep up.

use std::sync::{Arc, PoisonError};

use super::episode::take_turn;
use super::mail;
use super::{Alert, AlertError, Inner, Letter};
use crate::audit::syslog::Receiver;
use crate::vo::Directory;

/// Kind of these mails in the outbox.
const RECEIVER: &str = "receiver";
/// Most of them in an hour, for a receiver that comes and goes.
const PER_HOUR: usize = 4;

impl Alert {
    /// Tells the gateway's administrators which receivers fell behind, and which have caught up again.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails; the next call tells them.
    pub async fn receivers(&self, receivers: &[Arc<Receiver>]) -> Result<(), AlertError> {
        for receiver in receivers {
            let (name, late) = (receiver.name(), receiver.is_late());
            // Caught up is who has nothing left, not who is just within the bound.
            let told = self.known_late(name);
            if late == told || (told && !receiver.has_all()) {
                continue;
            }
            if late {
                tracing::warn!(
                    "the syslog receiver `{name}` is {} s behind the log",
                    receiver.lag().as_secs()
                );
            }
            if self.0.mail_receiver(name, late).await? {
                let mut known = self.0.late.lock().unwrap_or_else(PoisonError::into_inner);
                match late {
                    true => known.insert(name.to_owned()),
                    false => known.remove(name),
                };
            }
        }
        Ok(())
    }

    fn known_late(&self, name: &str) -> bool {
        let known = self.0.late.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(name)
    }
}

impl Inner {
    /// False when there were so many such mails that this one waits.
    async fn mail_receiver(&self, name: &str, late: bool) -> Result<bool, AlertError> {
        let (gateway, now) = (Directory::gateway(), self.ids.clock().now());
        let to = self.system_administrators(now).await?;
        let (subject, body) = mail::receiver(name, late, now);
        let mut tx = self.db.begin_write().await?;
        take_turn(&mut tx, gateway).await?;
        if self.mails_within(&mut tx, gateway, RECEIVER, now).await? >= PER_HOUR {
            return Ok(false);
        }
        self.post(&mut tx, gateway, RECEIVER, &Letter { to, subject, body })
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}
