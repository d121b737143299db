//! Reload: everything new is read and checked before anything changes, then swapped as a whole.
//!
//! Requests keep what they began with, connections stay open. A reload that finds a flaw changes nothing, says every
//! flaw, and is on record; one that succeeds is a `change` with the hashes of before and after, durable before the swap.
//! What cannot change in a running gateway is named.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use super::{Built, Fixed, Listening, notify};
use crate::api::gateway::ReloadAsked;
use crate::api::gateway::reload::GatewayReloaded;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::forward::Forward;
use crate::gateway::{Bounds, Front, Listener, Pipeline};
use crate::id::RequestId;
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, ChangeEvent, Event, Hash, ReloadFailed};
use crate::trust::client::{self, Trust};
use crate::trust::tls::{self, Identity, Tickets, TlsError};
use crate::vo::Directory;

/// What clients may choose from, best first.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The listener for people with certificates may take one connection in so many.
const SHARE: usize = 10;
/// How often it is looked for what is left on MyProxy servers.
const UPLOADS: Duration = Duration::from_secs(30);
/// How often it is looked for proxies that are to be renewed.
const LENT: Duration = Duration::from_secs(5);
/// Flaws that a record names.
const FLAWS_RECORDED: usize = 50;

/// Reloads, one after the other.
pub(super) struct Reloading {
    built: Arc<Built>,
    fixed: Fixed,
    listening: Listening,
    /// Open files that are allowed.
    files: u64,
    /// Whose certificates the second listener takes.
    trust: Option<Arc<Trust>>,
    tickets: Tickets,
    /// What holds until the next start, whatever the file says meanwhile.
    started: Config,
    now: Holding,
    /// Held while uploads are swept: one sweep at a time.
    sweeping: Arc<tokio::sync::Mutex<()>>,
    /// Held while proxies are renewed.
    renewing: Arc<tokio::sync::Mutex<()>>,
}

/// What holds until the next reload.
struct Holding {
    config: Config,
    forward: Arc<Forward>,
    pipelines: Pipelines,
    certificate: Hash,
    files: Marks,
}

/// The pipeline behind each listener.
#[derive(Clone)]
pub(super) struct Pipelines {
    pub(super) main: Arc<Pipeline>,
    pub(super) certificates: Option<Arc<Pipeline>>,
}

/// The listener for everybody, and the one for people with certificates.
pub(super) struct Listeners {
    pub(super) main: Arc<Listener>,
    pub(super) certificates: Option<Arc<Listener>>,
}

/// What each listener serves with.
struct Fronts {
    main: Front,
    certificates: Option<Front>,
}

impl Listeners {
    fn new(fronts: Fronts) -> Self {
        Self {
            main: Listener::new(fronts.main),
            certificates: fronts.certificates.map(Listener::new),
        }
    }

    fn swap(&self, fronts: Fronts) {
        self.main.swap(fronts.main);
        if let (Some(listener), Some(front)) = (&self.certificates, fronts.certificates) {
            listener.swap(front);
        }
    }
}

/// A whole new state, checked.
struct Snapshot {
    fronts: Fronts,
    holding: Holding,
    ends: Option<Timestamp>,
}

/// Settings that need a restart, and tools that are out of service.
type Named = (Vec<String>, Vec<String>);

/// What tells that certificate or key were replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks([Option<(i64, i64, u64, u64)>; 2]);

impl Reloading {
    /// The first state, from which a listener can be made.
    pub(super) fn first(
        built: Arc<Built>,
        fixed: Fixed,
        listening: Listening,
        config: Config,
        (files, trust): (u64, Option<Arc<Trust>>),
    ) -> anyhow::Result<(Self, Listeners)> {
        let forward = fixed.forward(&config);
        let tickets = Tickets::new()?;
        let marks = Marks::of(&config);
        let shown = Shown::read(&config, &tickets, trust.as_ref(), None)?;
        let pipelines = fixed.pipelines(&config, &listening, &built, &forward);
        let snapshot = snapshot((config.clone(), forward, pipelines), files, marks, shown)?;
        built.metrics.loaded(built.ids.clock().now());
        if let Some(end) = snapshot.ends {
            built.metrics.certificate(end);
        }
        let reloading = Self {
            built,
            fixed,
            listening,
            files,
            trust,
            tickets,
            started: config,
            now: snapshot.holding,
            sweeping: Arc::default(),
            renewing: Arc::default(),
        };
        Ok((reloading, Listeners::new(snapshot.fronts)))
    }

    /// Hears what is asked, and looks at the certificate, until the server stops.
    pub(super) async fn run(
        mut self,
        listener: Listeners,
        mut asked: mpsc::Receiver<ReloadAsked>,
        stop: CancellationToken,
    ) {
        let mut due = Due::now();
        loop {
            let check = self.now.config.gateway.certificate_check;
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ask) = asked.recv() => {
                    let answer = self.reload(&listener, ask.request).await;
                    let _ = ask.answer.send(answer);
                }
                what = due.next(check) => match what {
                    What::Uploads => self.sweep(stop.clone()),
                    What::Lent => self.renew(stop.clone()),
                    What::Certificate => {
                        self.look(&listener).await;
                        due.looked();
                    }
                }
            }
        }
    }

    /// Removes what is left on MyProxy servers, beside everything else.
    fn sweep(&self, stop: CancellationToken) {
        let (pipeline, sweeping) = (self.now.pipelines.main.clone(), self.sweeping.clone());
        tokio::spawn(async move {
            let Ok(_one) = sweeping.try_lock() else { return };
            tokio::select! {
                () = stop.cancelled() => {}
                () = pipeline.sweep_uploads() => {}
            }
        });
    }

    /// Renews what computing elements keep for jobs, beside everything else.
    fn renew(&self, stop: CancellationToken) {
        let (pipeline, renewing) = (self.now.pipelines.main.clone(), self.renewing.clone());
        tokio::spawn(async move {
            let Ok(_one) = renewing.try_lock() else { return };
            tokio::select! {
                () = stop.cancelled() => {}
                () = pipeline.sweep_lent() => {}
            }
        });
    }

    fn count(&self, by: &'static str, done: bool) {
        let now = self.built.ids.clock().now();
        self.built.metrics.reload(by, done, now);
    }

    /// One reload.
    async fn reload(
        &mut self,
        listener: &Listeners,
        request: Option<RequestId>,
    ) -> Result<GatewayReloaded, Problem> {
        notify::reloading();
        let by = if request.is_some() { "request" } else { "signal" };
        let result = match self.prepare().await {
            Ok((snapshot, named)) => self.take(listener, snapshot, request, named).await,
            Err(flaws) => Err(self.failed(by, request, flaws).await),
        };
        self.count(by, result.is_ok());
        notify::ready(&self.listening.base);
        result
    }

    /// Reads and checks everything. What the store holds is the truth at any time, so it is taken up first. Names the
    /// settings that need a restart, and the tools that are out of service.
    async fn prepare(&self) -> Result<(Snapshot, Named), Vec<String>> {
        let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
        let data = self.started.data.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&data));
        let config = read
            .await
            .map_err(|error| one(&error))?
            .map_err(|flaws| flaws.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let mut flaws = Vec::new();
        let marks = Marks::of(&config);
        let now = Some(self.built.ids.clock().now());
        let shown = Shown::read(&config, &self.tickets, self.trust.as_ref(), now)
            .map_err(|error| flaws.push(error.to_string()))
            .ok();
        if let Err(error) = config.gateway.bounds.clone().within(self.files) {
            flaws.push(error.to_string());
        }
        let mut broken = Vec::new();
        match self.built.states.load().await {
            Ok(found) => broken.extend(found.into_iter().map(|tool| {
                tracing::error!("the tool `{}` is out of service: {}", tool.name, tool.flaws);
                tool.name
            })),
            Err(error) => flaws.push(error.to_string()),
        }
        super::standing::tell(&self.built).await;
        super::warn_of_refusals(&self.built.delegate, &self.built.vos, &self.built.tools);
        let Some(shown) = shown.filter(|_| flaws.is_empty()) else {
            return Err(flaws);
        };
        let restart = config.needs_restart(&self.started);
        let config = self.effective(config);
        // Connections to tools are kept when nothing about them has changed.
        let forward = match config.forward == self.now.config.forward {
            true => self.now.forward.clone(),
            false => self.fixed.forward(&config),
        };
        let pipelines = self
            .fixed
            .pipelines(&config, &self.listening, &self.built, &forward);
        snapshot((config, forward, pipelines), self.files, marks, shown)
            .map(|snapshot| (snapshot, (restart, broken)))
            .map_err(|error| one(&error))
    }

    /// New settings with what holds until the next start.
    fn effective(&self, mut config: Config) -> Config {
        config.gateway.listen = self.started.gateway.listen;
        config.gateway.name.clone_from(&self.started.gateway.name);
        config
            .certificate_listener
            .clone_from(&self.started.certificate_listener);
        config
    }

    /// Writes the change down, then swaps.
    async fn take(
        &mut self,
        listener: &Listeners,
        snapshot: Snapshot,
        request: Option<RequestId>,
        (restart, broken): Named,
    ) -> Result<GatewayReloaded, Problem> {
        let told = GatewayReloaded {
            before: self.now.config.hash.to_string(),
            after: snapshot.holding.config.hash.to_string(),
            certificate: snapshot.holding.certificate.to_string(),
            restart,
            broken,
        };
        let change = Change {
            action: "gateway.reload".into(),
            kind: "gateway".into(),
            target: self.started.gateway.name.clone(),
            vo: Directory::gateway(),
            person: None,
            before: Some(state(&self.now)),
            after: Some(state(&snapshot.holding)),
        };
        self.record(request, change).await?;
        for key in &told.restart {
            tracing::warn!("`{key}` has changed and takes effect at the next start");
        }
        self.swap(listener, snapshot);
        tracing::info!("settings {} were taken up", told.after);
        Ok(told)
    }

    fn swap(&mut self, listener: &Listeners, snapshot: Snapshot) {
        if let Some(end) = snapshot.ends {
            self.built.metrics.certificate(end);
        }
        listener.swap(snapshot.fronts);
        self.now = snapshot.holding;
    }

    /// The change, durable; with the mark by which recovery knows that a request's change was applied.
    async fn record(&self, request: Option<RequestId>, change: Change) -> Result<(), Problem> {
        let id = match request {
            Some(id) => id,
            None => self
                .built
                .ids
                .next()
                .map_err(|_| Problem::new(Kind::Internal, "there are no random bytes"))?,
        };
        let event = Event::Change(Box::new(ChangeEvent::of(id, change)));
        let failed = |error: crate::store::StoreError| error.as_problem();
        let tx = match request {
            Some(_) => {
                let mut tx = self.built.db.begin_write().await.map_err(failed)?;
                tx.applied(id, self.built.ids.clock().now())
                    .await
                    .map_err(failed)?;
                Some(tx)
            }
            None => None,
        };
        self.built
            .audit
            .write(event)
            .await
            .map_err(|error| error.as_problem())?;
        match tx {
            Some(tx) => tx.commit().await.map_err(failed),
            None => Ok(()),
        }
    }

    /// Nothing has changed; says why, here and in the log.
    async fn failed(&self, by: &str, request: Option<RequestId>, flaws: Vec<String>) -> Problem {
        for flaw in &flaws {
            tracing::error!("nothing was reloaded: {flaw}");
        }
        let tried = fs::read(self.started.data.join(crate::config::FILE)).ok();
        let event = Event::ReloadFailed(ReloadFailed {
            request,
            by: by.to_owned(),
            settings: tried.map(|bytes| Hash::of(&bytes)),
            count: u64::try_from(flaws.len()).unwrap_or(u64::MAX),
            flaws: flaws.iter().take(FLAWS_RECORDED).cloned().collect(),
        });
        if let Err(error) = self.built.audit.write(event).await {
            tracing::error!("the failed reload cannot be recorded: {error}");
        }
        Problem::new(Kind::Invalid, "nothing was reloaded").with("errors", flaws)
    }

    /// Takes up a renewed certificate. A pair that does not fit, or is not valid now, leaves the old one in place.
    async fn look(&mut self, listener: &Listeners) {
        let marks = Marks::of(&self.now.config);
        if marks == self.now.files {
            return;
        }
        // Whatever comes of it, these files were looked at: a flaw is said once, not every minute.
        self.now.files = marks;
        let now = self.built.ids.clock().now();
        let snapshot = Shown::read(&self.now.config, &self.tickets, self.trust.as_ref(), Some(now))
            .map_err(anyhow::Error::from)
            .and_then(|shown| {
                let same = (
                    self.now.config.clone(),
                    self.now.forward.clone(),
                    self.now.pipelines.clone(),
                );
                snapshot(same, self.files, marks, shown)
            });
        let snapshot = match snapshot {
            Ok(snapshot) if snapshot.holding.certificate == self.now.certificate => return,
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.failed("certificate", None, vec![format!("{error:#}")]).await;
                return self.count("certificate", false);
            }
        };
        let change = Change {
            action: "gateway.renew_certificate".into(),
            kind: "gateway".into(),
            target: self.started.gateway.name.clone(),
            vo: Directory::gateway(),
            person: None,
            before: Some(state(&self.now)),
            after: Some(state(&snapshot.holding)),
        };
        match self.record(None, change).await {
            Ok(()) => {
                tracing::info!(
                    "the certificate {} is shown from now on",
                    snapshot.holding.certificate
                );
                self.swap(listener, snapshot);
                self.count("certificate", true);
            }
            Err(problem) => {
                // Tried again at the next look.
                self.now.files = Marks::default();
                tracing::error!("a renewed certificate waits for the log: {}", problem.detail);
            }
        }
    }
}

/// What comes again and again, each from its own last time on and not from whatever else was heard.
struct Due {
    uploads: Interval,
    lent: Interval,
    looked: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// To sweep what is left on MyProxy servers.
    Uploads,
    /// To renew what computing elements keep for jobs.
    Lent,
    /// To look at the certificate.
    Certificate,
}

impl Due {
    fn now() -> Self {
        Self {
            uploads: tokio::time::interval(UPLOADS),
            lent: tokio::time::interval(LENT),
            looked: Instant::now(),
        }
    }

    /// What is due next, where the certificate is looked at every `check`. May be dropped and asked again.
    async fn next(&mut self, check: Duration) -> What {
        tokio::select! {
            _ = self.uploads.tick() => What::Uploads,
            _ = self.lent.tick() => What::Lent,
            () = tokio::time::sleep_until(self.looked + check) => What::Certificate,
        }
    }

    /// The certificate was looked at.
    fn looked(&mut self) {
        self.looked = Instant::now();
    }
}

fn state(holding: &Holding) -> serde_json::Value {
    serde_json::json!({ "settings": holding.config.hash, "certificate": holding.certificate })
}

/// What clients are shown, put together from certificate and key.
struct Shown {
    tls: Arc<rustls::ServerConfig>,
    /// The same for clients that show a certificate.
    certificates: Option<Arc<rustls::ServerConfig>>,
    certificate: Hash,
    ends: Option<Timestamp>,
}

impl Shown {
    /// Reads both files; with `now`, the certificate must be valid then.
    fn read(
        config: &Config,
        tickets: &Tickets,
        trust: Option<&Arc<Trust>>,
        now: Option<Timestamp>,
    ) -> Result<Self, TlsError> {
        let file = |path: &Path| config.data.join(path);
        let identity = Identity::load(&file(&config.gateway.certificate), &file(&config.gateway.key))?;
        if let Some(now) = now {
            identity.check_validity(now)?;
        }
        let leaf = identity.chain().first().map(|der| Hash::of(der));
        Ok(Self {
            certificate: leaf.unwrap_or_default(),
            ends: identity.ends(),
            certificates: trust
                .map(|trust| client::server_config(identity.clone(), PROTOCOLS, trust))
                .transpose()?,
            tls: tls::server_config_with(identity, PROTOCOLS, tickets)?,
        })
    }
}

fn snapshot(
    (config, forward, pipelines): (Config, Arc<Forward>, Pipelines),
    files: u64,
    marks: Marks,
    shown: Shown,
) -> anyhow::Result<Snapshot> {
    let mut bounds = config.gateway.bounds.clone().within(files)?;
    let front = |tls, pipeline: &Arc<Pipeline>, bounds| Front {
        tls,
        handler: Pipeline::door(pipeline),
        bounds,
        limits: config.gateway.limits,
        balancers: config.gateway.balancers.clone(),
    };
    let certificates = shown
        .certificates
        .zip(pipelines.certificates.as_ref())
        .map(|(tls, pipeline)| {
            // SECURITY: both listeners together take no more connections than one may.
            let share = (bounds.connections / SHARE).max(1);
            bounds.connections = bounds.connections.saturating_sub(share).max(1);
            let bounds = Bounds {
                connections: share,
                ..bounds.clone()
            };
            front(tls, pipeline, bounds)
        });
    Ok(Snapshot {
        fronts: Fronts {
            certificates,
            main: front(shown.tls, &pipelines.main, bounds),
        },
        holding: Holding {
            config,
            forward,
            pipelines,
            certificate: shown.certificate,
            files: marks,
        },
        ends: shown.ends,
    })
}

impl Marks {
    fn of(config: &Config) -> Self {
        let mark = |path: &Path| {
            let about = fs::metadata(config.data.join(path)).ok()?;
            Some((about.mtime(), about.mtime_nsec(), about.size(), about.ino()))
        };
        Self([mark(&config.gateway.certificate), mark(&config.gateway.key)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_certificate_is_looked_at_whatever_else_is_heard_meanwhile() {
        let (mut due, check) = (Due::now(), Duration::from_millis(80));
        let begun = Instant::now();
        for look in 1..=3 {
            // Something else is heard all the time: what waits is dropped and asked again, sooner than a look is due.
            while tokio::time::timeout(check / 8, due.next(check)).await != Ok(What::Certificate) {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "look {look} never comes"
                );
            }
            assert!(
                begun.elapsed() >= look * check,
                "look {look} comes before its time"
            );
            due.looked();
        }
    }
}
