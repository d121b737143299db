//! Mails about proxies of jobs that are not renewed.

use super::episode::take_turn;
use super::{Alert, AlertError, Letter};
use crate::clock::Timestamp;
use crate::id::{RequestId, VoId};

/// Kind of these mails in the outbox.
const LENT: &str = "renewal";
/// Most of them in an hour and VO. The log has them all.
const PER_HOUR: usize = 20;

/// A proxy of somebody's jobs that was not renewed.
#[derive(Clone, Debug)]
pub struct NotRenewed<'a> {
    /// Name of the VO.
    pub vo_name: &'a str,
    /// User name of the owner.
    pub username: &'a str,
    /// The tool that keeps it.
    pub tool: &'a str,
    /// The tool's own id of it.
    pub delegation: &'a str,
    /// Why.
    pub why: &'a str,
    /// When it ends.
    pub not_after: Timestamp,
    /// The request that was refused.
    pub request: RequestId,
}

impl Alert {
    /// Tells the administrators of the VO.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn not_renewed(&self, vo: VoId, told: &NotRenewed<'_>) -> Result<(), AlertError> {
        let now = self.0.ids.clock().now();
        let to = self.0.administrators(vo, now).await?;
        if to.is_empty() {
            return Ok(());
        }
        let mut tx = self.0.db.begin_write().await?;
        take_turn(&mut tx, vo).await?;
        if self.0.mails_within(&mut tx, vo, LENT, now).await? < PER_HOUR {
            self.0.post(&mut tx, vo, LENT, &told.letter(to)).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

impl NotRenewed<'_> {
    fn letter(&self, to: Vec<String>) -> Letter {
        let Self {
            vo_name,
            username,
            tool,
            delegation,
            why,
            not_after,
            request,
        } = self;
        Letter {
            to,
            subject: format!(
                "[Countersign] {vo_name}: the proxy of `{username}`'s jobs at `{tool}` is not renewed"
            ),
            body: format!(
                "Jobs that live by it fail when it ends, unless it is renewed before.\n\n\
                 Account:    {username}\nTool:       {tool}\nDelegation: {delegation}\nWhy:        {why}\nEnds:       {not_after}\n\
                 Request:    {request}\n\nThe record:\n  countersign explain {request}\n"
            ),
        }
    }
}
