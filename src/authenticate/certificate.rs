//! Signing in with a grid certificate or a proxy of it: the names of an end entity, linked to a person.
//!
//! The listener hands over what a client showed ([`Presented`]); every request is judged anew: chain, revocation lists,
//! link and account. A *link* is issuer and subject of the end entity, the very bytes; a renewed certificate with the same
//! names stays linked. Only an administrator of the account's home links, since whoever has a link has the account, and only
//! what this gateway would let in at that moment, with a proof that its key wants it. A mark as compromised stays with names and
//! key when the link has ended.

use std::sync::{Arc, OnceLock};

use http::request::Parts;
use moka::sync::Cache;
use serde_json::json;
use uuid::Uuid;

use super::basic::Journal;
use super::credential::{self, Initiator};
use super::possession::Account;
use super::recognise::{Refusal, foreign_origin};
use super::subject::{Session, SessionKind, Source, Subject};
use super::{Authenticate, login, store};
use crate::clock::Timestamp;
use crate::id::{LinkId, PersonId, SessionId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Event, Hash, Login};
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::tool::Place;
use crate::trust::chain::{self, EndEntity, Policy, Verified};
use crate::trust::client::Trust;
use crate::trust::store as certificates;
use crate::vo::{Person, PersonState};

/// How a person showed who she is (RFC 8176): proof of possession of a key.
const METHOD: &str = "pop";
const KEPT_AT_MOST: u64 = 10_000;
/// Links that one person may have.
const LINKS_AT_MOST: usize = 20;

/// What a client of the certificate listener showed, and proved to hold the key of, when its connection began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The certificates (DER), the client's own first.
    pub chain: Vec<Vec<u8>>,
    /// The name that it asked for in the handshake (SNI).
    pub server_name: Option<String>,
}

/// Whom the certificate listener trusts, and the sessions of those who came.
pub(super) struct Certificates {
    trust: OnceLock<Arc<Trust>>,
    /// By the SHA-256 of the client's own certificate.
    sessions: Cache<Hash, SessionId>,
    // INVARIANT: held while a session begins, so that first requests at once make one and not several.
    beginning: tokio::sync::Mutex<()>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            trust: OnceLock::new(),
            sessions: Cache::new(KEPT_AT_MOST),
            beginning: tokio::sync::Mutex::default(),
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({:?})", self.trust.get())
    }
}

/// A certificate by which a person signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id.
    pub id: LinkId,
    /// Whose.
    pub person: PersonId,
    /// The end entity's issuer (DER).
    pub issuer: Vec<u8>,
    /// The end entity's subject (DER).
    pub subject: Vec<u8>,
    /// Since when.
    pub created: Timestamp,
    /// When it was marked as compromised; from then on it lets nobody in.
    pub compromised: Option<Timestamp>,
    /// Why.
    pub note: Option<String>,
}

impl Link {
    /// Both names as a record has them: it must name no one.
    #[must_use]
    pub fn names(&self) -> Hash {
        names(&self.issuer, &self.subject)
    }
}

fn names(issuer: &[u8], subject: &[u8]) -> Hash {
    Hash::of(&[issuer, subject].concat())
}

impl Authenticate {
    /// Lets people in by certificates that `trust` takes. Once.
    pub fn trusting(&self, trust: Arc<Trust>) {
        let _ = self.0.certificates.trust.set(trust);
    }

    /// Who may name people by certificates, where such a listener is.
    #[must_use]
    pub fn trust(&self) -> Option<&Trust> {
        self.0.certificates.trust.get().map(Arc::as_ref)
    }

    /// Who asks on a connection of the certificate listener. The certificate is the credential: another one beside it is
    /// refused, cookies are not looked at.
    ///
    /// # Errors
    /// [`Refusal`]: 400 two credentials, 401 for a chain that does not hold (any more), one that is linked to nobody, or
    /// one marked as compromised, 403 foreign origin.
    pub async fn by_certificate(
        &self,
        head: &Parts,
        place: &Place,
        presented: &Presented,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Subject, Box<Refusal>> {
        if credential::authorization(&head.headers)?.is_some() {
            let detail = "on this address the certificate is the credential; leave out `Authorization`";
            return Err(Refusal::stranger(Problem::new(Kind::TwoCredentials, detail)));
        }
        // SECURITY: browsers show certificates by themselves, so another site's page must not be able to use one.
        if credential::initiator(head) == Initiator::Foreign {
            return Err(Refusal::stranger(foreign_origin()));
        }
        let verified = self.judge_chain(presented).map_err(Refusal::stranger)?;
        let failed = |error: StoreError| Refusal::stranger(error.as_problem());
        let link = linked(&self.0.db, &verified.end_entity).await.map_err(failed)?;
        let person = link
            .as_ref()
            .and_then(|link| self.0.directory.load().person(link.person).cloned());
        let (Some(link), Some(person)) = (link, person) else {
            let subject = &verified.end_entity.subject_text;
            let detail = format!("no account is linked to the certificate `{subject}`");
            return Err(Refusal::stranger(refused(&detail).instead(
                "An administrator of your virtual organisation links it: `countersign user certificate add VO USER FILE --proof FILE`.",
            )));
        };
        let marked = mark(&self.0.db, &verified.end_entity).await.map_err(failed)?;
        if link.compromised.is_some() || marked.is_some() {
            let detail = "this certificate was marked as compromised";
            return Err(Refusal::attempted(refused(detail), person, METHOD));
        }
        let subject = match self
            .certificate_session(&person, &verified, presented, source, journal)
            .await
        {
            Ok(session) => Subject::person(person, session, source),
            Err(problem) => return Err(Refusal::attempted(problem, person, METHOD)),
        };
        self.refuse_what_is_due(subject, place)
    }

    /// The chain as it is now: connections outlive certificates, lists and trust.
    fn judge_chain(&self, presented: &Presented) -> Result<Verified, Problem> {
        let trust = self.trust();
        let trust = trust.ok_or_else(|| refused("certificates are not accepted here"))?;
        let verified = trust
            .verify(&presented.chain)
            .map_err(|flaw| refused(&flaw.to_string()))?;
        // SECURITY: a limited proxy is what a job carries; whoever gets hold of one on a worker node must not become its
        // person here, where jobs can be started. An independent one says that it does not act for her.
        match verified.policy {
            Policy::InheritAll => Ok(verified),
            policy => Err(refused(&format!(
                "the policy of this proxy is {}; accepted: inheritAll in every proxy of the chain",
                policy.as_str()
            ))),
        }
    }

    /// The session of this very certificate; begun and recorded when there is none.
    async fn certificate_session(
        &self,
        person: &Person,
        verified: &Verified,
        presented: &Presented,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Arc<Session>, Problem> {
        let own = presented
            .chain
            .first()
            .map(|der| Hash::of(der))
            .unwrap_or_default();
        let alive = || {
            let id = self.0.certificates.sessions.get(&own)?;
            let session = self.0.sessions.by_id(id, self.now())?;
            (session.person == person.id).then_some(session)
        };
        if let Some(session) = alive() {
            return Ok(session);
        }
        let state = person.standing(self.now());
        if state != PersonState::Active {
            return Err(login::stopped(state));
        }
        let _beginning = self.0.certificates.beginning.lock().await;
        if let Some(session) = alive() {
            return Ok(session);
        }
        let session = self
            .begin_by_certificate(person, verified, source, journal)
            .await?;
        self.0.certificates.sessions.insert(own, session.id);
        Ok(session)
    }

    async fn begin_by_certificate(
        &self,
        person: &Person,
        verified: &Verified,
        source: Source,
        journal: &Journal<'_>,
    ) -> Result<Arc<Session>, Problem> {
        let problem = |error: StoreError| error.as_problem();
        // SECURITY: every proxy that is minted for a VO has its certificate as the end entity. Neither is one linked nor a linked
        // one imported; a row that came here past both lets nobody in.
        let mut tx = self.0.db.begin_read().await.map_err(problem)?;
        let of_vo = certificates::is_of_vo(&mut tx, &verified.end_entity, self.trust()).await;
        drop(tx);
        if of_vo.map_err(problem)? {
            return Err(refused(OF_VO));
        }
        let now = self.now();
        let id = self.0.ids.next();
        let session = Arc::new(Session {
            id: id.map_err(|_| Problem::new(Kind::Internal, "no random bytes can be had"))?,
            person: person.id,
            kind: SessionKind::Certificate,
            created: now,
            expires: now.plus(self.0.config.token_lifetime).min(verified.not_after),
            methods: vec![METHOD.into()],
            acr: login::ACR_PASSWORD.into(),
            must_change: false,
            identity: None,
        });
        let login = Login {
            request: journal.request,
            person: Some(person.id),
            card: Some(person.card),
            session: Some(session.id),
            methods: session.methods.clone(),
            result: "ok".into(),
            count: self.logins(person.id).await.map_err(problem)?.logins + 1,
            source: source.network(),
            certificate: Some(verified.end_entity.sha256),
            federated: None,
        };
        // INVARIANT: the login is on record before its session is worth anything.
        (journal.write)(vec![Event::Login(login)]).await?;
        if !self
            .write_certificate(&session, person, verified)
            .await
            .map_err(problem)?
        {
            return Err(refused("the link of this certificate was ended meanwhile"));
        }
        if let Some(ended) = self.surplus(&session, journal.request) {
            (journal.write)(vec![Event::SessionEnded(ended.clone())]).await?;
            self.end(&ended).await.map_err(problem)?;
        }
        Ok(session)
    }

    /// Begins the session; false when the link was ended or marked since it was read.
    async fn write_certificate(
        &self,
        session: &Arc<Session>,
        person: &Person,
        verified: &Verified,
    ) -> Result<bool, StoreError> {
        let _changing = self.0.changing.lock().await;
        let mut tx = self.0.db.begin_write().await?;
        // SECURITY: touched inside the transaction, so that an end of the link comes before the session or ends it.
        let touched = run!(
            &mut tx,
            "UPDATE person_certificate SET version = version, spki = $4
             WHERE person = $1 AND issuer = $2 AND subject = $3 AND ended_at IS NULL AND compromised_at IS NULL",
            person.id.uuid(),
            verified.end_entity.issuer.as_slice(),
            verified.end_entity.subject.as_slice(),
            verified.end_entity.spki.0.as_slice()
        )?;
        if touched != 1 {
            return Ok(false);
        }
        store::insert_session(&mut tx, session, person.home, None).await?;
        store::count_login(&mut tx, person.id, person.home, session.created).await?;
        tx.commit().await?;
        let live = super::session::Live::new(Arc::clone(session), None, session.created);
        self.0.sessions.insert(live);
        Ok(true)
    }

    /// The certificates by which a person signs in, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn links(&self, person: PersonId) -> Result<Vec<Link>, StoreError> {
        links(&self.0.db, person).await
    }

    /// The end entity that a chain (DER) stands for, if it could sign in at this moment and `proof` (base64) shows that whoever holds its
    /// key wants it linked to `account`.
    ///
    /// # Errors
    /// A [`Problem`]: 422 when there is none, or it leads to no CA that is trusted here, is out of its time or revoked, or the proof
    /// is not its key's; 409 when no CAs are trusted here.
    pub fn judge_link(
        &self,
        chain: &[Vec<u8>],
        account: &Account<'_>,
        proof: Option<&str>,
    ) -> Result<EndEntity, Problem> {
        let invalid = |detail: String| Problem::new(Kind::Invalid, detail);
        let chain = chain::without_proxies(chain).ok_or_else(|| {
            let detail = "`certificate` holds no end entity's certificate; accepted: the one that the CA issued, in PEM";
            invalid(detail.to_owned())
        })?;
        let trust = self.trust().ok_or_else(|| {
            let detail = "no certificate can be judged here: this gateway trusts no CA to name people; \
                          `trust` in `[certificate_listener]` says which";
            Problem::new(Kind::Conflict, detail)
        })?;
        // SECURITY: a link is an account's credential; whatever could be pasted here could be made by anybody.
        let verified = trust.verify(chain).map_err(|flaw| {
            invalid(format!(
                "this certificate could not sign in: {flaw}; accepted: a certificate that is valid now and leads to a CA that \
                 is trusted here, with the certificates between them"
            ))
        })?;
        // SECURITY: certificates are public. Who links that of somebody else to an account of her own would have him act as that
        // account when he comes with it, and keep him from his own.
        account.prove(&verified.end_entity, proof).map_err(invalid)?;
        Ok(verified.end_entity)
    }

    /// Links an end entity, which [`Authenticate::judge_link`] let pass, to a person. So a link, and a mark that was set on one, say
    /// that its virtual organisation was shown the key, and count everywhere.
    ///
    /// # Errors
    /// A [`Problem`]: 409 when it is linked already, or she has too many, or it is a VO's, or marked as compromised; the store
    /// failed.
    pub async fn link(
        &self,
        tx: &mut Tx,
        person: &Person,
        end_entity: &EndEntity,
    ) -> Result<(LinkId, Change), Problem> {
        let problem = |error: StoreError| error.as_problem();
        // SECURITY: every proxy that is minted for a VO has its certificate as the end entity.
        let of_vo = certificates::is_of_vo(tx, end_entity, self.trust()).await;
        if of_vo.map_err(problem)? {
            return Err(Problem::new(Kind::Conflict, OF_VO));
        }
        if let Some((id, at)) = mark(&self.0.db, end_entity).await.map_err(problem)? {
            let detail = format!(
                "this certificate, or its key, was marked as compromised at {at} (`{id}`); a system administrator who knows better \
                 lifts that"
            );
            let refused = Problem::new(Kind::Conflict, detail).with("mark", id.to_string());
            return Err(refused.instead("A system administrator: `countersign user certificate clear ID`."));
        }
        if linked(&self.0.db, end_entity).await.map_err(problem)?.is_some() {
            // Whose it is is told to nobody: it may be an account of another virtual organisation.
            let detail = "this certificate is linked to an account already";
            return Err(Problem::new(Kind::Conflict, detail));
        }
        if self.links(person.id).await.map_err(problem)?.len() >= LINKS_AT_MOST {
            let detail = format!("an account has at most {LINKS_AT_MOST} certificates");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        let id: LinkId = self
            .0
            .ids
            .next()
            .map_err(|_| Problem::new(Kind::Internal, "no random bytes can be had"))?;
        let inserted = run!(
            tx,
            "INSERT INTO person_certificate (id, person, vo_id, issuer, subject, created_at, spki) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            id.uuid(),
            person.id.uuid(),
            person.home.uuid(),
            end_entity.issuer.as_slice(),
            end_entity.subject.as_slice(),
            self.now().micros(),
            end_entity.spki.0.as_slice()
        );
        inserted.map_err(problem)?;
        let names = names(&end_entity.issuer, &end_entity.subject);
        let after = json!({ "names": names, "state": "active" });
        Ok((id, change("user.add_certificate", person, id, None, Some(after))))
    }

    /// Ends a link. Sessions that it let in are for the caller to end.
    ///
    /// # Errors
    /// A [`Problem`]: 404 when she has no such link; the store failed.
    pub async fn unlink(&self, tx: &mut Tx, person: &Person, id: LinkId) -> Result<Change, Problem> {
        let link = self.link_of(person, id).await?;
        let ended = run!(
            tx,
            "UPDATE person_certificate SET ended_at = $1, version = version + 1 WHERE id = $2 AND ended_at IS NULL",
            self.now().micros(),
            id.uuid()
        );
        ended.map_err(|error| error.as_problem())?;
        Ok(change(
            "user.remove_certificate",
            person,
            id,
            Some(state(&link)),
            None,
        ))
    }

    /// Marks a link as compromised: it lets nobody in from here on. Names and key cannot be linked to anybody, also when the link
    /// has ended, until [`Authenticate::clear`].
    ///
    /// # Errors
    /// A [`Problem`]: 404 when she has no such link; the store failed.
    pub async fn mark_compromised(
        &self,
        tx: &mut Tx,
        person: &Person,
        id: LinkId,
        note: &str,
    ) -> Result<Change, Problem> {
        let link = self.link_of(person, id).await?;
        let marked = run!(
            tx,
            "UPDATE person_certificate SET compromised_at = COALESCE(compromised_at, $1), note = $2, version = version + 1
             WHERE id = $3 AND ended_at IS NULL",
            self.now().micros(),
            note,
            id.uuid()
        );
        marked.map_err(|error| error.as_problem())?;
        let kept = run!(
            tx,
            "INSERT INTO compromised_certificate (id, vo_id, names, spki, created_at)
             SELECT id, vo_id, $1, spki, $2 FROM person_certificate WHERE id = $3 AND ended_at IS NULL
             ON CONFLICT (id) DO UPDATE SET ended_at = NULL, spki = excluded.spki, version = compromised_certificate.version + 1",
            link.names().0.as_slice(),
            self.now().micros(),
            id.uuid()
        );
        kept.map_err(|error| error.as_problem())?;
        let after = json!({ "names": link.names(), "state": "compromised", "note": note });
        Ok(change(
            "user.mark_certificate",
            person,
            id,
            Some(state(&link)),
            Some(after),
        ))
    }

    /// Lifts the mark that was set on a link: names and key can be linked again. The link itself, where it is there still, stays as
    /// it is.
    ///
    /// # Errors
    /// A [`Problem`]: 404 when there is no such mark; the store failed.
    pub async fn clear(&self, tx: &mut Tx, id: LinkId) -> Result<Change, Problem> {
        let problem = |error: StoreError| error.as_problem();
        let found = tx_rows!(
            &mut *tx,
            (Uuid, Vec<u8>),
            "SELECT vo_id, names FROM compromised_certificate WHERE id = $1 AND ended_at IS NULL",
            id.uuid()
        );
        let Some((vo, names)) = found.map_err(problem)?.into_iter().next() else {
            let detail = format!("there is no mark `{id}` on a certificate");
            return Err(Problem::new(Kind::NotFound, detail));
        };
        let ended = run!(
            tx,
            "UPDATE compromised_certificate SET ended_at = $1, version = version + 1 WHERE id = $2",
            self.now().micros(),
            id.uuid()
        );
        ended.map_err(problem)?;
        let names = data_encoding::HEXLOWER.encode(&names);
        Ok(Change {
            action: "user.clear_certificate".into(),
            kind: "person_certificate".into(),
            target: id.to_string(),
            vo: vo.into(),
            person: None,
            before: Some(json!({ "names": names, "state": "compromised" })),
            after: Some(json!({ "names": names, "state": "cleared" })),
        })
    }

    async fn link_of(&self, person: &Person, id: LinkId) -> Result<Link, Problem> {
        let links = self.links(person.id).await.map_err(|error| error.as_problem())?;
        let unknown = || {
            Problem::new(
                Kind::NotFound,
                format!("there is no certificate `{id}` of this account"),
            )
        };
        links.into_iter().find(|link| link.id == id).ok_or_else(unknown)
    }
}

const OF_VO: &str = "this is the certificate or the key of a virtual organisation, or one that it issued: every proxy of it would be this person";

/// Whether somebody signs in with a certificate of this subject, with one below it, or with one of these keys (SHA-256).
///
/// # Errors
/// [`StoreError`].
pub async fn is_login(tx: &mut Tx, subject: &[u8], keys: &[Hash]) -> Result<bool, StoreError> {
    let named = tx_rows!(
        &mut *tx,
        (Uuid,),
        "SELECT id FROM person_certificate WHERE (subject = $1 OR issuer = $1) AND ended_at IS NULL LIMIT 1",
        subject
    )?;
    if !named.is_empty() {
        return Ok(true);
    }
    for key in keys {
        let held = tx_rows!(
            &mut *tx,
            (Uuid,),
            "SELECT id FROM person_certificate WHERE spki = $1 AND ended_at IS NULL LIMIT 1",
            key.0.as_slice()
        )?;
        if !held.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::WrongCredential, detail)
}

fn state(link: &Link) -> serde_json::Value {
    let state = if link.compromised.is_some() {
        "compromised"
    } else {
        "active"
    };
    json!({ "names": link.names(), "state": state })
}

fn change(
    action: &str,
    person: &Person,
    id: LinkId,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Change {
    Change {
        action: action.into(),
        kind: "person_certificate".into(),
        target: id.to_string(),
        vo: person.home,
        person: Some(person.id),
        before,
        after,
    }
}

type Row = (Uuid, Uuid, Vec<u8>, Vec<u8>, i64, Option<i64>, Option<String>);

fn link((id, person, issuer, subject, created, compromised, note): Row) -> Link {
    Link {
        id: id.into(),
        person: person.into(),
        issuer,
        subject,
        created: Timestamp(created),
        compromised: compromised.map(Timestamp),
        note,
    }
}

async fn linked(db: &Db, end_entity: &EndEntity) -> Result<Option<Link>, StoreError> {
    let found = rows!(
        db,
        Row,
        "SELECT id, person, issuer, subject, created_at, compromised_at, note FROM person_certificate
         WHERE subject = $1 AND issuer = $2 AND ended_at IS NULL",
        end_entity.subject.as_slice(),
        end_entity.issuer.as_slice()
    )?;
    Ok(found.into_iter().map(link).next())
}

/// The mark on names or key of an end entity: the link that it was set on, and when.
async fn mark(db: &Db, end_entity: &EndEntity) -> Result<Option<(LinkId, Timestamp)>, StoreError> {
    let found = rows!(
        db,
        (Uuid, i64),
        "SELECT id, created_at FROM compromised_certificate WHERE names = $1 AND ended_at IS NULL
         UNION SELECT id, created_at FROM compromised_certificate WHERE spki = $2 AND ended_at IS NULL",
        names(&end_entity.issuer, &end_entity.subject).0.as_slice(),
        end_entity.spki.0.as_slice()
    )?;
    Ok(found
        .into_iter()
        .next()
        .map(|(id, at)| (id.into(), Timestamp(at))))
}

async fn links(db: &Db, person: PersonId) -> Result<Vec<Link>, StoreError> {
    let found = rows!(
        db,
        Row,
        "SELECT id, person, issuer, subject, created_at, compromised_at, note FROM person_certificate
         WHERE person = $1 AND ended_at IS NULL ORDER BY id",
        person.uuid()
    )?;
    Ok(found.into_iter().map(link).collect())
}
