//! Keys that others hold: each is certified for one person only.
//!
//! INVARIANT: a key is claimed in the store, where one statement lets one request have it, before the `mint` record is written.

use uuid::Uuid;

use crate::record::{Hash, Mint};
use crate::store::{StoreError, Tx, run, tx_rows};
use crate::trust::{chain, pem};

use super::Delegate;

impl Delegate {
    /// Claims the key of a proxy, for good (where what follows fails, nobody knows how far it came), for its
    /// person and VO. False where it is somebody's already: in the map, that of a VO
    /// certificate, or claimed by another request; `again` lets the person have her own once more.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not claimed.
    pub(super) async fn claim_key(&self, mint: &Mint, again: bool) -> Result<bool, StoreError> {
        let mut tx = self.db.begin_write().await?;
        let first = run!(
            &mut tx,
            "INSERT INTO certified_key (spki, vo_id, version, person, request, created_at) VALUES ($1, $2, 1, $3, $4, $5) \
             ON CONFLICT (spki) DO NOTHING",
            mint.spki.0.as_slice(),
            mint.vo.uuid(),
            mint.person.uuid(),
            mint.request.uuid(),
            self.ids.clock().now().micros(),
        )?;
        let holders = holders(&mut tx, mint.spki).await?;
        let hers = |(person, vo): &(Uuid, Uuid)| *person == mint.person.uuid() && *vo == mint.vo.uuid();
        let free = match again {
            // The claim itself is among them.
            false => first == 1 && holders.len() == 1,
            true => holders.iter().all(hers),
        };
        if !free || is_of_a_vo(&mut tx, mint.spki).await? {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// Whose a key is (person, VO), by claims and by proxies.
async fn holders(tx: &mut Tx, spki: Hash) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
    tx_rows!(
        tx,
        (Uuid, Uuid),
        "SELECT person, vo_id FROM certified_key WHERE spki = $1 UNION ALL \
         SELECT DISTINCT person, vo_id FROM proxy WHERE spki = $1",
        spki.0.as_slice()
    )
}

/// Whether it is that of a VO certificate, those that were replaced included.
async fn is_of_a_vo(tx: &mut Tx, spki: Hash) -> Result<bool, StoreError> {
    let chains = tx_rows!(tx, (String,), "SELECT chain FROM vo_certificate")?;
    Ok(chains.iter().any(|(text,)| {
        let certificates = pem::certificates("vo_certificate", text).unwrap_or_default();
        let mut keys = certificates.iter().filter_map(|der| chain::public_key(der));
        keys.any(|key| Hash::of(&key) == spki)
    }))
}
