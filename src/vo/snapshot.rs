//! Reading a whole snapshot from the store.

use uuid::Uuid;

use super::store::{PersonRow, person, vo_state};
use super::upstream::address;
use super::{Assignment, Condition, Grant, Membership, Person, Role, Rows, Upstream, Vo};
use crate::clock::Timestamp;
use crate::store::{Db, StoreError, rows};

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

/// How often a snapshot is read anew because somebody changed something meanwhile.
const ATTEMPTS: usize = 20;

/// Reads everything that a snapshot holds, as it was at one moment.
pub(super) async fn read(db: &Db) -> Result<Rows, StoreError> {
    for _ in 0..ATTEMPTS {
        let vos = read_vos(db).await?;
        let rows = read_rest(db, vos).await?;
        // INVARIANT: every change raises the version of a VO, so equal versions mean that nothing changed between.
        if read_vos(db).await? == rows.vos {
            return Ok(rows);
        }
    }
    Err(StoreError::Inconsistent(
        "the store changes faster than it can be read".into(),
    ))
}

async fn read_vos(db: &Db) -> Result<Vec<Vo>, StoreError> {
    let found = rows!(
        db,
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

async fn read_rest(db: &Db, vos: Vec<Vo>) -> Result<Rows, StoreError> {
    Ok(Rows {
        vos,
        people: read_people(db).await?,
        memberships: read_memberships(db).await?,
        roles: read_roles(db).await?,
        assignments: read_assignments(db).await?,
        grants: read_grants(db).await?,
        upstreams: read_upstreams(db).await?,
    })
}

async fn read_people(db: &Db) -> Result<Vec<Person>, StoreError> {
    rows!(
        db,
        PersonRow,
        "SELECT id, vo_id, username, state, card, version FROM person"
    )?
    .into_iter()
    .map(person)
    .collect()
}

async fn read_memberships(db: &Db) -> Result<Vec<Membership>, StoreError> {
    let found = rows!(
        db,
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

async fn read_roles(db: &Db) -> Result<Vec<Role>, StoreError> {
    let found = rows!(
        db,
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

async fn read_assignments(db: &Db) -> Result<Vec<Assignment>, StoreError> {
    let found = rows!(
        db,
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

async fn read_grants(db: &Db) -> Result<Vec<Grant>, StoreError> {
    let found = rows!(
        db,
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

async fn read_upstreams(db: &Db) -> Result<Vec<Upstream>, StoreError> {
    rows!(
        db,
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
