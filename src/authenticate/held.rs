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
    /// `browser`, `child`, `token`, `personal`, `basic` or `certificate`.
    pub kind: String,
    /// What a personal access token is called.
    pub name: Option<String>,
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
        "SELECT s.id, s.kind, p.name, s.host, s.created_at, s.seen_at, s.expires_at, s.methods, s.acr, s.ended_at, s.end_reason
         FROM session s LEFT JOIN personal_token p ON p.session = s.id WHERE s.person = $1 ORDER BY s.id",
        person.uuid()
    )?;
    let held = rows.into_iter().map(
        |(id, kind, name, host, created, seen, expires, methods, acr, ended, reason)| HeldSession {
            id: id.into(),
            kind,
            name,
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
