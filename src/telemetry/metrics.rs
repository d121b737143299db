//! The metric families of the whole program, in one place.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels<const N: usize> = [(&'static str, String); N];

/// Counters and gauges; shared by all clones.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Mutex<Registry>,
    requests: Family<Labels<2>, Counter>,
    refusals: Family<Labels<1>, Counter>,
    policy_errors: Family<Labels<1>, Counter>,
    mints: Family<Labels<1>, Counter>,
    mails: Family<Labels<1>, Counter>,
    mails_pending: Gauge,
    audit_queue: Gauge,
    audit_age: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All families, at zero.
    #[must_use]
    pub fn new() -> Self {
        let families = Families {
            registry: Mutex::new(Registry::with_prefix("countersign")),
            requests: Family::default(),
            refusals: Family::default(),
            policy_errors: Family::default(),
            mints: Family::default(),
            mails: Family::default(),
            mails_pending: Gauge::default(),
            audit_queue: Gauge::default(),
            audit_age: Gauge::default(),
        };
        let metrics = Self(Arc::new(families));
        metrics.register(|registry| metrics.0.register(registry));
        metrics
    }

    /// A request was answered. `tool` is the name of a tool that exists, else `None`.
    pub fn request(&self, tool: Option<&str>, status: u16) {
        let class = format!("{}xx", status / 100);
        let labels = [("class", class), ("tool", tool.unwrap_or("none").to_owned())];
        self.0.requests.get_or_create(&labels).inc();
    }

    /// A request was refused with this problem type.
    pub fn refusal(&self, problem: &'static str) {
        self.0.refusals.get_or_create(&label("problem", problem)).inc();
    }

    /// A policy of the tool could not be built or evaluated: an alarm, since the request was denied for no good reason.
    pub fn policy_error(&self, tool: &str) {
        self.0.policy_errors.get_or_create(&label("tool", tool)).inc();
    }

    /// A proxy was signed; `way` is `client-certificate` or `pem`.
    pub fn mint(&self, way: &'static str) {
        self.0.mints.get_or_create(&label("way", way)).inc();
    }

    /// A mail changed its state: `queued`, `sent`, `retried` or `failed`.
    pub fn mail(&self, state: &'static str) {
        self.0.mails.get_or_create(&label("state", state)).inc();
    }

    /// How many mails wait in the outbox.
    pub fn mail_pending(&self, count: i64) {
        self.0.mails_pending.set(count);
    }

    /// Lets another module add families of its own; their names get the prefix `countersign_`.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many records wait for the log, and how long the oldest has waited (microseconds).
    pub fn audit(&self, queued: i64, oldest_us: u32) {
        self.0.audit_queue.set(queued);
        self.0.audit_age.set(f64::from(oldest_us) / 1e6);
    }

    /// The text that a monitoring system reads (OpenMetrics 1.0).
    ///
    /// # Errors
    /// [`fmt::Error`] when a family cannot be written; none of ours can fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Families {
    fn register(&self, registry: &mut Registry) {
        let mut family = |name: &str, help: &str, metric: &Family<Labels<1>, Counter>| {
            registry.register(name, help, metric.clone());
        };
        family("refusals", "Requests refused, by problem type", &self.refusals);
        family(
            "policy_errors",
            "Policies that could not be built or evaluated",
            &self.policy_errors,
        );
        family("mints", "Proxies signed, by way of delegation", &self.mints);
        family("mails", "Mails, by what became of them", &self.mails);
        registry.register(
            "requests",
            "Requests answered, by status class and tool",
            self.requests.clone(),
        );
        registry.register(
            "mails_pending",
            "Mails that wait in the outbox",
            self.mails_pending.clone(),
        );
        registry.register(
            "audit_queue_records",
            "Records that wait for the log",
            self.audit_queue.clone(),
        );
        registry.register(
            "audit_age_seconds",
            "How long the oldest waiting record has waited",
            self.audit_age.clone(),
        );
    }
}

fn label(name: &'static str, value: &str) -> Labels<1> {
    [(name, value.to_owned())]
}
