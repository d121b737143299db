//! What is held on one person's ways in.

use uuid::Uuid;

use super::Authenticate;
use crate::clock::Timestamp;
use crate::id::{PersonId, SessionId};
use crate::store::{Db, StoreError, rows};

/// A session, also one that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSession {
    /// Id.
    pub id: SessionId,
    /// `browser`, `child`, `token`, `basic` or `certificate`.
    pub kind: String,
    /// The one host that a child was good for.
    pub host: Option<String>,
    /// Start.
    pub created: Timestamp,
    /// When it was last used.
    pub seen: Timestamp,
    /// End.
    pub expires: Timestamp,
    /// How the person showed who she is.
    pub methods: String,
    /// Level of assurance.
    pub acr: String,
    /// When it was ended, if it was.
    pub ended: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

impl Authenticate {
    /// Every session of a person, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held(&self, person: PersonId) -> Result<Vec<HeldSession>, StoreError> {
        sessions(&self.0.db, person).await
    }
}

async fn sessions(db: &Db, person: PersonId) -> Result<Vec<HeldSession>, StoreError> {
    type Row = (
        Uuid,
        String,
        Option<String>,
        i64,
        i64,
        i64,
        String,
        String,
        Option<i64>,
        Option<String>,
    );
    let rows = rows!(
        db,
        Row,
        "SELECT id, kind, host, created_at, seen_at, expires_at, methods, acr, ended_at, end_reason
         FROM session WHERE person = $1 ORDER BY id",
        person.uuid()
    )?;
    let held = rows.into_iter().map(
        |(id, kind, host, created, seen, expires, methods, acr, ended, reason)| HeldSession {
            id: id.into(),
            kind,
            host,
            created: Timestamp(created),
            seen: Timestamp(seen),
            expires: Timestamp(expires),
            methods,
            acr,
            ended: ended.map(Timestamp),
            reason,
        },
    );
    Ok(held.collect())
}
