//! The log as it grows, for a receiver of syslog over TLS (RFC 5424 messages, RFC 5425 framing), at least once.
//!
//! Syslog has no acknowledgement: that bytes were taken by the other machine's TCP does not say that the receiver read
//! them, let alone kept them. So a record counts as delivered when the connection that carried it is still whole
//! ten seconds later, or was ended in order by both sides; what had not come so far is sent again over the next connection.
//! A receiver that loses what it read longer ago than that cannot be helped from here. The position is on stable storage.
//!
//! Each receiver has a thread of its own, which reads the files of the log as the index does: nothing on the path of a
//! request waits for it, and what it has not sent yet waits in the log, not in memory.

mod config;
mod connection;
mod message;
mod position;
mod source;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Format};

use connection::Connection;
use message::Messages;
use position::Kept;
use source::Source;

use super::Audit;
use super::export::Export;
use super::index::Position;
use super::read::ReadError;
use crate::clock::{Clock, Timestamp};
use crate::outbound::OutboundError;
use crate::telemetry::family;

/// How long the connection must outlive what it carried before that counts as delivered.
const SETTLE: Duration = Duration::from_secs(10);
/// How often the position is stored at most.
const STORE: Duration = Duration::from_secs(1);
/// How often new records are looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait before the next attempt, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Bytes that are sent at once, about.
const BATCH: usize = 256 * 1024;
/// How long the end of the gateway waits for a receiver.
const LAST: Duration = Duration::from_secs(3);

/// Why a receiver cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// The authorities cannot be read.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// A file of the settings is not what it should be.
    #[error("`{file}` is not {what} (`{settings}`)")]
    File {
        /// The file.
        file: String,
        /// What it should be.
        what: &'static str,
        /// Section of the settings that names it.
        settings: &'static str,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// The position cannot be read.
    #[error("the position of the syslog receiver `{0}` cannot be read: {1}")]
    Position(String, io::Error),
    /// No thread.
    #[error("no thread for the syslog receiver `{0}`: {1}")]
    Thread(String, io::Error),
}

/// What went wrong with a round.
enum Broke {
    Connection(io::Error),
    Log(ReadError),
}

/// How a receiver does; for monitoring and alerts.
#[derive(Debug)]
pub struct Receiver {
    name: String,
    alert_after: Duration,
    clock: Arc<dyn Clock>,
    /// Microseconds: the time of the oldest record that was not sent; 0 when all were.
    oldest: AtomicI64,
    /// Microseconds: since when it has not had everything; 0 when it has. A gateway that was away, or a receiver that is new,
    /// begins with old records, and that is no alarm.
    since: AtomicI64,
    behind: AtomicU64,
}

impl Receiver {
    fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: config.name.clone(),
            alert_after: config.alert_after,
            clock,
            oldest: AtomicI64::new(0),
            since: AtomicI64::new(0),
            behind: AtomicU64::new(0),
        }
    }

    fn is_behind_by(&self, behind: u64) {
        self.behind.store(behind, Ordering::Relaxed);
        let since = match (behind, self.since.load(Ordering::Relaxed)) {
            (0, _) => 0,
            (_, 0) => self.clock.now().0,
            (_, since) => since,
        };
        self.since.store(since, Ordering::Relaxed);
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the oldest record that was not sent has waited.
    #[must_use]
    pub fn lag(&self) -> Duration {
        match self.oldest.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            oldest => self.clock.now().since(Timestamp(oldest)),
        }
    }

    /// Whether it has been behind, and is so, for longer than the administrators want.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let since = Timestamp(self.since.load(Ordering::Relaxed));
        self.lag() > self.alert_after && since.0 != 0 && self.clock.now().since(since) > self.alert_after
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn has_all(&self) -> bool {
        self.behind.load(Ordering::Relaxed) == 0
    }
}

type ByName = Family<[(&'static str, String); 1], Counter>;
type ByResult = Family<[(&'static str, String); 2], Counter>;
type Gauges = Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>;

/// All receivers of a log.
#[derive(Clone, Debug, Default)]
pub struct Receivers {
    all: Arc<Vec<Arc<Receiver>>>,
    records: ByName,
    connections: ByResult,
    behind: Gauges,
    lag: Gauges,
}

impl Receivers {
    /// Receivers as the settings have them.
    #[must_use]
    pub fn new(configs: &[Config], clock: &Arc<dyn Clock>) -> Self {
        let receiver = |config: &Config| Arc::new(Receiver::new(config, clock.clone()));
        Self {
            all: Arc::new(configs.iter().map(receiver).collect()),
            ..Self::default()
        }
    }

    /// How each of them does.
    #[must_use]
    pub fn all(&self) -> &[Arc<Receiver>] {
        &self.all
    }

    /// Registers the families `audit_syslog_...`, where there is a receiver.
    pub fn register(&self, registry: &mut Registry) {
        if self.all.is_empty() {
            return;
        }
        family::register(registry, "audit_syslog_records", self.records.clone());
        family::register(registry, "audit_syslog_connections", self.connections.clone());
        family::register(registry, "audit_syslog_lag_records", self.behind.clone());
        family::register(registry, "audit_syslog_lag_seconds", self.lag.clone());
    }

    /// Takes the numbers that are read when monitoring asks.
    pub fn refresh(&self) {
        for receiver in self.all.iter() {
            let label = [("receiver", receiver.name.clone())];
            let behind = i64::try_from(receiver.behind.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
            self.behind
                .get_or_create(&label)
                .set(crate::telemetry::whole(behind));
            self.lag.get_or_create(&label).set(receiver.lag().as_secs_f64());
            // Those that nothing has happened to yet are told too.
            drop(self.records.get_or_create(&label));
            for result in ["connected", "failed"] {
                let labels = [("receiver", receiver.name.clone()), ("result", result.to_owned())];
                drop(self.connections.get_or_create(&labels));
            }
        }
    }
}

/// Whether a receiver can be served with these settings.
///
/// # Errors
/// [`SyslogError`].
pub fn check(config: &Config) -> Result<(), SyslogError> {
    connection::tls(config).map(drop)
}

/// Sends the log to one receiver.
pub struct Forwarder {
    config: Config,
    tls: Arc<ClientConfig>,
    audit: Audit,
    receiver: Arc<Receiver>,
    receivers: Receivers,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    messages: Messages,
    export: Export,
    kept: Kept,
    source: Source,
    connection: Option<Connection>,
    /// What was read and not sent.
    batch: Batch,
    /// Ends of what was sent, with the time, until the connection has outlived it.
    sent: VecDeque<(Duration, Position)>,
    /// How far the receiver counts as served.
    settled: Position,
    stored: Duration,
    again: Duration,
    told: bool,
}

/// Frames that go out together.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    count: u64,
}

impl Forwarder {
    /// The forwarder of `receivers`' member with the name of `config`. `host` is the gateway's name; positions are kept in
    /// `folder`.
    ///
    /// # Errors
    /// [`SyslogError`].
    pub fn new(
        config: Config,
        (audit, receivers): (Audit, Receivers),
        host: &str,
        folder: &Path,
        stop: CancellationToken,
    ) -> Result<Self, SyslogError> {
        let kept = Kept::open(folder, &config.name)
            .map_err(|error| SyslogError::Position(config.name.clone(), error))?;
        let clock = audit.0.shared.ids.clock().clone();
        let receiver = receivers.all.iter().find(|receiver| receiver.name == config.name);
        let receiver = match receiver {
            Some(receiver) => receiver.clone(),
            None => Arc::new(Receiver::new(&config, clock.clone())),
        };
        let (present, head) = (audit.0.shared.epoch, audit.size());
        let settled = within(kept.position(), present, head).unwrap_or_else(|| {
            tracing::error!(
                "the position of the syslog receiver `{}` lies behind the end of the log, which was another when it was \
                 kept: all of this log is sent again",
                config.name
            );
            Position { epoch: 0, seq: 0 }
        });
        let folder = audit.folder().to_owned();
        let source = Source::new(folder, present, settled);
        Ok(Self {
            tls: connection::tls(&config)?,
            config,
            receiver,
            receivers,
            stop,
            messages: Messages::of(host),
            export: Export::default(),
            kept,
            source,
            connection: None,
            batch: Batch::default(),
            sent: VecDeque::new(),
            settled,
            stored: clock.monotonic(),
            again: AGAIN.0,
            told: false,
            audit,
            clock,
        })
    }

    /// Starts its thread; what is given back ends with it, soon after the gateway stops.
    ///
    /// # Errors
    /// [`SyslogError::Thread`].
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, SyslogError> {
        let (name, stop) = (self.config.name.clone(), self.stop.clone());
        let (done, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(format!("syslog {name}"))
            .spawn(move || {
                self.run();
                drop(done);
            })
            .map_err(|error| SyslogError::Thread(name, error))?;
        Ok(async move {
            tokio::pin!(ended);
            tokio::select! {
                _ = &mut ended => return,
                () = stop.cancelled() => {}
            }
            // A receiver that hangs does not keep the gateway from ending.
            let _ = tokio::time::timeout(LAST, ended).await;
        })
    }

    fn run(mut self) {
        while !self.stop.is_cancelled() {
            match self.round() {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(TICK),
                Err(broke) => self.broke(&broke),
            }
        }
        self.end();
    }

    /// Sends what there is. False when there is nothing.
    fn round(&mut self) -> Result<bool, Broke> {
        self.fill().map_err(Broke::Log)?;
        self.connect()?;
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        connection.look().map_err(Broke::Connection)?;
        if self.batch.frames.is_empty() {
            self.settle();
            return Ok(false);
        }
        connection.send(&self.batch.frames).map_err(Broke::Connection)?;
        let label = [("receiver", self.config.name.clone())];
        self.receivers
            .records
            .get_or_create(&label)
            .inc_by(self.batch.count);
        self.sent.push_back((self.clock.monotonic(), self.source.next()));
        self.batch = Batch::default();
        self.receiver.oldest.store(0, Ordering::Relaxed);
        self.again = AGAIN.0;
        self.settle();
        Ok(true)
    }

    /// Reads what comes next, unless something waits already.
    fn fill(&mut self) -> Result<(), ReadError> {
        let head = self.audit.size();
        while self.batch.frames.len() < BATCH {
            let Some((record, at)) = self.source.read(head)? else {
                break;
            };
            if self.batch.count == 0 {
                self.receiver.oldest.store(record.time.0, Ordering::Relaxed);
            }
            let text = match self.config.format {
                Format::Ocsf => self.export.ocsf(&record),
                // A record was read from JSON, so it can be written as JSON.
                Format::Json => serde_json::to_string(&record).unwrap_or_default(),
            };
            let frame = self.messages.frame(&record, at, &text);
            self.batch.frames.extend_from_slice(&frame);
            self.batch.count += 1;
        }
        let missed = self.source.missed();
        if missed > 0 {
            tracing::error!(
                "{missed} records were dropped from the log before the syslog receiver `{}` had them",
                self.config.name
            );
        }
        let behind = self.batch.count + self.source.behind(head);
        self.receiver.is_behind_by(behind);
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Broke> {
        if self.connection.is_some() || self.batch.frames.is_empty() {
            return Ok(());
        }
        let opened = Connection::open(&self.config, self.tls.clone());
        let result = if opened.is_ok() { "connected" } else { "failed" };
        let labels = [
            ("receiver", self.config.name.clone()),
            ("result", result.to_owned()),
        ];
        self.receivers.connections.get_or_create(&labels).inc();
        self.connection = Some(opened.map_err(Broke::Connection)?);
        self.told = false;
        tracing::info!(
            "the log goes to the syslog receiver `{}`, from record {} of epoch {} on",
            self.config.name,
            self.settled.seq,
            self.settled.epoch
        );
        Ok(())
    }

    /// What the connection has outlived counts as delivered.
    fn settle(&mut self) {
        let now = self.clock.monotonic();
        while let Some((at, end)) = self.sent.front()
            && now.saturating_sub(*at) >= SETTLE
        {
            self.settled = *end;
            self.sent.pop_front();
        }
        if now.saturating_sub(self.stored) >= STORE {
            self.stored = now;
            self.keep();
        }
    }

    fn keep(&mut self) {
        if let Err(error) = self.kept.keep(self.settled) {
            tracing::error!(
                "the position of the syslog receiver `{}` cannot be stored: {error}",
                self.config.name
            );
        }
    }

    /// Begins again with what does not count as delivered, after a while.
    fn broke(&mut self, broke: &Broke) {
        let why = match broke {
            Broke::Connection(error) => error.to_string(),
            Broke::Log(error) => error.to_string(),
        };
        // Said once, until it is well again.
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("the syslog receiver `{}` is not served: {why}", self.config.name);
        }
        let begun = self.connection.take().is_some();
        if begun || matches!(broke, Broke::Log(_)) {
            self.sent.clear();
            self.batch = Batch::default();
            self.source.go_to(self.settled);
        }
        let until = self.clock.monotonic() + self.again;
        self.again = (self.again * 2).min(AGAIN.1);
        while !self.stop.is_cancelled() && self.clock.monotonic() < until {
            std::thread::sleep(TICK);
        }
    }

    /// Ends the connection in order.
    fn end(mut self) {
        if let Some(connection) = self.connection.take()
            && connection.close()
            && let Some((_, end)) = self.sent.back()
        {
            self.settled = *end;
        }
        self.keep();
    }
}

/// A position that was kept, where it can be one of this log: up to its end.
fn within(kept: Position, present: u64, head: u64) -> Option<Position> {
    let within = kept.epoch < present || (kept.epoch == present && kept.seq <= head);
    within.then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    #[test]
    fn a_position_behind_the_end_of_the_log_is_of_another_log() {
        let at = |epoch, seq| Position { epoch, seq };
        for kept in [at(0, 0), at(1, 999_999), at(2, 0), at(2, 40)] {
            assert_eq!(within(kept, 2, 40), Some(kept));
        }
        for kept in [at(2, 41), at(3, 0)] {
            assert_eq!(within(kept, 2, 40), None);
        }
    }

    #[test]
    fn a_receiver_is_late_when_it_has_been_behind_for_long_not_when_it_begins_with_old_records() {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(10_000)));
        let document = crate::settings::Document::parse("c.toml", "address = \"a\"\nalert_after = \"1m\"\n");
        let config = Config::read(document.unwrap().root()).unwrap();
        let receiver = Receiver::new(&config, clock.clone());
        assert!(receiver.has_all() && !receiver.is_late());
        let old = Timestamp::from_secs(5).0;
        receiver.oldest.store(old, Ordering::Relaxed);
        receiver.is_behind_by(7);
        assert!(!receiver.is_late() && !receiver.has_all());
        clock.advance(Duration::from_secs(61));
        assert!(receiver.is_late());
        // It is served all the time, and never has everything: what waits is new.
        receiver.oldest.store(clock.now().0, Ordering::Relaxed);
        receiver.is_behind_by(7);
        assert!(!receiver.is_late());
        receiver.oldest.store(0, Ordering::Relaxed);
        receiver.is_behind_by(0);
        assert!(receiver.has_all() && receiver.lag().is_zero());
    }
}
