//! The SQL of factors and recovery codes. Rows stay here.

use uuid::Uuid;

use super::{Factor, Guessed, Used};
use crate::clock::Timestamp;
use crate::id::{FactorId, PersonId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, row, rows, run, tx_rows};

/// A bound factor, with what it is checked against.
#[derive(Clone, Debug)]
pub(in crate::authenticate) struct Bound {
    pub(super) factor: Factor,
    pub(super) sealed: Vec<u8>,
    pub(super) last_step: i64,
}

/// The factors of a person that have not ended, oldest first.
pub(in crate::authenticate) async fn bound(db: &Db, person: PersonId) -> Result<Vec<Bound>, StoreError> {
    type Row = (Uuid, String, Vec<u8>, i64, i64, Option<i64>);
    let rows = rows!(
        db,
        Row,
        "SELECT id, name, sealed, last_step, created_at, used_at FROM factor
         WHERE person = $1 AND ended_at IS NULL ORDER BY id",
        person.uuid()
    )?;
    let bound = rows
        .into_iter()
        .map(|(id, name, sealed, last_step, created, used)| Bound {
            factor: Factor {
                id: id.into(),
                name,
                created: Timestamp(created),
                used: used.map(Timestamp),
            },
            sealed,
            last_step,
        });
    Ok(bound.collect())
}

/// Whether there is, or ever was, a factor of this id.
pub(super) async fn is_known(db: &Db, id: FactorId) -> Result<bool, StoreError> {
    let found = row!(
        db,
        (i64,),
        "SELECT created_at FROM factor WHERE id = $1",
        id.uuid()
    )?;
    Ok(found.is_some())
}

/// How many factors a person has, seen inside a transaction.
pub(super) async fn count(tx: &mut Tx, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM factor WHERE person = $1 AND ended_at IS NULL",
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

pub(super) async fn insert(
    tx: &mut Tx,
    (person, home): (PersonId, VoId),
    bound: &Bound,
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO factor (id, person, vo_id, kind, name, sealed, last_step, created_at)
         VALUES ($1, $2, $3, 'totp', $4, $5, $6, $7)",
        bound.factor.id.uuid(),
        person.uuid(),
        home.uuid(),
        bound.factor.name.as_str(),
        bound.sealed.as_slice(),
        bound.last_step,
        bound.factor.created.micros()
    )
    .map(|_| ())
}

/// Ends one factor of a person, or all of them, and forgets secrets and names; how many there were.
pub(super) async fn end(
    tx: &mut Tx,
    person: PersonId,
    only: Option<FactorId>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let nothing: &[u8] = &[];
    match only {
        Some(id) => run!(
            tx,
            "UPDATE factor SET ended_at = $1, sealed = $2, name = '', version = version + 1
             WHERE person = $3 AND id = $4 AND ended_at IS NULL",
            now.micros(),
            nothing,
            person.uuid(),
            id.uuid()
        ),
        None => run!(
            tx,
            "UPDATE factor SET ended_at = $1, sealed = $2, name = '', version = version + 1
             WHERE person = $3 AND ended_at IS NULL",
            now.micros(),
            nothing,
            person.uuid()
        ),
    }
}

/// Uses a code up; `false` when somebody was faster, or the factor ended.
pub(in crate::authenticate) async fn use_up(
    tx: &mut Tx,
    person: PersonId,
    used: &Used,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = match used {
        Used::Code { factor, step } => run!(
            tx,
            "UPDATE factor SET last_step = $1, used_at = $2, version = version + 1
             WHERE id = $3 AND person = $4 AND last_step < $1 AND ended_at IS NULL",
            *step,
            now.micros(),
            factor.uuid(),
            person.uuid()
        )?,
        Used::Recovery { hash, .. } => run!(
            tx,
            "UPDATE recovery_code SET used_at = $1, version = version + 1
             WHERE person = $2 AND hash = $3 AND used_at IS NULL AND ended_at IS NULL",
            now.micros(),
            person.uuid(),
            hash.0.to_vec()
        )?,
    };
    Ok(changed == 1)
}

/// Sessions that were prepared by the password alone begin no more: its version moves on.
pub(super) async fn move_password_on(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE password SET version = version + 1 WHERE person = $1 AND ended_at IS NULL",
        person.uuid()
    )
    .map(|_| ())
}

/// The recovery codes of a person that are still good.
pub(super) async fn recovery_hashes(db: &Db, person: PersonId) -> Result<Vec<Hash>, StoreError> {
    let rows = rows!(
        db,
        (Vec<u8>,),
        "SELECT hash FROM recovery_code WHERE person = $1 AND used_at IS NULL AND ended_at IS NULL",
        person.uuid()
    )?;
    rows.into_iter()
        .map(|(hash,)| <[u8; 32]>::try_from(hash).map(Hash))
        .collect::<Result<_, _>>()
        .map_err(|_| StoreError::Inconsistent(format!("a recovery code of {person} has a wrong length")))
}

/// How many recovery codes of a person are still good, seen inside a transaction.
pub(super) async fn count_recovery(tx: &mut Tx, person: PersonId) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM recovery_code WHERE person = $1 AND used_at IS NULL AND ended_at IS NULL",
        person.uuid()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

/// Puts new recovery codes in the place of all that there were.
pub(super) async fn replace_recovery(
    tx: &mut Tx,
    (person, home): (PersonId, VoId),
    hashes: &[Hash],
    now: Timestamp,
) -> Result<(), StoreError> {
    run!(
        &mut *tx,
        "DELETE FROM recovery_code WHERE person = $1",
        person.uuid()
    )?;
    for hash in hashes {
        run!(
            &mut *tx,
            "INSERT INTO recovery_code (person, hash, vo_id, created_at) VALUES ($1, $2, $3, $4)",
            person.uuid(),
            hash.0.to_vec(),
            home.uuid(),
            now.micros()
        )?;
    }
    Ok(())
}

/// Counts a code of an authenticator that is to be judged: the how many-th it is since the last right one; `None` when there were
/// `limit` of them.
pub(super) async fn count_code(
    tx: &mut Tx,
    (person, home): (PersonId, VoId),
    limit: i64,
) -> Result<Option<i64>, StoreError> {
    let counted = tx_rows!(
        tx,
        (i64,),
        "INSERT INTO login_count (person, vo_id, logins, last_login, failures, last_failure, version, ended_at, wrong_codes)
         VALUES ($1, $2, 0, NULL, 0, NULL, 1, NULL, 1)
         ON CONFLICT (person) DO UPDATE SET wrong_codes = login_count.wrong_codes + 1, version = login_count.version + 1
             WHERE login_count.wrong_codes < $3
         RETURNING wrong_codes",
        person.uuid(),
        home.uuid(),
        limit
    )?;
    Ok(counted.first().map(|(count,)| *count))
}

/// The count of codes begins anew. Of what is still to be told, the person is told all the same.
pub(in crate::authenticate) async fn forget_codes(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE login_count SET wrong_codes = 0, version = version + 1 WHERE person = $1 AND wrong_codes > 0",
        person.uuid()
    )
    .map(|_| ())
}

/// The person is to be told of so many wrong codes.
pub(super) async fn tell_codes(tx: &mut Tx, person: PersonId, count: i64) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE login_count SET untold_codes = $1, version = version + 1 WHERE person = $2",
        count,
        person.uuid()
    )
    .map(|_| ())
}

/// Whoever is to be told of wrong codes.
pub(super) async fn untold_codes(db: &Db) -> Result<Vec<Guessed>, StoreError> {
    let rows = rows!(
        db,
        (Uuid, i64),
        "SELECT person, untold_codes FROM login_count WHERE untold_codes > 0"
    )?;
    let all = rows.into_iter().map(|(person, count)| Guessed {
        person: person.into(),
        count,
    });
    Ok(all.collect())
}

/// Somebody is told; `false` when she was told already.
pub(super) async fn told_codes(tx: &mut Tx, guessed: Guessed) -> Result<bool, StoreError> {
    let changed = run!(
        tx,
        "UPDATE login_count SET untold_codes = 0, version = version + 1 WHERE person = $1 AND untold_codes = $2",
        guessed.person.uuid(),
        guessed.count
    )?;
    Ok(changed == 1)
}

/// Every sealed secret, with what its label is made of.
pub(super) async fn all_sealed(tx: &mut Tx) -> Result<Vec<(FactorId, PersonId, Vec<u8>)>, StoreError> {
    let rows = tx_rows!(
        tx,
        (Uuid, Uuid, Vec<u8>),
        "SELECT id, person, sealed FROM factor WHERE ended_at IS NULL"
    )?;
    let all = rows
        .into_iter()
        .map(|(id, person, sealed)| (id.into(), person.into(), sealed));
    Ok(all.collect())
}

pub(super) async fn set_sealed(tx: &mut Tx, id: FactorId, sealed: &[u8]) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE factor SET sealed = $1 WHERE id = $2",
        sealed,
        id.uuid()
    )
    .map(|_| ())
}

/// Deletes what is held of a person here.
pub(in crate::authenticate) async fn erase(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(&mut *tx, "DELETE FROM factor WHERE person = $1", person.uuid())?;
    run!(tx, "DELETE FROM recovery_code WHERE person = $1", person.uuid()).map(|_| ())
}
