//! Changing and resetting passwords.

use std::sync::Arc;

use serde_json::json;

use super::factor;
use super::login::Verdict;
use super::store;
use super::strength::{MIN_BESIDE_FACTOR, MIN_CHARACTERS};
use super::subject::{Session, Source, Subject};
use super::{Authenticate, AuthenticateError};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, SessionEnded};
use crate::secret::Secret;
use crate::store::{StoreError, Tx};
use crate::tool::Assurance;
use crate::vo::Person;

/// Why sessions ended whose password others may know.
const FLAGGED: &str = "compromised";

/// A new password that was judged and hashed, for the person and session that asked.
#[derive(Clone, Debug)]
pub struct NewPassword {
    person: Arc<Person>,
    session: Arc<Session>,
    hash: String,
    short: bool,
    one_time: bool,
    version: i64,
}

/// A one-time password with its hash.
#[derive(Debug)]
pub struct OneTime {
    password: Secret<String>,
    hash: String,
}

/// An own change of a password. Commit the transaction, then [`Authenticate::forget`] what ended.
#[derive(Debug)]
pub struct PasswordChange {
    /// For the log.
    pub change: Change,
    /// The sessions that end with it, for the log.
    pub ended: Option<SessionEnded>,
}

/// A reset of a password. Commit the transaction, then [`Authenticate::forget`] what ended.
#[derive(Debug)]
pub struct Reset {
    /// The one-time password.
    pub password: Secret<String>,
    /// For the log.
    pub change: Change,
    /// The sessions that end with it, for the log.
    pub ended: Option<SessionEnded>,
}

impl Authenticate {
    /// Judges an own change of the password: the present one must be right and the new one strong. Nothing is written
    /// yet; [`Authenticate::change_password`] does that.
    ///
    /// A session that was opened with a one-time password needs no `current` one. `words` are what anybody would try
    /// for this account (tool names, her name), see [`Authenticate::judge`].
    ///
    /// # Errors
    /// A [`Problem`]: the current password is wrong, the new one is weak, too many attempts, busy, or the store failed.
    pub async fn new_password(
        &self,
        subject: &Subject,
        current: Option<&Secret<String>>,
        new: &Secret<String>,
        words: &[String],
    ) -> Result<NewPassword, Problem> {
        let (Some(person), Some(session)) = (subject.as_person(), subject.session()) else {
            return Err(Problem::new(Kind::NoCredential, "nobody is signed in"));
        };
        // SECURITY: only the short session that a one-time password opened is spared the present password.
        if !session.must_change {
            self.confirm(person, current, "current", subject.source()).await?;
        }
        let bound = factor::store::bound(&self.0.db, person.id).await;
        let bound = bound.map_err(|error| error.as_problem())?;
        let least = match bound.is_empty() {
            true => MIN_CHARACTERS,
            false => MIN_BESIDE_FACTOR,
        };
        self.judge(person.id, new.expose(), least, words)
            .map_err(|weakness| weakness.as_problem())?;
        let stored = store::password(&self.0.db, person.id)
            .await
            .map_err(|error| error.as_problem())?
            .ok_or_else(|| Problem::new(Kind::Conflict, "the account has no password"))?;
        let compared = self.0.hasher.verify(new, Some(&stored.hash)).await;
        if compared.map_err(|error| error.as_problem())?.right {
            let problem = Problem::new(Kind::WeakPassword, "it is the password that you have already");
            return Err(problem.with("reason", "unchanged"));
        }
        let hash = self
            .0
            .hasher
            .hash(new)
            .await
            .map_err(|error| error.as_problem())?;
        Ok(NewPassword {
            person: Arc::clone(person),
            session: Arc::clone(session),
            hash,
            // Looked at again when she signs in: a factor that is taken away meanwhile makes it too short.
            short: factor::is_short(new),
            one_time: stored.one_time,
            version: stored.version,
        })
    }

    /// Whether somebody who is signed in knows her present password; `field` is what the request calls it.
    pub(super) async fn confirm(
        &self,
        person: &Person,
        current: Option<&Secret<String>>,
        field: &str,
        source: Source,
    ) -> Result<(), Problem> {
        let invalid = |detail: &str| Problem::new(Kind::Invalid, detail).with("field", field);
        let current = current.ok_or_else(|| invalid("the present password is needed"))?;
        let checked = self.check(&person.username, current, None, source).await?;
        match checked.verdict {
            // The password is all that is asked about.
            Verdict::Right { .. } | Verdict::CodeNeeded | Verdict::Sealed => Ok(()),
            Verdict::Wrong => Err(invalid("the present password is not right")),
            other => Err(other.problem()),
        }
    }

    /// Writes an own change of the password, and ends the person's other sessions. A session that was opened with a
    /// one-time password ends as well: she signs in with the new one.
    ///
    /// # Errors
    /// A [`Problem`]: the password was changed or reset meanwhile, or the store failed.
    pub async fn change_password(
        &self,
        tx: &mut Tx,
        new: NewPassword,
        request: RequestId,
    ) -> Result<PasswordChange, Problem> {
        let (person, must_change) = (&*new.person, new.session.must_change);
        let kept = (!must_change).then_some(new.session.id);
        let ended = self.ending_all(person.id, kept, "password_changed", Some(request));
        let now = self.now();
        let written = async {
            // SECURITY: a reset that came between wins, and so does the end of the session that asked.
            if !store::is_unchanged(tx, person.id, new.version).await?
                || !store::is_alive(tx, new.session.id).await?
            {
                return Ok(false);
            }
            store::set_password(tx, (person.id, person.home), (&new.hash, new.short), None, now).await?;
            store::end_sessions(tx, person.id, kept, "password_changed", now).await?;
            // SECURITY: not in a session of the password alone, else whoever has one changes it to go on guessing.
            if new.session.assurance() >= Assurance::Aal2 {
                factor::store::forget_codes(tx, person.id).await?;
            }
            Ok(true)
        };
        if !written.await.map_err(|error: StoreError| error.as_problem())? {
            return Err(Problem::new(Kind::Conflict, "the password was changed meanwhile"));
        }
        let before = json!({ "one_time": new.one_time });
        let after = json!({ "one_time": false });
        let change = password_change("user.change_own_password", person, Some(before), after);
        Ok(PasswordChange { change, ended })
    }

    /// Makes a one-time password. It is nobody's until [`Authenticate::reset_password`] or
    /// [`Authenticate::first_password`] gives it to somebody.
    ///
    /// # Errors
    /// [`AuthenticateError`] when the hash cannot be computed.
    pub async fn one_time_password(&self) -> Result<OneTime, AuthenticateError> {
        let password = self.0.hasher.one_time()?;
        let hash = self.0.hasher.hash(&password).await?;
        Ok(OneTime { password, hash })
    }

    /// Gives an account a one-time password and ends all its sessions. Whether the caller may is for others to decide.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reset_password(
        &self,
        tx: &mut Tx,
        person: &Person,
        one_time: OneTime,
        request: RequestId,
    ) -> Result<Reset, StoreError> {
        let password = self.first_password(tx, person.id, person.home, one_time).await?;
        let ended = self.ending_all(person.id, None, "reset", Some(request));
        store::end_sessions(tx, person.id, None, "reset", self.now()).await?;
        // Whoever guessed knew the password that is over now.
        factor::store::forget_codes(tx, person.id).await?;
        let after = json!({ "one_time": true, "expires": self.one_time_expiry().to_string() });
        Ok(Reset {
            password,
            change: password_change("user.reset_password", person, None, after),
            ended,
        })
    }

    /// Gives a new account its one-time password (a part of `user.add`, whose change is the record of it).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_password(
        &self,
        tx: &mut Tx,
        person: PersonId,
        home: VoId,
        one_time: OneTime,
    ) -> Result<Secret<String>, StoreError> {
        let expires = Some(self.one_time_expiry());
        store::set_password(tx, (person, home), (&one_time.hash, false), expires, self.now()).await?;
        Ok(one_time.password)
    }

    /// Whether somebody who is not known may go on: asks for an account with this mail address, or opens a link.
    ///
    /// # Errors
    /// A [`Problem`] when there was too much of it.
    pub fn enrolment_asked(&self, source: Source, mail: Option<&str>) -> Result<(), Problem> {
        self.0.throttle.enrolment(source, mail).map_err(|wait| {
            let detail = "too many requests for accounts from here, or for this mail address";
            Problem::new(Kind::TooManyAttempts, detail).retry_after(wait)
        })
    }

    /// The hash of a password that somebody chose for an account that she is about to have. It was judged.
    ///
    /// # Errors
    /// [`AuthenticateError`] when it cannot be computed.
    pub async fn hash_own(&self, password: &Secret<String>) -> Result<String, AuthenticateError> {
        Ok(self.0.hasher.hash(password).await?)
    }

    /// Gives a new account the password that its owner chose (a part of the change that makes the account).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_own(
        &self,
        tx: &mut Tx,
        account: (PersonId, VoId),
        hash: &str,
    ) -> Result<(), StoreError> {
        store::set_password(tx, account, (hash, false), None, self.now()).await
    }

    /// Notes that others may know the password of an account, and ends all its sessions: the next one opens nothing but the
    /// choice of another password. `None` when the account has no password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flag_password(
        &self,
        tx: &mut Tx,
        person: &Person,
        request: RequestId,
    ) -> Result<Option<PasswordChange>, StoreError> {
        if !store::flag(tx, person.id).await? {
            return Ok(None);
        }
        let ended = self.ending_all(person.id, None, FLAGGED, Some(request));
        store::end_sessions(tx, person.id, None, FLAGGED, self.now()).await?;
        let (before, after) = (json!({ "compromised": false }), json!({ "compromised": true }));
        let change = password_change("user.flag_compromised", person, Some(before), after);
        Ok(Some(PasswordChange { change, ended }))
    }

    fn one_time_expiry(&self) -> Timestamp {
        self.now().plus(self.0.config.one_time_lifetime)
    }
}

fn password_change(
    action: &str,
    person: &Person,
    before: Option<serde_json::Value>,
    after: serde_json::Value,
) -> Change {
    Change {
        action: action.into(),
        kind: "password".into(),
        target: person.id.to_string(),
        vo: person.home,
        person: Some(person.id),
        before,
        after: Some(after),
    }
}
