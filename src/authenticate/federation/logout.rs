//! Back-channel logout: a provider says that somebody is signed out there, and her sessions that began there end here.

use super::store;
use super::token::{self, Expected, Flaw};
use crate::authenticate::{Authenticate, Session, SessionKind};
use crate::id::{IdentityId, PersonId, RequestId, SessionId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Hash, SessionEnded};

/// Why those sessions ended.
const REASON: &str = "provider_logout";

impl Authenticate {
    /// Judges a logout token of the provider `name`: what ends by it, `None` when that is nothing. Record it, then
    /// [`Authenticate::end`].
    ///
    /// # Errors
    /// A [`Problem`]: 400 the token is not accepted or was used already, 404 there is no such provider, 503 it does not answer.
    pub async fn federated_logout(
        &self,
        name: &str,
        logout_token: &str,
        request: RequestId,
    ) -> Result<Option<SessionEnded>, Problem> {
        let idp = self.idp(name).await?;
        let clock = &**self.0.ids.clock();
        let provider = self.0.federation.providers.of(&idp)?;
        let metadata = provider.metadata(&idp, false, clock).await?;
        let expected = Expected {
            issuer: &idp.settings.issuer,
            client: &idp.settings.client_id,
            now: self.now(),
        };
        let keys = provider.keys(&idp, &metadata.keys, false, clock).await?;
        let judged = match token::logout_token(logout_token, &keys, expected) {
            Err(Flaw::Key) => {
                let keys = provider.keys(&idp, &metadata.keys, true, clock).await?;
                token::logout_token(logout_token, &keys, expected)
            }
            judged => judged,
        };
        let refused = |why: String| {
            Problem::new(
                Kind::Malformed,
                format!("the logout token is not accepted: {why}"),
            )
        };
        let logout = judged.map_err(|flaw| refused(flaw.to_string()))?;
        let once = Hash::of(format!("logout {} {}", idp.id, logout.id).as_bytes());
        // Longer than the token is good for, by as much as clocks may differ.
        let good = logout.expires.since(self.now()) + std::time::Duration::from_secs(120);
        let (used, mono) = (&self.0.federation.used, clock.monotonic());
        if !used.take(once, mono.saturating_add(good), mono) {
            return Err(refused("it was used already".to_owned()));
        }
        let known = store::known(&self.0.db, &idp.settings.issuer, &logout.subject).await;
        let known = known.map_err(|error| error.as_problem())?;
        let hers = known.and_then(|identity| Some((identity.person?, identity.id)));
        Ok(hers.and_then(|(person, identity)| self.ending_identity((person, identity), REASON, request)))
    }

    /// What ending every session of a person that began by this identity would end; `None` when that is nothing.
    pub(super) fn ending_identity(
        &self,
        (person, identity): (PersonId, IdentityId),
        reason: &str,
        request: RequestId,
    ) -> Option<SessionEnded> {
        // Whoever signs out at home does not mean the tokens of her scripts.
        let stays = |session: &Session| reason == REASON && matches!(session.kind, SessionKind::Personal(_));
        let began_by = |session: &Session| {
            session.identity.as_ref().is_some_and(|by| by.id == identity) && !stays(session)
        };
        let sessions: Vec<SessionId> = self
            .sessions_of(person)
            .into_iter()
            .filter(|(session, _)| began_by(session))
            .map(|(session, _)| session.id)
            .collect();
        (!sessions.is_empty()).then(|| SessionEnded {
            request: Some(request),
            person,
            sessions,
            reason: reason.to_owned(),
        })
    }
}
