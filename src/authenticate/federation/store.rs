//! The SQL of identity providers and identities. Rows stay here.

use std::collections::HashMap;

use uuid::Uuid;

use super::identity::{Attributes, Identity, SignedInBy, Standing};
use super::provider::Idp;
use crate::clock::Timestamp;
use crate::id::{IdentityId, IdpId, PersonId};
use crate::store::{Db, StoreError, Tx, row, rows, run, tx_rows};

type IdpRow = (Uuid, Uuid, String, String, String, Vec<u8>, i64, i64);

fn idp(row: IdpRow) -> Result<Idp, StoreError> {
    let (id, home, name, state, settings, sealed, version, created) = row;
    let settings = serde_json::from_str(&settings).map_err(|_| {
        StoreError::Inconsistent(format!(
            "the settings of the identity provider {id} cannot be read"
        ))
    })?;
    Ok(Idp {
        id: id.into(),
        name,
        home: home.into(),
        active: state == "active",
        settings,
        created: Timestamp(created),
        version,
        sealed,
    })
}

/// Those that have not ended, by name.
pub(super) async fn idps(db: &Db) -> Result<Vec<Idp>, StoreError> {
    let rows = rows!(
        db,
        IdpRow,
        "SELECT id, vo_id, name, state, settings, sealed, version, created_at FROM identity_provider
         WHERE ended_at IS NULL ORDER BY name"
    )?;
    rows.into_iter().map(idp).collect()
}

/// The one of this name, unless it has ended.
pub(super) async fn idp_named(db: &Db, name: &str) -> Result<Option<Idp>, StoreError> {
    let found = row!(
        db,
        IdpRow,
        "SELECT id, vo_id, name, state, settings, sealed, version, created_at FROM identity_provider
         WHERE name = $1 AND ended_at IS NULL",
        name
    )?;
    found.map(idp).transpose()
}

/// The same inside a transaction, locked against other changes until it is over.
pub(super) async fn idp_in(tx: &mut Tx, name: &str) -> Result<Option<Idp>, StoreError> {
    run!(
        &mut *tx,
        "UPDATE identity_provider SET version = version WHERE name = $1 AND ended_at IS NULL",
        name
    )?;
    let found = tx_rows!(
        tx,
        IdpRow,
        "SELECT id, vo_id, name, state, settings, sealed, version, created_at FROM identity_provider
         WHERE name = $1 AND ended_at IS NULL",
        name
    )?;
    found.into_iter().next().map(idp).transpose()
}

fn written(idp: &Idp) -> Result<String, StoreError> {
    serde_json::to_string(&idp.settings)
        .map_err(|error| StoreError::Inconsistent(format!("settings that cannot be written: {error}")))
}

pub(super) async fn insert_idp(tx: &mut Tx, idp: &Idp) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO identity_provider (id, vo_id, name, issuer, state, settings, sealed, version, created_at, ended_at)
         VALUES ($1, $2, $3, $4, 'active', $5, $6, 1, $7, NULL)",
        idp.id.uuid(),
        idp.home.uuid(),
        idp.name.as_str(),
        idp.settings.issuer.as_str(),
        written(idp)?,
        idp.sealed.as_slice(),
        idp.created.micros()
    )
    .map(|_| ())
}

/// Writes state, settings and secret.
pub(super) async fn update_idp(tx: &mut Tx, idp: &Idp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE identity_provider SET state = $2, settings = $3, sealed = $4, version = version + 1 WHERE id = $1",
        idp.id.uuid(),
        if idp.active { "active" } else { "suspended" },
        written(idp)?,
        idp.sealed.as_slice()
    )
    .map(|_| ())
}

/// Ends a provider and its identities; its secret is forgotten.
pub(super) async fn end_idp(tx: &mut Tx, id: IdpId, now: Timestamp) -> Result<u64, StoreError> {
    let nothing: &[u8] = &[];
    run!(
        &mut *tx,
        "UPDATE identity_provider SET ended_at = $2, sealed = $3, version = version + 1 WHERE id = $1",
        id.uuid(),
        now.micros(),
        nothing
    )?;
    run!(
        tx,
        "UPDATE federated_identity SET ended_at = $2, version = version + 1 WHERE provider = $1 AND ended_at IS NULL",
        id.uuid(),
        now.micros()
    )
}

type Row = (
    Uuid,
    Uuid,
    Uuid,
    String,
    String,
    Vec<u8>,
    Option<Uuid>,
    String,
    String,
    Option<i64>,
    i64,
    i64,
);

fn identity(row: Row) -> Result<Identity, StoreError> {
    let (id, home, provider, issuer, subject, salt, person, state, attributes, until, created, seen) = row;
    let broken = || StoreError::Inconsistent(format!("the identity {id} cannot be read"));
    let attributes: Attributes = serde_json::from_str(&attributes).map_err(|_| broken())?;
    Ok(Identity {
        id: id.into(),
        provider: provider.into(),
        home: home.into(),
        issuer,
        subject,
        person: person.map(PersonId::from),
        standing: Standing::parse(&state).ok_or_else(broken)?,
        attributes,
        valid_until: until.map(Timestamp),
        created: Timestamp(created),
        seen: Timestamp(seen),
        salt: salt.try_into().map_err(|_| broken())?,
    })
}

/// Whether a provider has not ended, locked against its end until the transaction is over.
pub(super) async fn is_alive(tx: &mut Tx, id: IdpId) -> Result<bool, StoreError> {
    let touched = run!(
        tx,
        "UPDATE identity_provider SET version = version WHERE id = $1 AND ended_at IS NULL",
        id.uuid()
    )?;
    Ok(touched == 1)
}

/// The identity with this issuer and subject.
pub(super) async fn known(db: &Db, issuer: &str, subject: &str) -> Result<Option<Identity>, StoreError> {
    let found = row!(
        db,
        Row,
        "SELECT id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, created_at, seen_at
         FROM federated_identity WHERE issuer = $1 AND subject = $2 AND ended_at IS NULL",
        issuer,
        subject
    )?;
    found.map(identity).transpose()
}

/// One by id, inside a transaction and locked until it is over.
pub(super) async fn identity_in(tx: &mut Tx, id: IdentityId) -> Result<Option<Identity>, StoreError> {
    run!(
        &mut *tx,
        "UPDATE federated_identity SET version = version WHERE id = $1 AND ended_at IS NULL",
        id.uuid()
    )?;
    let found = tx_rows!(
        tx,
        Row,
        "SELECT id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, created_at, seen_at
         FROM federated_identity WHERE id = $1 AND ended_at IS NULL",
        id.uuid()
    )?;
    found.into_iter().next().map(identity).transpose()
}

/// Those of a provider after an id, oldest first.
pub(super) async fn of_idp(
    db: &Db,
    idp: IdpId,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Identity>, StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, created_at, seen_at
         FROM federated_identity WHERE provider = $1 AND id > $2 AND ended_at IS NULL ORDER BY id LIMIT $3",
        idp.uuid(),
        after,
        limit
    )?;
    rows.into_iter().map(identity).collect()
}

/// Those of a person, oldest first; with those that have ended, where they are wanted.
pub(super) async fn of_person(db: &Db, person: PersonId, ended: bool) -> Result<Vec<Identity>, StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, created_at, seen_at
         FROM federated_identity WHERE person = $1 AND ($2 OR ended_at IS NULL) ORDER BY id",
        person.uuid(),
        ended
    )?;
    rows.into_iter().map(identity).collect()
}

/// How many of a provider wait for an administrator.
pub(super) async fn pending(tx: &mut Tx, idp: IdpId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM federated_identity WHERE provider = $1 AND state = 'pending' AND ended_at IS NULL",
        idp.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

fn words(identity: &Identity) -> Result<String, StoreError> {
    serde_json::to_string(&identity.attributes)
        .map_err(|error| StoreError::Inconsistent(format!("attributes that cannot be written: {error}")))
}

pub(super) async fn insert_identity(tx: &mut Tx, identity: &Identity) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO federated_identity
             (id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, version, created_at,
              seen_at, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $12, NULL)",
        identity.id.uuid(),
        identity.home.uuid(),
        identity.provider.uuid(),
        identity.issuer.as_str(),
        identity.subject.as_str(),
        identity.salt.as_slice(),
        identity.person.map(PersonId::uuid),
        identity.standing.as_str(),
        words(identity)?,
        identity.valid_until.map(Timestamp::micros),
        identity.created.micros(),
        identity.seen.micros()
    )
    .map(|_| ())
}

pub(super) async fn update_identity(tx: &mut Tx, identity: &Identity) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE federated_identity
         SET person = $2, state = $3, attributes = $4, valid_until = $5, seen_at = $6, version = version + 1
         WHERE id = $1 AND ended_at IS NULL",
        identity.id.uuid(),
        identity.person.map(PersonId::uuid),
        identity.standing.as_str(),
        words(identity)?,
        identity.valid_until.map(Timestamp::micros),
        identity.seen.micros()
    )
    .map(|_| ())
}

/// Ends an identity.
pub(super) async fn end_identity(tx: &mut Tx, id: IdentityId, now: Timestamp) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE federated_identity SET ended_at = $2, version = version + 1 WHERE id = $1",
        id.uuid(),
        now.micros()
    )
    .map(|_| ())
}

/// How many identities open the account of a person.
pub(super) async fn count_of(tx: &mut Tx, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM federated_identity WHERE person = $1 AND state = 'active' AND ended_at IS NULL",
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

/// Whether somebody may still sign in as this identity; marks it as seen, and locks it and its provider until the transaction is over.
pub(in crate::authenticate) async fn holds(
    tx: &mut Tx,
    (identity, idp): (IdentityId, IdpId),
    person: PersonId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let provider = run!(
        &mut *tx,
        "UPDATE identity_provider SET version = version WHERE id = $1 AND state = 'active' AND ended_at IS NULL",
        idp.uuid()
    )?;
    let hers = run!(
        tx,
        "UPDATE federated_identity SET seen_at = $4
         WHERE id = $1 AND provider = $2 AND person = $3 AND state = 'active' AND ended_at IS NULL
             AND (valid_until IS NULL OR valid_until > $4)",
        identity.uuid(),
        idp.uuid(),
        person.uuid(),
        now.micros()
    )?;
    Ok(provider == 1 && hers == 1)
}

/// What sessions that are alive began by.
pub(in crate::authenticate) async fn began_by(db: &Db) -> Result<HashMap<Uuid, SignedInBy>, StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT id, vo_id, provider, issuer, subject, salt, person, state, attributes, valid_until, created_at, seen_at
         FROM federated_identity
         WHERE id IN (SELECT identity FROM session WHERE ended_at IS NULL AND identity IS NOT NULL)"
    )?;
    rows.into_iter()
        .map(|row| identity(row).map(|identity| (identity.id.uuid(), SignedInBy::from(&identity))))
        .collect()
}

/// Every sealed secret, with what its label is made of.
pub(super) async fn all_sealed(tx: &mut Tx) -> Result<Vec<(IdpId, Vec<u8>)>, StoreError> {
    let rows = tx_rows!(
        tx,
        (Uuid, Vec<u8>),
        "SELECT id, sealed FROM identity_provider WHERE ended_at IS NULL"
    )?;
    Ok(rows.into_iter().map(|(id, sealed)| (id.into(), sealed)).collect())
}

pub(super) async fn set_sealed(tx: &mut Tx, id: IdpId, sealed: &[u8]) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE identity_provider SET sealed = $2 WHERE id = $1",
        id.uuid(),
        sealed
    )
    .map(|_| ())
}

/// Deletes the identities of a person. The sessions that began by them name no one.
pub(in crate::authenticate) async fn erase(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(
        tx,
        "DELETE FROM federated_identity WHERE person = $1",
        person.uuid()
    )
    .map(|_| ())
}
