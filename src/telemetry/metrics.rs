//! What is counted, in one place. Everything here is shared by all clones.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::family::{self, PREFIX};
use super::requests::{Answers, Decision, Decisions, Failures, Requests, Where};
use super::timing::{Histogram, Lap, Stages};
use super::trace::Trace;
use crate::clock::{Clock, Timestamp};

type Labels<const N: usize> = [(&'static str, String); N];
/// A family whose label's values are words of the program.
type Words = Family<[(&'static str, &'static str); 1], Counter>;
/// A number that is shown as it is.
pub type Number = Gauge<f64, AtomicU64>;

/// Counters, gauges and histograms.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Mutex<Registry>,
    requests: Arc<Requests>,
    stages: Stages,
    classes: [Counter; 5],
    responses: Words,
    refusals: Words,
    throttled: Counter,
    policy_errors: Family<Labels<1>, Counter>,
    mints: Words,
    mint_seconds: Histogram,
    key_waits: Words,
    alerts: Counter,
    mails: Words,
    reloads: Family<[(&'static str, &'static str); 2], Counter>,
    spans: Words,
    gauges: Gauges,
}

/// Numbers that somebody else knows, and that are read when monitoring asks.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "each stands with its meaning in the table of families"
)]
pub struct Gauges {
    pub started: Number,
    pub part_up: Family<[(&'static str, &'static str); 1], Number>,
    pub audit_records: Number,
    pub audit_queue: Number,
    pub audit_queue_age: Number,
    pub audit_open: Number,
    pub audit_unsigned: Number,
    pub audit_checkpoint_age: Number,
    pub audit_index_lag: Number,
    pub state_in_doubt: Number,
    pub sessions: Number,
    pub proxies: Number,
    pub rsa_keys: Number,
    pub mails_pending: Number,
    pub reload_success: Number,
    pub certificate_end: Number,
}

impl Metrics {
    /// All families, at zero.
    #[must_use]
    pub fn new() -> Self {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let responses = zeros("class", &CLASSES);
        let metrics = Self(Arc::new(Families {
            registry: Mutex::new(Registry::with_prefix(PREFIX)),
            requests: Arc::default(),
            stages: Stages::new(),
            // The family and the array share the counters: the hot path needs no look-up.
            classes: CLASSES.map(|class| responses.get_or_create(&[("class", class)]).clone()),
            responses,
            refusals: Words::default(),
            throttled: Counter::default(),
            policy_errors: Family::default(),
            mints: zeros(
                "way",
                &["client-certificate", "pem", "myproxy", "download", "arc"],
            ),
            mint_seconds: Histogram::times(),
            key_waits: zeros("result", &["served", "refused"]),
            alerts: Counter::default(),
            mails: zeros("state", &["queued", "sent", "retried", "failed"]),
            reloads: reloads(),
            spans: zeros("result", &["sent", "failed", "dropped"]),
            gauges: Gauges::default(),
        }));
        metrics.register(|registry| metrics.0.register(registry));
        metrics
    }

    /// A watch for one request on its way through the stages; `trace` learns of them too.
    #[must_use]
    pub fn lap<'a>(&'a self, clock: &'a dyn Clock, trace: &'a Trace) -> Lap<'a> {
        Lap::start(&self.0.stages, clock, trace)
    }

    /// A request was decided. Names are only of what exists.
    pub fn decided(&self, at: Where<'_>, decision: Decision) {
        self.0.requests.decided(at, decision);
        if decision == Decision::Throttle {
            self.0.throttled.inc();
        }
    }

    /// A tool's answer began so long after the request was sent. Its request was counted before.
    pub fn tool_answered(&self, at: Where<'_>, time: Duration) {
        self.0.requests.answered(at, time);
    }

    /// A tool did not answer in order; `reason` is a word of the program.
    pub fn tool_failed(&self, at: Where<'_>, reason: &'static str) {
        self.0.requests.failed(at, reason);
    }

    /// A request was answered.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(counter) = self.0.classes.get(class) {
            counter.inc();
        }
    }

    /// A request was refused with this problem type.
    pub fn refusal(&self, problem: &'static str) {
        self.0.refusals.get_or_create(&[("problem", problem)]).inc();
    }

    /// A policy of the tool could not be built or evaluated: an alarm, since the request was denied for no good reason.
    pub fn policy_error(&self, tool: &str) {
        let labels = [("tool", tool.to_owned())];
        self.0.policy_errors.get_or_create(&labels).inc();
    }

    /// A proxy was signed and entered into the map within `time`; `way` is `client-certificate`, `pem`, `myproxy`, `download` or `arc`.
    pub fn mint(&self, way: &'static str, time: Duration) {
        self.0.mints.get_or_create(&[("way", way)]).inc();
        self.0.mint_seconds.observe(time);
    }

    /// A request found no RSA key ready, and was served after a wait or refused.
    pub fn key_waited(&self, served: bool) {
        let result = if served { "served" } else { "refused" };
        self.0.key_waits.get_or_create(&[("result", result)]).inc();
    }

    /// Repeated denials became an alert.
    pub fn alert(&self) {
        self.0.alerts.inc();
    }

    /// A mail changed its state: `queued`, `sent`, `retried` or `failed`.
    pub fn mail(&self, state: &'static str) {
        self.0.mails.get_or_create(&[("state", state)]).inc();
    }

    /// How many mails wait in the outbox.
    pub fn mail_pending(&self, count: i64) {
        self.0.gauges.mails_pending.set(whole(count));
    }

    /// The settings were loaded anew at `now`, or were not and stayed as they are; `by` is `request`, `signal` or
    /// `certificate` (only that was renewed).
    pub fn reload(&self, by: &'static str, done: bool, now: Timestamp) {
        let outcome = if done { "done" } else { "failed" };
        self.0
            .reloads
            .get_or_create(&[("by", by), ("outcome", outcome)])
            .inc();
        if done {
            self.loaded(now);
        }
    }

    /// The settings in use were loaded at `now`: at the start, and at each reload.
    pub fn loaded(&self, now: Timestamp) {
        self.0.gauges.reload_success.set(whole(now.secs()));
    }

    /// The TLS certificate in use ends then.
    pub fn certificate(&self, not_after: Timestamp) {
        self.0.gauges.certificate_end.set(whole(not_after.secs()));
    }

    /// Spans were `sent`, `failed` or `dropped`.
    pub(super) fn spans(&self, result: &'static str, count: u64) {
        self.0.spans.get_or_create(&[("result", result)]).inc_by(count);
    }

    /// The numbers that are read when monitoring asks.
    #[must_use]
    pub fn gauges(&self) -> &Gauges {
        &self.0.gauges
    }

    /// Lets another module add families of its own, with [`family::register`].
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.lock().unwrap_or_else(PoisonError::into_inner));
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
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        family::register(registry, "build", Info::new(version));
        family::register(registry, "requests", Decisions(self.requests.clone()));
        family::register(registry, "tool_answer_seconds", Answers(self.requests.clone()));
        family::register(registry, "tool_failures", Failures(self.requests.clone()));
        family::register(registry, "stage_seconds", self.stages.clone());
        family::register(registry, "responses", self.responses.clone());
        family::register(registry, "refusals", self.refusals.clone());
        family::register(registry, "throttled", self.throttled.clone());
        family::register(registry, "policy_errors", self.policy_errors.clone());
        family::register(registry, "mints", self.mints.clone());
        family::register(registry, "mint_seconds", self.mint_seconds.clone());
        family::register(registry, "rsa_key_waits", self.key_waits.clone());
        family::register(registry, "alerts", self.alerts.clone());
        family::register(registry, "mails", self.mails.clone());
        family::register(registry, "reloads", self.reloads.clone());
        family::register(registry, "trace_spans", self.spans.clone());
        self.gauges.register(registry);
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        family::register(registry, "part_up", self.part_up.clone());
        for (name, number) in [
            ("started_timestamp_seconds", &self.started),
            ("audit_records", &self.audit_records),
            ("audit_queue_records", &self.audit_queue),
            ("audit_queue_age_seconds", &self.audit_queue_age),
            ("audit_open_requests", &self.audit_open),
            ("audit_unsigned_records", &self.audit_unsigned),
            ("audit_checkpoint_age_seconds", &self.audit_checkpoint_age),
            ("audit_index_lag_records", &self.audit_index_lag),
            ("state_in_doubt", &self.state_in_doubt),
            ("sessions", &self.sessions),
            ("proxies", &self.proxies),
            ("rsa_keys", &self.rsa_keys),
            ("mails_pending", &self.mails_pending),
            ("reload_success_timestamp_seconds", &self.reload_success),
            (
                "tls_certificate_not_after_timestamp_seconds",
                &self.certificate_end,
            ),
        ] {
            family::register(registry, name, number.clone());
        }
    }
}

/// A family that shows these values from the start.
fn zeros(label: &'static str, values: &[&'static str]) -> Words {
    let family = Words::default();
    for value in values {
        drop(family.get_or_create(&[(label, *value)]));
    }
    family
}

/// Every cause and outcome of a reload, from zero.
fn reloads() -> Family<[(&'static str, &'static str); 2], Counter> {
    let family = Family::default();
    for by in ["request", "signal", "certificate"] {
        for outcome in ["done", "failed"] {
            drop(family.get_or_create(&[("by", by), ("outcome", outcome)]));
        }
    }
    family
}

/// A count or a time as the number of a gauge.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
pub const fn whole(number: i64) -> f64 {
    number as f64
}
