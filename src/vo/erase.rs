//! Erasure of a person: her cards are destroyed and her name goes from the account. What is left is the random id that records,
//! proxies and resources hold: it says that one and the same person did these things, not who.

use serde_json::json;

use super::{Directory, VoError, Vos, store};
use crate::clock::Timestamp;
use crate::id::PersonId;
use crate::record::{Change, Hash};
use crate::store::{StoreError, Tx, run, tx_rows};

impl Vos {
    /// Destroys all cards of a person and takes the user name from the account, which must have ended.
    ///
    /// # Errors
    /// [`VoError::Unknown`] for a person whom there never was or whose account has not ended.
    pub async fn erase_person(&self, tx: &mut Tx, person: PersonId) -> Result<Change, VoError> {
        let cards = tx_rows!(
            &mut *tx,
            (Vec<u8>,),
            "SELECT hash FROM card WHERE person = $1 ORDER BY version",
            person.uuid()
        )?;
        let ended = run!(
            &mut *tx,
            "UPDATE person SET username = '', version = version + 1 WHERE id = $1 AND state = 'ended'",
            person.uuid()
        )?;
        if ended == 0 {
            return Err(VoError::unknown("ended account", person));
        }
        run!(&mut *tx, "DELETE FROM card WHERE person = $1", person.uuid())?;
        run!(&mut *tx, "DELETE FROM enrolment WHERE person = $1", person.uuid())?;
        let hashes = cards
            .into_iter()
            .map(|(digest,)| store::hash(digest))
            .collect::<Result<Vec<Hash>, StoreError>>()?;
        Ok(Change {
            action: "person.erase".into(),
            kind: "person".into(),
            target: person.to_string(),
            // The account may have had its home anywhere; its erasure is the gateway's.
            vo: Directory::gateway(),
            person: Some(person),
            before: Some(json!({ "cards": hashes })),
            after: Some(json!({ "cards": [] })),
        })
    }

    /// Destroys the cards that were replaced before `before`: whoever was minted a proxy under one of them cannot be asked
    /// for any more. Gives one change for each person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn destroy_old_cards(&self, tx: &mut Tx, before: Timestamp) -> Result<Vec<Change>, VoError> {
        type Row = (Vec<u8>, uuid::Uuid);
        let cards = tx_rows!(
            &mut *tx,
            Row,
            "SELECT hash, person FROM card WHERE ended_at < $1 ORDER BY person, version",
            before.micros()
        )?;
        let mut changes: Vec<Change> = Vec::new();
        for (digest, person) in cards {
            let (hash, person) = (store::hash(digest)?, PersonId::from(person));
            run!(&mut *tx, "DELETE FROM card WHERE hash = $1", hash.0.to_vec())?;
            changes.push(Change {
                action: "card.destroy".into(),
                kind: "person".into(),
                target: person.to_string(),
                vo: Directory::gateway(),
                person: Some(person),
                before: Some(json!({ "card": hash })),
                after: None,
            });
        }
        Ok(changes)
    }
}
