//! The proxies in use: one for each session and tool, in memory only, renewed before it ends, gone with the session.
//!
//! The first request that needs a proxy mints it; requests that come meanwhile wait for that one instead of minting
//! their own. Whoever mints holds a [`Ticket`]: dropped without [`Ticket::done`], the waiters are told.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::id::{SessionId, ToolId, VoId};
use crate::record::Hash;
use crate::secret::Secret;
use crate::tool::Delegation;

use super::mint::Chosen;
use super::spool::Spool;
use super::told::Told;

/// A proxy this close to its end is not used for a new request.
const LAST: Duration = Duration::from_secs(30);
/// Independent parts of the map, so that one mint does not hold up all sessions.
const SHARDS: usize = 16;

/// For which session and tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) session: SessionId,
    pub(super) vo: VoId,
    pub(super) tool: String,
}

/// What a kept proxy must still agree with: after a change of tool, VO certificate or limits it is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) tool: ToolId,
    pub(super) version: i64,
    pub(super) way: Delegation,
    pub(super) issuer: Hash,
    /// How long it may live as things are.
    pub(super) lifetime: Duration,
    /// What it tells of its person as things are.
    pub(super) told: Option<Told>,
    /// The folder that it is put into.
    pub(super) spool: Option<Spool>,
}

/// In which form a proxy is handed over.
#[derive(Debug)]
pub(super) enum Form {
    /// Presented in mutual TLS.
    Resolver(Arc<dyn ResolvesClientCert>),
    /// The PEM file in base64.
    Pem(Secret<String>),
    /// The same, which is put into a folder for each request.
    File(Spool, Secret<String>),
}

/// A signed proxy in use.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) serial: u64,
    /// SHA-256 of the certificate.
    pub(super) certificate: Hash,
    pub(super) stamp: Stamp,
    pub(super) renew_at: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) form: Form,
    pub(super) revocation: Revocation,
}

/// Tells whoever uses a proxy when it is revoked.
#[derive(Clone, Debug)]
pub struct Revocation(Arc<CancellationToken>);

impl Revocation {
    /// Comes when the proxy is revoked.
    pub async fn came(&self) {
        self.0.cancelled().await;
    }

    /// Whether it was revoked.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Live {
    fn fits(&self, stamp: &Stamp, now: Timestamp) -> bool {
        self.stamp == *stamp && now.plus(LAST) < self.not_after
    }
}

/// When a proxy minted `now` is to be renewed: at two thirds of its life. For lives of 15 minutes and more that is at
/// least 5 minutes before the end.
pub(super) fn renew_at(now: Timestamp, not_after: Timestamp) -> Timestamp {
    now.plus(not_after.since(now) / 3 * 2)
}

/// Presents exactly one proxy. rustls' own resolver refuses proxies for their critical extension.
#[derive(Debug)]
pub(super) struct OneProxy(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for OneProxy {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What [`Proxies::find`] found.
pub(super) enum Found {
    /// A proxy in use.
    Live(Arc<Live>),
    /// One that another request is minting.
    Wait(Waiting),
    /// None: the caller mints this one.
    Mint(Box<(Chosen, Ticket)>),
}

struct Pending {
    id: u64,
    serial: u64,
    stamp: Stamp,
    ready: watch::Receiver<Option<Arc<Live>>>,
    revocation: Revocation,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    pending: Option<Pending>,
}

#[derive(Default)]
struct Shard {
    sessions: HashMap<SessionId, HashMap<(VoId, String), Slot>>,
    next: u64,
}

/// All proxies in use.
#[derive(Clone)]
pub(super) struct Proxies {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    per_shard: usize,
    /// By serial, for as long as somebody uses the proxy: also of those that stand in no slot any more.
    revocations: Arc<Mutex<HashMap<u64, Weak<CancellationToken>>>>,
}

impl Proxies {
    pub(super) fn new(max_sessions: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard::default()));
        Self {
            shards: Arc::new(shards),
            per_shard: max_sessions.div_ceil(SHARDS).max(1),
            revocations: Arc::default(),
        }
    }

    /// What tells of the revocation of a proxy that was just chosen.
    ///
    /// INVARIANT: made before the serial stands anywhere, so that no revocation of it comes earlier.
    pub(super) fn revocation(&self, serial: u64) -> Revocation {
        let token = Arc::new(CancellationToken::new());
        lock(&self.revocations).insert(serial, Arc::downgrade(&token));
        Revocation(token)
    }

    /// Tells whoever uses one of these that it is revoked.
    pub(super) fn revoke(&self, serials: &HashSet<u64>) {
        let revocations = lock(&self.revocations);
        let used = serials.iter().filter_map(|serial| revocations.get(serial));
        used.filter_map(Weak::upgrade).for_each(|token| token.cancel());
    }

    /// The holder's proxy, or the one being minted for it, or leave to mint what `choose` chooses.
    ///
    /// # Errors
    /// That of `choose`, when no proxy in use can stand in.
    pub(super) fn find<E>(
        &self,
        holder: &Holder,
        stamp: &Stamp,
        now: Timestamp,
        choose: impl FnOnce() -> Result<Chosen, E>,
    ) -> Result<Found, E> {
        let mut shard = self.shard(holder.session);
        let key = (holder.vo, holder.tool.clone());
        let slot = shard
            .sessions
            .get(&holder.session)
            .and_then(|tools| tools.get(&key));
        let live = slot
            .and_then(|slot| slot.live.clone())
            .filter(|live| live.fits(stamp, now));
        let pending = slot
            .and_then(|slot| slot.pending.as_ref())
            .filter(|pending| pending.stamp == *stamp);
        match (live, pending) {
            (Some(live), _) if now < live.renew_at => return Ok(Found::Live(live)),
            (Some(live), Some(_)) => return Ok(Found::Live(live)),
            (None, Some(pending)) => {
                return Ok(Found::Wait(Waiting {
                    serial: pending.serial,
                    ready: pending.ready.clone(),
                    revocation: pending.revocation.clone(),
                }));
            }
            (Some(live), None) => match choose() {
                Ok(chosen) => return Ok(self.begin(&mut shard, holder, stamp, chosen, now)),
                // An issuer that mints no more does not spoil the proxy in use.
                Err(_) => return Ok(Found::Live(live)),
            },
            (None, None) => {}
        }
        Ok(self.begin(&mut shard, holder, stamp, choose()?, now))
    }

    fn begin(
        &self,
        shard: &mut Shard,
        holder: &Holder,
        stamp: &Stamp,
        chosen: Chosen,
        now: Timestamp,
    ) -> Found {
        if !shard.sessions.contains_key(&holder.session) {
            shard.make_room(self.per_shard, now);
        }
        shard.next += 1;
        let (announce, ready) = watch::channel(None);
        let revocation = self.revocation(chosen.serial());
        let pending = Pending {
            id: shard.next,
            serial: chosen.serial(),
            stamp: stamp.clone(),
            ready,
            revocation: revocation.clone(),
        };
        let key = (holder.vo, holder.tool.clone());
        shard
            .sessions
            .entry(holder.session)
            .or_default()
            .entry(key)
            .or_default()
            .pending = Some(pending);
        let ticket = Ticket {
            proxies: self.clone(),
            holder: holder.clone(),
            id: shard.next,
            announce,
            revocation,
        };
        Found::Mint(Box::new((chosen, ticket)))
    }

    /// Drops every proxy of a session.
    pub(super) fn end_session(&self, session: SessionId) {
        self.shard(session).sessions.remove(&session);
    }

    /// Drops the proxies whose serials are not to be kept; one that is being minted is given to nobody.
    pub(super) fn retain(&self, keep: impl Fn(u64) -> bool) {
        for shard in self.shards.iter() {
            for slot in lock(shard).sessions.values_mut().flat_map(HashMap::values_mut) {
                slot.live.take_if(|live| !keep(live.serial));
                slot.pending.take_if(|pending| !keep(pending.serial));
            }
        }
    }

    /// Drops every proxy that has ended.
    pub(super) fn sweep(&self, now: Timestamp) {
        for shard in self.shards.iter() {
            lock(shard).sweep(now);
        }
        lock(&self.revocations).retain(|_, token| token.strong_count() > 0);
    }

    /// How many proxies are in use.
    pub(super) fn len(&self) -> usize {
        let live = |shard: &Shard| {
            shard
                .sessions
                .values()
                .flat_map(HashMap::values)
                .filter(|slot| slot.live.is_some())
                .count()
        };
        self.shards.iter().map(|shard| live(&lock(shard))).sum()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder by the number of shards is below it"
    )]
    fn shard(&self, session: SessionId) -> MutexGuard<'_, Shard> {
        let [.., last] = session.uuid().into_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    // INVARIANT: nothing panics while a map is half changed.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn sweep(&mut self, now: Timestamp) {
        self.sessions.retain(|_, tools| {
            tools.retain(|_, slot| {
                slot.pending.is_some() || slot.live.as_ref().is_some_and(|live| now < live.not_after)
            });
            !tools.is_empty()
        });
    }

    fn make_room(&mut self, limit: usize, now: Timestamp) {
        if self.sessions.len() < limit {
            return;
        }
        self.sweep(now);
        while self.sessions.len() >= limit {
            let idle = |tools: &HashMap<_, Slot>| tools.values().all(|slot| slot.pending.is_none());
            // Whoever loses a proxy here gets a new one with the next request.
            let Some(victim) = self
                .sessions
                .iter()
                .find(|(_, tools)| idle(tools))
                .map(|(id, _)| *id)
            else {
                return;
            };
            self.sessions.remove(&victim);
        }
    }
}

/// A proxy that another request is minting.
pub(super) struct Waiting {
    serial: u64,
    ready: watch::Receiver<Option<Arc<Live>>>,
    revocation: Revocation,
}

impl Waiting {
    pub(super) const fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// The proxy, once it is signed; `None` when the request that minted it failed.
    pub(super) async fn done(mut self) -> Option<Arc<Live>> {
        self.ready
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|live| live.clone())
    }
}

/// Leave to mint one proxy.
pub(super) struct Ticket {
    proxies: Proxies,
    holder: Holder,
    id: u64,
    announce: watch::Sender<Option<Arc<Live>>>,
    revocation: Revocation,
}

impl Ticket {
    pub(super) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// Puts the signed proxy in use and tells whoever waits. Neither, when it was revoked, its session ended, or another
    /// took its place meanwhile.
    pub(super) fn done(self, live: &Arc<Live>) {
        self.slot(|slot| {
            slot.live = Some(live.clone());
            self.announce.send_replace(Some(live.clone()));
        });
    }

    /// Runs `change` on the holder's slot, if this ticket is still the one that mints for it.
    fn slot(&self, change: impl FnOnce(&mut Slot)) {
        let mut shard = self.proxies.shard(self.holder.session);
        let key = (self.holder.vo, self.holder.tool.clone());
        let slot = shard
            .sessions
            .get_mut(&self.holder.session)
            .and_then(|tools| tools.get_mut(&key));
        if let Some(slot) =
            slot.filter(|slot| slot.pending.as_ref().is_some_and(|pending| pending.id == self.id))
        {
            change(slot);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot(|slot| slot.pending = None);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.id)
    }
}
