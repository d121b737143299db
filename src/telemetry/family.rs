//! Every metric family there is: its name, kind, labels and meaning. The reference page is made from this table, and no
//! family can be registered that does not stand in it.

use prometheus_client::registry::{Metric, Registry};

/// What every name begins with.
pub const PREFIX: &str = "countersign";

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; the name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How many values fell below each bound, with their sum; the names end in `_bucket`, `_sum`, `_count`.
    Histogram,
    /// Always 1; the labels say it. The name ends in `_info`.
    Info,
}

impl Kind {
    /// Its name in the exposition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name without the prefix, and without the ending that the kind gives it.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Family {
    /// The name under which it is asked for: with prefix, and with the ending of counters and infos.
    #[must_use]
    pub fn full_name(&self) -> String {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{PREFIX}_{}{ending}", self.name)
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

/// All families, in the order of the reference page.
///
/// SECURITY: no label may hold what a client chooses. `vo`, `tool`, `task` and `upstream` are names that administrators
/// gave, and `none` where a request names nothing that exists; every other label has a fixed list of values.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    family("build", Kind::Info, &["version"], "What is running"),
    family("started_timestamp_seconds", Kind::Gauge, &[], "When the process started, seconds since 1970"),
    family("part_up", Kind::Gauge, &["part"], "Whether a part of the gateway works (1) or not (0); all of them make /readyz"),
    family("requests", Kind::Counter, &["vo", "tool", "task", "decision"], "Requests, by what was decided about them"),
    family("responses", Kind::Counter, &["class"], "Answers, by class of their status"),
    family("refusals", Kind::Counter, &["problem"], "Requests refused, by problem type"),
    family("throttled", Kind::Counter, &[], "Requests refused because there were too many of them"),
    family("policy_errors", Kind::Counter, &["tool"], "Policies that could not be built or evaluated"),
    family("stage_seconds", Kind::Histogram, &["stage"], "Time that requests spend in each stage of the path"),
    family("tool_answer_seconds", Kind::Histogram, &["vo", "tool"], "Time from sending a request to a tool to the head of its answer"),
    family("tool_failures", Kind::Counter, &["vo", "tool", "reason"], "Requests that a tool did not answer in order"),
    family("upstream_connections", Kind::Gauge, &["vo", "upstream", "state"], "Connections to upstreams: open, idle among them, and being made"),
    family("upstream_connects", Kind::Counter, &["vo", "upstream", "result"], "Attempts to connect to an upstream"),
    family("audit_records", Kind::Gauge, &[], "Durable records of the log's epoch"),
    family("audit_queue_records", Kind::Gauge, &[], "Records that wait for the log"),
    family("audit_queue_age_seconds", Kind::Gauge, &[], "How long the oldest waiting record has waited"),
    family("audit_batch_records", Kind::Histogram, &[], "Records that became durable together"),
    family("audit_sync_seconds", Kind::Histogram, &[], "Time to write one batch and bring it to stable storage"),
    family("audit_open_requests", Kind::Gauge, &[], "Permitted requests whose outcome is not written yet"),
    family("audit_unsigned_records", Kind::Gauge, &[], "Durable records that no signed checkpoint covers yet"),
    family("audit_checkpoint_age_seconds", Kind::Gauge, &[], "Time since the newest checkpoint was signed"),
    family("audit_index_lag_records", Kind::Gauge, &[], "Durable records that searches do not find yet"),
    family("state_in_doubt", Kind::Gauge, &[], "VOs, or the gateway's own level, of which the store holds something else than the log says"),
    family("audit_cosigned_records", Kind::Gauge, &[], "Records under the newest checkpoint that the witness cosigned"),
    family("audit_witness", Kind::Counter, &["result"], "Checkpoints that the witness was asked to cosign, by what came of it"),
    family("audit_syslog_records", Kind::Counter, &["receiver"], "Records sent to a syslog receiver, those that were sent again included"),
    family("audit_syslog_connections", Kind::Counter, &["receiver", "result"], "Connections to a syslog receiver that were opened, or could not be"),
    family("audit_syslog_lag_records", Kind::Gauge, &["receiver"], "Durable records that were not sent to a syslog receiver yet"),
    family("audit_syslog_lag_seconds", Kind::Gauge, &["receiver"], "How long the oldest of them has waited"),
    family("connections", Kind::Gauge, &["listener"], "Open connections of clients"),
    family("connections_accepted", Kind::Counter, &["listener"], "Connections that were taken in"),
    family("connections_refused", Kind::Counter, &["listener", "reason"], "Connections closed at once: no place left, or too many from one source"),
    family("sessions", Kind::Gauge, &[], "Sessions in memory"),
    family("password_hashes", Kind::Counter, &[], "Password hashes computed"),
    family("proxies", Kind::Gauge, &[], "Proxies in use"),
    family("mints", Kind::Counter, &["way"], "Proxies signed, by way of delegation"),
    family("mint_seconds", Kind::Histogram, &[], "Time to sign a proxy and enter it into the map"),
    family("rsa_keys", Kind::Gauge, &[], "RSA keys for proxies that are ready"),
    family("rsa_key_waits", Kind::Counter, &["result"], "Requests that found no RSA key ready: served after a wait, or refused"),
    family("alerts", Kind::Counter, &[], "Repeated denials that became an alert"),
    family("mails", Kind::Counter, &["state"], "Mails, by what became of them"),
    family("mails_pending", Kind::Gauge, &[], "Mails that wait in the outbox"),
    family("reloads", Kind::Counter, &["by", "outcome"], "Reloads of the settings, by cause and outcome"),
    family("reload_success_timestamp_seconds", Kind::Gauge, &[], "When the settings in use were loaded, seconds since 1970"),
    family("tls_certificate_not_after_timestamp_seconds", Kind::Gauge, &[], "When the gateway's TLS certificate ends, seconds since 1970"),
    family("vo_certificate_not_after_timestamp_seconds", Kind::Gauge, &["vo", "use"], "When a VO's certificate ends, seconds since 1970"),
    family("trace_spans", Kind::Counter, &["result"], "Spans sent to the collector, refused by it, or dropped because it did not keep up"),
];

/// Registers a family under its name; its help comes from the table. What does not stand there is not registered.
pub fn register(registry: &mut Registry, name: &'static str, metric: impl Metric) {
    let known = FAMILIES.iter().find(|family| family.name == name);
    debug_assert!(known.is_some(), "`{name}` is not in the table of metric families");
    if let Some(family) = known {
        registry.register(family.name, family.help, metric);
    }
}
