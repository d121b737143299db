//! Judging a code, at sign-in and whenever somebody shows her factor anew.

use super::store::{self, Bound};
use super::{Used, recovery, secret_label, totp};
use crate::authenticate::Authenticate;
use crate::authenticate::subject::Subject;
use crate::id::PersonId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::secret::Secret;
use crate::store::StoreError;
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
    /// Right. It is good once: [`store::use_up`] says whether it still is.
    Right(Used),
}

impl Authenticate {
    /// Judges `code` against the factors of a person. Nothing is used up yet.
    pub(in crate::authenticate) async fn judge_code(
        &self,
        person: PersonId,
        bound: &[Bound],
        code: Option<&Secret<String>>,
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
        let (now, mut opened, mut right) = (self.now(), 0, None);
        for Bound {
            factor,
            sealed,
            last_step,
        } in bound
        {
            let Ok(secret) = key.open(&secret_label(person, factor.id), sealed) else {
                tracing::error!("the factor {} does not open with the sealing key", factor.id);
                continue;
            };
            opened += 1;
            let step = totp::matching(secret.expose(), code.expose(), now, *last_step);
            right = right.or(step.map(|step| Used::Code {
                factor: factor.id,
                step,
            }));
        }
        if opened == 0 {
            return Ok(Coded::Sealed);
        }
        if right.is_none()
            && let Some(hash) = recovery::hash(person, code)
        {
            let good = store::recovery_hashes(&self.0.db, person).await?;
            let left = i64::try_from(good.len()).unwrap_or(i64::MAX) - 1;
            right = good.contains(&hash).then_some(Used::Recovery { hash, left });
        }
        Ok(right.map_or(Coded::Wrong, Coded::Right))
    }

    /// A code that somebody who is signed in shows anew. It is used up with the change that it allows.
    ///
    /// # Errors
    /// A [`Problem`]: no factor, sealed, not right, too many attempts, or the store failed.
    pub async fn fresh_code(&self, subject: &Subject, code: &Secret<String>) -> Result<Used, Problem> {
        let person = subject
            .as_person()
            .ok_or_else(|| Problem::new(Kind::NoCredential, "nobody is signed in"))?;
        self.shown(person, code).await?.ok_or_else(wrong_code)
    }

    /// The same; `None` when it is not right, which is counted.
    pub(in crate::authenticate) async fn shown(
        &self,
        person: &Person,
        code: &Secret<String>,
    ) -> Result<Option<Used>, Problem> {
        let failed = |error: StoreError| error.as_problem();
        let bound = store::bound(&self.0.db, person.id).await.map_err(failed)?;
        self.0.throttle.code(person.id).map_err(throttled)?;
        let coded = self.judge_code(person.id, &bound, Some(code)).await;
        match coded.map_err(failed) {
            Ok(Coded::Right(used)) => {
                self.0.throttle.forgive_code(person.id);
                Ok(Some(used))
            }
            Ok(Coded::Wrong | Coded::Missing) => {
                self.failed(person.id, person.home).await.map_err(failed)?;
                Ok(None)
            }
            other => {
                self.0.throttle.undo_code(person.id);
                Err(match other {
                    Ok(Coded::Sealed) => sealed(),
                    Ok(_) => no_factor(),
                    Err(problem) => problem,
                })
            }
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
