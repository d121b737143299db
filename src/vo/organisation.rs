//! Making, suspending and resuming VOs.

use serde_json::json;

use super::{
    Directory, GATEWAY, Membership, SCIENTIST, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, VoError, VoState, Vos,
    is_name, store,
};
use crate::id::{PersonId, VoId};
use crate::record::Change;
use crate::store::Tx;

impl Vos {
    /// Makes the gateway level with its role `system-administrator`; once, in an empty store.
    ///
    /// # Errors
    /// [`VoError::Taken`] when it is there already.
    pub async fn establish(&self, tx: &mut Tx) -> Result<Change, VoError> {
        let gateway = Directory::gateway();
        store::insert_vo(tx, gateway, GATEWAY, self.now())
            .await
            .map_err(VoError::taken("gateway", GATEWAY))?;
        self.insert_role(tx, gateway, SYSTEM_ADMINISTRATOR).await?;
        Ok(Change {
            action: "gateway.establish".into(),
            kind: "gateway".into(),
            target: GATEWAY.into(),
            vo: gateway,
            person: None,
            before: None,
            after: Some(json!({ "roles": [SYSTEM_ADMINISTRATOR] })),
        })
    }

    /// Makes a VO with the shipped roles; `administrator` becomes its first member and administrator.
    ///
    /// # Errors
    /// [`VoError::Name`], [`VoError::Taken`], [`VoError::Unknown`] for the person.
    pub async fn create_vo(
        &self,
        tx: &mut Tx,
        name: &str,
        administrator: PersonId,
    ) -> Result<(VoId, Change), VoError> {
        if !is_name(name) {
            return Err(VoError::Name(name.to_owned()));
        }
        self.living(tx, administrator).await?;
        let vo: VoId = self.ids.next()?;
        store::insert_vo(tx, vo, name, self.now())
            .await
            .map_err(VoError::taken("virtual organisation", name))?;
        self.insert_role(tx, vo, SCIENTIST).await?;
        let role = self.insert_role(tx, vo, VO_ADMINISTRATOR).await?;
        let membership = Membership {
            id: self.ids.next()?,
            vo,
            person: administrator,
        };
        store::insert_membership(tx, &membership, self.now()).await?;
        self.insert_assignment(tx, vo, role, administrator, None).await?;
        let change = Change {
            action: "vo.create".into(),
            kind: "vo".into(),
            target: vo.to_string(),
            vo,
            person: Some(administrator),
            before: None,
            after: Some(json!({
                "name": name,
                "state": "active",
                "roles": [VO_ADMINISTRATOR, SCIENTIST],
                "administrator": administrator,
            })),
        };
        Ok((vo, change))
    }

    /// Suspends a VO: nothing is allowed in it until it is resumed.
    ///
    /// # Errors
    /// [`VoError::Unknown`]; the gateway level cannot be suspended.
    pub async fn suspend_vo(&self, tx: &mut Tx, vo: VoId) -> Result<Change, VoError> {
        self.set_vo_state(tx, vo, VoState::Suspended, "vo.suspend").await
    }

    /// Opens a suspended VO again.
    ///
    /// # Errors
    /// [`VoError::Unknown`].
    pub async fn resume_vo(&self, tx: &mut Tx, vo: VoId) -> Result<Change, VoError> {
        self.set_vo_state(tx, vo, VoState::Active, "vo.resume").await
    }

    async fn set_vo_state(
        &self,
        tx: &mut Tx,
        vo: VoId,
        state: VoState,
        action: &str,
    ) -> Result<Change, VoError> {
        if vo == Directory::gateway() {
            return Err(VoError::unknown("virtual organisation", GATEWAY));
        }
        self.touch(tx, vo).await?;
        let before = store::vo(tx, vo)
            .await?
            .ok_or_else(|| VoError::unknown("virtual organisation", vo))?;
        store::set_vo_state(tx, vo, word(state)).await?;
        Ok(Change {
            action: action.into(),
            kind: "vo".into(),
            target: vo.to_string(),
            vo,
            person: None,
            before: Some(json!({ "state": word(before) })),
            after: Some(json!({ "state": word(state) })),
        })
    }
}

const fn word(state: VoState) -> &'static str {
    match state {
        VoState::Active => "active",
        VoState::Suspended => "suspended",
        VoState::InDoubt => "in_doubt",
    }
}
