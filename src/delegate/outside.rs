//! Proxies whose private key is made outside the gateway: by a MyProxy server in the middle of a request, or by whoever
//! downloads one. The gateway never sees that key; what it signed is what it maps.
//!
//! The intent holds the serial. The public key comes later, so the `mint` record is a batch of its own, and durable before
//! the VO's key signs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::audit::{Audit, Intended, Receipt};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, SessionId, VoId};
use crate::record::{Event, Hash, Mint, SignedEntry};
use crate::tool::ProxySettings;

use super::mint::{self, Chosen, Durable, Issuer, KeyPair, Reserved};
use super::pkcs10::Asked;
use super::plan::{Plan, Wanted, Work};
use super::proxies::Revocation;
use super::{Delegate, DelegateError};

/// A proxy that is chosen but for its key.
#[derive(Debug)]
pub struct Outside {
    reserved: Reserved,
    holder: Holder,
    revocation: Revocation,
    /// Whether the person's own key may be certified again.
    again: bool,
}

/// For whom and what.
#[derive(Debug)]
struct Holder {
    request: RequestId,
    vo: VoId,
    person: PersonId,
    card: Hash,
    session: SessionId,
    tool: String,
    way: &'static str,
}

impl Outside {
    /// Chooses serial and validity. Signs nothing.
    pub(super) fn choose(
        delegate: &Delegate,
        request: RequestId,
        wanted: &Wanted,
        issuer: &Arc<Issuer>,
        (vo, tool, way): (VoId, &str, &'static str),
        settings: &ProxySettings,
    ) -> Result<Self, DelegateError> {
        let (Some((person, card)), Some(session)) = (wanted.person, wanted.session) else {
            return Err(DelegateError::NoPerson);
        };
        let settings = ProxySettings {
            lifetime: settings.lifetime.min(delegate.longest_for(vo, person)),
            ..settings.clone()
        };
        let now = delegate.ids.clock().now();
        let reserved = mint::reserve(request, issuer, &settings, now, &**delegate.ids.random())?;
        Ok(Self {
            revocation: delegate.proxies.revocation(reserved.serial()),
            reserved: reserved.telling(delegate.told(vo, person)),
            again: false,
            holder: Holder {
                request,
                vo,
                person,
                card,
                session,
                tool: tool.to_owned(),
                way,
            },
        })
    }

    /// What is reserved.
    #[must_use]
    pub const fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    pub(super) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// The same for a key that may have been certified before, for this person in this VO.
    pub(super) fn again(mut self) -> Self {
        self.again = true;
        self
    }
}

impl Holder {
    fn record(&self, chosen: &Chosen) -> Mint {
        Mint {
            request: self.request,
            issuer: chosen.issuer(),
            serial: chosen.serial().to_string(),
            spki: chosen.spki(),
            not_before: chosen.not_before(),
            not_after: chosen.not_after(),
            vo: self.vo,
            person: self.person,
            card: self.card,
            session: self.session,
            tool: self.tool.clone(),
            way: self.way.to_owned(),
        }
    }
}

/// Leave to certify one key, once, for a request of the gateway's own.
#[derive(Debug)]
pub struct Certifier {
    outside: Mutex<Option<Outside>>,
    intended: Intended,
    signed: OnceLock<SignedEntry>,
}

impl Certifier {
    /// What was signed, for the outcome.
    #[must_use]
    pub fn signed(&self) -> Option<SignedEntry> {
        self.signed.get().cloned()
    }
}

impl Outside {
    /// The same for no longer than `lifetime` from `now`.
    fn within(mut self, now: Timestamp, lifetime: Duration) -> Self {
        self.reserved = self.reserved.ending_by(now.plus(lifetime));
        self
    }
}

impl Delegate {
    /// The leave that a plan gives, where it is one to download a proxy.
    ///
    /// # Errors
    /// [`DelegateError::ForeignReceipt`].
    pub fn certifier(&self, plan: Plan, receipt: &Receipt) -> Result<Option<Arc<Certifier>>, DelegateError> {
        let Work::Download(outside) = plan.work(receipt.request())? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Certifier {
            outside: Mutex::new(Some(*outside)),
            intended: receipt.intended(),
            signed: OnceLock::new(),
        })))
    }

    /// Certifies a key for whoever downloads a proxy; for less time than planned where `lifetime` says so. Gives the
    /// certificate and those above it (DER), its serial, and when it ends.
    ///
    /// # Errors
    /// As [`Delegate::certify`]; [`DelegateError::ForeignReceipt`] where the leave was used before.
    pub async fn download(
        &self,
        certifier: &Certifier,
        asked: &Asked,
        lifetime: Option<Duration>,
        audit: &Audit,
    ) -> Result<(Vec<Vec<u8>>, String, Timestamp), DelegateError> {
        let taken = certifier
            .outside
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut outside = taken.ok_or(DelegateError::ForeignReceipt)?;
        if let Some(lifetime) = lifetime {
            outside = outside.within(self.ids.clock().now(), lifetime);
        }
        let ends = outside.reserved.not_after();
        let (chain, signed) = self.certify(outside, asked, audit, &certifier.intended).await?;
        let serial = signed.serial.clone();
        let _ = certifier.signed.set(signed);
        Ok((chain, serial, ends))
    }

    /// Certifies a key that somebody else holds, for the request whose intent is durable: writes the `mint` record,
    /// signs, enters the proxy into the map. Gives the certificate and those above it, and what the outcome says of it.
    ///
    /// # Errors
    /// [`DelegateError`] when the key is known, the log does not take the record, the VO's key does not sign, or the proxy cannot be entered
    /// into the map: then nobody gets it.
    pub async fn certify(
        &self,
        outside: Outside,
        asked: &Asked,
        audit: &Audit,
        intended: &Intended,
    ) -> Result<(Vec<Vec<u8>>, SignedEntry), DelegateError> {
        let begun = self.ids.clock().monotonic();
        let Outside {
            reserved,
            holder,
            again,
            ..
        } = outside;
        // SECURITY: a receipt lets through the request that it was given for, and no other.
        if intended.request() != reserved.request() {
            return Err(DelegateError::ForeignReceipt);
        }
        let chosen = reserved.with(KeyPair::elsewhere(asked));
        // SECURITY: a request for a certificate can be sent again by whoever saw it, and a key that leads to two people proves
        // nothing. Of two requests at once, one has it.
        let record = holder.record(&chosen);
        if !self.claim_key(&record, again).await? {
            return Err(DelegateError::KnownKey);
        }
        let written = audit
            .write_for(intended, vec![Event::Mint(Box::new(record.clone()))])
            .await?;
        let proxy = Box::pin(chosen.sign_apart(&Durable::after(&written))).await?;
        let signed = SignedEntry {
            issuer: proxy.issuer(),
            serial: proxy.serial().to_string(),
            certificate: Hash::of(proxy.certificate()),
        };
        // INVARIANT: a proxy that cannot be entered into the map is never handed out.
        let mut tx = self.db.begin_write().await?;
        let subject = proxy.subject_text();
        let stopped = self.enter(&mut tx, &record, (&signed, subject.as_deref()), proxy.serial());
        let stopped = stopped.await?;
        tx.commit().await?;
        if stopped {
            return Err(DelegateError::Suspended);
        }
        let time = self.ids.clock().monotonic().saturating_sub(begun);
        self.metrics.mint(holder.way, time);
        Ok((proxy.chain(), signed))
    }
}
