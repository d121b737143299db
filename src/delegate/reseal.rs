//! Another sealing key: every envelope is sealed anew.

use crate::store::{Db, StoreError, Tx};
use crate::trust::seal::{Label, SealError, SealingKey};
use crate::trust::store as certificates;

use super::keys::static_label;
use super::{Delegate, DelegateError, assertion, store};

/// What [`Delegate::reseal`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Envelopes that were sealed anew.
    pub sealed: usize,
    /// Envelopes that the key until now does not open; they stay as they are, of use to nobody.
    pub left: usize,
}

/// Whether something in the store is sealed with this key.
///
/// # Errors
/// [`StoreError`].
pub async fn is_sealed_with(db: &Db, key: &SealingKey) -> Result<bool, StoreError> {
    let envelopes = store::envelopes(db).await?;
    Ok(envelopes.iter().any(|envelope| key.made(envelope)))
}

impl Delegate {
    /// Seals everything anew with `next`, also what has ended: the key until now opens nothing of it any more. It is in
    /// force once `tx` commits, all of it or nothing.
    ///
    /// # Errors
    /// [`DelegateError::Seal`] while the gateway is sealed, or when its key opens nothing of what there is.
    pub async fn reseal(&self, tx: &mut Tx, next: &SealingKey) -> Result<Resealed, DelegateError> {
        let mut done = Resealed::default();
        for row in certificates::all(tx).await? {
            if let Some(sealed) = self.resealed(next, &row.label(), &row.sealed_key, &mut done)? {
                certificates::set_sealed_key(tx, row.id, &sealed).await?;
            }
        }
        for row in store::all_statics(tx).await? {
            let label = static_label(row.vo, &row.tool, row.version);
            if let Some(sealed) = self.resealed(next, &label, &row.sealed, &mut done)? {
                store::set_static_sealed(tx, &row, &sealed).await?;
            }
        }
        for row in store::all_assertion_keys(tx).await? {
            let label = assertion::label(&row.kid);
            if let Some(sealed) = self.resealed(next, &label, &row.sealed, &mut done)? {
                store::set_assertion_sealed(tx, &row.kid, &sealed).await?;
            }
        }
        match done {
            Resealed { sealed: 0, left: 1.. } => Err(SealError::Broken.into()),
            done => Ok(done),
        }
    }

    /// The same secret in an envelope of `next`; `None` when it does not open.
    fn resealed(
        &self,
        next: &SealingKey,
        label: &Label,
        envelope: &[u8],
        done: &mut Resealed,
    ) -> Result<Option<Vec<u8>>, DelegateError> {
        let sealing = self.sealing.as_ref().ok_or(SealError::Sealed)?;
        match sealing.open(label, envelope) {
            Ok(secret) => {
                done.sealed += 1;
                Ok(Some(next.seal(&**self.ids.random(), label, secret.expose())?))
            }
            Err(_) => {
                done.left += 1;
                Ok(None)
            }
        }
    }
}
