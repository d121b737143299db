//! Second factors: one-time passwords by time (TOTP), and recovery codes for the day on which they are lost.
//!
//! A factor is offered ([`Authenticate::offer_factor`]: the secret is shown this once, and comes back sealed in the offer),
//! and bound when a code shows that the authenticator has it ([`Authenticate::add_factor`]). From then on a password alone
//! begins no session, in no way: sign-in asks for a code, HTTP Basic is over, and what had begun by the password alone ends.
//!
//! Promises: a secret rests sealed, and is forgotten when its factor ends; a code is good once, and so is a recovery code;
//! guessing codes has an end, across restarts and nodes;
//! while the gateway is sealed nobody who has a factor signs in.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use serde_json::json;

use super::strength::MIN_CHARACTERS;
use super::subject::{Session, Subject};
use super::throttle::{CodeKind, Shown};
use super::{Authenticate, AuthenticateError, login, store as accounts};
use crate::clock::Timestamp;
use crate::id::{FactorId, PersonId, RequestId, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Hash, SessionEnded};
use crate::secret::Secret;
use crate::store::{StoreError, Tx};
use crate::tool::Assurance;
use crate::trust::seal::{Label, SealError, SealingKey};
use crate::vo::Person;

mod check;
mod claim;
mod guess;
mod recovery;
pub(super) mod store;
pub(super) mod totp;

use check::throttled;
pub(super) use check::{Coded, sealed, wrong_code};
pub(super) use claim::Claims;
pub use guess::Guessed;
pub(super) use guess::stopped;

/// How long an offer can be taken up.
const OFFER: std::time::Duration = std::time::Duration::from_secs(600);
/// Factors that one person may have.
const MOST: i64 = 5;
/// Longest name, in characters.
const LONGEST_NAME: usize = 60;
const KIND: &str = "factor";

/// A second factor that is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Id.
    pub id: FactorId,
    /// What its person calls it.
    pub name: String,
    /// Since when.
    pub created: Timestamp,
    /// When a code of it was last taken.
    pub used: Option<Timestamp>,
}

/// A right code, which is good once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// Of an authenticator.
    Code {
        /// The factor.
        factor: FactorId,
        /// Its time step.
        step: i64,
    },
    /// A recovery code.
    Recovery {
        /// What is kept of it.
        hash: Hash,
        /// How many are left without it.
        left: i64,
    },
}

impl Used {
    /// Whether it is a recovery code.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        matches!(self, Self::Recovery { .. })
    }

    /// The use of a recovery code, for the log.
    #[must_use]
    pub fn change(&self, person: &Person) -> Option<Change> {
        let Self::Recovery { left, .. } = self else {
            return None;
        };
        let codes = |left: i64| json!({ "recovery_codes": left });
        Some(Change {
            action: "factor.use_recovery_code".into(),
            kind: KIND.into(),
            target: person.id.to_string(),
            vo: person.home,
            person: Some(person.id),
            before: Some(codes(left + 1)),
            after: Some(codes(*left)),
        })
    }
}

/// A secret that is offered to somebody's authenticator.
#[derive(Debug)]
pub struct Offer {
    /// The secret in base32, as it is typed.
    pub secret: Secret<String>,
    /// The same as an `otpauth://` address.
    pub uri: Secret<String>,
    /// The secret, sealed for its person: to be given back with the first code.
    pub binding: Secret<String>,
    /// Until when.
    pub until: Timestamp,
}

/// A factor whose first code was right. Give it to [`Authenticate::bind_factor`].
#[derive(Clone, Debug)]
pub struct NewFactor {
    bound: store::Bound,
    codes: Vec<Secret<String>>,
}

/// A change of somebody's factors. Commit the transaction, then [`Authenticate::forget`] what ended.
#[derive(Debug)]
pub struct FactorChange {
    /// For the log.
    pub changes: Vec<Change>,
    /// The sessions that end with it, for the log.
    pub ended: Option<SessionEnded>,
    /// New recovery codes, to be shown this once.
    pub recovery_codes: Vec<Secret<String>>,
}

fn secret_label(person: PersonId, factor: FactorId) -> Label {
    Label::new("factor secret")
        .with(person.uuid().as_bytes())
        .with(factor.uuid().as_bytes())
}

fn offer_label(person: PersonId) -> Label {
    Label::new("factor offer").with(person.uuid().as_bytes())
}

impl Authenticate {
    /// Gives the service what seals the secrets of factors. Once; without it nobody who has a factor signs in.
    pub fn unsealed(&self, key: SealingKey) {
        let _ = self.0.seals.set(key);
    }

    /// The factors of a person, oldest first, and how many recovery codes are left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn factors(&self, person: PersonId) -> Result<(Vec<Factor>, usize), StoreError> {
        let bound = store::bound(&self.0.db, person).await?;
        let codes = store::recovery_hashes(&self.0.db, person).await?;
        Ok((bound.into_iter().map(|bound| bound.factor).collect(), codes.len()))
    }

    fn seal_key(&self) -> Result<&SealingKey, Problem> {
        let key = self.0.seals.get();
        key.ok_or_else(|| SealError::Sealed.as_problem())
    }

    /// Offers a secret to the authenticator of somebody who has just shown her password; `issuer` is what the authenticator
    /// shows beside her user name. Nothing is kept of it.
    ///
    /// # Errors
    /// A [`Problem`]: the password is wrong, too many attempts, another factor was not shown in this session, sealed.
    pub async fn offer_factor(
        &self,
        subject: &Subject,
        password: &Secret<String>,
        issuer: &str,
    ) -> Result<Offer, Problem> {
        let (person, session) = own(subject)?;
        let bound = store::bound(&self.0.db, person.id).await;
        let bound = bound.map_err(|error| error.as_problem())?;
        // SECURITY: who has a factor shows it before another is taken; a password alone (or a certificate) binds none beside it.
        if !bound.is_empty() {
            shown_first(session)?;
        }
        let key = self.seal_key()?;
        self.confirm(person, Some(password), "password", subject.source())
            .await?;
        let random = &**self.0.ids.random();
        let failed = |error: AuthenticateError| error.as_problem();
        let secret = random_bytes::<{ totp::SECRET }>(random).map_err(|e| failed(e.into()))?;
        let secret = Secret::new(secret);
        let id: FactorId = self.0.ids.next().map_err(|e| failed(e.into()))?;
        let until = self.now().plus(OFFER);
        let plain = Secret::new(
            [
                id.uuid().as_bytes().as_slice(),
                &until.micros().to_be_bytes(),
                secret.expose(),
            ]
            .concat(),
        );
        let sealed = key.seal(random, &offer_label(person.id), plain.expose());
        let sealed = sealed.map_err(|error| error.as_problem())?;
        let text = Secret::new(BASE32_NOPAD.encode(secret.expose()));
        Ok(Offer {
            uri: uri(issuer, &person.username, &text),
            secret: text,
            binding: Secret::new(BASE64URL_NOPAD.encode(&sealed)),
            until,
        })
    }

    /// Takes an offer up: the code must be the authenticator's. Nothing is written yet; [`Authenticate::bind_factor`] does that.
    ///
    /// # Errors
    /// A [`Problem`]: the offer is over or was taken up, the code is not right, sealed, or the store failed.
    pub async fn add_factor(
        &self,
        subject: &Subject,
        binding: &Secret<String>,
        code: &Secret<String>,
        name: &str,
    ) -> Result<NewFactor, Problem> {
        let (person, session) = own(subject)?;
        let name = named(name)?;
        let over = || {
            Problem::new(Kind::Invalid, "the offer is over, or was taken up already")
                .with("field", "binding")
                .instead("Begin again: a new secret is offered.")
        };
        let (id, until, secret) = self.opened(person.id, binding).ok_or_else(over)?;
        let failed = |error: StoreError| error.as_problem();
        if self.now() >= until || store::is_known(&self.0.db, id).await.map_err(failed)? {
            return Err(over());
        }
        let shown = Shown::Session(session.id);
        let attempt = self.0.throttle.code(person.id, shown, CodeKind::Authenticator);
        let attempt = attempt.map_err(throttled)?;
        let step = totp::matching(secret.expose(), code.expose(), self.now(), -1).ok_or_else(wrong_code)?;
        self.0.throttle.forgive_code(&attempt);
        let key = self.seal_key()?;
        let random = &**self.0.ids.random();
        let sealed = key.seal(random, &secret_label(person.id, id), secret.expose());
        Ok(NewFactor {
            bound: store::Bound {
                factor: Factor {
                    id,
                    name,
                    created: self.now(),
                    used: None,
                },
                sealed: sealed.map_err(|error| error.as_problem())?,
                last_step: step,
            },
            codes: self.new_codes()?,
        })
    }

    fn opened(
        &self,
        person: PersonId,
        binding: &Secret<String>,
    ) -> Option<(FactorId, Timestamp, Secret<Vec<u8>>)> {
        let sealed = BASE64URL_NOPAD.decode(binding.expose().as_bytes()).ok()?;
        let plain = self.0.seals.get()?.open(&offer_label(person), &sealed).ok()?;
        let (id, rest) = plain.expose().split_first_chunk::<16>()?;
        let (until, secret) = rest.split_first_chunk::<8>()?;
        let id = FactorId::from(uuid::Uuid::from_bytes(*id));
        let until = Timestamp(i64::from_be_bytes(*until));
        Some((id, until, Secret::new(secret.to_vec())))
    }

    fn new_codes(&self) -> Result<Vec<Secret<String>>, Problem> {
        (0..recovery::CODES)
            .map(|_| self.0.hasher.one_time())
            .collect::<Result<_, _>>()
            .map_err(|error| AuthenticateError::from(error).as_problem())
    }

    /// Binds a factor: from now on a password alone begins no session. Other sessions of the person end; with the first
    /// factor she gets recovery codes.
    ///
    /// # Errors
    /// A [`Problem`]: too many factors, another one that was not shown in this session, the session ended meanwhile, or the
    /// store failed.
    pub async fn bind_factor(
        &self,
        tx: &mut Tx,
        subject: &Subject,
        new: NewFactor,
        request: RequestId,
    ) -> Result<FactorChange, Problem> {
        let (person, session) = own(subject)?;
        let failed = |error: StoreError| error.as_problem();
        self.still(tx, session).await?;
        let before = store::count(tx, person.id).await.map_err(failed)?;
        if before >= MOST {
            return Err(Problem::new(
                Kind::Conflict,
                format!("an account has at most {MOST} second factors"),
            ));
        }
        // SECURITY: an offer says nothing of the factors that were bound after it; what counts is what there is now.
        if before > 0 {
            shown_first(session)?;
        }
        let home = (person.id, person.home);
        let now = self.now();
        store::insert(tx, home, &new.bound).await.map_err(failed)?;
        let codes = if before == 0 { new.codes } else { Vec::new() };
        if before == 0 {
            self.replace_codes(tx, person, &codes).await?;
        }
        // SECURITY: what was begun, or is about to begin, by the password alone ends here.
        store::move_password_on(tx, person.id).await.map_err(failed)?;
        let ended = self.ending_all(person.id, Some(session.id), "factor_added", Some(request));
        let others = accounts::end_sessions(tx, person.id, Some(session.id), "factor_added", now).await;
        others.map_err(failed)?;
        let id = new.bound.factor.id;
        let after = match before {
            0 => json!({ "kind": "totp", "factors": 1, "recovery_codes": codes.len() }),
            _ => json!({ "kind": "totp", "factors": before + 1 }),
        };
        Ok(FactorChange {
            changes: vec![change("factor.add", person, id.to_string(), None, Some(after))],
            ended,
            recovery_codes: codes.iter().map(recovery::shown).collect(),
        })
    }

    /// Takes one of the own factors away, against a fresh code. Other sessions end; with the last factor the recovery codes end,
    /// and so does the session that asks.
    ///
    /// # Errors
    /// A [`Problem`]: there is none of this id, the code was used meanwhile, or the store failed.
    pub async fn remove_factor(
        &self,
        tx: &mut Tx,
        subject: &Subject,
        (id, used): (FactorId, Used),
        request: RequestId,
    ) -> Result<FactorChange, Problem> {
        let (person, session) = own(subject)?;
        let failed = |error: StoreError| error.as_problem();
        self.still(tx, session).await?;
        self.spend(tx, person, &used).await?;
        let before = store::count(tx, person.id).await.map_err(failed)?;
        let now = self.now();
        if store::end(tx, person.id, Some(id), now).await.map_err(failed)? == 0 {
            let detail = format!("you have no second factor `{id}`");
            return Err(Problem::new(Kind::NotFound, detail));
        }
        if before <= 1 {
            self.replace_codes(tx, person, &[]).await?;
        }
        // SECURITY: no session has more assurance than the factors that are left can give.
        let kept = (before > 1).then_some(session.id);
        let ended = self.ending_all(person.id, kept, "factor_removed", Some(request));
        let others = accounts::end_sessions(tx, person.id, kept, "factor_removed", now).await;
        others.map_err(failed)?;
        let counted = |count: i64| Some(json!({ "factors": count }));
        let removed = change(
            "factor.remove",
            person,
            id.to_string(),
            counted(before),
            counted(before - 1),
        );
        Ok(FactorChange {
            changes: used.change(person).into_iter().chain([removed]).collect(),
            ended,
            recovery_codes: Vec::new(),
        })
    }

    /// Puts new recovery codes in the place of the old ones, against a fresh code. The use of a recovery code is a change of its
    /// own, before that.
    ///
    /// # Errors
    /// A [`Problem`]: the code was used meanwhile, or the store failed.
    pub async fn renew_recovery_codes(
        &self,
        tx: &mut Tx,
        subject: &Subject,
        used: Used,
    ) -> Result<FactorChange, Problem> {
        let (person, session) = own(subject)?;
        self.still(tx, session).await?;
        self.spend(tx, person, &used).await?;
        let codes = self.new_codes()?;
        let before = store::count_recovery(tx, person.id).await;
        let before = before.map_err(|error| error.as_problem())?;
        self.replace_codes(tx, person, &codes).await?;
        let counted = |count: i64| Some(json!({ "recovery_codes": count }));
        let target = person.id.to_string();
        let renewed = change(
            "factor.renew_recovery_codes",
            person,
            target,
            counted(before),
            counted(i64::try_from(codes.len()).unwrap_or(i64::MAX)),
        );
        Ok(FactorChange {
            changes: used.change(person).into_iter().chain([renewed]).collect(),
            ended: None,
            recovery_codes: codes.iter().map(recovery::shown).collect(),
        })
    }

    /// Takes all factors of somebody away, recovery codes included, and ends her sessions; `None` when she has none. Whether the
    /// caller may is for others to decide.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reset_factors(
        &self,
        tx: &mut Tx,
        person: &Person,
        request: RequestId,
    ) -> Result<Option<FactorChange>, StoreError> {
        let now = self.now();
        let count = store::end(tx, person.id, None, now).await?;
        if count == 0 {
            return Ok(None);
        }
        store::replace_recovery(tx, (person.id, person.home), &[], now).await?;
        store::forget_codes(tx, person.id).await?;
        let ended = self.ending_all(person.id, None, "factor_reset", Some(request));
        accounts::end_sessions(tx, person.id, None, "factor_reset", now).await?;
        let counted = |count: u64| Some(json!({ "factors": count }));
        let target = person.id.to_string();
        Ok(Some(FactorChange {
            changes: vec![change(
                "person.factor.reset",
                person,
                target,
                counted(count),
                counted(0),
            )],
            ended,
            recovery_codes: Vec::new(),
        }))
    }

    /// Seals every secret anew with `next`: how many, and how many the key until now does not open.
    ///
    /// # Errors
    /// [`AuthenticateError`]: the store failed, or nothing can be sealed.
    pub async fn reseal_factors(
        &self,
        tx: &mut Tx,
        next: &SealingKey,
    ) -> Result<(usize, usize), AuthenticateError> {
        let (mut sealed, mut left) = (0, 0);
        for (id, person, envelope) in store::all_sealed(tx).await? {
            let label = secret_label(person, id);
            let opened = self.0.seals.get().map(|key| key.open(&label, &envelope));
            let Some(Ok(secret)) = opened else {
                left += 1;
                continue;
            };
            let anew = next.seal(&**self.0.ids.random(), &label, secret.expose())?;
            store::set_sealed(tx, id, &anew).await?;
            sealed += 1;
        }
        Ok((sealed, left))
    }

    async fn replace_codes(
        &self,
        tx: &mut Tx,
        person: &Person,
        codes: &[Secret<String>],
    ) -> Result<(), Problem> {
        let hashes: Vec<Hash> = codes
            .iter()
            .filter_map(|code| recovery::hash(person.id, code))
            .collect();
        store::replace_recovery(tx, (person.id, person.home), &hashes, self.now())
            .await
            .map_err(|error| error.as_problem())
    }

    /// The session that asks is alive, and stays so until the transaction is over.
    async fn still(&self, tx: &mut Tx, session: &Session) -> Result<(), Problem> {
        match accounts::is_alive(tx, session.id).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::new(
                Kind::WrongCredential,
                "the session has ended meanwhile",
            )),
            Err(error) => Err(error.as_problem()),
        }
    }

    async fn spend(&self, tx: &mut Tx, person: &Person, used: &Used) -> Result<(), Problem> {
        match store::use_up(tx, person.id, used, self.now()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(wrong_code()),
            Err(error) => Err(error.as_problem()),
        }
    }
}

/// Beside a factor another is added only in a session in which one was shown.
fn shown_first(session: &Session) -> Result<(), Problem> {
    if session.assurance() >= Assurance::Aal2 {
        return Ok(());
    }
    let why = "another second factor is added beside one that you have shown";
    Err(step_up(why))
}

/// The answer where a second factor must be shown in this session first.
pub(super) fn step_up(why: &str) -> Problem {
    Problem::new(Kind::StepUpRequired, why).with("acr_values", Assurance::Aal2.as_str())
}

/// Whether a password of so many characters is enough only beside a factor.
pub(super) fn is_short(password: &Secret<String>) -> bool {
    let spelt = super::password::one_spelling(password.expose());
    spelt.expose().chars().count() < MIN_CHARACTERS
}

fn own(subject: &Subject) -> Result<(&std::sync::Arc<Person>, &std::sync::Arc<Session>), Problem> {
    subject
        .as_person()
        .zip(subject.session())
        .ok_or_else(|| Problem::new(Kind::NoCredential, "nobody is signed in"))
}

fn named(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let fits = name.chars().count() <= LONGEST_NAME && !name.chars().any(crate::tool::is_unseen);
    match (fits, name) {
        (true, "") => Ok("authenticator".to_owned()),
        (true, name) => Ok(name.to_owned()),
        (false, _) => Err(Problem::new(
            Kind::Invalid,
            format!("`name` may have at most {LONGEST_NAME} characters, and no control characters"),
        )
        .with("field", "name")),
    }
}

/// The address that authenticators read (Key URI format: issuer and account percent-encoded).
fn uri(issuer: &str, username: &str, secret: &Secret<String>) -> Secret<String> {
    let (issuer, username) = (super::percent(issuer), super::percent(username));
    Secret::new(format!(
        "otpauth://totp/{issuer}:{username}?secret={}&issuer={issuer}&algorithm=SHA1&digits={}&period={}",
        secret.expose(),
        totp::DIGITS,
        totp::PERIOD
    ))
}

fn change(
    action: &str,
    person: &Person,
    target: String,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Change {
    Change {
        action: action.into(),
        kind: KIND.into(),
        target,
        vo: person.home,
        person: Some(person.id),
        before,
        after,
    }
}

/// What a login with a factor names beside the password (RFC 8176 section 2).
pub(super) const METHODS: [&str; 2] = ["otp", "mfa"];

/// What a session is worth.
pub(super) const fn acr(with_factor: bool) -> &'static str {
    match with_factor {
        true => Assurance::Aal2.as_str(),
        false => login::ACR_PASSWORD,
    }
}
