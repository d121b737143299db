//! Several identities of one person: another one is added by a sign-in at its provider, in a session that has just begun; and
//! taken away again, with the sessions that began by it.
//!
//! Nothing is ever linked because two providers say the same name or address: both sign-ins are hers, and both are fresh.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::identity::Identity;
use super::{Arrived, FederatedStart, store};
use crate::authenticate::subject::{Session, SessionKind, Subject};
use crate::authenticate::{Authenticate, factor, store as accounts};
use crate::clock::Timestamp;
use crate::id::{IdentityId, RequestId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, SessionEnded};
use crate::store::{StoreError, Tx};
use crate::tool::Assurance;
use crate::vo::{Person, PersonState};

/// How long ago the session, and the sign-in at the provider, may have begun.
const FRESH: Duration = Duration::from_secs(600);
/// By how much two clocks may differ.
const SKEW: Duration = Duration::from_secs(60);
/// Identities that one person may have.
const MOST: usize = 10;

fn failed(error: StoreError) -> Problem {
    error.as_problem()
}

impl Authenticate {
    /// Whoever asks, in a session that has just begun, with her second factor where she has one.
    async fn fresh<'a>(&self, subject: &'a Subject) -> Result<(&'a Arc<Person>, &'a Arc<Session>), Problem> {
        let (person, session) = subject
            .as_person()
            .zip(subject.session())
            .ok_or_else(|| Problem::new(Kind::NoCredential, "nobody is signed in"))?;
        // SECURITY: whoever finds a browser open, or has a token that is lying about, gets no lasting way in by it.
        if self.now().since(session.created) > FRESH {
            let detail = "identities are linked and taken away in a session that has just begun";
            return Err(Problem::new(Kind::StepUpRequired, detail)
                .with("max_age", FRESH.as_secs())
                .instead("Sign out, sign in again, and do it within ten minutes."));
        }
        let bound = factor::store::bound(&self.0.db, person.id)
            .await
            .map_err(failed)?;
        if !bound.is_empty() && session.assurance() < Assurance::Aal2 {
            return Err(factor::step_up(
                "your account has a second factor, which you have not shown",
            ));
        }
        Ok((person, session))
    }

    /// First step: where a browser goes that wants to link an identity of the provider `name`. The provider is told to ask anew.
    ///
    /// # Errors
    /// A [`Problem`]: the session is not fresh, or what [`Authenticate::federated_start`] says.
    pub async fn link_start(
        &self,
        subject: &Subject,
        name: &str,
        (base, to): (&str, &str),
    ) -> Result<FederatedStart, Problem> {
        let (person, session) = self.fresh(subject).await?;
        if session.kind != SessionKind::Browser {
            let detail = "an identity is linked in a browser: the provider shows its page there";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        if self.identities_of(person.id).await.map_err(failed)?.len() >= MOST {
            let detail = format!("an account has at most {MOST} identities");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        self.set_out(name, (base, to), Some(session.id)).await
    }

    /// The identity that is linked by a sign-in at its provider: the same as [`Authenticate::new_identity`], for the person whose
    /// session set out. It is not in the store yet.
    ///
    /// # Errors
    /// A [`Problem`]: another session came back, the sign-in there is not fresh, or the identity has an account already.
    pub fn linked(&self, subject: &Subject, arrived: &Arrived) -> Result<Identity, Problem> {
        let refused = |detail: &str| Problem::new(Kind::SignInRefused, detail);
        let (person, session) = subject
            .as_person()
            .filter(|person| person.state == PersonState::Active)
            .zip(subject.session())
            .ok_or_else(|| refused("you are no longer signed in here, so nothing was linked"))?;
        // SECURITY: the session that comes back is the one that set out; else one person's identity would open another's account.
        if arrived.link != Some(session.id) {
            return Err(refused(
                "another session set out to link this identity, so nothing was linked",
            ));
        }
        let at = arrived.claims.all.get("auth_time").and_then(Value::as_i64);
        let at = at.map(Timestamp::from_secs);
        if at.is_none_or(|at| at < self.now().minus(FRESH + SKEW)) {
            return Err(refused(
                "your home organisation did not ask you to sign in anew, so nothing was linked",
            ));
        }
        match &arrived.known {
            Some(known) if known.person == Some(person.id) => {
                Err(Problem::new(Kind::Conflict, "this identity is yours already"))
            }
            // SECURITY: the same words for whoever waits, was rejected, or has an account: it is not hers to know.
            Some(_) => Err(refused(
                "this identity is known here as somebody else's, so nothing was linked",
            )),
            None => {
                let days = u64::from(arrived.idp.settings.valid_days);
                let until = self.now().plus(Duration::from_secs(days * 24 * 3_600));
                Ok(self.new_identity(arrived)?.admitted(person.id, until))
            }
        }
    }

    /// Takes one of the own identities away, and ends the sessions that began by it. Commit, then [`Authenticate::end`] what ended.
    ///
    /// # Errors
    /// A [`Problem`]: the session is not fresh, there is none of this id, it is the only way in, or the store failed.
    pub async fn unlink_identity(
        &self,
        tx: &mut Tx,
        subject: &Subject,
        id: IdentityId,
        request: RequestId,
    ) -> Result<(Change, Option<SessionEnded>), Problem> {
        let (person, _) = self.fresh(subject).await?;
        let found = store::identity_in(tx, id).await.map_err(failed)?;
        let identity = found
            .filter(|identity| identity.person == Some(person.id))
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("you have no identity `{id}`")))?;
        store::end_identity(tx, id, self.now()).await.map_err(failed)?;
        // Counted within the transaction: of two that are taken away at once one stays.
        let left = store::count_of(tx, person.id).await.map_err(failed)?;
        let password = accounts::password(&self.0.db, person.id).await.map_err(failed)?;
        if left == 0 && password.is_none() {
            return Err(
                Problem::new(Kind::Conflict, "this is your only way in, so it stays")
                    .instead("Link another identity first, or ask an administrator for a password."),
            );
        }
        let ended = self.ending_identity((person.id, id), "identity_unlinked", request);
        Ok((
            identity.change("identity.unlink", Some(identity.state()), None),
            ended,
        ))
    }
}
