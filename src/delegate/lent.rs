//! Proxies that computing elements keep for jobs: which there are, whose, and when each is to be renewed.
//!
//! What is renewed stands in the store alone, so that it goes on after a restart.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{PersonId, SessionId, VoId};
use crate::store::{StoreError, rows, run};

use super::{Delegate, proxies};

/// The pause after the first failure; each doubles the next.
const PAUSE: Duration = Duration::from_secs(5);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(600);

/// A delegation at a computing element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The VO.
    pub vo: VoId,
    /// The tool.
    pub tool: String,
    /// The tool's own id of it.
    pub id: String,
    /// Whose it is.
    pub person: PersonId,
    /// The session in which she made it.
    pub session: SessionId,
    /// When the proxy that it holds ends.
    pub not_after: Timestamp,
    /// How many tries in a row failed.
    pub failures: i64,
    /// Why it was refused the last time.
    pub refused: Option<String>,
}

type Row = (Uuid, String, String, Uuid, Uuid, i64, i64, Option<String>);

impl Delegate {
    /// Notes a delegation that holds a proxy now, to be renewed at two thirds of its life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lend(&self, lent: &Lent) -> Result<(), StoreError> {
        let now = self.ids.clock().now();
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "INSERT INTO lent_proxy (vo_id, tool, id, version, person, session, not_after, due_at, failures, created_at) \
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7, 0, $8) \
             ON CONFLICT (vo_id, tool, id) DO UPDATE SET version = lent_proxy.version + 1, person = excluded.person, \
             session = excluded.session, not_after = excluded.not_after, due_at = excluded.due_at, failures = 0, refused = NULL, \
             ended_at = NULL",
            lent.vo.uuid(),
            lent.tool.as_str(),
            lent.id.as_str(),
            lent.person.uuid(),
            lent.session.uuid(),
            lent.not_after.micros(),
            proxies::renew_at(now, lent.not_after).micros(),
            now.micros(),
        )?;
        tx.commit().await
    }

    /// What is due, the longest waiting first, at most `most` of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lent_due(&self, most: u32) -> Result<Vec<Lent>, StoreError> {
        let found = rows!(
            &self.db,
            Row,
            "SELECT vo_id, tool, id, person, session, not_after, failures, refused FROM lent_proxy \
             WHERE ended_at IS NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $2",
            self.ids.clock().now().micros(),
            i64::from(most),
        )?;
        let lent = |(vo, tool, id, person, session, not_after, failures, refused)| Lent {
            vo: VoId::from(vo),
            tool,
            id,
            person: PersonId::from(person),
            session: SessionId::from(session),
            not_after: Timestamp(not_after),
            failures,
            refused,
        };
        Ok(found.into_iter().map(lent).collect())
    }

    /// It could not be renewed, or was refused: it is tried again after a pause that grows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lent_later(&self, lent: &Lent, refused: Option<&str>) -> Result<(), StoreError> {
        let doubled = u32::try_from(lent.failures.clamp(0, 16)).unwrap_or(16);
        let pause = PAUSE.saturating_mul(1 << doubled).min(LONGEST);
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "UPDATE lent_proxy SET version = version + 1, failures = failures + 1, refused = $1, due_at = $2 \
             WHERE vo_id = $3 AND tool = $4 AND id = $5",
            refused,
            self.ids.clock().now().plus(pause).micros(),
            lent.vo.uuid(),
            lent.tool.as_str(),
            lent.id.as_str(),
        )?;
        tx.commit().await
    }

    /// It is not renewed any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lent_ended(&self, lent: &Lent) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "UPDATE lent_proxy SET version = version + 1, ended_at = $1 WHERE vo_id = $2 AND tool = $3 AND id = $4",
            self.ids.clock().now().micros(),
            lent.vo.uuid(),
            lent.tool.as_str(),
            lent.id.as_str(),
        )?;
        tx.commit().await
    }
}
