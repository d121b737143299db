//! The composition root: builds every part, settles what a crash left open, starts listeners and jobs, shuts down.
//!
//! The only place that knows all concrete types. Tests about time start the same [`Server`] with a clock that they move.

mod jobs;
mod operations;
mod recovery;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alert::Alert;
use crate::audit::{Audit, LogKey};
use crate::authenticate::Authenticate;
use crate::authorize::Authorize;
use crate::config::{self, Config};
use crate::delegate::Delegate;
use crate::forward::{Forward, LocalService, OwnListeners};
use crate::gateway::{self, Listener, Parts, Pipeline, Words};
use crate::id::Ids;
use crate::record::{Event, Start};
use crate::resource::Resources;
use crate::secret;
use crate::store::Db;
use crate::telemetry::{Health, Metrics};
use crate::tool::{Tool, ToolStore};
use crate::trust::seal::SealingKey;
use crate::trust::tls::{self, Identity};
use crate::vo::{DirectoryHandle, Vos};
use crate::{api, console};

/// Parts whose health decides whether the node is ready.
const PARTS: &[&str] = &["audit", "store"];

/// A running gateway.
pub struct Server {
    audit: Audit,
    db: Db,
    pipeline: Arc<Pipeline>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    listening: Listening,
    file: PathBuf,
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
}

/// Everything that is built before a listener opens.
struct Built {
    db: Db,
    vos: Vos,
    tools: ToolStore,
    audit: Audit,
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
        close_folder(&config.data)?;
        let bounds = config
            .gateway
            .bounds
            .clone()
            .within(gateway::raise_file_limit())?;
        let identity = Identity::load(
            &config.data.join(&config.gateway.certificate),
            &config.data.join(&config.gateway.key),
        )?;
        let tls = tls::server_config(identity, &[b"h2", b"http/1.1"])?;
        let socket = bind(config.gateway.listen).await?;
        let operations = bind(config.operations).await?;
        let listening = Listening {
            base: config::origin(&config.gateway.name, socket.local_addr()?.port()),
            gateway: socket.local_addr()?,
            operations: operations.local_addr()?,
        };
        let built = build(&config, &listening.base, ids).await?;
        let started = Start {
            version: env!("CARGO_PKG_VERSION").into(),
            config: config.hash,
            epoch: built.audit.checkpoint().map_or(0, |checkpoint| checkpoint.epoch),
        };
        built
            .audit
            .write(Event::Start(started))
            .await
            .context("the log does not take a record")?;

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let pipeline = pipeline(&config, &listening, &built)?;
        let tls = Arc::new(ArcSwap::new(tls));
        let listener = Listener::new(tls, Pipeline::door(&pipeline), bounds, config.gateway.limits);
        tasks.spawn(listener.serve(vec![socket], stop.clone()));
        tasks.spawn(operations::serve(
            operations,
            built.metrics.clone(),
            built.health.clone(),
            stop.clone(),
        ));
        jobs::start(&mut tasks, &built, &stop);

        let file = config.data.join("listeners.json");
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(&listening)?)?;
        fs::rename(&part, &file)?;
        tracing::info!("serving {} on {}", listening.base, listening.gateway);
        Ok(Self {
            audit: built.audit,
            db: built.db,
            pipeline,
            stop,
            tasks,
            listening,
            file,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Stops in order: no new requests, those under way end, the log is closed with a signed checkpoint.
    pub async fn stop(mut self, reason: &str) {
        let _ = fs::remove_file(&self.file);
        self.pipeline.stopping();
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a part of the gateway ended badly: {error}");
            }
        }
        self.pipeline.finish().await;
        self.audit.close(reason).await;
        self.db.close().await;
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
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

async fn build(config: &Config, base: &str, ids: Ids) -> anyhow::Result<Built> {
    let db = config.store.open(&config.data).await?;
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    vos.load().await?;
    let own = Arc::new(Tool::own(
        api::tasks().into_iter().chain(console::tasks()).collect(),
    )?);
    let tools =
        ToolStore::new(db.clone(), vos.handle(), ids.clone(), own).reserving([config.gateway.name.clone()]);
    for broken in tools.load().await? {
        tracing::error!("the tool `{}` is out of service: {}", broken.name, broken.flaws);
    }
    let resources = Resources::new(db.clone(), ids.clock().clone());
    let authenticate =
        Authenticate::open(db.clone(), vos.handle(), ids.clone(), config.authenticate.clone()).await?;
    let (metrics, health) = (Metrics::new(), Health::new(PARTS));
    metrics.register(|registry| authenticate.register(registry));
    let delegate = Delegate::new(
        config.delegate.clone(),
        db.clone(),
        sealing_key(&config.sealing_key),
        ids.clone(),
        base.to_owned(),
    );
    delegate.load().await?;

    let key = LogKey::load(&config.data.join("keys/log.key"))?;
    let opened = Audit::open(
        config.audit.clone(),
        key,
        &config::log_origin(&config.gateway.name),
        ids.clone(),
    )?;
    let alert = Alert::new(
        config.alert.clone(),
        db.clone(),
        vos.clone(),
        ids.clone(),
        metrics.clone(),
        &config.data,
    )?;
    recovery::settle(&opened, &db, &resources, &delegate, &alert).await?;
    Ok(Built {
        db,
        vos,
        tools,
        audit: opened.audit,
        authenticate,
        delegate: Arc::new(delegate),
        resources,
        alert,
        metrics,
        health,
        ids,
    })
}

/// The key that opens what is sealed; without it the gateway starts sealed and says so.
fn sealing_key(path: &Path) -> Option<SealingKey> {
    match SealingKey::load(path) {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::error!("the gateway starts sealed, tools that need a key are refused: {error}");
            None
        }
    }
}

/// The pipeline with everything that a request passes.
fn pipeline(config: &Config, listening: &Listening, built: &Built) -> anyhow::Result<Arc<Pipeline>> {
    let clock = built.ids.clock().clone();
    let authorize = Authorize::new(
        built.vos.handle(),
        Arc::new(built.resources.clone()),
        clock,
        built.metrics.clone(),
    );
    let forward = Forward::new(config.forward.clone());
    forward.set_own_listeners(OwnListeners {
        addresses: vec![listening.gateway, listening.operations],
        sockets: Vec::new(),
    });
    let api = api::service(Arc::new(api::Api {
        db: built.db.clone(),
        vos: built.vos.clone(),
        audit: built.audit.clone(),
        ids: built.ids.clone(),
        tools: built.tools.clone(),
        authenticate: built.authenticate.clone(),
        authorize: authorize.clone(),
        delegate: built.delegate.clone(),
        resources: built.resources.clone(),
        alert: built.alert.clone(),
    }));
    let pages = console::Console::new(
        built.authenticate.clone(),
        authorize.clone(),
        built.audit.clone(),
        built.tools.handle(),
        built.vos.clone(),
        built.delegate.clone(),
        built.ids.clone(),
    );
    let locals: HashMap<&'static str, LocalService> =
        HashMap::from([(api::SERVICE, api), (console::SERVICE, pages.service())]);
    let records = secret::read_text(&config.data.join("keys/records.key"))
        .context("keys/records.key cannot be read")?;
    Ok(Pipeline::new(Parts {
        name: config.gateway.name.clone(),
        base: listening.base.clone(),
        hsts: !config.gateway.private_ca,
        limits: config.gateway.limits,
        directory: built.vos.handle(),
        tools: built.tools.handle(),
        authenticate: built.authenticate.clone(),
        authorize,
        delegate: built.delegate.clone(),
        audit: built.audit.clone(),
        forward,
        locals,
        pages: Arc::new(pages),
        resources: built.resources.clone(),
        alert: built.alert.clone(),
        metrics: built.metrics.clone(),
        words: Words::from_hex(records.expose())
            .context("keys/records.key must hold 64 hexadecimal digits")?,
        ids: built.ids.clone(),
    }))
}
