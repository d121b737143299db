//! The plan of delegation: everything that is chosen before the intent is written, and nothing that is signed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, header};

use crate::audit::Receipt;
use crate::authorize::Permit;
use crate::id::{PersonId, RequestId, SessionId, VoId};
use crate::record::{DelegationEntry, Event, Hash, Mint, SignedEntry};
use crate::tool::{Delegation, ProxyKey, ProxySettings, Tool, ToolTarget, VoRef};
use crate::trust::certificate::Use;
use crate::vo::OWN_TOOL;

use super::assertion::Claims;
use super::mint::{self, Chosen, Durable, KeyPair, MintError};
use super::outside::Outside;
use super::proxies::{Found, Holder, Live, Revocation, Stamp, Ticket, Waiting};
use super::spool;
use super::upload::{self, Upload};
use super::{Credential, Delegate, DelegateError, peers};

/// How long a request waits for an RSA key.
pub const KEY_PATIENCE: Duration = Duration::from_secs(5);
/// The task with which somebody downloads a proxy.
pub const DOWNLOAD: &str = "proxy.download";
/// The way of a proxy that a computing element keeps for jobs.
const LENT: &str = "arc";
/// How long a request waits for a proxy that another one mints.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How one request will be given authority.
pub struct Plan {
    request: RequestId,
    entry: DelegationEntry,
    work: Work,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({}, {})", self.request, self.entry.way)
    }
}

impl Plan {
    fn new(request: RequestId, way: &str, work: Work) -> Self {
        let serial = match &work {
            Work::Ready(Ready::Proxy(live)) => Some(live.serial),
            Work::Wait(waiting) => Some(waiting.serial()),
            Work::Mint(minting) => Some(minting.chosen.serial()),
            Work::Upload(upload) => Some(upload.outside.reserved().serial()),
            Work::Download(outside) | Work::Lend(outside, _) => Some(outside.reserved().serial()),
            _ => None,
        };
        let entry = DelegationEntry {
            way: way.to_owned(),
            serial: serial.map(|serial| serial.to_string()),
            minted: work.mints(),
        };
        Self { request, entry, work }
    }

    /// As it stands in the intent.
    #[must_use]
    pub fn entry(&self) -> DelegationEntry {
        self.entry.clone()
    }

    /// What tells of the revocation of the proxy that the request uses; `None` where it uses none.
    #[must_use]
    pub fn revocation(&self) -> Option<Revocation> {
        match &self.work {
            Work::Ready(Ready::Proxy(live)) => Some(live.revocation.clone()),
            Work::Wait(waiting) => Some(waiting.revocation().clone()),
            Work::Mint(minting) => Some(minting.ticket.revocation().clone()),
            Work::Upload(upload) => Some(upload.outside.revocation().clone()),
            Work::Download(outside) | Work::Lend(outside, _) => Some(outside.revocation().clone()),
            Work::None | Work::Ready(_) => None,
        }
    }

    /// What must be durable together with the intent: the `mint` record, where a proxy will be signed.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        match &self.work {
            Work::Mint(minting) => vec![Event::Mint(Box::new(minting.record.clone()))],
            _ => Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) const fn request(&self) -> RequestId {
        self.request
    }

    pub(super) fn work(self, request: RequestId) -> Result<Work, DelegateError> {
        // SECURITY: a receipt lets through the request that it was given for, and no other.
        if self.request == request {
            Ok(self.work)
        } else {
            Err(DelegateError::ForeignReceipt)
        }
    }
}

/// What is left to be done after the intent is durable.
pub(super) enum Work {
    None,
    Ready(Ready),
    Wait(Waiting),
    Mint(Box<Minting>),
    /// A MyProxy server is filled; its key is certified then.
    Upload(Box<Upload>),
    /// Whoever asks sends a key to be certified.
    Download(Box<Outside>),
    /// The tool, which is called with the proxy in use, has sent a key to be certified.
    Lend(Box<Outside>, Arc<Live>),
}

/// What needs no signature by a VO's key.
pub(super) enum Ready {
    Static {
        header: HeaderName,
        vo: VoId,
        tool: String,
    },
    Assertion(Box<Claims>),
    Proxy(Arc<Live>),
}

/// A proxy that was chosen.
pub(super) struct Minting {
    pub(super) chosen: Chosen,
    pub(super) ticket: Ticket,
    pub(super) stamp: Stamp,
    pub(super) record: Mint,
}

/// What a permit says, as far as delegation is concerned.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) person: Option<(PersonId, Hash)>,
    pub(super) username: Option<String>,
    pub(super) session: Option<SessionId>,
    pub(super) vo: Option<VoRef>,
    pub(super) tool: Option<Arc<Tool>>,
    pub(super) task: String,
    pub(super) local: bool,
}

impl Wanted {
    fn of(permit: &Permit) -> Self {
        let (subject, place, task) = (permit.subject(), permit.place(), &permit.found().task);
        Self {
            person: subject.as_person().map(|person| (person.id, person.card)),
            username: place
                .tool
                .as_ref()
                .filter(|tool| tool.named)
                .and(subject.as_person())
                .map(|person| person.username.clone()),
            session: subject
                .session()
                .map(|session| session.id)
                .or_else(|| subject.agent().map(|agent| agent.session)),
            vo: place.vo.clone(),
            tool: place.tool.clone(),
            task: task.name.clone(),
            local: task.local.is_some(),
        }
    }
}

impl Plan {
    /// Whether a new credential is signed for it.
    #[must_use]
    pub const fn mints(&self) -> bool {
        self.work.mints()
    }
}

impl Work {
    const fn mints(&self) -> bool {
        matches!(
            self,
            Self::Mint(_) | Self::Upload(_) | Self::Download(_) | Self::Lend(..)
        )
    }
}

impl Delegate {
    /// Chooses how `request`, which `permit` permits, is given authority. Signs nothing, and waits for nothing.
    ///
    /// A session has one proxy for each tool: the one in use, or the one that is being minted, or a new one.
    ///
    /// # Errors
    /// [`DelegateError`] when the VO or the tool lacks what its way of delegation needs, or the gateway is sealed. Where it
    /// [is no key](DelegateError::is_no_key), one comes soon ([`Delegate::key_made`]).
    pub fn plan(&self, request: RequestId, permit: &Permit) -> Result<Plan, DelegateError> {
        choose(self, request, &Wanted::of(permit))
    }

    /// The same for a request that brings the tool a certificate for a key of the tool's own. The proxy that it is called with
    /// must be in use already: each request has one credential of its own on record.
    ///
    /// # Errors
    /// As [`Delegate::plan`]; [`DelegateError::Raced`] when no proxy is in use.
    pub fn plan_lending(&self, request: RequestId, permit: &Permit) -> Result<Plan, DelegateError> {
        choose_lending(self, request, &Wanted::of(permit))
    }

    /// Comes when an RSA key is made after this call. Whoever waits for it is decided again before the plan.
    pub fn key_made(&self) -> impl Future<Output = ()> + Send + '_ {
        self.pool.made()
    }

    /// Counts a request that waited for a key.
    pub fn key_waited(&self, served: bool) {
        self.metrics.key_waited(served);
    }

    /// What the tool's way of delegation lacks at the moment; `None` when its credentials can be made.
    #[must_use]
    pub fn lacks(&self, vo: &VoRef, tool: &Tool) -> Option<DelegateError> {
        match tool.delegation {
            Delegation::None => None,
            Delegation::Static => choose_static(self, vo, tool).err(),
            Delegation::Assertion => self.keys.load().assertion().err(),
            Delegation::ClientCertificate | Delegation::Pem => {
                let issuer = self.keys.load().issuer(vo, Use::Tools).err();
                issuer.or_else(|| self.spool_for(vo, tool).err())
            }
            Delegation::MyProxy => upload::lacks(self, vo).err(),
        }
    }

    /// Which peers will refuse the proxies that the tool gets, a sentence for each reason.
    #[must_use]
    pub fn refusals(&self, vo: &VoRef, tool: &Tool) -> Vec<String> {
        if !tool.delegation.is_proxy() {
            return Vec::new();
        }
        let issuer = self.certificate(vo.id, Use::Tools).map(|facts| facts.algorithm);
        peers::refusals(tool, issuer, self.longest(vo.id))
    }

    /// Makes the credential that was planned. `receipt` proves that the intent, and with it the `mint` record, is durable.
    ///
    /// # Errors
    /// [`DelegateError`] when the VO's key does not sign, or the proxy cannot be entered into the map: then it is not used.
    pub async fn credential(
        &self,
        plan: Plan,
        receipt: &Receipt,
    ) -> Result<(Credential, Option<SignedEntry>), DelegateError> {
        let work = plan.work(receipt.request())?;
        self.deliver(work, &Durable::by(receipt)).await
    }
}

pub(super) fn choose(
    delegate: &Delegate,
    request: RequestId,
    wanted: &Wanted,
) -> Result<Plan, DelegateError> {
    let plan = |way: &str, work| Ok(Plan::new(request, way, work));
    if wanted.local && wanted.task == DOWNLOAD {
        return plan("download", choose_download(delegate, request, wanted)?);
    }
    if wanted.local {
        return plan("local", Work::None);
    }
    let (Some(tool), Some(vo)) = (&wanted.tool, &wanted.vo) else {
        return Err(DelegateError::NoTool);
    };
    if matches!(tool.target, ToolTarget::Local(_)) {
        return plan("local", Work::None);
    }
    let work = match tool.delegation {
        Delegation::None => Work::None,
        Delegation::Static => choose_static(delegate, vo, tool)?,
        Delegation::Assertion => choose_assertion(delegate, request, wanted, vo, tool)?,
        Delegation::ClientCertificate | Delegation::Pem => choose_proxy(delegate, request, wanted, vo, tool)?,
        Delegation::MyProxy => Work::Upload(Box::new(Upload::choose(delegate, request, wanted, (vo, tool))?)),
    };
    plan(spool::way(tool), work)
}

/// SECURITY: a proxy that leaves the gateway for good is below the certificate for that use alone, whose name no tool is
/// called by.
fn choose_download(delegate: &Delegate, request: RequestId, wanted: &Wanted) -> Result<Work, DelegateError> {
    let vo = wanted.vo.as_ref().ok_or(DelegateError::NoTool)?;
    let issuer = delegate.keys.load().issuer(vo, Use::Download)?;
    let settings = ProxySettings {
        lifetime: delegate.config.max_lifetime,
        key: ProxyKey::Rsa2048,
        ..ProxySettings::default()
    };
    let held = (vo.id, OWN_TOOL, "download");
    let outside = Outside::choose(delegate, request, wanted, &issuer, held, &settings)?;
    Ok(Work::Download(Box::new(outside)))
}

pub(super) fn choose_lending(
    delegate: &Delegate,
    request: RequestId,
    wanted: &Wanted,
) -> Result<Plan, DelegateError> {
    let (Some(tool), Some(vo)) = (&wanted.tool, &wanted.vo) else {
        return Err(DelegateError::NoTool);
    };
    let Work::Ready(Ready::Proxy(live)) = choose_proxy(delegate, request, wanted, vo, tool)? else {
        return Err(DelegateError::Raced);
    };
    let issuer = delegate.keys.load().issuer(vo, Use::Tools)?;
    let held = (vo.id, tool.name.as_str(), LENT);
    let outside = Outside::choose(delegate, request, wanted, &issuer, held, &tool.proxy)?;
    let work = Work::Lend(Box::new(outside.again()), live);
    Ok(Plan::new(request, LENT, work))
}

fn choose_static(delegate: &Delegate, vo: &VoRef, tool: &Tool) -> Result<Work, DelegateError> {
    let header = match &tool.credential_header {
        None => header::AUTHORIZATION,
        Some(name) => {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| DelegateError::Header(name.clone()))?
        }
    };
    // Opened once already here, so that a sealed gateway refuses before it writes an intent.
    delegate
        .keys
        .load()
        .static_value(delegate.sealing.as_ref(), vo.id, &tool.name)?;
    Ok(Work::Ready(Ready::Static {
        header,
        vo: vo.id,
        tool: tool.name.clone(),
    }))
}

fn choose_assertion(
    delegate: &Delegate,
    request: RequestId,
    wanted: &Wanted,
    vo: &VoRef,
    tool: &Tool,
) -> Result<Work, DelegateError> {
    delegate.keys.load().assertion()?;
    let mut claims = Claims::new(&delegate.origin, &vo.name, &tool.name, request);
    claims.sub = wanted.person.map(|(person, _)| person);
    claims.preferred_username = wanted.username.clone().filter(|_| tool.named);
    claims.task.clone_from(&wanted.task);
    Ok(Work::Ready(Ready::Assertion(Box::new(claims))))
}

fn choose_proxy(
    delegate: &Delegate,
    request: RequestId,
    wanted: &Wanted,
    vo: &VoRef,
    tool: &Tool,
) -> Result<Work, DelegateError> {
    let (Some((person, card)), Some(session)) = (wanted.person, wanted.session) else {
        return Err(DelegateError::NoPerson);
    };
    let issuer = delegate.keys.load().issuer(vo, Use::Tools)?;
    let now = delegate.ids.clock().now();
    let holder = Holder {
        session,
        vo: vo.id,
        tool: tool.name.clone(),
    };
    let lifetime = tool.proxy.lifetime.min(delegate.longest_for(vo.id, person));
    let stamp = Stamp {
        tool: tool.id,
        version: tool.version,
        way: tool.delegation,
        issuer: issuer.facts().sha256,
        lifetime,
        told: delegate.told(vo.id, person),
        spool: delegate.spool_for(vo, tool)?,
    };
    let settings = ProxySettings {
        lifetime,
        ..tool.proxy.clone()
    };
    let key = || match settings.key {
        ProxyKey::P256 => KeyPair::p256(),
        ProxyKey::Rsa2048 => delegate.pool.take(),
    };
    let choose = || {
        let chosen = mint::choose(request, &issuer, &settings, key, now, &**delegate.ids.random())?;
        Ok::<_, MintError>(chosen.telling(stamp.told.clone()))
    };
    Ok(match delegate.proxies.find(&holder, &stamp, now, choose)? {
        Found::Live(live) => Work::Ready(Ready::Proxy(live)),
        Found::Wait(waiting) => Work::Wait(waiting),
        Found::Mint(new) => {
            let (chosen, ticket) = *new;
            let record = Mint {
                request,
                issuer: chosen.issuer(),
                serial: chosen.serial().to_string(),
                spki: chosen.spki(),
                not_before: chosen.not_before(),
                not_after: chosen.not_after(),
                vo: vo.id,
                person,
                card,
                session,
                tool: tool.name.clone(),
                way: spool::way(tool).to_owned(),
            };
            Work::Mint(Box::new(Minting {
                chosen,
                ticket,
                stamp,
                record,
            }))
        }
    })
}
