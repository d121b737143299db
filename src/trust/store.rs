//! Where VO certificates rest: one alive for each VO and use, the older ones ended and kept.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{CertificateId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};

use super::certificate::{Facts, Use, VoCertificate};
use super::chain::{self, EndEntity};
use super::client::Trust;
use super::pem;

/// Makes `certificate` the VO's for its use, from `at` on; the one before it ends.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(tx: &mut Tx, certificate: &VoCertificate, at: Timestamp) -> Result<(), StoreError> {
    run!(
        &mut *tx,
        "UPDATE vo_certificate SET ended_at = $1, version = version + 1 WHERE vo_id = $2 AND purpose = $3 AND ended_at IS NULL",
        at.micros(),
        certificate.vo.uuid(),
        certificate.purpose.as_str(),
    )?;
    let chain =
        pem::write(&certificate.chain).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    run!(
        tx,
        "INSERT INTO vo_certificate (id, vo_id, purpose, sha256, chain, sealed_key, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        certificate.id.uuid(),
        certificate.vo.uuid(),
        certificate.purpose.as_str(),
        certificate.facts.sha256.0.as_slice(),
        chain.as_str(),
        certificate.sealed_key.as_slice(),
        at.micros(),
    )
    .map(|_| ())
}

type Row = (Uuid, Uuid, String, String, Vec<u8>);

/// The certificates of all VOs that are alive.
///
/// # Errors
/// [`StoreError::Inconsistent`] when a row does not hold what was written.
pub async fn alive(db: &Db) -> Result<Vec<VoCertificate>, StoreError> {
    let rows = rows!(
        db,
        Row,
        "SELECT id, vo_id, purpose, chain, sealed_key FROM vo_certificate WHERE ended_at IS NULL ORDER BY vo_id, purpose",
    )?;
    rows.into_iter().map(certificate).collect()
}

/// The certificates of all VOs, also those that ended, oldest first.
///
/// # Errors
/// [`StoreError::Inconsistent`] when a row does not hold what was written.
pub async fn all(tx: &mut Tx) -> Result<Vec<VoCertificate>, StoreError> {
    let rows = tx_rows!(
        tx,
        Row,
        "SELECT id, vo_id, purpose, chain, sealed_key FROM vo_certificate ORDER BY created_at, id",
    )?;
    rows.into_iter().map(certificate).collect()
}

/// Whether this is the certificate of a VO, now or once, by key, or by a name that a CA gave it; or was issued by one.
///
/// SECURITY: anybody can make a certificate of any name. A name alone counts only where a CA of `trust` is proven to have given it
/// to the VO, too; and who issued, by the signature. Else a VO could keep everybody of a CA out with a certificate of its own making.
///
/// # Errors
/// [`StoreError::Inconsistent`] when a row does not hold what was written.
pub async fn is_of_vo(
    tx: &mut Tx,
    end_entity: &EndEntity,
    trust: Option<&Trust>,
) -> Result<bool, StoreError> {
    let key = |der: &Vec<u8>| chain::public_key(der).is_some_and(|spki| Hash::of(&spki) == end_entity.spki);
    let is = |known: &VoCertificate| {
        let proven = || trust.is_some_and(|trust| known.is_proven(trust, &end_entity.chain));
        let issued = || match (end_entity.chain.first(), known.chain.first()) {
            (Some(der), Some(above)) => chain::is_signed_by(der, above),
            _ => false,
        };
        known.chain.iter().any(key) || issued() || (known.facts.subject == end_entity.subject && proven())
    };
    Ok(all(tx).await?.iter().any(is))
}

/// Puts another envelope in the place of the one that holds a certificate's key.
///
/// # Errors
/// [`StoreError`].
pub async fn set_sealed_key(tx: &mut Tx, id: CertificateId, sealed: &[u8]) -> Result<(), StoreError> {
    run!(
        tx,
        "UPDATE vo_certificate SET sealed_key = $1, version = version + 1 WHERE id = $2",
        sealed,
        id.uuid(),
    )
    .map(|_| ())
}

/// Marks that the end of a VO's certificate was told so many days before it; false when that step, or a later one, was marked, also
/// when the same certificate was imported before.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_told(tx: &mut Tx, vo: VoId, sha256: Hash, days: u32) -> Result<bool, StoreError> {
    let changed = run!(
        tx,
        "UPDATE vo_certificate SET told_days = $1, version = version + 1 WHERE vo_id = $2 AND sha256 = $3 AND ended_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM vo_certificate told WHERE told.vo_id = $2 AND told.sha256 = $3 AND told.told_days <= $1)",
        i64::from(days),
        vo.uuid(),
        sha256.0.as_slice(),
    )?;
    Ok(changed > 0)
}

fn certificate((id, vo, purpose, chain, sealed_key): Row) -> Result<VoCertificate, StoreError> {
    let name = format!("vo_certificate {id}");
    let inconsistent = |error: String| StoreError::Inconsistent(format!("{name}: {error}"));
    let purpose = Use::parse(&purpose)
        .ok_or_else(|| inconsistent(format!("`{purpose}` is no use of a certificate")))?;
    let chain = pem::certificates(&name, &chain).map_err(|error| inconsistent(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| inconsistent("no certificate".to_owned()))?;
    let facts = Facts::of(&name, leaf).map_err(|error| inconsistent(error.to_string()))?;
    Ok(VoCertificate {
        id: CertificateId::from(id),
        vo: VoId::from(vo),
        purpose,
        facts,
        chain,
        sealed_key,
    })
}
