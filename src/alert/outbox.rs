//! Mails on their way: one row for each recipient, tried again until it is sent or given up.

use std::time::Duration;

use uuid::Uuid;

use super::episode::take_turn;
use super::mail::undelivered;
use super::transport::{Outgoing, Unsent};
use super::{Alert, AlertError, Inner};
use crate::clock::Timestamp;
use crate::id::{MessageId, VoId};
use crate::store::{StoreError, Tx, rows, run};
use crate::vo::Directory;

/// How long a claimed delivery is left alone; longer than any attempt takes.
const LEASE: Duration = Duration::from_secs(600);
/// Wait after the first failed attempt; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Most deliveries in one run.
const AT_ONCE: i64 = 20;
/// Kind of the mails about mails.
const NOTE: &str = "note";
/// Kind of the mails whose text is wiped as soon as it is sent or given up.
const SECRET: &str = "secret";
/// Most notes about undelivered mails in an hour.
const NOTES_PER_HOUR: usize = 4;

/// A mail to be sent: recipients, subject, plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Addresses; each gets a mail of its own.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Text.
    pub body: String,
}

/// State of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not sent yet; it is tried again.
    Pending,
    /// The mail server took it (or the file is written).
    Sent,
    /// Given up.
    Failed,
}

impl DeliveryState {
    /// The name in the store and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Pending, Self::Sent, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::Inconsistent(format!("a delivery is `{text}`")))
    }
}

/// One mail to one recipient, as the outbox shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Id, also the mail's Message-ID.
    pub id: MessageId,
    /// VO it concerns.
    pub vo: VoId,
    /// `alert`, `digest`, `note`, `secret` or `other`.
    pub kind: String,
    /// Recipient.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// When it was written.
    pub at: Timestamp,
    /// State.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next.
    pub next: Timestamp,
    /// What the last attempt met.
    pub error: Option<String>,
}

type DeliveryRow = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    i64,
    String,
    i64,
    i64,
    Option<String>,
);
type PendingRow = (Uuid, Uuid, String, i64, i64, String, String, String, i64);

struct Pending {
    vo: VoId,
    version: i64,
    attempts: i64,
    kind: String,
    mail: Outgoing,
}

impl Alert {
    /// Puts a letter into the outbox, together with whatever else the transaction does.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn post(&self, tx: &mut Tx, vo: VoId, letter: &Letter) -> Result<(), AlertError> {
        self.0.post(tx, vo, "other", letter).await
    }

    /// The same for a letter that holds a one-time secret: its text is wiped from the store once it is sent or given up.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn post_secret(&self, tx: &mut Tx, vo: VoId, letter: &Letter) -> Result<(), AlertError> {
        self.0.post(tx, vo, SECRET, letter).await
    }

    /// Whether mails go to a mail server, and not to a folder that nobody reads.
    #[must_use]
    pub fn is_smtp(&self) -> bool {
        matches!(self.0.config.transport, super::Transport::Smtp(_))
    }

    /// The newest deliveries, newest first.
    ///
    /// # Errors
    /// [`AlertError::Store`].
    pub async fn outbox(&self, limit: u32) -> Result<Vec<Delivery>, AlertError> {
        let found = rows!(
            &self.0.db,
            DeliveryRow,
            "SELECT d.id, d.vo_id, m.kind, d.recipient, m.subject, m.at, d.state, d.attempts, d.next_at, d.error
             FROM delivery d JOIN mail m ON m.id = d.mail ORDER BY m.at DESC, d.id DESC LIMIT $1",
            i64::from(limit)
        )?;
        let read = |row: DeliveryRow| -> Result<Delivery, StoreError> {
            let (id, vo, kind, to, subject, at, state, attempts, next, error) = row;
            Ok(Delivery {
                id: id.into(),
                vo: vo.into(),
                kind,
                to,
                subject,
                at: Timestamp(at),
                state: DeliveryState::parse(&state)?,
                attempts,
                next: Timestamp(next),
                error,
            })
        };
        Ok(found.into_iter().map(read).collect::<Result<_, _>>()?)
    }
}

impl Inner {
    pub(super) async fn post(
        &self,
        tx: &mut Tx,
        vo: VoId,
        kind: &str,
        letter: &Letter,
    ) -> Result<(), AlertError> {
        let now = self.ids.clock().now().micros();
        let mail: MessageId = self.ids.next()?;
        run!(
            &mut *tx,
            "INSERT INTO mail (id, vo_id, kind, subject, body, at, version) VALUES ($1, $2, $3, $4, $5, $6, 1)",
            mail.uuid(),
            vo.uuid(),
            kind,
            letter.subject.as_str(),
            letter.body.as_str(),
            now
        )?;
        if letter.to.is_empty() {
            self.metrics.mail("failed");
            tracing::error!(vo.id = %vo, mail.id = %mail, "a mail has no recipient: no administrator has a mail address");
        }
        for to in &letter.to {
            let id: MessageId = self.ids.next()?;
            run!(
                &mut *tx,
                "INSERT INTO delivery (id, vo_id, mail, recipient, state, attempts, next_at, version)
                 VALUES ($1, $2, $3, $4, 'pending', 0, $5, 1)",
                id.uuid(),
                vo.uuid(),
                mail.uuid(),
                to.as_str(),
                now
            )?;
            self.metrics.mail("queued");
        }
        Ok(())
    }

    /// Sends what is due.
    pub(super) async fn deliver(&self, now: Timestamp) -> Result<(), AlertError> {
        let due = rows!(
            &self.db,
            PendingRow,
            "SELECT d.id, d.vo_id, d.recipient, d.version, d.attempts, m.kind, m.subject, m.body, m.at
             FROM delivery d JOIN mail m ON m.id = d.mail
             WHERE d.state = 'pending' AND d.next_at <= $1 ORDER BY d.next_at, d.id LIMIT $2",
            now.micros(),
            AT_ONCE
        )?;
        for (id, vo, to, version, attempts, kind, subject, body, at) in due {
            let pending = Pending {
                vo: vo.into(),
                version,
                attempts,
                kind,
                mail: Outgoing {
                    id: id.into(),
                    to,
                    subject,
                    body,
                    at: Timestamp(at),
                },
            };
            if self.claim(&pending, now).await? {
                let sent = self.mailer.send(&pending.mail).await;
                self.settle(&pending, sent).await?;
            }
        }
        let waiting = rows!(
            &self.db,
            (i64,),
            "SELECT count(*) FROM delivery WHERE state = 'pending'"
        )?;
        self.metrics
            .mail_pending(waiting.first().map_or(0, |(count,)| *count));
        Ok(())
    }

    /// Takes a delivery, so that no other run or node sends the same mail; a crash gives it back when the lease ends.
    async fn claim(&self, pending: &Pending, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.db.begin_write().await?;
        let claimed = run!(
            &mut tx,
            "UPDATE delivery SET attempts = attempts + 1, next_at = $3, version = version + 1
             WHERE id = $1 AND version = $2 AND state = 'pending'",
            pending.mail.id.uuid(),
            pending.version,
            now.plus(LEASE).micros()
        )?;
        tx.commit().await?;
        Ok(claimed == 1)
    }

    async fn settle(&self, pending: &Pending, sent: Result<(), Unsent>) -> Result<(), AlertError> {
        let now = self.ids.clock().now();
        let too_old = now.since(pending.mail.at) >= self.config.give_up;
        let (state, error) = match sent {
            Ok(()) => (DeliveryState::Sent, None),
            Err(Unsent::Never(error)) => (DeliveryState::Failed, Some(error)),
            Err(Unsent::Later(error)) if too_old => (DeliveryState::Failed, Some(error)),
            Err(Unsent::Later(error)) => (DeliveryState::Pending, Some(error)),
        };
        // Read before the transaction: a connection that waits for another one could wait for itself.
        let told = match state {
            DeliveryState::Failed if pending.kind != NOTE => self.system_administrators(now).await?,
            _ => Vec::new(),
        };
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "UPDATE delivery SET state = $2, error = $3, next_at = $4, ended_at = $5, version = version + 1
             WHERE id = $1",
            pending.mail.id.uuid(),
            state.as_str(),
            error.as_deref(),
            now.plus(wait(pending.attempts)).micros(),
            (state != DeliveryState::Pending).then(|| now.micros())
        )?;
        // SECURITY: a one-time secret does not stay in the store.
        if pending.kind == SECRET && state != DeliveryState::Pending {
            run!(
                &mut tx,
                "UPDATE mail SET body = '', version = version + 1
                 WHERE id = (SELECT mail FROM delivery WHERE id = $1)",
                pending.mail.id.uuid()
            )?;
        }
        self.tell_of_failure(&mut tx, pending, error.as_deref().unwrap_or_default(), told)
            .await?;
        tx.commit().await?;
        let (id, error) = (pending.mail.id, error.unwrap_or_default());
        match state {
            DeliveryState::Sent => self.metrics.mail("sent"),
            DeliveryState::Pending => {
                self.metrics.mail("retried");
                tracing::warn!(mail.id = %id, "a mail is tried again later: {error}");
            }
            DeliveryState::Failed => {
                self.metrics.mail("failed");
                tracing::error!(mail.id = %id, "a mail was given up: {error}");
            }
        }
        Ok(())
    }

    /// Queues a note to the gateway's administrators; a note that fails itself is told by log and metric alone.
    async fn tell_of_failure(
        &self,
        tx: &mut Tx,
        pending: &Pending,
        error: &str,
        mut to: Vec<String>,
    ) -> Result<(), AlertError> {
        to.retain(|address| *address != pending.mail.to);
        if to.is_empty() {
            return Ok(());
        }
        let (gateway, now) = (Directory::gateway(), self.ids.clock().now());
        take_turn(tx, gateway).await?;
        if self.mails_within(tx, gateway, NOTE, now).await? >= NOTES_PER_HOUR {
            return Ok(());
        }
        tracing::debug!(vo.id = %pending.vo, "the gateway's administrators are told of a mail that was given up");
        let (subject, body) = undelivered(&pending.mail.to, &pending.mail.subject, error, now);
        self.post(tx, gateway, NOTE, &Letter { to, subject, body }).await
    }
}

/// The wait before the next attempt: 30 s, 1 min, 2 min, ... up to an hour.
fn wait(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    FIRST_WAIT
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST_WAIT)
}
