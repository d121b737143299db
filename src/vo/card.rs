//! Cards: the readable details of people, kept outside the log, one row per version.
//!
//! A record holds a card's hash only. The hash covers [`Card::text`] and a random salt, so that nobody can guess a
//! name from it, and whoever is shown text and salt can check that this was the card.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::json;

use super::{VoError, Vos, store};
use crate::clock::Timestamp;
use crate::id::{PersonId, VoId, random_bytes};
use crate::record::{Change, Hash};
use crate::store::{StoreError, Tx};

/// What a card says besides the user name. The fields are checked when the card is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardFields {
    /// Name, as people call her.
    pub name: String,
    /// E-mail address.
    pub mail: Option<String>,
    /// Home organisation.
    pub organisation: Option<String>,
}

/// One version of a person's card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Hash, as records hold it.
    pub hash: Hash,
    /// Whose.
    pub person: PersonId,
    /// Version, from 1.
    pub version: i64,
    /// User name at the time.
    pub username: String,
    /// The other fields.
    pub fields: CardFields,
    /// Salt of the hash.
    pub salt: [u8; 16],
    /// From when it was valid.
    pub since: Timestamp,
    /// Until when; `None` for the present card.
    pub until: Option<Timestamp>,
}

#[derive(Serialize)]
struct Text<'a> {
    person: PersonId,
    version: i64,
    username: &'a str,
    name: &'a str,
    mail: Option<&'a str>,
    organisation: Option<&'a str>,
}

impl Card {
    /// The text that the hash covers, followed by the salt: `SHA-256(text || salt)`. JSON, always in this order.
    #[must_use]
    pub fn text(&self) -> String {
        text(self.person, self.version, &self.username, &self.fields)
    }

    /// Whether the hash is the one of this text and salt.
    #[must_use]
    pub fn is_genuine(&self) -> bool {
        hash(&self.text(), &self.salt) == self.hash
    }
}

fn text(person: PersonId, version: i64, username: &str, fields: &CardFields) -> String {
    let text = Text {
        person,
        version,
        username,
        name: &fields.name,
        mail: fields.mail.as_deref(),
        organisation: fields.organisation.as_deref(),
    };
    // Strings and numbers always serialise.
    serde_json::to_string(&text).unwrap_or_default()
}

fn hash(text: &str, salt: &[u8; 16]) -> Hash {
    Hash::of(&[text.as_bytes(), salt].concat())
}

impl CardFields {
    /// Checks lengths and characters.
    ///
    /// # Errors
    /// [`VoError::Card`] with the field and what it accepts.
    pub fn check(&self) -> Result<(), VoError> {
        let wrong = |field, accepted| Err(VoError::Card { field, accepted });
        if self.name.is_empty() || !is_line(&self.name) {
            return wrong("name", "must be 1 to 200 characters on one line");
        }
        if let Some(mail) = &self.mail
            && (mail.len() > 254 || !is_line(mail) || mail.parse::<lettre::Address>().is_err())
        {
            return wrong("mail", "must be an e-mail address such as jane@example.org");
        }
        if let Some(organisation) = &self.organisation
            && (organisation.is_empty() || !is_line(organisation))
        {
            return wrong("organisation", "must be 1 to 200 characters on one line");
        }
        Ok(())
    }
}

fn is_line(text: &str) -> bool {
    text.chars().count() <= 200 && text.trim() == text && !text.chars().any(char::is_control)
}

impl Vos {
    /// The present card of a person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn card(&self, person: PersonId) -> Result<Option<Card>, StoreError> {
        store::present_card(&self.db, person).await
    }

    /// The cards with these hashes, whoever's and from whenever; unknown hashes are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cards(&self, hashes: &[Hash]) -> Result<HashMap<Hash, Card>, StoreError> {
        let mut cards = HashMap::new();
        for hash in hashes {
            if let Some(card) = store::card(&self.db, *hash).await? {
                cards.insert(*hash, card);
            }
        }
        Ok(cards)
    }

    /// The members of a VO whose present card says `text` somewhere: in user name, name, e-mail address or organisation, in capital or
    /// small letters.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn people_with(&self, vo: VoId, text: &str) -> Result<HashSet<PersonId>, StoreError> {
        // The engines do not agree on what is small of a letter beyond ASCII.
        let wanted = text.to_lowercase();
        let cards = store::present_cards(&self.db, vo).await?;
        let says = |card: &Card| {
            let fields = &card.fields;
            let texts = [
                Some(&card.username),
                Some(&fields.name),
                fields.mail.as_ref(),
                fields.organisation.as_ref(),
            ];
            texts
                .into_iter()
                .flatten()
                .any(|field| field.to_lowercase().contains(&wanted))
        };
        Ok(cards
            .into_iter()
            .filter(|card| says(card))
            .map(|card| card.person)
            .collect())
    }

    /// The present e-mail addresses of these people; those without one are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_of(&self, people: &[PersonId]) -> Result<HashMap<PersonId, String>, StoreError> {
        let mut mails = HashMap::new();
        for person in people {
            if let Some(mail) = self.card(*person).await?.and_then(|card| card.fields.mail) {
                mails.insert(*person, mail);
            }
        }
        Ok(mails)
    }

    /// Gives a person a new card.
    ///
    /// # Errors
    /// [`VoError::Card`] for a bad field, [`VoError::Unknown`] for an unknown or ended person.
    pub async fn edit_card(
        &self,
        tx: &mut Tx,
        person: PersonId,
        fields: &CardFields,
    ) -> Result<Change, VoError> {
        fields.check()?;
        let before = self.living(tx, person).await?;
        let version = store::last_card_version(tx, person).await? + 1;
        let card = self.new_card(person, version, &before.username, fields)?;
        store::end_cards(tx, person, self.now()).await?;
        store::insert_card(tx, &card).await?;
        store::set_card(tx, person, card.hash).await?;
        store::touch_person(tx, person).await?;
        Ok(Change {
            action: "user.edit".into(),
            kind: "person".into(),
            target: person.to_string(),
            vo: before.home,
            person: Some(person),
            before: Some(json!({ "card": before.card })),
            after: Some(json!({ "card": card.hash })),
        })
    }

    pub(super) fn new_card(
        &self,
        person: PersonId,
        version: i64,
        username: &str,
        fields: &CardFields,
    ) -> Result<Card, VoError> {
        let salt = random_bytes::<16>(&**self.ids.random())?;
        Ok(Card {
            hash: hash(&text(person, version, username, fields), &salt),
            person,
            version,
            username: username.to_owned(),
            fields: fields.clone(),
            salt,
            since: self.now(),
            until: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &str, mail: Option<&str>) -> CardFields {
        CardFields {
            name: name.into(),
            mail: mail.map(Into::into),
            organisation: None,
        }
    }

    #[test]
    fn a_card_takes_names_and_addresses_and_nothing_that_breaks_a_line() {
        assert!(fields("Jane Müller", Some("jane@example.org")).check().is_ok());
        for (name, mail) in [
            ("", None),
            ("a\nb", None),
            (" a", None),
            ("Jane", Some("jane")),
            ("Jane", Some("jane@example.org\r\nBcc: x@example.org")),
        ] {
            assert!(fields(name, mail).check().is_err(), "{name:?} {mail:?}");
        }
        assert!(fields(&"x".repeat(201), None).check().is_err());
    }
}
