//! The composition root: builds every part, settles what a crash left open, starts listeners and jobs, shuts down.
//!
//! The only place that knows all concrete types. Tests about time start the same [`Server`] with a clock that they move.

mod backup;
mod accounts;
mod certificates;
mod check;
mod doctor;
mod gauges;
mod guesses;
mod jobs;
mod lock;
mod notify;
mod operations;
mod recover;
mod recovery;
mod reload;
mod seal;
mod standing;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alert::Alert;
use crate::audit::{Audit, LogKey, syslog, witness};
use crate::authenticate::Authenticate;
use crate::authorize::Authorize;
use crate::config::{self, Config};
use crate::delegate::Delegate;
use crate::delegate::provider::Providers;
use crate::forward::{Forward, LocalService, Meters, OwnListeners};
use crate::gateway::{self, Acts, Budgets, Listener, MyProxyServer, Parts, Pipeline, Words};
use crate::id::Ids;
use crate::lane::{self, Lanes};
use crate::record::{Event, Start};
use crate::resource::Resources;
use crate::state::States;
use crate::store::Db;
use crate::telemetry::{self, Exporter, Health, Metrics, Tracing};
use crate::tool::{Tool, ToolStore, VoRef};
use crate::trust::seal::SealingKey;
use crate::vo::{DirectoryHandle, Vos};
use crate::{api, console};
pub use backup::{BackedUp, Lost, Manifest, Progress, Restore, Restored, backup, restore};
pub use check::{Checked, check};
pub use doctor::{Finding, State, examine};
use gauges::Gauges;
pub use lock::{FolderLock, LockError};
pub use recover::{AcceptState, Recover, Recovered, accept_state, recover};
pub use seal::{SealChanged, change_sealing_key};

use api::gateway::Reload;
use reload::{Pipelines, Reloading};

/// Connections that may wait to be accepted: as many as come at once when everybody connects anew.
const BACKLOG: u32 = 4_096;
/// Parts whose health decides whether the node is ready.
const PARTS: &[&str] = &["audit", "clock", "lifecycle", "sealing_key", "store"];
/// How long a request whose answer has gone may take to write its outcome when the gateway stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Server {
    audit: Audit,
    db: Db,
    health: Health,
    acts: Acts,
    reload: Reload,
    listener: Arc<Listener>,
    stop: CancellationToken,
    /// Ends what answers until the very end: health, metrics, signs of life.
    gone: CancellationToken,
    tasks: JoinSet<()>,
    last: JoinSet<()>,
    listening: Listening,
    file: PathBuf,
    lanes: Arc<Lanes>,
    /// The data folder's; goes last.
    lock: FolderLock,
}

/// Parts that a reload keeps.
struct Fixed {
    authorize: Authorize,
    locals: HashMap<&'static str, LocalService>,
    pages: Arc<console::Console>,
    words: Words,
    acts: Acts,
    budgets: Budgets,
    own: OwnListeners,
    meters: Arc<Meters>,
    tracing: Arc<Tracing>,
}

/// Where a gateway listens.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listening {
    /// The gateway's own origin.
    pub base: String,
    /// Address of the HTTPS listener.
    pub gateway: SocketAddr,
    /// Address of health and metrics.
    pub operations: SocketAddr,
    /// Address of the listener for people with certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<SocketAddr>,
    /// Address for MyProxy clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub myproxy: Option<SocketAddr>,
}

/// Everything that is built before a listener opens.
struct Built {
    db: Db,
    vos: Vos,
    tools: ToolStore,
    states: States,
    /// Held while log and administrators are told of a foreign change: each is told once.
    telling: tokio::sync::Mutex<()>,
    audit: Audit,
    receivers: syslog::Receivers,
    authenticate: Authenticate,
    delegate: Arc<Delegate>,
    resources: Resources,
    alert: Alert,
    metrics: Metrics,
    health: Health,
    ids: Ids,
}

impl Server {
    /// Starts a gateway by its settings. Time and random bytes come from `ids`.
    ///
    /// # Errors
    /// Whatever keeps it from serving safely: it never serves with a part missing. Only the sealing key may be absent;
    /// then what needs a sealed key is refused.
    pub async fn start(config: Config, ids: Ids) -> anyhow::Result<Self> {
        let found = check(&config, ids.clock().now());
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
        anyhow::ensure!(found.flaws.is_empty(), "{}", found.flaws.join("\n"));
        close_folder(&config.data)?;
        let lock = FolderLock::take(&config.data)?;
        let files = gateway::raise_file_limit();
        let socket = bind(config.gateway.listen).await?;
        let operations = bind(config.operations).await?;
        let certificates = match &config.certificate_listener {
            Some(listener) => Some(bind(listener.listen).await?),
            None => None,
        };
        let myproxy = match &config.myproxy {
            Some(section) => Some((bind(section.listen).await?, MyProxyServer::new(section.clone())?)),
            None => None,
        };
        let listening = Listening {
            base: config::origin(&config.gateway.name, socket.local_addr()?.port()),
            gateway: socket.local_addr()?,
            operations: operations.local_addr()?,
            certificates: certificates.as_ref().map(TcpListener::local_addr).transpose()?,
            myproxy: match &myproxy {
                Some((socket, _)) => Some(socket.local_addr()?),
                None => None,
            },
        };
        let built = Arc::new(build(&config, &listening.base, ids).await?);
        let (reload, asked) = Reload::channel();
        let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
        let (mut tasks, mut last) = (JoinSet::new(), JoinSet::new());
        if let Some(witness) = &config.audit.witness {
            let client = witness::Client::new(witness.clone(), built.audit.clone())?;
            built.metrics.register(|registry| client.register(registry));
            tasks.spawn(client.run(stop.clone()));
        }
        built
            .metrics
            .register(|registry| built.receivers.register(registry));
        for receiver in &config.audit.syslog {
            let source = (built.audit.clone(), built.receivers.clone());
            let folder = config.data.join("syslog");
            let forwarder = syslog::Forwarder::new(
                receiver.clone(),
                source,
                &config.gateway.name,
                &folder,
                stop.clone(),
            )?;
            tasks.spawn(forwarder.start()?);
        }
        let traces = &config.telemetry.traces;
        let exporter = match Exporter::start(traces, &listening.base, &built.metrics, gone.clone())? {
            Some((exporter, sender)) => {
                last.spawn(sender);
                Some(exporter)
            }
            None => None,
        };
        let tracing = Arc::new(Tracing::new(traces, exporter, built.ids.clock().clone()));
        let fixed = Fixed::new(&config, &listening, &built, &reload, tracing)?;
        let meters = fixed.meters.clone();
        let acts = fixed.acts.clone();
        let hash = config.hash;
        let trust = certificates::trust(&config, &built);
        let (reloading, listeners) = Reloading::first(
            built.clone(),
            fixed,
            listening.clone(),
            config.clone(),
            (files, trust.clone()),
        )?;
        let listener = listeners.main.clone();
        let started = Start {
            version: env!("CARGO_PKG_VERSION").into(),
            config: hash,
            epoch: built.audit.checkpoint().map_or(0, |checkpoint| checkpoint.epoch),
        };
        built
            .audit
            .write(Event::Start(started))
            .await
            .context("the log does not take a record")?;
        // A log that takes nothing is no reason not to start: nothing is served until it does, and the operator must get in.
        if let Err(error) = standing::write(&built.states, &built.audit).await {
            tracing::error!("the authorisation state is not written down yet: {error:#}");
        }
        standing::tell(&built).await;

        let started = built.ids.clock().now().secs();
        built.metrics.gauges().started.set(telemetry::whole(started));
        let gauges = Gauges::new(&built, meters, listener.counts());
        let lanes = Arc::new(Lanes::start(lane::usual()).context("no threads to serve with")?);
        tasks.spawn(listener.clone().serve(vec![socket], lanes.clone(), stop.clone()));
        if let (Some(socket), Some(listener)) = (certificates, &listeners.certificates) {
            let served = listener.clone().serve(vec![socket], lanes.clone(), stop.clone());
            tasks.spawn(served);
        }
        if let (Some(trust), Some(settings)) = (trust, &config.certificate_listener) {
            let health = built.health.clone();
            tasks.spawn(certificates::keep_reading(
                trust,
                settings.check,
                health,
                stop.clone(),
            ));
        }
        if let Some((socket, server)) = myproxy {
            let host = listening.base.trim_start_matches("https://").to_owned();
            let main = listeners.main.clone();
            tasks.spawn(main.serve_myproxy(socket, server, host, stop.clone()));
        }
        tasks.spawn(reloading.run(listeners, asked, stop.clone()));
        last.spawn(operations::serve(operations, Arc::new(gauges), gone.clone()));
        match recover::Socket::open(&config.data) {
            Ok(socket) => drop(tasks.spawn(socket.serve(built.clone(), stop.clone()))),
            Err(error) => tracing::warn!("`countersign admin recover` needs a stop of this gateway: {error}"),
        }
        jobs::start(&mut tasks, &built, &stop);
        jobs::start_watchdog(&mut last, &lanes, &gone);
        built.health.up("lifecycle");

        let file = config.data.join("listeners.json");
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(&listening)?)?;
        fs::rename(&part, &file)?;
        tracing::info!("serving {} on {}", listening.base, listening.gateway);
        notify::ready(&listening.base);
        Ok(Self {
            audit: built.audit.clone(),
            db: built.db.clone(),
            health: built.health.clone(),
            acts,
            reload,
            listener,
            stop,
            gone,
            tasks,
            last,
            listening,
            file,
            lanes,
            lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Begins a reload, without waiting for it: what comes of it is logged and recorded.
    pub fn reload(&self) {
        drop(self.reload.begin(None));
    }

    /// Stops in order: no new connections, requests under way end within the drain time or are cut, each with its
    /// outcome; then the log is closed with a signed checkpoint.
    pub async fn stop(mut self, reason: &str) {
        let begun = Instant::now();
        notify::stopping();
        let _ = fs::remove_file(&self.file);
        self.health.down("lifecycle", "stopping");
        self.acts.stop();
        self.stop.cancel();
        finish(&mut self.tasks).await;
        // What clients left behind had the same time; one that has just answered writes its outcome.
        let left = self
            .listener
            .drain()
            .saturating_sub(begun.elapsed())
            .max(LAST_WORDS);
        let cut = self.acts.finish(left).await;
        if cut > 0 {
            tracing::warn!("{cut} requests were ended after the drain time");
        }
        self.audit.close(reason).await;
        self.db.close().await;
        self.gone.cancel();
        finish(&mut self.last).await;
        // Everything that used them has ended.
        if let Some(lanes) = Arc::into_inner(self.lanes) {
            let _ = tokio::task::spawn_blocking(|| lanes.end()).await;
        }
        drop(self.lock);
    }
}

async fn finish(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a part of the gateway ended badly: {error}");
        }
    }
}

/// Takes the data folder away from other accounts, where somebody opened it.
fn close_folder(data: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(data)
        .with_context(|| format!("`{}` cannot be read", data.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            "the data folder was open to other accounts (mode {:04o}); it is closed now",
            mode & 0o7777
        );
        fs::set_permissions(data, fs::Permissions::from_mode(0o700))
            .context("the data folder cannot be closed")?;
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "cannot listen on {address}: another program does; stop that one, or give another `listen` in {}",
            config::FILE
        ),
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart does not wait for the connections of the program before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn build(config: &Config, base: &str, ids: Ids) -> anyhow::Result<Built> {
    let db = config.store.open(&config.data).await?;
    let key = LogKey::load(&config.data.join("keys/log.key"))?;
    let opened = Audit::open(
        config.audit.clone(),
        key,
        &config::log_origin(&config.gateway.name),
        ids.clone(),
    )?;
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    let own = Arc::new(Tool::own(
        api::tasks().into_iter().chain(console::tasks()).collect(),
    )?);
    let tools =
        ToolStore::new(db.clone(), vos.handle(), ids.clone(), own).reserving([config.gateway.name.clone()]);
    let states = States::keeping(db.clone(), vos.clone(), tools.clone(), &config.data.join("state"));
    standing::expect(&states, &opened.recovery).await?;
    for broken in states.load().await? {
        tracing::error!("the tool `{}` is out of service: {}", broken.name, broken.flaws);
    }
    let resources = Resources::new(db.clone(), ids.clock().clone());
    let authenticate =
        Authenticate::open(db.clone(), vos.handle(), ids.clone(), config.authenticate.clone()).await?;
    let (metrics, health) = (Metrics::new(), Health::new(PARTS));
    metrics.register(|registry| authenticate.register(registry));
    // Without it the gateway starts sealed, and `check` has said so.
    let sealing = seal::at_hand(&config.sealing_key, &db).await?;
    if let Some(key) = sealing.as_ref().and_then(SealingKey::twin) {
        authenticate.unsealed(key);
    }
    let delegate = Delegate::new(
        config.delegate.clone(),
        db.clone(),
        sealing,
        ids.clone(),
        base.to_owned(),
    )
    .counting(metrics.clone())
    .knowing(vos.handle())
    .spooling(&config.data.join("spool-folders"))?;
    delegate.load().await?;
    metrics.register(|registry| opened.audit.register(registry));
    let alert = Alert::new(
        config.alert.clone(),
        db.clone(),
        vos.clone(),
        ids.clone(),
        metrics.clone(),
        &config.data,
    )?;
    let receivers = syslog::Receivers::new(&config.audit.syslog, ids.clock());
    recovery::settle(&opened, &db, &resources, &delegate, &alert).await?;
    warn_of_refusals(&delegate, &vos, &tools);
    Ok(Built {
        db,
        vos,
        tools,
        states,
        telling: tokio::sync::Mutex::default(),
        audit: opened.audit,
        receivers,
        authenticate,
        delegate: Arc::new(delegate),
        resources,
        alert,
        metrics,
        health,
        ids,
    })
}

/// Says which tools get proxies that some peer refuses.
fn warn_of_refusals(delegate: &Delegate, vos: &Vos, tools: &ToolStore) {
    let (directory, tools) = (vos.handle().load(), tools.handle().load());
    for vo in directory.all_vos() {
        let named = VoRef {
            id: vo.id,
            name: vo.name.clone(),
        };
        for tool in tools.all(vo.id) {
            for refusal in delegate.refusals(&named, tool) {
                tracing::warn!("the tool `{}` of `{}`: {refusal}", tool.name, vo.name);
            }
        }
    }
}

impl Fixed {
    fn new(
        config: &Config,
        listening: &Listening,
        built: &Built,
        reload: &Reload,
        tracing: Arc<Tracing>,
    ) -> anyhow::Result<Self> {
        let authorize = Authorize::new(
            built.vos.handle(),
            Arc::new(built.resources.clone()),
            built.ids.clock().clone(),
            built.metrics.clone(),
        )
        .requiring_mfa_for_admin(config.authenticate.require_mfa_for_admin);
        let own = OwnListeners {
            addresses: [listening.gateway, listening.operations]
                .into_iter()
                .chain(listening.certificates)
                .chain(listening.myproxy)
                .collect(),
            sockets: vec![config.data.join("admin.sock")],
        };
        let api = Arc::new(api::Api {
            own: api::upstream::OwnPlaces {
                name: config.gateway.name.clone(),
                listeners: own.clone(),
                public_ports: config.gateway.public_ports.clone(),
            },
            db: built.db.clone(),
            vos: built.vos.clone(),
            audit: built.audit.clone(),
            ids: built.ids.clone(),
            tools: built.tools.clone(),
            states: built.states.clone(),
            authenticate: built.authenticate.clone(),
            authorize: authorize.clone(),
            delegate: built.delegate.clone(),
            providers: Providers::new(built.db.clone(), built.ids.clone()),
            resources: built.resources.clone(),
            alert: built.alert.clone(),
            reload: reload.clone(),
            require_if_match: config.gateway.require_if_match,
            running: api::idempotency::Running::default(),
        });
        let pages = console::Console::new(
            built.authenticate.clone(),
            authorize.clone(),
            built.audit.clone(),
            built.tools.handle(),
            built.vos.clone(),
            built.delegate.clone(),
            built.ids.clone(),
        )
        .with_api(api.clone());
        let words = check::read_words(&config.data.join("keys/records.key")).map_err(anyhow::Error::msg)?;
        Ok(Self {
            authorize,
            locals: HashMap::from([
                (api::SERVICE, api::service(api)),
                (console::SERVICE, pages.service()),
            ]),
            pages: Arc::new(pages),
            words,
            acts: Acts::default(),
            budgets: Budgets::default(),
            meters: Arc::default(),
            tracing,
            own,
        })
    }

    /// Connections to tools by these settings.
    fn forward(&self, config: &Config) -> Arc<Forward> {
        let forward = Forward::new(config.forward.clone()).counted_in(self.meters.clone());
        forward.set_own_listeners(self.own.clone());
        Arc::new(forward)
    }

    /// The pipeline with everything that a request passes, for each listener: they differ in the ports under which
    /// clients reach them.
    fn pipelines(
        &self,
        config: &Config,
        listening: &Listening,
        built: &Built,
        forward: &Arc<Forward>,
    ) -> Pipelines {
        let ports = |own: SocketAddr, public: &[u16]| [&[own.port()], public].concat();
        let main = ports(listening.gateway, &config.gateway.public_ports);
        let certificates = listening.certificates.zip(config.certificate_listener.as_ref());
        let certificates = certificates.map(|(own, settings)| ports(own, &settings.public_ports));
        let pipeline = |ports| self.pipeline(config, listening, built, forward.clone(), ports);
        Pipelines {
            main: pipeline(main),
            certificates: certificates.map(pipeline),
        }
    }

    fn pipeline(
        &self,
        config: &Config,
        listening: &Listening,
        built: &Built,
        forward: Arc<Forward>,
        ports: Vec<u16>,
    ) -> Arc<Pipeline> {
        Pipeline::new(Parts {
            name: config.gateway.name.clone(),
            ports,
            base: listening.base.clone(),
            hsts: !config.gateway.private_ca,
            limits: config.gateway.limits,
            directory: built.vos.handle(),
            tools: built.tools.handle(),
            authenticate: built.authenticate.clone(),
            authorize: self.authorize.clone(),
            delegate: built.delegate.clone(),
            audit: built.audit.clone(),
            forward,
            locals: self.locals.clone(),
            pages: self.pages.clone(),
            resources: built.resources.clone(),
            alert: built.alert.clone(),
            metrics: built.metrics.clone(),
            tracing: self.tracing.clone(),
            reasons: config.audit.reasons,
            words: self.words.clone(),
            ids: built.ids.clone(),
            acts: self.acts.clone(),
            most_acts: config.gateway.bounds.requests,
            budgets: self.budgets.clone(),
        })
    }
}
