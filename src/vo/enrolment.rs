//! Accounts on their way: asked for by strangers and decided by reviewers, or offered by administrators.
//!
//! A code that is good once stands between a request (or an invitation) and an account: only its hash is kept. From the moment
//! at which there is an account, what is known of its person stands on her card and nowhere else.

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use uuid::Uuid;

use super::store;
use super::{CardFields, VoError, Vos, is_username};
use crate::clock::Timestamp;
use crate::id::{EnrolmentId, PersonId, VoId, random_bytes};
use crate::record::{Change, Hash};
use crate::secret::Secret;
use crate::store::{StoreError, Tx, rows, run, tx_rows};

/// Most requests of one VO that wait for their confirmation, or for a decision.
const MOST_WAITING: i64 = 1_000;
/// Longest text that says why somebody asks, or why not, in characters.
const LONGEST_TEXT: usize = 1_000;
/// How many names are tried for an account whose name somebody else has.
const NAMES: usize = 50;

/// What an enrolment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentKind {
    /// Somebody asks for an account.
    Request,
    /// An administrator offers one.
    Invitation,
}

impl EnrolmentKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Invitation => "invitation",
        }
    }
}

/// An account on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Id.
    pub id: EnrolmentId,
    /// For which VO.
    pub vo: VoId,
    /// `open`, `pending`, `approved`, `rejected`, `used`, `revoked`.
    pub state: String,
    /// User name, as it is wished for.
    pub username: Option<String>,
    /// Name, mail address and organisation, where there is no card yet.
    pub name: Option<String>,
    /// Mail address.
    pub mail: Option<String>,
    /// Home organisation.
    pub organisation: Option<String>,
    /// Why somebody asks.
    pub said: Option<String>,
    /// Roles that an invitation gives.
    pub roles: Vec<String>,
    /// When those end by themselves.
    pub roles_until: Option<Timestamp>,
    /// The account, once there is one.
    pub person: Option<PersonId>,
    /// Who invited.
    pub made_by: Option<PersonId>,
    /// What the applicant was told.
    pub message: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Until when its code is good.
    pub expires: Timestamp,
}

/// What an enrolment is made of.
#[derive(Clone, Debug, Default)]
pub struct NewEnrolment<'a> {
    /// User name that is wished for.
    pub username: Option<&'a str>,
    /// Name.
    pub name: Option<&'a str>,
    /// Mail address.
    pub mail: Option<&'a str>,
    /// Home organisation.
    pub organisation: Option<&'a str>,
    /// Why somebody asks.
    pub said: Option<&'a str>,
    /// Roles.
    pub roles: &'a [String],
    /// When those end by themselves.
    pub roles_until: Option<Timestamp>,
    /// Who invites.
    pub made_by: Option<PersonId>,
}

type Row = (
    Uuid,
    Uuid,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    Option<i64>,
    Option<Uuid>,
    Option<Uuid>,
    Option<String>,
    i64,
    i64,
);

fn enrolment(row: Row) -> Enrolment {
    let (
        id,
        vo,
        state,
        username,
        name,
        mail,
        organisation,
        said,
        roles,
        until,
        person,
        made_by,
        message,
        at,
        end,
    ) = row;
    Enrolment {
        id: id.into(),
        vo: vo.into(),
        state,
        username,
        name,
        mail,
        organisation,
        said,
        roles: roles
            .split(' ')
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
        roles_until: until.map(Timestamp),
        person: person.map(PersonId::from),
        made_by: made_by.map(PersonId::from),
        message,
        created: Timestamp(at),
        expires: Timestamp(end),
    }
}

fn change(action: &str, enrolment: &Enrolment, before: Option<&str>, after: serde_json::Value) -> Change {
    Change {
        action: action.into(),
        kind: "enrolment".into(),
        target: enrolment.id.to_string(),
        vo: enrolment.vo,
        person: enrolment.person,
        before: before.map(|state| json!({ "state": state })),
        after: Some(after),
    }
}

impl Vos {
    /// Whether a VO takes requests for accounts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn takes_requests(&self, vo: VoId) -> Result<bool, StoreError> {
        let found = rows!(
            &self.db,
            (i64,),
            "SELECT opened_at FROM enrolment_open WHERE vo_id = $1",
            vo.uuid()
        )?;
        Ok(!found.is_empty())
    }

    /// Lets a VO take requests for accounts, or no more of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_requests(&self, tx: &mut Tx, vo: VoId, open: bool) -> Result<Change, StoreError> {
        let done = match open {
            true => run!(
                &mut *tx,
                "INSERT INTO enrolment_open (vo_id, opened_at) VALUES ($1, $2) ON CONFLICT (vo_id) DO NOTHING",
                vo.uuid(),
                self.now().micros()
            )?,
            false => run!(&mut *tx, "DELETE FROM enrolment_open WHERE vo_id = $1", vo.uuid())?,
        };
        let before = if done == 1 { !open } else { open };
        Ok(Change {
            action: "account.take_requests".into(),
            kind: "vo".into(),
            target: vo.to_string(),
            vo,
            person: None,
            before: Some(json!({ "open": before })),
            after: Some(json!({ "open": open })),
        })
    }

    /// Notes a request or an invitation; gives its code, which is good until `expires`, once. The fields were checked.
    ///
    /// # Errors
    /// [`VoError::Waiting`] where too many wait; no random bytes, or the store failed.
    pub async fn enrol(
        &self,
        tx: &mut Tx,
        (vo, kind): (VoId, EnrolmentKind),
        new: NewEnrolment<'_>,
        expires: Timestamp,
    ) -> Result<(Enrolment, Secret<String>, Change), VoError> {
        let waiting = tx_rows!(
            &mut *tx,
            (i64,),
            "SELECT count(*) FROM enrolment WHERE vo_id = $1 AND kind = $2
             AND (state = 'pending' OR (state = 'open' AND expires_at > $3))",
            vo.uuid(),
            kind.as_str(),
            self.now().micros()
        )?;
        if waiting.first().is_some_and(|(count,)| *count >= MOST_WAITING) {
            return Err(VoError::Waiting);
        }
        let code = random_bytes::<32>(&**self.ids.random())?;
        let code = Secret::new(BASE64URL_NOPAD.encode(&code));
        let made = Enrolment {
            id: self.ids.next()?,
            vo,
            state: "open".into(),
            username: new.username.map(str::to_owned),
            name: new.name.map(str::to_owned),
            mail: new.mail.map(str::to_owned),
            organisation: new.organisation.map(str::to_owned),
            said: new.said.map(str::to_owned),
            roles: new.roles.to_vec(),
            roles_until: new.roles_until,
            person: None,
            made_by: new.made_by,
            message: None,
            created: self.now(),
            expires,
        };
        run!(
            &mut *tx,
            "INSERT INTO enrolment (id, vo_id, version, kind, state, code, username, name, mail, organisation, said, roles,
                 roles_until, made_by, created_at, expires_at)
             VALUES ($1, $2, 1, $3, 'open', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            made.id.uuid(),
            vo.uuid(),
            kind.as_str(),
            Hash::of(code.expose().as_bytes()).0.to_vec(),
            made.username.as_deref(),
            made.name.as_deref(),
            made.mail.as_deref(),
            made.organisation.as_deref(),
            made.said.as_deref(),
            made.roles.join(" "),
            made.roles_until.map(Timestamp::micros),
            made.made_by.map(PersonId::uuid),
            made.created.micros(),
            made.expires.micros()
        )?;
        // No name and no address: records hold neither.
        let after = match kind {
            EnrolmentKind::Request => json!({ "state": "open", "expires": expires.to_string() }),
            EnrolmentKind::Invitation => json!({
                "state": "open", "expires": expires.to_string(), "roles": made.roles, "by": made.made_by,
            }),
        };
        let action = match kind {
            EnrolmentKind::Request => "account.request",
            EnrolmentKind::Invitation => "invitation.create",
        };
        let change = change(action, &made, None, after);
        Ok((made, code, change))
    }

    /// What a code is good for at this moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolment_of(
        &self,
        kind: EnrolmentKind,
        code: &Secret<String>,
    ) -> Result<Option<Enrolment>, StoreError> {
        let found = rows!(
            &self.db,
            Row,
            "SELECT id, vo_id, state, username, name, mail, organisation, said, roles, roles_until, person, made_by,
                 message, created_at, expires_at FROM enrolment
             WHERE code = $1 AND kind = $2 AND state = 'open' AND expires_at > $3",
            Hash::of(code.expose().as_bytes()).0.to_vec(),
            kind.as_str(),
            self.now().micros()
        )?;
        Ok(found.into_iter().next().map(enrolment))
    }

    /// Uses a code up for the account of `person`; `false` when somebody was faster, or it was taken back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_enrolment(
        &self,
        tx: &mut Tx,
        used: &Enrolment,
        person: PersonId,
        state: &'static str,
    ) -> Result<bool, StoreError> {
        // SECURITY: judged again inside the transaction; a code leads to one account.
        let changed = run!(
            tx,
            "UPDATE enrolment SET state = $2, code = NULL, name = NULL, mail = NULL, organisation = NULL, person = $3,
                 version = version + 1
             WHERE id = $1 AND state = 'open' AND code IS NOT NULL AND expires_at > $4",
            used.id.uuid(),
            state,
            person.uuid(),
            self.now().micros()
        )?;
        Ok(changed == 1)
    }

    /// The record of a code that was used up.
    #[must_use]
    pub fn used(&self, action: &str, used: &Enrolment, person: PersonId, state: &str) -> Change {
        Change {
            person: Some(person),
            ..change(
                action,
                used,
                Some("open"),
                json!({ "state": state, "person": person }),
            )
        }
    }

    /// A user name that is free: the one that is wished for, else the same with a number.
    ///
    /// # Errors
    /// [`VoError::Taken`] where all that are tried are taken; the store failed.
    pub async fn free_username(&self, tx: &mut Tx, wished: &str) -> Result<String, VoError> {
        let base: String = wished.chars().take(37).collect();
        let names = std::iter::once(wished.to_owned()).chain((2..NAMES).map(|n| format!("{base}{n}")));
        for name in names {
            if is_username(&name) && !store::is_username_taken(tx, &name).await? {
                return Ok(name);
            }
        }
        Err(VoError::taken("user", wished)(StoreError::Taken))
    }

    /// Enrolments of a VO in a state, oldest first, at most `limit` after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolments(
        &self,
        (vo, kind): (VoId, EnrolmentKind),
        state: &str,
        (after, limit): (Option<EnrolmentId>, usize),
    ) -> Result<Vec<Enrolment>, StoreError> {
        let after = after.map_or_else(Uuid::nil, EnrolmentId::uuid);
        let found = rows!(
            &self.db,
            Row,
            "SELECT id, vo_id, state, username, name, mail, organisation, said, roles, roles_until, person, made_by,
                 message, created_at, expires_at FROM enrolment
             WHERE vo_id = $1 AND kind = $2 AND state = $3 AND id > $4 ORDER BY id LIMIT $5",
            vo.uuid(),
            kind.as_str(),
            state,
            after,
            i64::try_from(limit).unwrap_or(i64::MAX)
        )?;
        Ok(found.into_iter().map(enrolment).collect())
    }

    /// One enrolment of a VO, as it is within a transaction.
    ///
    /// # Errors
    /// [`VoError::Unknown`].
    pub async fn enrolment(
        &self,
        tx: &mut Tx,
        (vo, kind): (VoId, EnrolmentKind),
        id: EnrolmentId,
    ) -> Result<Enrolment, VoError> {
        let found = tx_rows!(
            tx,
            Row,
            "SELECT id, vo_id, state, username, name, mail, organisation, said, roles, roles_until, person, made_by,
                 message, created_at, expires_at FROM enrolment
             WHERE id = $1 AND vo_id = $2 AND kind = $3",
            id.uuid(),
            vo.uuid(),
            kind.as_str()
        )?;
        let found = found.into_iter().next().map(enrolment);
        found.ok_or_else(|| VoError::unknown(kind.as_str(), id))
    }

    /// Ends an enrolment as `approved`, `rejected` or `revoked`; `message` is what the applicant is told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_enrolment(
        &self,
        tx: &mut Tx,
        settled: &Enrolment,
        (state, action): (&'static str, &str),
        (by, message): (PersonId, Option<&str>),
    ) -> Result<Change, StoreError> {
        run!(
            tx,
            "UPDATE enrolment SET state = $2, code = NULL, decided_by = $3, decided_at = $4, message = $5, version = version + 1
             WHERE id = $1",
            settled.id.uuid(),
            state,
            by.uuid(),
            self.now().micros(),
            message
        )?;
        Ok(change(
            action,
            settled,
            Some(&settled.state),
            json!({ "state": state }),
        ))
    }

    /// Forgets requests that were never confirmed and whose code is good no more: strangers' names and addresses.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_unconfirmed(&self) -> Result<u64, StoreError> {
        let mut tx = self.db.begin_write().await?;
        let gone = run!(
            &mut tx,
            "DELETE FROM enrolment WHERE state = 'open' AND kind = 'request' AND expires_at <= $1",
            self.now().micros()
        )?;
        tx.commit().await?;
        Ok(gone)
    }

    /// User names of a VO's other accounts whose card has this mail address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn others_with_mail(
        &self,
        vo: VoId,
        person: PersonId,
        mail: &str,
    ) -> Result<Vec<String>, StoreError> {
        let found = rows!(
            &self.db,
            (String,),
            "SELECT p.username FROM person p JOIN card c ON c.hash = p.card
             WHERE p.vo_id = $1 AND p.id <> $2 AND p.ended_at IS NULL AND lower(c.mail) = lower($3)
             ORDER BY p.username LIMIT 10",
            vo.uuid(),
            person.uuid(),
            mail
        )?;
        Ok(found.into_iter().map(|(username,)| username).collect())
    }
}

/// Checks what somebody gives who asks for an account.
///
/// # Errors
/// [`VoError::Username`], [`VoError::Card`].
pub fn check_request(username: &str, fields: &CardFields, said: &str) -> Result<(), VoError> {
    if !is_username(username) {
        return Err(VoError::Username(username.chars().take(60).collect()));
    }
    fields.check()?;
    if fields.mail.is_none() {
        return Err(VoError::Card {
            field: "mail",
            accepted: "must be an e-mail address such as jane@example.org",
        });
    }
    check_text("reason", said)
}

/// Checks a text of some lines that people read.
///
/// # Errors
/// [`VoError::Card`].
pub fn check_text(field: &'static str, said: &str) -> Result<(), VoError> {
    let bad = |c: char| c.is_control() && c != '\n';
    if said.trim().is_empty() || said.chars().count() > LONGEST_TEXT || said.contains(bad) {
        let accepted = "must be text of 1 to 1000 characters";
        return Err(VoError::Card { field, accepted });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_gives_a_name_an_address_and_a_reason() {
        let fields = |mail: Option<&str>| CardFields {
            name: "Jane Doe".into(),
            mail: mail.map(str::to_owned),
            organisation: None,
        };
        let mail = fields(Some("jane@example.org"));
        assert!(check_request("jane", &mail, "I work\non images").is_ok());
        assert!(check_request("Jane", &mail, "x").is_err());
        assert!(check_request("jane", &fields(None), "x").is_err());
        assert!(check_request("jane", &fields(Some("jane")), "x").is_err());
        for said in ["", " \n", "a\u{7}b", &"x".repeat(LONGEST_TEXT + 1)] {
            assert!(check_request("jane", &mail, said).is_err(), "{said:?}");
        }
    }
}
