//! Where VO certificates rest: one alive for each VO, the older ones ended and kept.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{CertificateId, VoId};
use crate::store::{Db, StoreError, Tx, rows, run};

use super::certificate::{Facts, VoCertificate};
use super::pem;

/// Makes `certificate` the VO's, from `at` on; the one before it ends.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(tx: &mut Tx, certificate: &VoCertificate, at: Timestamp) -> Result<(), StoreError> {
    run!(
        &mut *tx,
        "UPDATE vo_certificate SET ended_at = $1, version = version + 1 WHERE vo_id = $2 AND ended_at IS NULL",
        at.micros(),
        certificate.vo.uuid(),
    )?;
    let chain =
        pem::write(&certificate.chain).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    run!(
        tx,
        "INSERT INTO vo_certificate (id, vo_id, sha256, chain, sealed_key, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        certificate.id.uuid(),
        certificate.vo.uuid(),
        certificate.facts.sha256.0.as_slice(),
        chain.as_str(),
        certificate.sealed_key.as_slice(),
        at.micros(),
    )
    .map(|_| ())
}

/// The certificates of all VOs that are alive.
///
/// # Errors
/// [`StoreError::Inconsistent`] when a row does not hold what was written.
pub async fn alive(db: &Db) -> Result<Vec<VoCertificate>, StoreError> {
    let rows = rows!(
        db,
        (Uuid, Uuid, String, Vec<u8>),
        "SELECT id, vo_id, chain, sealed_key FROM vo_certificate WHERE ended_at IS NULL ORDER BY vo_id",
    )?;
    rows.into_iter().map(certificate).collect()
}

fn certificate(
    (id, vo, chain, sealed_key): (Uuid, Uuid, String, Vec<u8>),
) -> Result<VoCertificate, StoreError> {
    let name = format!("vo_certificate {id}");
    let inconsistent = |error: String| StoreError::Inconsistent(format!("{name}: {error}"));
    let chain = pem::certificates(&name, &chain).map_err(|error| inconsistent(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| inconsistent("no certificate".to_owned()))?;
    let facts = Facts::of(&name, leaf).map_err(|error| inconsistent(error.to_string()))?;
    Ok(VoCertificate {
        id: CertificateId::from(id),
        vo: VoId::from(vo),
        facts,
        chain,
        sealed_key,
    })
}
