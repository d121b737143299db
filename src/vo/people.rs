//! Accounts and memberships.

use serde_json::{Value, json};

use super::{
    CardFields, Directory, Membership, Person, PersonState, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, VoError,
    Vos, store,
};
use crate::clock::Timestamp;
use crate::id::{PersonId, VoId};
use crate::record::Change;
use crate::store::Tx;

/// Whether `name` may be a user name: ASCII lower-case letters, digits, `.`, `-`, `_`; 2 to 40; a letter first.
///
/// ASCII only, so that there is one spelling of each name and no two look alike in different scripts.
#[must_use]
pub fn is_username(name: &str) -> bool {
    (2..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
}

impl Vos {
    /// Makes an account whose home is `home` (a VO or the gateway). It has no password and no membership yet.
    ///
    /// # Errors
    /// [`VoError::Username`], [`VoError::Card`], [`VoError::Taken`], [`VoError::Unknown`] for the home.
    pub async fn add_person(
        &self,
        tx: &mut Tx,
        home: VoId,
        username: &str,
        fields: &CardFields,
    ) -> Result<(PersonId, Change), VoError> {
        self.add_person_as(tx, home, (username, PersonState::Active), fields)
            .await
    }

    /// The same for an account that begins in another state.
    ///
    /// # Errors
    /// As [`Vos::add_person`].
    pub async fn add_person_as(
        &self,
        tx: &mut Tx,
        home: VoId,
        (username, state): (&str, PersonState),
        fields: &CardFields,
    ) -> Result<(PersonId, Change), VoError> {
        if !is_username(username) {
            return Err(VoError::Username(username.to_owned()));
        }
        fields.check()?;
        self.touch(tx, home).await?;
        let id: PersonId = self.ids.next()?;
        let card = self.new_card(id, 1, username, fields)?;
        let person = Person {
            id,
            username: username.to_owned(),
            home,
            state,
            until: None,
            card: card.hash,
            version: 1,
        };
        store::insert_person(tx, &person, self.now())
            .await
            .map_err(VoError::taken("user", username))?;
        store::insert_card(tx, &card).await?;
        Ok((id, change("user.create", &person, None, Some(state_of(&person)))))
    }

    /// Suspends a person everywhere: she may do nothing until she is resumed.
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended; [`VoError::Undecided`], [`VoError::LastAdministrator`].
    pub async fn suspend_person(&self, tx: &mut Tx, person: PersonId) -> Result<Change, VoError> {
        let gateway = Directory::gateway();
        // Two administrators who suspend each other wait for each other here.
        self.touch(tx, gateway).await?;
        self.keeps_administrator(tx, gateway, person).await?;
        let account = self.decided(tx, person).await?;
        let state = (PersonState::Suspended, account.until);
        self.set_state(tx, person, state, "user.suspend").await
    }

    /// Lets a person in again who was suspended, or whose account had expired; then it expires no more.
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended; [`VoError::Undecided`].
    pub async fn resume_person(&self, tx: &mut Tx, person: PersonId) -> Result<Change, VoError> {
        let until = self.decided(tx, person).await?.until;
        let until = until.filter(|until| *until > self.now());
        self.set_state(tx, person, (PersonState::Active, until), "user.resume")
            .await
    }

    /// Says when an account expires by itself, `None` for never. One whose time is over then has expired; one that had
    /// expired and gets more time is open again.
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended; [`VoError::Undecided`], [`VoError::LastAdministrator`].
    pub async fn expire_person(
        &self,
        tx: &mut Tx,
        person: PersonId,
        until: Option<Timestamp>,
    ) -> Result<Change, VoError> {
        let gateway = Directory::gateway();
        self.touch(tx, gateway).await?;
        if until.is_some() {
            self.keeps_administrator(tx, gateway, person).await?;
        }
        let over = until.is_some_and(|until| until <= self.now());
        // "At once" is now, however long ago it was said to be.
        let until = until.map(|until| until.max(self.now()));
        let state = match self.decided(tx, person).await?.state {
            PersonState::Suspended => PersonState::Suspended,
            _ if over => PersonState::Expired,
            _ => PersonState::Active,
        };
        self.set_state(tx, person, (state, until), "user.expire").await
    }

    /// Writes down that an account has expired; `None` when it has not (any more).
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended.
    pub async fn lapse_person(&self, tx: &mut Tx, person: PersonId) -> Result<Option<Change>, VoError> {
        let account = self.living(tx, person).await?;
        if account.state != PersonState::Active || account.standing(self.now()) != PersonState::Expired {
            return Ok(None);
        }
        let state = (PersonState::Expired, account.until);
        self.set_state(tx, person, state, "user.lapse").await.map(Some)
    }

    /// Decides on an account that was asked for.
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended or is not waiting.
    pub async fn decide_person(
        &self,
        tx: &mut Tx,
        person: PersonId,
        approved: bool,
    ) -> Result<Change, VoError> {
        let (state, action) = match approved {
            true => (PersonState::Active, "account.approve"),
            false => (PersonState::Rejected, "account.reject"),
        };
        match self.living(tx, person).await?.state {
            // A refusal can be thought over.
            PersonState::Pending => {}
            PersonState::Rejected if approved => {}
            _ => return Err(VoError::unknown("request for an account", person)),
        }
        self.set_state(tx, person, (state, None), action).await
    }

    /// Ends an account with all its memberships and assignments. It stays in the store for tracing.
    ///
    /// # Errors
    /// [`VoError::Unknown`], also for an account that has ended; [`VoError::LastAdministrator`].
    pub async fn end_person(&self, tx: &mut Tx, person: PersonId) -> Result<Change, VoError> {
        let until = self.living(tx, person).await?.until;
        for vo in store::levels_of(tx, person).await? {
            self.touch(tx, vo).await?;
            self.keeps_administrator(tx, vo, person).await?;
        }
        let change = self
            .set_state(tx, person, (PersonState::Ended, until), "user.end")
            .await?;
        store::end_all_memberships(tx, person, self.now()).await?;
        Ok(change)
    }

    /// The account, where it is not still to be decided whether there is to be one.
    async fn decided(&self, tx: &mut Tx, person: PersonId) -> Result<Person, VoError> {
        let account = self.living(tx, person).await?;
        match account.state {
            state @ (PersonState::Pending | PersonState::Rejected) => Err(VoError::Undecided(state.as_str())),
            _ => Ok(account),
        }
    }

    async fn set_state(
        &self,
        tx: &mut Tx,
        id: PersonId,
        (state, until): (PersonState, Option<Timestamp>),
        action: &str,
    ) -> Result<Change, VoError> {
        let before = self.living(tx, id).await?;
        store::touch_person(tx, id).await?;
        let ended = (state == PersonState::Ended).then(|| self.now());
        store::set_person_state(tx, id, (state, until), ended).await?;
        let after = Person {
            state,
            until,
            ..before.clone()
        };
        Ok(change(
            action,
            &before,
            Some(state_of(&before)),
            Some(state_of(&after)),
        ))
    }

    /// Makes a person a member of a VO.
    ///
    /// # Errors
    /// [`VoError::Taken`] when she is one already, [`VoError::Unknown`] for the person or the VO.
    pub async fn join(&self, tx: &mut Tx, vo: VoId, person: PersonId) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        let account = self.living(tx, person).await?;
        let membership = Membership {
            id: self.ids.next()?,
            vo,
            person,
        };
        store::insert_membership(tx, &membership, self.now())
            .await
            .map_err(VoError::taken("member", &account.username))?;
        Ok(Change {
            vo,
            ..change("user.add", &account, None, Some(json!({ "member": true })))
        })
    }

    /// Ends a membership and every role held through it. The account stays.
    ///
    /// # Errors
    /// [`VoError::NotAMember`], [`VoError::LastAdministrator`].
    pub async fn leave(&self, tx: &mut Tx, vo: VoId, person: PersonId) -> Result<Change, VoError> {
        self.touch(tx, vo).await?;
        let account = store::find_person(tx, person)
            .await?
            .ok_or_else(|| VoError::unknown("user", person))?;
        self.keeps_administrator(tx, vo, person).await?;
        let held = store::roles_held(tx, vo, person).await?;
        let roles: Vec<String> = held.into_iter().map(|(role, _)| role).collect();
        if store::end_membership(tx, vo, person, self.now()).await? == 0 {
            return Err(VoError::NotAMember);
        }
        store::end_assignments(tx, vo, person, self.now()).await?;
        Ok(Change {
            vo,
            ..change(
                "user.remove",
                &account,
                Some(json!({ "member": true, "roles": roles })),
                None,
            )
        })
    }

    /// The account, unless it has ended.
    pub(super) async fn living(&self, tx: &mut Tx, id: PersonId) -> Result<Person, VoError> {
        store::find_person(tx, id)
            .await?
            .filter(|person| person.state != PersonState::Ended)
            .ok_or_else(|| VoError::unknown("user", id))
    }

    /// Refuses when `person` is the only one left who administers `vo` without an end.
    pub(super) async fn keeps_administrator(
        &self,
        tx: &mut Tx,
        vo: VoId,
        person: PersonId,
    ) -> Result<(), VoError> {
        let name = if vo == Directory::gateway() {
            SYSTEM_ADMINISTRATOR
        } else {
            VO_ADMINISTRATOR
        };
        let held = store::roles_held(tx, vo, person).await?;
        let Some(role) = store::role(tx, vo, name).await? else {
            return Ok(());
        };
        let holds = held.iter().any(|(held, until)| held == name && until.is_none());
        if holds && store::other_holders(tx, role, person).await? == 0 {
            return Err(VoError::LastAdministrator(name));
        }
        Ok(())
    }
}

/// A person as records show her: nothing that names her.
fn state_of(person: &Person) -> Value {
    // The end of an account is not its deletion alone: the word of the records is older than that of the answers.
    let state = match person.state {
        PersonState::Ended => "ended",
        state => state.as_str(),
    };
    let mut said = json!({ "state": state, "home": person.home, "card": person.card });
    if let (Some(until), Value::Object(said)) = (person.until, &mut said) {
        said.insert("until".into(), until.to_string().into());
    }
    said
}

fn change(action: &str, person: &Person, before: Option<Value>, after: Option<Value>) -> Change {
    Change {
        action: action.into(),
        kind: "person".into(),
        target: person.id.to_string(),
        vo: person.home,
        person: Some(person.id),
        before,
        after,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn user_names_have_one_spelling() {
        for good in ["jane", "john.smith", "a1", "x_y-z"] {
            assert!(is_username(good), "{good}");
        }
        for bad in [
            "",
            "j",
            "Jane",
            "jane smith",
            "1jane",
            ".jane",
            "jäne",
            "jane\n",
            &"a".repeat(41),
        ] {
            assert!(!is_username(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_user_name_is_its_own_lower_case_and_needs_no_escape(name in "\\PC{0,45}") {
            if is_username(&name) {
                prop_assert_eq!(name.to_lowercase(), name.clone());
                prop_assert!(name.is_ascii() && !name.contains(['/', '%', ' ', ':', '@']));
            }
        }
    }
}
