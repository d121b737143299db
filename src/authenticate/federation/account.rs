//! Providers and identities in the store. Every change is for the caller to write down before it is committed.

use uuid::Uuid;

use super::identity::{Identity, fresh};
use super::provider::{self, Idp, IdpSettings};
use super::{Arrived, secret_label, store};
use crate::authenticate::{Authenticate, AuthenticateError};
use crate::id::{IdentityId, PersonId, RequestId, VoId, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, SessionEnded};
use crate::secret::Secret;
use crate::store::{StoreError, Tx};
use crate::trust::seal::SealingKey;

/// How many people of one provider may wait for an administrator; whoever comes then is told to come again.
const PENDING_AT_MOST: i64 = 1_000;
const LONGEST_SECRET: usize = 500;

/// A provider that is to be registered.
#[derive(Debug)]
pub struct NewIdp {
    /// Name, as addresses and commands have it.
    pub name: String,
    /// Home of the accounts of its people: a VO, or the gateway.
    pub home: VoId,
    /// What is said of it.
    pub settings: IdpSettings,
    /// The client's secret there.
    pub secret: Secret<String>,
}

/// A part of a provider's identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyIdentities {
    /// They, oldest first.
    pub identities: Vec<Identity>,
    /// After which to go on.
    pub next: Option<IdentityId>,
}

fn failed(error: StoreError) -> Problem {
    error.as_problem()
}

fn unknown(name: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no identity provider `{name}`"))
}

fn is_secret(secret: &Secret<String>) -> Result<(), Problem> {
    let text = secret.expose();
    let fit = (1..=LONGEST_SECRET).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then_some(()).ok_or_else(|| {
        let detail = "`client_secret` must be 1 to 500 printable ASCII characters without spaces";
        Problem::new(Kind::Invalid, detail).with("field", "client_secret")
    })
}

impl Authenticate {
    /// The providers, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn idps(&self) -> Result<Vec<Idp>, StoreError> {
        store::idps(&self.0.db).await
    }

    /// The provider of this name.
    ///
    /// # Errors
    /// A [`Problem`]: there is none, or the store failed.
    pub async fn idp(&self, name: &str) -> Result<Idp, Problem> {
        let found = store::idp_named(&self.0.db, name).await.map_err(failed)?;
        found.ok_or_else(|| unknown(name))
    }

    /// Registers a provider.
    ///
    /// # Errors
    /// A [`Problem`]: something in it is not accepted, name or issuer is taken, sealed, or the store failed.
    pub async fn add_idp(&self, tx: &mut Tx, new: NewIdp) -> Result<Change, Problem> {
        provider::check_name(&new.name).map_err(|error| error.as_problem())?;
        new.settings.check().map_err(|error| error.as_problem())?;
        is_secret(&new.secret)?;
        let id = self.0.ids.next();
        let id = id.map_err(|error| AuthenticateError::from(error).as_problem())?;
        let key = self.sealing()?;
        let sealed = key.seal(
            &**self.0.ids.random(),
            &secret_label(id),
            new.secret.expose().as_bytes(),
        );
        let idp = Idp {
            id,
            name: new.name,
            home: new.home,
            active: true,
            settings: new.settings,
            created: self.now(),
            version: 1,
            sealed: sealed.map_err(|error| error.as_problem())?,
        };
        let inserted = store::insert_idp(tx, &idp).await;
        inserted.map_err(|error| match error {
            StoreError::Taken => Problem::new(
                Kind::Conflict,
                format!(
                    "an identity provider `{}`, or one with the issuer `{}`, is there already",
                    idp.name, idp.settings.issuer
                ),
            ),
            other => failed(other),
        })?;
        Ok(idp.change("idp.add", None, Some(idp.state())))
    }

    async fn idp_in(&self, tx: &mut Tx, name: &str) -> Result<Idp, Problem> {
        let found = store::idp_in(tx, name).await.map_err(failed)?;
        found.ok_or_else(|| unknown(name))
    }

    /// Says something else of a provider; its issuer stays, and its secret where none is given.
    ///
    /// # Errors
    /// A [`Problem`]: there is none, something is not accepted, sealed, or the store failed.
    pub async fn edit_idp(
        &self,
        tx: &mut Tx,
        name: &str,
        settings: IdpSettings,
        secret: Option<&Secret<String>>,
    ) -> Result<Change, Problem> {
        settings.check().map_err(|error| error.as_problem())?;
        let before = self.idp_in(tx, name).await?;
        // SECURITY: its people are known by the issuer; another one is another provider.
        if settings.issuer != before.settings.issuer {
            let detail = "the issuer of a provider stays; remove it and register the other one";
            return Err(Problem::new(Kind::Invalid, detail).with("field", "issuer"));
        }
        let mut after = Idp {
            settings,
            ..before.clone()
        };
        if let Some(secret) = secret {
            is_secret(secret)?;
            let label = secret_label(before.id);
            let key = self.sealing()?;
            let sealed = key.seal(&**self.0.ids.random(), &label, secret.expose().as_bytes());
            after.sealed = sealed.map_err(|error| error.as_problem())?;
        }
        store::update_idp(tx, &after).await.map_err(failed)?;
        let mut state = after.state();
        if let (Some(members), true) = (state.as_object_mut(), secret.is_some()) {
            members.insert("client_secret".to_owned(), "changed".into());
        }
        Ok(before.change("idp.edit", Some(before.state()), Some(state)))
    }

    /// Lets the people of a provider sign in, or no longer. Sessions that have begun go on.
    ///
    /// # Errors
    /// A [`Problem`]: there is none, it is so already, or the store failed.
    pub async fn set_idp_active(&self, tx: &mut Tx, name: &str, active: bool) -> Result<Change, Problem> {
        let before = self.idp_in(tx, name).await?;
        if before.active == active {
            let is = if active {
                "not suspended"
            } else {
                "suspended already"
            };
            return Err(Problem::new(Kind::Conflict, format!("`{name}` is {is}")));
        }
        let after = Idp {
            active,
            ..before.clone()
        };
        store::update_idp(tx, &after).await.map_err(failed)?;
        let action = if active { "idp.resume" } else { "idp.suspend" };
        Ok(before.change(action, Some(before.state()), Some(after.state())))
    }

    /// Removes a provider. Its identities end, and every session that began by one: the accounts stay. Commit, then
    /// [`Authenticate::end`] what ended.
    ///
    /// # Errors
    /// A [`Problem`]: there is none, or the store failed.
    pub async fn remove_idp(
        &self,
        tx: &mut Tx,
        name: &str,
        request: RequestId,
    ) -> Result<(Change, Vec<SessionEnded>), Problem> {
        let before = self.idp_in(tx, name).await?;
        store::end_idp(tx, before.id, self.now()).await.map_err(failed)?;
        let ended = self.0.sessions.of_idp(before.id);
        let ended = ended.into_iter().map(|(person, sessions)| SessionEnded {
            request: Some(request),
            person,
            sessions,
            reason: "provider_removed".into(),
        });
        Ok((
            before.change("idp.remove", Some(before.state()), None),
            ended.collect(),
        ))
    }

    /// Identities of a provider, after one of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identities(
        &self,
        idp: &Idp,
        after: Option<IdentityId>,
        limit: usize,
    ) -> Result<ManyIdentities, StoreError> {
        let from = after.map_or_else(Uuid::nil, IdentityId::uuid);
        let asked = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let mut identities = store::of_idp(&self.0.db, idp.id, from, asked).await?;
        let more = identities.len() > limit;
        identities.truncate(limit);
        let next = identities.last().filter(|_| more).map(|last| last.id);
        Ok(ManyIdentities { identities, next })
    }

    /// The identities of a person, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identities_of(&self, person: PersonId) -> Result<Vec<Identity>, StoreError> {
        store::of_person(&self.0.db, person, false).await
    }

    /// The same with those that have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identities_held(&self, person: PersonId) -> Result<Vec<Identity>, StoreError> {
        store::of_person(&self.0.db, person, true).await
    }

    /// An identity of a provider by id, locked until the transaction is over.
    ///
    /// # Errors
    /// A [`Problem`]: there is none, or the store failed.
    pub async fn identity(&self, tx: &mut Tx, idp: &Idp, id: IdentityId) -> Result<Identity, Problem> {
        let found = store::identity_in(tx, id).await.map_err(failed)?;
        found
            .filter(|identity| identity.provider == idp.id)
            .ok_or_else(|| {
                let detail = format!("`{}` has no identity `{id}`", idp.name);
                Problem::new(Kind::NotFound, detail)
            })
    }

    /// Somebody who came for the first time, as an identity that is not in the store yet.
    ///
    /// # Errors
    /// A [`Problem`]: no random bytes.
    pub fn new_identity(&self, arrived: &Arrived) -> Result<Identity, Problem> {
        let random = |error| AuthenticateError::Random(error).as_problem();
        let salt = random_bytes::<16>(&**self.0.ids.random()).map_err(random)?;
        let id = self.0.ids.next().map_err(random)?;
        Ok(fresh(&arrived.idp, (id, salt), &arrived.claims, self.now()))
    }

    /// Puts an identity into the store, in the place of what was there of it.
    ///
    /// # Errors
    /// A [`Problem`]: it changed meanwhile, too many wait for an administrator, or the store failed.
    pub async fn put_identity(
        &self,
        tx: &mut Tx,
        action: &str,
        before: Option<&Identity>,
        after: &Identity,
    ) -> Result<Change, Problem> {
        let changed = || Problem::new(Kind::Conflict, "this changed meanwhile; try again");
        // SECURITY: nobody is let in by a provider that was removed since it was asked.
        if !store::is_alive(tx, after.provider).await.map_err(failed)? {
            return Err(changed());
        }
        match before {
            Some(before) => {
                let now = store::identity_in(tx, before.id).await.map_err(failed)?;
                let same = |now: &Identity| (now.standing, now.person) == (before.standing, before.person);
                now.filter(same).ok_or_else(changed)?;
                store::update_identity(tx, after).await.map_err(failed)?;
            }
            None => {
                let waiting = store::pending(tx, after.provider).await.map_err(failed)?;
                // SECURITY: strangers whom a provider lets in fill no store.
                if after.person.is_none() && waiting >= PENDING_AT_MOST {
                    let detail = "too many people wait for the administrator of this identity provider";
                    return Err(Problem::new(Kind::Busy, detail).retry_after(3_600));
                }
                let inserted = store::insert_identity(tx, after).await;
                inserted.map_err(|error| match error {
                    StoreError::Taken => changed(),
                    other => failed(other),
                })?;
            }
        }
        Ok(after.change(action, before.map(Identity::state), Some(after.state())))
    }

    /// Seals every client's secret anew with `next`: how many, and how many the key until now does not open.
    ///
    /// # Errors
    /// [`AuthenticateError`]: the store failed, or nothing can be sealed.
    pub async fn reseal_idps(
        &self,
        tx: &mut Tx,
        next: &SealingKey,
    ) -> Result<(usize, usize), AuthenticateError> {
        let (mut sealed, mut left) = (0, 0);
        for (id, envelope) in store::all_sealed(tx).await? {
            let label = secret_label(id);
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
}
