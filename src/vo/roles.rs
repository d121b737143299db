//! Roles, and who holds them.

use serde_json::{Value, json};

use super::{
    Assignment, Directory, Role, SCIENTIST, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, VoError, Vos, is_name,
    store,
};
use crate::clock::Timestamp;
use crate::id::{PersonId, RoleId, VoId};
use crate::record::Change;
use crate::store::Tx;

impl Vos {
    /// Makes a role.
    ///
    /// # Errors
    /// [`VoError::Name`], [`VoError::Taken`], [`VoError::Unknown`] for the VO.
    pub async fn create_role(&self, tx: &mut Tx, vo: VoId, name: &str) -> Result<Change, VoError> {
        // SECURITY: a role of a VO never bears the name of the gateway's role, so that nobody mistakes one for the other.
        if !is_name(name) || name == SYSTEM_ADMINISTRATOR {
            return Err(VoError::Name(name.to_owned()));
        }
        self.touch(tx, vo).await?;
        let id = self.insert_role(tx, vo, name).await?;
        Ok(change("role.create", vo, id, None, Some(json!({ "name": name }))))
    }

    /// Ends a role with everything it grants and everyone's hold on it.
    ///
    /// # Errors
    /// [`VoError::Shipped`], [`VoError::Unknown`].
    pub async fn end_role(&self, tx: &mut Tx, vo: VoId, name: &str) -> Result<Change, VoError> {
        if [VO_ADMINISTRATOR, SCIENTIST, SYSTEM_ADMINISTRATOR].contains(&name) {
            return Err(VoError::Shipped(name.to_owned()));
        }
        self.touch(tx, vo).await?;
        let id = self.role(tx, vo, name).await?;
        store::end_role(tx, id, self.now()).await?;
        Ok(change("role.end", vo, id, Some(json!({ "name": name })), None))
    }

    /// Gives a role to a member (at the gateway's level: to anyone), for good or until a moment.
    ///
    /// # Errors
    /// [`VoError::NotAMember`], [`VoError::Taken`] when she holds it, [`VoError::Past`], [`VoError::Unknown`].
    pub async fn assign(
        &self,
        tx: &mut Tx,
        vo: VoId,
        role: &str,
        person: PersonId,
        until: Option<Timestamp>,
    ) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        if until.is_some_and(|until| until <= self.now()) {
            return Err(VoError::Past);
        }
        self.living(tx, person).await?;
        // SECURITY: only members hold roles of a VO.
        if vo != Directory::gateway() && !store::is_member(tx, vo, person).await? {
            return Err(VoError::NotAMember);
        }
        let id = self.role(tx, vo, role).await?;
        store::end_lapsed(tx, id, person, self.now()).await?;
        self.insert_assignment(tx, vo, id, person, until)
            .await
            .map_err(|error| match error {
                VoError::Taken { .. } => VoError::Taken {
                    kind: "assignment of role",
                    name: role.to_owned(),
                },
                other => other,
            })?;
        Ok(Change {
            person: Some(person),
            ..change(
                "role.assign",
                vo,
                id,
                None,
                Some(json!({ "name": role, "person": person, "until": until })),
            )
        })
    }

    /// Takes a role away from a person.
    ///
    /// # Errors
    /// [`VoError::Unknown`] when she does not hold it, [`VoError::LastAdministrator`].
    pub async fn unassign(
        &self,
        tx: &mut Tx,
        vo: VoId,
        role: &str,
        person: PersonId,
    ) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        let id = self.role(tx, vo, role).await?;
        if [VO_ADMINISTRATOR, SYSTEM_ADMINISTRATOR].contains(&role) {
            self.keeps_administrator(tx, vo, person).await?;
        }
        if store::end_assignment(tx, id, person, self.now()).await? == 0 {
            return Err(VoError::unknown("assignment of role", role));
        }
        Ok(Change {
            person: Some(person),
            ..change(
                "role.unassign",
                vo,
                id,
                Some(json!({ "name": role, "person": person })),
                None,
            )
        })
    }

    pub(super) async fn role(&self, tx: &mut Tx, vo: VoId, name: &str) -> Result<RoleId, VoError> {
        store::role(tx, vo, name)
            .await?
            .ok_or_else(|| VoError::unknown("role", name))
    }

    pub(super) async fn insert_role(&self, tx: &mut Tx, vo: VoId, name: &str) -> Result<RoleId, VoError> {
        let role = Role {
            id: self.ids.next()?,
            vo,
            name: name.to_owned(),
        };
        store::insert_role(tx, &role, self.now())
            .await
            .map_err(VoError::taken("role", name))?;
        Ok(role.id)
    }

    pub(super) async fn insert_assignment(
        &self,
        tx: &mut Tx,
        vo: VoId,
        role: RoleId,
        person: PersonId,
        until: Option<Timestamp>,
    ) -> Result<(), VoError> {
        let assignment = Assignment {
            id: self.ids.next()?,
            vo,
            role,
            person,
            until,
        };
        store::insert_assignment(tx, &assignment, self.now())
            .await
            .map_err(VoError::taken("assignment", role))
    }
}

fn change(action: &str, vo: VoId, role: RoleId, before: Option<Value>, after: Option<Value>) -> Change {
    Change {
        action: action.into(),
        kind: "role".into(),
        target: role.to_string(),
        vo,
        person: None,
        before,
        after,
    }
}
