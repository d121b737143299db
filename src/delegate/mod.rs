//! Delegation: from a permit to a credential that the tool or the remote resource accepts, and back from such a
//! credential to a person.
//!
//! Two steps for every request. [`Delegate::plan`] chooses, without any waiting: which way, and for a proxy its serial,
//! key and validity. Once the intent (and with it the `mint` record) is durable, [`Delegate::credential`] takes the
//! receipt, signs, and enters the proxy into the map that [`Delegate::trace`] reads.
//!
//! Promises: nothing is signed without a receipt; every proxy belongs to one person, one VO and one permit; a proxy and
//! its key live in memory only, and end with the session; what rests here is sealed.
//!
//! ```
//! use countersign::delegate::TraceQuery;
//!
//! let query = TraceQuery::parse(b"/O=Grid/CN=VO imense/CN=8231462891734").unwrap();
//! assert_eq!((query.by(), query.shown()), ("subject", "8231462891734".to_owned()));
//! ```

mod assertion;
mod claim;
mod config;
mod credential;
mod crl;
mod error;
mod forsaken;
mod keys;
mod lent;
mod limit;
pub mod mint;
pub mod myproxy;
mod opening;
mod outside;
mod pair;
mod peers;
pub mod pkcs10;
mod plan;
mod pool;
pub mod provider;
mod proxies;
mod reseal;
mod revoked;
mod robot;
mod room;
pub mod spool;
mod store;
mod told;
mod trace;
mod upload;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::id::{Ids, PersonId, SessionId};
use crate::record::{Event, Hash, Mint, SignedEntry};
use crate::store::{Db, StoreError};
use crate::telemetry::Metrics;
use crate::tool::{ProxyKey, Tool};
use crate::trust::seal::SealingKey;
use crate::trust::token::Tokens;
use crate::vo::DirectoryHandle;

pub use config::Config;
pub use credential::Credential;
pub use crl::{Signing, TASK as LIST_TASK};
pub use error::DelegateError;
pub use keys::{Imported, StaticCredential};
pub use lent::Lent;
pub use outside::{Certifier, Outside};
pub use plan::{DOWNLOAD, KEY_PATIENCE, Plan};
pub use proxies::Revocation;
pub use reseal::{Resealed, is_sealed_with};
pub use revoked::{Listed, RESET, Revoked, Which, Why};
pub use room::Slot;
pub use store::Mapped;
pub use told::{ProxyIdentity, Told};
pub use trace::{By, Found, Shown, TraceError, TraceQuery, Traced};
pub use upload::{Left, Upload, UploadParts};

use keys::Keys;
use mint::{Durable, Proxy};
use plan::{Ready, Work};
use pool::Pool;
use proxies::{Form, Live, Proxies, Stamp, Ticket};
use room::Room;
use spool::Spools;

/// The service that makes and traces credentials.
pub struct Delegate {
    config: Config,
    db: Db,
    ids: Ids,
    sealing: Option<SealingKey>,
    tokens: Tokens,
    /// The gateway's own origin, as assertions name their issuer.
    origin: String,
    keys: ArcSwap<Keys>,
    /// Who holds which role.
    directory: DirectoryHandle,
    proxies: Proxies,
    /// Held while revocation lists are looked at.
    listing: tokio::sync::Mutex<()>,
    pool: Pool,
    /// How much is on MyProxy servers.
    room: Room,
    spools: Spools,
    metrics: Metrics,
}

impl std::fmt::Debug for Delegate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delegate({} proxies)", self.proxies.len())
    }
}

impl Delegate {
    /// A service without any keys yet; [`Delegate::load`] reads them. `origin` is the gateway's own
    /// (`https://gw.example.org`). Without a sealing key only `none` works.
    #[must_use]
    pub fn new(config: Config, db: Db, sealing: Option<SealingKey>, ids: Ids, origin: String) -> Self {
        let proxies = Proxies::new(config.max_sessions);
        let pool = Pool::new(config.rsa_pool);
        let room = Room::new(config.uploads_per_server, config.uploads_per_person);
        let tokens = Tokens::new(&config.token, ids.clock());
        Self {
            config,
            db,
            ids,
            sealing,
            tokens,
            origin,
            keys: ArcSwap::from_pointee(Keys::default()),
            directory: DirectoryHandle::default(),
            proxies,
            listing: tokio::sync::Mutex::default(),
            pool,
            room,
            spools: Spools::new(),
            metrics: Metrics::new(),
        }
    }

    /// The same, with the roles that limits are for.
    #[must_use]
    pub fn knowing(mut self, directory: DirectoryHandle) -> Self {
        self.directory = directory;
        self
    }

    /// The same, counting in `metrics`.
    #[must_use]
    pub fn counting(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Reads VO certificates, static credentials and assertion keys anew. To be called at the start and after every
    /// change of them; requests under way keep what they have.
    ///
    /// # Errors
    /// [`StoreError`]; then the keys stay as they were.
    pub async fn load(&self) -> Result<(), StoreError> {
        let directory = self.directory.load();
        let opening = opening::Opening {
            sealing: self.sealing.as_ref(),
            tokens: &self.tokens,
            directory: &directory,
        };
        let keys = Keys::load(&self.db, opening).await?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Whether something rests here that needs the sealing key, and the key is not there or opens none of it.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.keys.load().are_closed()
    }

    /// Whether a sealing key is there.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.sealing.is_none()
    }

    /// The public keys of assertions (RFC 7517), for `/.countersign/jwks.json`.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.keys.load().jwks()
    }

    /// Forgets the proxies of a session that ended.
    pub fn end_session(&self, session: SessionId) {
        self.proxies.end_session(session);
    }

    /// Forgets the proxies that ended by themselves; for a job that runs every minute.
    pub fn sweep(&self) {
        let now = self.ids.clock().now();
        self.proxies.sweep(now);
        self.sweep_spools(now);
    }

    /// How many proxies are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.proxies.len()
    }

    /// Begins to make RSA keys, where one of these tools will want one. Costs nothing when it has begun.
    pub fn make_keys_for<'t>(&self, mut tools: impl Iterator<Item = &'t Arc<Tool>>) {
        if tools.any(|tool| tool.delegation.is_proxy() && tool.proxy.key == ProxyKey::Rsa2048) {
            self.pool.fill();
        }
    }

    /// How many RSA keys are ready for proxies.
    #[must_use]
    pub fn keys_ready(&self) -> usize {
        self.pool.len()
    }

    /// The proxies that a query leads to. The caller writes the record of the trace.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trace(&self, query: &TraceQuery) -> Result<Found, StoreError> {
        query.run(&self.db, &|_| true).await
    }

    /// The same for somebody who may see some proxies only: others are like what nobody knows, also in what is proved of
    /// those beside them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trace_within(
        &self,
        query: &TraceQuery,
        may: &(dyn Fn(&Mapped) -> bool + Sync),
    ) -> Result<Found, StoreError> {
        query.run(&self.db, may).await
    }

    /// The proxy of this issuer with this serial.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn proxy(&self, issuer: Hash, serial: u64) -> Result<Option<Mapped>, StoreError> {
        store::by_issuer(&self.db, issuer, serial).await
    }

    /// How long a person can be traced after her last proxy has expired.
    #[must_use]
    pub const fn trace_period(&self) -> std::time::Duration {
        self.config.trace_period
    }

    /// No proxy lives longer.
    #[must_use]
    pub const fn max_lifetime(&self) -> std::time::Duration {
        self.config.max_lifetime
    }

    /// Every proxy that was minted for a person, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held(&self, person: PersonId) -> Result<Vec<Mapped>, StoreError> {
        store::by_person(&self.db, person).await
    }

    /// Enters `mint` and outcome records of the log into the map; what is there already stays. For the log's tail at
    /// the start, and for rebuilding the map.
    ///
    /// # Errors
    /// [`StoreError`]; then none of `events` is entered.
    pub async fn index<'e>(&self, events: impl IntoIterator<Item = &'e Event>) -> Result<(), StoreError> {
        let relevant = |event: &&Event| match event {
            Event::Mint(_) => true,
            Event::Outcome(outcome) => outcome.signed.is_some(),
            _ => false,
        };
        let events: Vec<&Event> = events.into_iter().filter(relevant).collect();
        if events.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_write().await?;
        for event in events {
            match event {
                Event::Mint(mint) => store::insert_minted(&mut tx, mint).await?,
                Event::Outcome(outcome) => {
                    if let Some(signed) = &outcome.signed {
                        store::set_signed(&mut tx, signed, None).await?;
                    }
                }
                _ => {}
            }
        }
        tx.commit().await
    }

    async fn deliver(
        &self,
        work: Work,
        durable: &Durable<'_>,
    ) -> Result<(Credential, Option<SignedEntry>), DelegateError> {
        match work {
            Work::None => Ok((Credential::None, None)),
            Work::Ready(Ready::Static { header, vo, tool }) => {
                let value = self.keys.load().static_value(self.sealing.as_ref(), vo, &tool)?;
                Ok((Credential::Header { name: header, value }, None))
            }
            Work::Ready(Ready::Assertion(claims)) => {
                let claims = claims.at(self.ids.clock().now());
                let value = self
                    .keys
                    .load()
                    .assertion()?
                    .sign(&claims)
                    .ok_or(DelegateError::NoAssertion)?;
                Ok((
                    Credential::Header {
                        name: credential::ASSERTION,
                        value,
                    },
                    None,
                ))
            }
            Work::Ready(Ready::Proxy(live)) => Ok((Credential::of(&live), None)),
            Work::Upload(upload) => Ok((Credential::Upload(upload), None)),
            Work::Download(_) => Err(DelegateError::NoTool),
            Work::Lend(outside, live) => {
                Ok((Credential::Lend(Box::new(Credential::of(&live)), outside), None))
            }
            Work::Wait(waiting) => {
                let ready = tokio::time::timeout(plan::PATIENCE, waiting.done()).await;
                let live = ready.ok().flatten().ok_or(DelegateError::Raced)?;
                Ok((Credential::of(&live), None))
            }
            Work::Mint(minting) => {
                let plan::Minting {
                    chosen,
                    ticket,
                    stamp,
                    record,
                } = *minting;
                let (now, begun) = (self.ids.clock().now(), self.ids.clock().monotonic());
                let way = stamp.way.as_str();
                let proxy = Box::pin(chosen.sign_apart(durable)).await?;
                let minted = Box::pin(self.minted(proxy, ticket, stamp, &record, now)).await?;
                let time = self.ids.clock().monotonic().saturating_sub(begun);
                self.metrics.mint(way, time);
                Ok(minted)
            }
        }
    }

    /// Enters a signed proxy into the map, then puts it in use.
    async fn minted(
        &self,
        proxy: Proxy,
        ticket: Ticket,
        stamp: Stamp,
        record: &Mint,
        now: Timestamp,
    ) -> Result<(Credential, Option<SignedEntry>), DelegateError> {
        let live = Arc::new(live(&proxy, stamp, ticket.revocation(), now)?);
        let signed = SignedEntry {
            issuer: proxy.issuer(),
            serial: proxy.serial().to_string(),
            certificate: live.certificate,
        };
        // INVARIANT: a proxy that cannot be entered into the map is never used.
        let mut tx = self.db.begin_write().await?;
        let subject = proxy.subject_text();
        let stopped = self.enter(&mut tx, record, (&signed, subject.as_deref()), proxy.serial());
        let stopped = stopped.await?;
        tx.commit().await?;
        if stopped {
            return Err(DelegateError::Suspended);
        }
        ticket.done(&live);
        Ok((Credential::of(&live), Some(signed)))
    }
}

fn live(proxy: &Proxy, stamp: Stamp, revocation: &Revocation, now: Timestamp) -> Result<Live, DelegateError> {
    let form = match (stamp.way, &stamp.spool) {
        (crate::tool::Delegation::Pem, Some(spool)) => {
            Form::File(spool.clone(), credential::pem_header(proxy)?)
        }
        (crate::tool::Delegation::Pem, None) => Form::Pem(credential::pem_header(proxy)?),
        _ => Form::Resolver(Arc::new(proxies::OneProxy(proxy.certified_key()?))),
    };
    Ok(Live {
        serial: proxy.serial(),
        certificate: Hash::of(proxy.certificate()),
        stamp,
        renew_at: proxies::renew_at(now, proxy.not_after()),
        not_after: proxy.not_after(),
        form,
        revocation: revocation.clone(),
    })
}

#[cfg(test)]
mod tests;
