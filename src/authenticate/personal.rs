//! Personal access tokens: what a script shows in its person's place.
//!
//! Each is a session of its own kind, with a name, a scope and an end; so whatever ends sessions (a reset, a suspension,
//! another password) ends it, and every record of its use has its id. Only somebody who has just signed in makes one, and
//! none makes another.
//!
//! The text is `cst_pat_` and 48 characters: 32 random bytes and the first four of the SHA-256 of prefix and bytes, in
//! base64url. So a scanner finds one in a file, and a slip of the pen is told from a token that has ended.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::factor;
use super::recognise::Refusal;
use super::scope::Scope;
use super::subject::{Session, SessionKind, Source, Subject};
use super::{Authenticate, AuthenticateError, store};
use crate::clock::Timestamp;
use crate::id::{PersonId, Random, RandomError, RequestId, SessionId, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Hash, SessionEnded};
use crate::secret::Secret;
use crate::store::{StoreError, Tx, run, tx_rows};
use crate::tool::Assurance;
use crate::vo::Person;

/// What every personal access token begins with.
const PREFIX: &str = "cst_pat_";
/// Bytes of the checksum.
const CHECK: usize = 4;
/// Characters of a whole token.
const LENGTH: usize = PREFIX.len() + 48;
/// How a record says that a token was shown, and not what its person knows or has.
const METHOD: &str = "token";
/// Why one ended that was taken back.
pub(super) const REVOKED: &str = "token_revoked";
/// How long after she has shown who she is somebody makes tokens.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Tokens that one person may have at a time.
const MOST: i64 = 50;
/// Longest name, in characters.
const LONGEST_NAME: usize = 60;

/// A personal access token, as its session has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Personal {
    /// What its person calls it.
    pub name: String,
    /// What it is for.
    pub scope: Scope,
}

/// A token that is asked for.
#[derive(Clone, Debug)]
pub struct TokenAsk<'a> {
    /// What its person calls it.
    pub name: &'a str,
    /// What it is for.
    pub scope: Scope,
    /// When it ends.
    pub expires: Timestamp,
}

/// A token that is good for nothing until [`Authenticate::write_token`] is committed and the service [refreshed].
///
/// [refreshed]: Authenticate::refresh
#[derive(Debug)]
pub struct NewToken {
    by: Arc<Session>,
    person: Arc<Person>,
    session: Session,
    hash: Hash,
    /// Its text: shown once, to its person.
    pub token: Secret<String>,
}

impl NewToken {
    /// Its session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }
}

/// Whether a text is meant as a personal access token.
pub(super) fn is_meant(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Whether it is one whole, as it was shown.
pub(super) fn is_whole(text: &str) -> bool {
    // SECURITY: nothing secret is compared: the checksum only tells slips of the pen, and the token is looked up by its hash.
    let decoded = text
        .strip_prefix(PREFIX)
        .filter(|_| text.len() == LENGTH)
        .and_then(|rest| BASE64URL_NOPAD.decode(rest.as_bytes()).ok());
    let decoded = decoded.map(Secret::new);
    let parts = decoded
        .as_ref()
        .and_then(|decoded| decoded.expose().split_last_chunk::<CHECK>());
    parts.is_some_and(|(secret, sum)| checksum(secret) == Some(*sum))
}

fn checksum(secret: &[u8]) -> Option<[u8; CHECK]> {
    let both = Secret::new([PREFIX.as_bytes(), secret].concat());
    Hash::of(both.expose()).0.first_chunk().copied()
}

/// A fresh token with the hash under which it is kept.
fn fresh(random: &dyn Random) -> Result<(Secret<String>, Hash), RandomError> {
    let secret = Secret::new(random_bytes::<32>(random)?);
    let text = written(secret.expose());
    let hash = Hash::of(text.expose().as_bytes());
    Ok((text, hash))
}

fn written(secret: &[u8; 32]) -> Secret<String> {
    let sum = checksum(secret).unwrap_or_default();
    let bytes = Secret::new([secret.as_slice(), &sum].concat());
    Secret::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(bytes.expose())))
}

impl Authenticate {
    /// Makes a token for somebody who has just shown who she is, with her second factor where she has one. Nothing is
    /// written yet.
    ///
    /// # Errors
    /// A [`Problem`]: she has not just signed in, no name or an unfit one, no scope, an end that is not accepted, the store.
    pub async fn new_token(&self, subject: &Subject, ask: TokenAsk<'_>) -> Result<NewToken, Problem> {
        let both = subject.as_person().zip(subject.session());
        let (person, by) = both.ok_or_else(|| Problem::new(Kind::NoCredential, "nobody is signed in"))?;
        self.just_signed_in(person.id, by).await?;
        let name = named(ask.name)?;
        if ask.scope.parts.is_empty() && !ask.scope.myproxy {
            return Err(invalid(
                "scopes",
                "a token is for something: name a VO, a tool or a task",
            ));
        }
        let now = self.now();
        let most = self.0.config.personal_lifetime;
        if ask.expires <= now || ask.expires > now.plus(most) {
            let days = most.as_secs() / 86_400;
            let detail = format!("`expires` must lie ahead, and at most {days} days from now");
            return Err(Problem::new(Kind::Invalid, detail).with("field", "expires"));
        }
        let failed = |error: AuthenticateError| error.as_problem();
        let (token, hash) = fresh(&**self.0.ids.random()).map_err(|error| failed(error.into()))?;
        let session = Session {
            id: self.0.ids.next().map_err(|error| failed(error.into()))?,
            person: person.id,
            kind: SessionKind::Personal(Arc::new(Personal {
                name,
                scope: ask.scope,
            })),
            created: now,
            expires: ask.expires,
            // SECURITY: whoever holds the text has it; a second factor that its person showed says nothing of them.
            methods: vec![METHOD.to_owned()],
            acr: Assurance::Aal1.as_str().to_owned(),
            must_change: false,
            // SECURITY: an identity that is taken away takes along what was made with it.
            identity: by.identity.clone(),
        };
        Ok(NewToken {
            by: Arc::clone(by),
            person: Arc::clone(person),
            session,
            hash,
            token,
        })
    }

    /// SECURITY: a session that is left open, or stolen later, makes nothing that outlives it; neither does a certificate or
    /// a proxy, which may be of an hour.
    async fn just_signed_in(&self, person: PersonId, session: &Session) -> Result<(), Problem> {
        if !matches!(session.kind, SessionKind::Browser | SessionKind::Token) {
            let detail = "a token is made in a session that was signed in for, in the browser or by `countersign login`";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let bound = factor::store::bound(&self.0.db, person).await;
        let has_factor = !bound.map_err(|error| error.as_problem())?.is_empty();
        let short = has_factor && session.assurance() < Assurance::Aal2;
        if !short && self.is_fresh(session) {
            return Ok(());
        }
        let detail = "a token is made by somebody who has shown who she is in the last quarter of an hour";
        let problem = Problem::new(Kind::StepUpRequired, detail).with("max_age", FRESH.as_secs());
        Err(match has_factor {
            true => problem.with("acr_values", Assurance::Aal2.as_str()),
            false => {
                problem.instead("Sign in again (`countersign login`, or sign out and in), and try again.")
            }
        })
    }

    /// Whether somebody has shown so lately who she is that what outlives the session may be made in it.
    #[must_use]
    pub fn is_fresh(&self, session: &Session) -> bool {
        // Showing a second factor begins a session.
        self.now().since(session.created) < FRESH
    }

    /// Writes a token down, in the transaction that its change is committed with.
    ///
    /// # Errors
    /// A [`Problem`]: the session that asked ended meanwhile, too many tokens, or the store failed.
    pub async fn write_token(&self, tx: &mut Tx, new: &NewToken) -> Result<Change, Problem> {
        let failed = |error: StoreError| error.as_problem();
        if !store::is_alive(tx, new.by.id).await.map_err(failed)? {
            let detail = "the session has ended meanwhile";
            return Err(Problem::new(Kind::WrongCredential, detail));
        }
        let (person, session) = (&new.person, &new.session);
        if alive(tx, person.id, session.created).await.map_err(failed)? >= MOST {
            let detail = format!("a person has at most {MOST} tokens at a time; revoke one first");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        store::insert_session(tx, session, person.home, Some(new.hash))
            .await
            .map_err(failed)?;
        let Some(personal) = session.kind.personal() else {
            return Err(Problem::new(Kind::Internal, "this is no token"));
        };
        insert(tx, session.id, person, personal).await.map_err(failed)?;
        Ok(Change {
            action: "token.create".into(),
            kind: "token".into(),
            target: session.id.to_string(),
            vo: person.home,
            person: Some(person.id),
            before: None,
            after: Some(json!({
                "scopes": personal.scope.parts,
                "read_only": personal.scope.read_only,
                "myproxy": personal.scope.myproxy,
                "expires": session.expires.to_string(),
            })),
        })
    }

    /// The tokens of a person that are alive, oldest first, with when each was last used.
    #[must_use]
    pub fn tokens_of(&self, person: PersonId) -> Vec<(Arc<Session>, Timestamp)> {
        let mut sessions = self.sessions_of(person);
        sessions.retain(|(session, _)| session.kind.personal().is_some());
        sessions
    }

    /// What revoking a token of a person would end; `None` when she has no such token. Record it, then
    /// [`Authenticate::end`].
    #[must_use]
    pub fn revoking(&self, person: PersonId, id: SessionId, request: RequestId) -> Option<SessionEnded> {
        let session = self.session(id)?;
        let own = session.person == person && session.kind.personal().is_some();
        own.then(|| self.ending(id, REVOKED, Some(request))).flatten()
    }

    /// Who shows a token; `username` where one is given with it.
    pub(super) fn by_personal(
        &self,
        token: &Secret<String>,
        username: Option<&str>,
        source: Source,
    ) -> Result<Subject, Box<Refusal>> {
        let wrong = |detail: &str| Problem::new(Kind::WrongCredential, detail);
        if !is_whole(token.expose()) {
            let detail = "this is no whole access token: its checksum is not right";
            return Err(Refusal::stranger(wrong(detail)));
        }
        let session = self
            .0
            .sessions
            .by_token(&Hash::of(token.expose().as_bytes()), self.now())
            .filter(|session| session.kind.personal().is_some());
        let subject = session.and_then(|session| self.person_of(session, source));
        let subject =
            subject.ok_or_else(|| Refusal::stranger(wrong("the access token is unknown or has ended")))?;
        // SECURITY: who says that she is john gets nothing as mary, so that no log at either end is misread.
        if let (Some(username), Some(person)) = (username, subject.as_person())
            && person.username != username.trim().to_lowercase()
        {
            let problem = wrong("the access token is not this user's");
            return Err(Refusal::attempted(problem, Arc::clone(person), METHOD));
        }
        Ok(subject)
    }
}

fn invalid(field: &str, detail: &str) -> Problem {
    Problem::new(Kind::Invalid, detail).with("field", field)
}

fn named(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let length = name.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) || name.chars().any(crate::tool::is_unseen) {
        let detail = format!("`name` must have 1 to {LONGEST_NAME} characters, and no control characters");
        return Err(invalid("name", &detail));
    }
    Ok(name.to_owned())
}

/// How many tokens of a person are alive, seen inside a transaction.
async fn alive(tx: &mut Tx, person: PersonId, now: Timestamp) -> Result<i64, StoreError> {
    let found = tx_rows!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM session WHERE person = $1 AND kind = 'personal' AND ended_at IS NULL AND expires_at > $2",
        person.uuid(),
        now.micros()
    )?;
    Ok(found.first().map_or(0, |(count,)| *count))
}

async fn insert(tx: &mut Tx, id: SessionId, person: &Person, personal: &Personal) -> Result<(), StoreError> {
    let scope = serde_json::to_string(&personal.scope)
        .map_err(|_| StoreError::Inconsistent(format!("the scope of token {id} cannot be written")))?;
    run!(
        tx,
        "INSERT INTO personal_token (session, vo_id, person, name, scope) VALUES ($1, $2, $3, $4, $5)",
        id.uuid(),
        person.home.uuid(),
        person.id.uuid(),
        personal.name.as_str(),
        scope
    )
    .map(|_| ())
}

/// A token's session as it stands in the store.
pub(super) fn stored(id: uuid::Uuid, name: String, scope: &str) -> Result<SessionKind, StoreError> {
    let scope = serde_json::from_str(scope)
        .map_err(|_| StoreError::Inconsistent(format!("token {id} has a scope that cannot be read")))?;
    Ok(SessionKind::Personal(Arc::new(Personal { name, scope })))
}

/// Deletes what a person calls her tokens and what they are for, when her account is erased. Their sessions stay, as others do.
pub(super) async fn erase(tx: &mut Tx, person: PersonId) -> Result<(), StoreError> {
    run!(tx, "DELETE FROM personal_token WHERE person = $1", person.uuid()).map(|_| ())
}

/// The fuzz target of a token's text (see `crate::fuzz`): whatever is taken for a whole one is exactly what is written for
/// its bytes, and no other text is taken for the same one.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && is_whole(text)
    {
        assert!(is_meant(text) && text.is_ascii());
        let bytes = BASE64URL_NOPAD.decode(&data[PREFIX.len()..]).unwrap();
        let secret: &[u8; 32] = bytes.first_chunk().unwrap();
        assert_eq!(written(secret).expose(), text);
    }
    let mut secret = [0; 32];
    for (to, from) in secret.iter_mut().zip(data) {
        *to = *from;
    }
    let text = written(&secret);
    assert!(is_whole(text.expose()) && text.expose().len() == LENGTH);
    // One character changed, left out or added is told.
    let at = data.first().map_or(0, |byte| usize::from(*byte)) % LENGTH;
    let with = data.get(1).map_or(b'A', |byte| 33 + byte % 94);
    let mut other = text.expose().clone().into_bytes();
    if other[at] != with {
        other[at] = with;
        assert!(!is_whole(std::str::from_utf8(&other).unwrap()));
    }
    other.remove(at);
    assert!(!is_whole(std::str::from_utf8(&other).unwrap()));
    assert!(!is_whole(&format!("{}{}", text.expose(), char::from(with))));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_a_token_is_fixed() {
        let text = written(&[7; 32]);
        assert_eq!(
            text.expose(),
            "cst_pat_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc4tFL1"
        );
        assert!(is_whole(text.expose()));
        for other in ["", "cst_", PREFIX, "cst_BwcHBwcH", &text.expose().to_lowercase()] {
            assert!(!is_whole(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_whole_as_it_was_shown_and_not_otherwise(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz(&data);
        }

        #[test]
        fn any_text_is_judged(text in "(cst_pat_)?\\PC{0,60}") {
            fuzz(text.as_bytes());
        }
    }
}
