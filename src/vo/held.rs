//! What is held on one person, ended rows included: for whoever has a right to be told.

use uuid::Uuid;

use super::{Card, Vos, store};
use crate::clock::Timestamp;
use crate::id::{PersonId, VoId};
use crate::store::{StoreError, rows};

/// An account with everything that binds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// User name; an erased account has none.
    pub username: String,
    /// `active`, `suspended` or `ended`.
    pub state: String,
    /// Home.
    pub home: VoId,
    /// When it was made.
    pub since: Timestamp,
    /// When it ended.
    pub until: Option<Timestamp>,
    /// All versions of the card, oldest first.
    pub cards: Vec<Card>,
    /// Memberships, oldest first.
    pub memberships: Vec<HeldIn>,
    /// Roles, oldest first.
    pub roles: Vec<HeldIn>,
}

/// A membership, or a role that was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldIn {
    /// Where.
    pub vo: VoId,
    /// The name of that virtual organisation, also of one that has ended.
    pub vo_name: String,
    /// The role; none for a membership.
    pub role: Option<String>,
    /// From when.
    pub since: Timestamp,
    /// When it ends, or ended, by itself.
    pub until: Option<Timestamp>,
    /// When somebody ended it.
    pub ended: Option<Timestamp>,
}

impl Held {
    /// Whether she is a member of any virtual organisation, or holds any role.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.memberships
            .iter()
            .chain(&self.roles)
            .any(|held| held.ended.is_none())
    }
}

impl Vos {
    /// Everything that is held on a person; `None` when there never was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held(&self, person: PersonId) -> Result<Option<Held>, StoreError> {
        type Account = (String, String, Uuid, i64, Option<i64>);
        let account = rows!(
            &self.db,
            Account,
            "SELECT username, state, vo_id, created_at, ended_at FROM person WHERE id = $1",
            person.uuid()
        )?;
        let Some((username, state, home, since, until)) = account.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(Held {
            username,
            state,
            home: home.into(),
            since: Timestamp(since),
            until: until.map(Timestamp),
            cards: store::cards_of(&self.db, person).await?,
            memberships: self.memberships_held(person).await?,
            roles: self.all_roles_held(person).await?,
        }))
    }

    async fn memberships_held(&self, person: PersonId) -> Result<Vec<HeldIn>, StoreError> {
        let rows = rows!(
            &self.db,
            (Uuid, String, i64, Option<i64>),
            "SELECT v.id, v.name, m.created_at, m.ended_at FROM membership m JOIN vo v ON v.id = m.vo_id
             WHERE m.person = $1 ORDER BY m.created_at, m.id",
            person.uuid()
        )?;
        let held = rows.into_iter().map(|(vo, vo_name, since, ended)| HeldIn {
            vo: vo.into(),
            vo_name,
            role: None,
            since: Timestamp(since),
            until: None,
            ended: ended.map(Timestamp),
        });
        Ok(held.collect())
    }

    async fn all_roles_held(&self, person: PersonId) -> Result<Vec<HeldIn>, StoreError> {
        type Row = (Uuid, String, String, i64, Option<i64>, Option<i64>);
        let rows = rows!(
            &self.db,
            Row,
            "SELECT v.id, v.name, r.name, a.created_at, a.until, a.ended_at
             FROM assignment a JOIN role r ON r.id = a.role JOIN vo v ON v.id = a.vo_id
             WHERE a.person = $1 ORDER BY a.created_at, a.id",
            person.uuid()
        )?;
        let held = rows
            .into_iter()
            .map(|(vo, vo_name, role, since, until, ended)| HeldIn {
                vo: vo.into(),
                vo_name,
                role: Some(role),
                since: Timestamp(since),
                until: until.map(Timestamp),
                ended: ended.map(Timestamp),
            });
        Ok(held.collect())
    }
}
