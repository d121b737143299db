//! Reading a whole snapshot from the store.

use uuid::Uuid;

use super::store::{PersonRow, person, vo_state};
use super::upstream::address;
use super::{Assignment, Condition, Grant, Membership, Person, Role, Rows, Upstream, Vo};
use crate::clock::Timestamp;
use crate::store::{StoreError, Tx, tx_rows};

type UpstreamRow = (
    Uuid,
    Uuid,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
);

/// Reads everything that a snapshot holds. It is what there was at one moment where the transaction sees one
/// ([`Db::begin_read`](crate::store::Db::begin_read)).
pub(super) async fn read(tx: &mut Tx) -> Result<Rows, StoreError> {
    Ok(Rows {
        vos: read_vos(tx).await?,
        people: read_people(tx).await?,
        memberships: read_memberships(tx).await?,
        roles: read_roles(tx).await?,
        assignments: read_assignments(tx).await?,
        grants: read_grants(tx).await?,
        upstreams: read_upstreams(tx).await?,
        ceilings: super::ceiling::read(tx).await?,
    })
}

async fn read_vos(tx: &mut Tx) -> Result<Vec<Vo>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid, String, String, i64),
        "SELECT id, name, state, version FROM vo WHERE ended_at IS NULL ORDER BY id"
    )?;
    found
        .into_iter()
        .map(|(id, name, state, version)| {
            Ok(Vo {
                id: id.into(),
                name,
                state: vo_state(&state)?,
                version,
            })
        })
        .collect()
}

async fn read_people(tx: &mut Tx) -> Result<Vec<Person>, StoreError> {
    tx_rows!(
        tx,
        PersonRow,
        // SECURITY: the store lets a name be used again as soon as an account has an end, whatever its state says.
        "SELECT id, vo_id, username, CASE WHEN ended_at IS NULL THEN state ELSE 'ended' END, standing, until,
                card, version FROM person"
    )?
    .into_iter()
    .map(person)
    .collect()
}

async fn read_memberships(tx: &mut Tx) -> Result<Vec<Membership>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid, Uuid, Uuid),
        "SELECT id, vo_id, person FROM membership WHERE ended_at IS NULL"
    )?;
    Ok(found
        .into_iter()
        .map(|(id, vo, person)| Membership {
            id: id.into(),
            vo: vo.into(),
            person: person.into(),
        })
        .collect())
}

async fn read_roles(tx: &mut Tx) -> Result<Vec<Role>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid, Uuid, String),
        "SELECT id, vo_id, name FROM role WHERE ended_at IS NULL"
    )?;
    Ok(found
        .into_iter()
        .map(|(id, vo, name)| Role {
            id: id.into(),
            vo: vo.into(),
            name,
        })
        .collect())
}

async fn read_assignments(tx: &mut Tx) -> Result<Vec<Assignment>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid, Uuid, Uuid, Uuid, Option<i64>),
        "SELECT id, vo_id, role, person, until FROM assignment WHERE ended_at IS NULL"
    )?;
    Ok(found
        .into_iter()
        .map(|(id, vo, role, person, until)| Assignment {
            id: id.into(),
            vo: vo.into(),
            role: role.into(),
            person: person.into(),
            until: until.map(Timestamp),
        })
        .collect())
}

async fn read_grants(tx: &mut Tx) -> Result<Vec<Grant>, StoreError> {
    let found = tx_rows!(
        tx,
        (Uuid, Uuid, Uuid, String, String, String),
        "SELECT id, vo_id, role, tool, task, condition FROM role_grant WHERE ended_at IS NULL ORDER BY id"
    )?;
    Ok(found
        .into_iter()
        .map(|(id, vo, role, tool, task, condition)| Grant {
            id: id.into(),
            vo: vo.into(),
            role: role.into(),
            tool,
            task,
            condition: Condition::parse(&condition),
        })
        .collect())
}

async fn read_upstreams(tx: &mut Tx) -> Result<Vec<Upstream>, StoreError> {
    tx_rows!(
        tx,
        UpstreamRow,
        "SELECT id, vo_id, name, url, ca, expected, version, http2 FROM upstream WHERE ended_at IS NULL"
    )?
    .into_iter()
    .map(|(id, vo, name, url, ca, expected, version, http2)| {
        let (address, allow_local) = address(&url, ca, expected)
            .map_err(|_| StoreError::Inconsistent(format!("the address of upstream {id}")))?;
        Ok(Upstream {
            id: id.into(),
            vo: vo.into(),
            name,
            address,
            url,
            allow_local,
            http2: http2 != 0,
            version,
        })
    })
    .collect()
}
