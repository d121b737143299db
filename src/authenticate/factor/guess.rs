//! An end to guessing. Slowed down, whoever knows a password could still try codes for ever; so those of an authenticator are counted
//! for each person in the store, across restarts and nodes, and a hundred that were not right are the last (SP 800-63B-4 section
//! 3.2.2). A recovery code is none of them: nobody guesses 114 bits, and with it its owner gets in all the same.

use serde_json::json;

use super::{KIND, store};
use crate::authenticate::Authenticate;
use crate::id::PersonId;
use crate::problem::{Kind, Problem};
use crate::record::Change;
use crate::store::{StoreError, Tx};
use crate::vo::Person;

/// Wrong codes after which no code of an authenticator is taken.
pub(in crate::authenticate) const LIMIT: i64 = 100;
/// Wrong codes of which the person is told.
pub(in crate::authenticate) const TOLD: i64 = 10;

/// Wrong codes of which a person is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guessed {
    /// Whose codes they are not.
    pub person: PersonId,
    /// How many there were since the last right one.
    pub count: i64,
}

impl Guessed {
    /// Whether they were the last: no code of an authenticator is taken any more.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.count >= LIMIT
    }

    /// The same for the log.
    #[must_use]
    pub fn change(&self, person: &Person) -> Change {
        let action = match self.is_end() {
            true => "factor.stop_codes",
            false => "factor.note_wrong_codes",
        };
        Change {
            action: action.into(),
            kind: KIND.into(),
            target: person.id.to_string(),
            vo: person.home,
            person: Some(person.id),
            before: None,
            after: Some(json!({ "wrong_codes": self.count })),
        }
    }
}

/// The place of a code in the count.
#[must_use = "what came of the code is said with `Authenticate::judged_code`"]
pub(super) struct Place(i64);

impl Authenticate {
    /// Takes a place for a code, before it is judged; `None` when there is none left.
    // SECURITY: before, so that however many come at once, here or at other nodes, no more are judged than there are places.
    pub(super) async fn count_code(&self, person: &Person) -> Result<Option<Place>, StoreError> {
        let mut tx = self.0.db.begin_write().await?;
        let place = store::count_code(&mut tx, (person.id, person.home), LIMIT).await?;
        tx.commit().await?;
        Ok(place.map(Place))
    }

    /// What came of the code: a wrong one keeps its place, and with a right one the count begins anew.
    pub(super) async fn judged_code(
        &self,
        person: PersonId,
        Place(place): Place,
        is_right: bool,
    ) -> Result<(), StoreError> {
        if !is_right && !matches!(place, TOLD | LIMIT) {
            return Ok(());
        }
        let mut tx = self.0.db.begin_write().await?;
        match is_right {
            true => store::forget_codes(&mut tx, person).await?,
            false => store::tell_codes(&mut tx, person, place).await?,
        }
        tx.commit().await
    }

    /// A recovery code was right: the count begins anew.
    pub(super) async fn recovered(&self, person: PersonId) -> Result<(), StoreError> {
        let mut tx = self.0.db.begin_write().await?;
        store::forget_codes(&mut tx, person).await?;
        tx.commit().await
    }

    /// Wrong codes of which nobody was told yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn guessed(&self) -> Result<Vec<Guessed>, StoreError> {
        store::untold_codes(&self.0.db).await
    }

    /// The person is told with this transaction; `false` when another node was faster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn told_of(&self, tx: &mut Tx, guessed: Guessed) -> Result<bool, StoreError> {
        store::told_codes(tx, guessed).await
    }
}

/// The answer where no code of an authenticator is taken any more.
pub(in crate::authenticate) fn stopped() -> Problem {
    let detail = format!("{LIMIT} codes were wrong, so no code of your authenticator is taken any more");
    Problem::new(Kind::TooManyAttempts, detail).instead(
        "Take a recovery code, or ask an administrator of your virtual organisation to reset your password or your second factors.",
    )
}
