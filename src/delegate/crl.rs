//! Revocation: which proxies are not to be trusted any more, and the list of them that each VO certificate signs.

use super::Delegate;
use crate::store::{StoreError, rows};
use crate::trust::certificate::Facts;
use crate::trust::pem;

impl Delegate {
    /// Whether proxies are, or were, minted below a certificate with this subject (DER).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_issuer(&self, subject: &[u8]) -> Result<bool, StoreError> {
        let chains = rows!(&self.db, (String,), "SELECT chain FROM vo_certificate")?;
        let is = |(chain,): &(String,)| {
            let leaf = pem::certificates("vo_certificate", chain)
                .ok()?
                .into_iter()
                .next()?;
            Some(Facts::of("vo_certificate", &leaf).ok()?.subject == subject)
        };
        Ok(chains.iter().any(|chain| is(chain).unwrap_or(false)))
    }
}
