//! An account that is erased keeps no way in.

use super::Authenticate;
use crate::id::PersonId;
use crate::store::{StoreError, Tx, run};

impl Authenticate {
    /// Deletes the password, the second factors, the linked certificates, the identities of identity providers, the names of tokens
    /// and the counts of an account. Its sessions, which name
    /// no one, stay for tracing; so do marks on its certificates, which are hashes: a stolen key is nobody's login afterwards
    /// either.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase(&self, tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
        run!(&mut *tx, "DELETE FROM password WHERE person = $1", person.uuid())?;
        run!(
            &mut *tx,
            "DELETE FROM person_certificate WHERE person = $1",
            person.uuid()
        )?;
        super::factor::store::erase(tx, person).await?;
        super::federation::store::erase(tx, person).await?;
        super::personal::erase(tx, person).await?;
        run!(tx, "DELETE FROM login_count WHERE person = $1", person.uuid()).map(|_| ())
    }
}
