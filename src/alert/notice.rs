//! Notices: what happened to an account, and traces, as mails to whom it concerns.

use super::{Alert, AlertError, Letter};
use crate::id::{PersonId, RequestId, VoId};
use crate::store::Tx;

/// Kind of these mails in the outbox.
const NOTICE: &str = "notice";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An account was stopped.
    Suspended,
    /// An account was let in again.
    Resumed,
    /// A proxy of this person was traced.
    Traced,
}

/// Something that happened, and to whom. The person's own address is told of her account; she is not told of a trace.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// What.
    pub happened: Happened,
    /// To whom.
    pub person: PersonId,
    /// User name.
    pub username: &'a str,
    /// Who did it.
    pub by: PersonId,
    /// User name.
    pub by_username: &'a str,
    /// Name of the VO in which it was done.
    pub vo_name: &'a str,
    /// The request.
    pub request: RequestId,
}

impl Alert {
    /// Puts the mails of a notice into the outbox, together with whatever else the transaction does: one to the person
    /// whose account it is, and one to each administrator of the VO.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify(&self, tx: &mut Tx, vo: VoId, notice: &Notice<'_>) -> Result<(), AlertError> {
        let alert = &self.0;
        let known = alert.vos.mail_of(&[notice.person, notice.by]).await?;
        let own = known.get(&notice.person);
        let mut administrators = alert.administrators(vo, alert.ids.clock().now()).await?;
        // Nobody is told twice, and nobody what she did herself in a trace.
        let left_out = match notice.happened {
            Happened::Suspended | Happened::Resumed => own,
            Happened::Traced => known.get(&notice.by),
        };
        administrators.retain(|address| Some(address) != left_out);
        if let Some(own) = own.filter(|_| notice.happened != Happened::Traced) {
            let letter = notice.letter(vec![own.clone()]);
            alert.post(tx, vo, NOTICE, &letter).await?;
        }
        if !administrators.is_empty() {
            let letter = notice.letter(administrators);
            alert.post(tx, vo, NOTICE, &letter).await?;
        }
        Ok(())
    }
}

impl Notice<'_> {
    fn letter(&self, to: Vec<String>) -> Letter {
        let (username, vo) = (self.username, self.vo_name);
        let (subject, text) = match self.happened {
            Happened::Suspended => (
                format!("{vo}: the account `{username}` was suspended"),
                "It opens nothing until it is resumed; its sessions and proxies have ended.",
            ),
            Happened::Resumed => (
                format!("{vo}: the account `{username}` is open again"),
                "It was suspended. What ended then stays ended: its owner signs in anew.",
            ),
            Happened::Traced => (
                format!("{vo}: a proxy of `{username}` was traced"),
                "Whoever traced it knows now for whom it was made and what it was used for.",
            ),
        };
        let body = format!(
            "{text}\n\nAccount: {username}\nBy:      {}\nRequest: {}\n\n\
             Whoever administers `{vo}` sees the records with:\n  countersign explain {}\n",
            self.by_username, self.request, self.request,
        );
        Letter {
            to,
            subject: format!("[Countersign] {subject}"),
            body,
        }
    }
}
