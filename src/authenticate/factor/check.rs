//! Judging a code, at sign-in and whenever somebody shows her factor anew.

use super::guess::stopped;
use super::store::{self, Bound};
use super::{Used, recovery, secret_label, totp};
use crate::authenticate::Authenticate;
use crate::authenticate::subject::{Session, Subject};
use crate::authenticate::throttle::{CodeKind, Shown};
use crate::id::{FactorId, PersonId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Hash;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::trust::seal::SealingKey;
use crate::vo::Person;

/// What became of a code that was given, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::authenticate) enum Coded {
    /// No factor is bound.
    NotNeeded,
    /// A factor is bound, and no code was given.
    Missing,
    /// What the code is checked against is sealed.
    Sealed,
    /// Not right, or used already.
    Wrong,
    /// Too many at once: seconds to wait.
    Throttled(u32),
    /// So many were wrong that no code of an authenticator is taken any more.
    Stopped,
    /// Right. It is good once: [`store::use_up`] says whether it still is.
    Right(Used),
}

/// What codes are checked against: factor, last step that was taken, secret.
type Opened = (FactorId, i64, Secret<Vec<u8>>);

impl Authenticate {
    /// Judges `code` against the factors of a person. Nothing is used up yet.
    ///
    /// Only for who is otherwise let in: a code that is judged counts.
    pub(in crate::authenticate) async fn judge_code(
        &self,
        person: &Person,
        bound: &[Bound],
        (code, shown): (Option<&Secret<String>>, Shown),
    ) -> Result<Coded, StoreError> {
        if bound.is_empty() {
            return Ok(Coded::NotNeeded);
        }
        // SECURITY: while the gateway is sealed no code can be checked, so nobody who has a factor signs in.
        let Some(key) = self.0.seals.get() else {
            return Ok(Coded::Sealed);
        };
        let Some(code) = code else {
            return Ok(Coded::Missing);
        };
        let opened: Vec<Opened> = bound
            .iter()
            .filter_map(|bound| opened(key, person.id, bound))
            .collect();
        if opened.is_empty() {
            return Ok(Coded::Sealed);
        }
        let recovery = recovery::hash(person.id, code);
        let kind = match recovery {
            Some(_) => CodeKind::Recovery,
            None => CodeKind::Authenticator,
        };
        // SECURITY: taken for right codes too, so that whoever tries many at once meets the end of the cells.
        let attempt = match self.0.throttle.code(person.id, shown, kind) {
            Ok(attempt) => attempt,
            Err(wait) => return Ok(Coded::Throttled(wait)),
        };
        let judged = match recovery {
            Some(hash) => self.judge_recovery(person.id, hash).await,
            None => self.judge_shown(person, &opened, code).await,
        };
        match judged {
            Ok(Coded::Right(_)) => self.0.throttle.forgive_code(&attempt),
            Ok(Coded::Wrong) => {}
            _ => self.0.throttle.undo_code(&attempt),
        }
        judged
    }

    /// A code of an authenticator.
    async fn judge_shown(
        &self,
        person: &Person,
        opened: &[Opened],
        code: &Secret<String>,
    ) -> Result<Coded, StoreError> {
        let Some(place) = self.count_code(person).await? else {
            return Ok(Coded::Stopped);
        };
        let (now, mut right) = (self.now(), None);
        for (factor, last_step, secret) in opened {
            let step = totp::matching(secret.expose(), code.expose(), now, *last_step);
            right = right.or(step.map(|step| Used::Code {
                factor: *factor,
                step,
            }));
        }
        self.judged_code(person.id, place, right.is_some()).await?;
        Ok(right.map_or(Coded::Wrong, Coded::Right))
    }

    async fn judge_recovery(&self, person: PersonId, hash: Hash) -> Result<Coded, StoreError> {
        let good = store::recovery_hashes(&self.0.db, person).await?;
        if !good.contains(&hash) {
            return Ok(Coded::Wrong);
        }
        self.recovered(person).await?;
        let left = i64::try_from(good.len()).unwrap_or(i64::MAX) - 1;
        Ok(Coded::Right(Used::Recovery { hash, left }))
    }

    /// A code that somebody who is signed in shows anew. It is used up with the change that it allows.
    ///
    /// # Errors
    /// A [`Problem`]: no factor, sealed, not right, too many attempts, or the store failed.
    pub async fn fresh_code(&self, subject: &Subject, code: &Secret<String>) -> Result<Used, Problem> {
        let (person, session) = super::own(subject)?;
        self.shown(person, session, code).await?.ok_or_else(wrong_code)
    }

    /// The same; `None` when it is not right, which is counted.
    pub(in crate::authenticate) async fn shown(
        &self,
        person: &Person,
        session: &Session,
        code: &Secret<String>,
    ) -> Result<Option<Used>, Problem> {
        let failed = |error: StoreError| error.as_problem();
        let bound = store::bound(&self.0.db, person.id).await.map_err(failed)?;
        let shown = Shown::Session(session.id);
        let coded = self.judge_code(person, &bound, (Some(code), shown)).await;
        match coded.map_err(failed)? {
            Coded::Right(used) => Ok(Some(used)),
            Coded::Wrong | Coded::Missing => {
                self.failed(person.id, person.home).await.map_err(failed)?;
                Ok(None)
            }
            Coded::Throttled(wait) => Err(throttled(wait)),
            Coded::Stopped => Err(stopped()),
            Coded::Sealed => Err(sealed()),
            Coded::NotNeeded => Err(no_factor()),
        }
    }
}

/// The secret of a factor; `None`, and a line in the log of the program, when it does not open.
fn opened(key: &SealingKey, person: PersonId, bound: &Bound) -> Option<Opened> {
    let id = bound.factor.id;
    match key.open(&secret_label(person, id), &bound.sealed) {
        Ok(secret) => Some((id, bound.last_step, secret)),
        Err(_) => {
            tracing::error!("the factor {id} does not open with the sealing key");
            None
        }
    }
}

/// The answer to a code of somebody who is signed in that is not right.
pub(in crate::authenticate) fn wrong_code() -> Problem {
    let detail = "the code is not right, or was used already";
    Problem::new(Kind::Invalid, detail)
        .with("field", "code")
        .instead("Wait for the next code of your authenticator, or take another recovery code.")
}

/// The answer while codes cannot be checked.
pub(in crate::authenticate) fn sealed() -> Problem {
    let detail = "the gateway is sealed, so no code can be checked";
    Problem::new(Kind::Sealed, detail).instead(
        "Nobody who has a second factor can sign in until the system administrator provides the sealing key; name the request \
         id.",
    )
}

fn no_factor() -> Problem {
    Problem::new(Kind::Invalid, "no second factor is bound to your account")
        .instead("Add one: `countersign factor add`, or the page `/factors` of the gateway.")
}

pub(super) fn throttled(wait: u32) -> Problem {
    Problem::new(Kind::TooManyAttempts, "too many wrong codes for this account").retry_after(wait)
}
