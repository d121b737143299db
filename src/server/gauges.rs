//! The numbers that are read when monitoring asks: every part is asked for its own, at that moment.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::Built;
use crate::audit::Audit;
use crate::audit::syslog::Receivers;
use crate::authenticate::Authenticate;
use crate::delegate::Delegate;
use crate::forward::Meters;
use crate::gateway::Counts;
use crate::state::States;
use crate::telemetry::family::FAMILIES;
use crate::telemetry::{Health, Metrics, whole};
use crate::vo::DirectoryHandle;

/// Everything that has numbers to tell.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) operations: Arc<Counts>,
    audit: Audit,
    states: States,
    receivers: Receivers,
    authenticate: Authenticate,
    delegate: Arc<Delegate>,
}

impl Gauges {
    pub(super) fn new(built: &Built, upstreams: Arc<Meters>, https: Arc<Counts>) -> Self {
        let operations = Arc::new(Counts::default());
        let connections = Connections(vec![("https", https), ("operations", operations.clone())]);
        let connects = Connects {
            upstreams,
            directory: built.vos.handle(),
        };
        let certificates = Certificates {
            delegate: built.delegate.clone(),
            directory: built.vos.handle(),
        };
        built.metrics.register(|registry| {
            registry.register_collector(Box::new(connections));
            registry.register_collector(Box::new(connects));
            registry.register_collector(Box::new(certificates));
        });
        Self {
            metrics: built.metrics.clone(),
            health: built.health.clone(),
            operations,
            audit: built.audit.clone(),
            states: built.states.clone(),
            receivers: built.receivers.clone(),
            authenticate: built.authenticate.clone(),
            delegate: built.delegate.clone(),
        }
    }

    /// Asks every part.
    pub(super) fn refresh(&self) {
        self.receivers.refresh();
        let gauges = self.metrics.gauges();
        for (part, up) in self.health.parts() {
            gauges
                .part_up
                .get_or_create(&[("part", part)])
                .set(f64::from(u8::from(up)));
        }
        let vitals = self.audit.vitals();
        gauges.audit_records.set(count(vitals.records));
        gauges.audit_queue.set(count(vitals.queued as u64));
        gauges.audit_queue_age.set(vitals.queue_age.as_secs_f64());
        gauges.audit_open.set(count(vitals.open as u64));
        gauges.audit_unsigned.set(count(vitals.unsigned));
        gauges
            .audit_checkpoint_age
            .set(vitals.checkpoint_age.as_secs_f64());
        gauges.audit_index_lag.set(count(vitals.index_lag));
        gauges.state_in_doubt.set(count(self.states.in_doubt() as u64));
        gauges
            .sessions
            .set(count(self.authenticate.session_count() as u64));
        gauges.proxies.set(count(self.delegate.in_use() as u64));
        gauges.rsa_keys.set(count(self.delegate.keys_ready() as u64));
    }
}

fn count(number: u64) -> f64 {
    whole(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The upstreams that were connected to and are still registered, with the names that they have now.
fn named(
    directory: &DirectoryHandle,
    upstreams: &Meters,
) -> Vec<(String, String, Arc<crate::forward::Meter>)> {
    let (directory, meters) = (directory.load(), upstreams.all());
    let mut named = Vec::new();
    for vo in directory.all_vos() {
        for upstream in directory.upstreams_of_vo(vo.id) {
            if let Some((_, meter)) = meters.iter().find(|(id, _)| *id == upstream.id) {
                named.push((vo.name.clone(), upstream.name.clone(), meter.clone()));
            }
        }
    }
    named.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    named
}

/// Help of a family, from the table.
fn help(name: &str) -> String {
    let family = FAMILIES.iter().find(|family| family.name == name);
    family.map_or_else(String::new, |family| format!("{}.", family.help))
}

/// `connections`, `connections_accepted`, `connections_refused`.
#[derive(Debug)]
struct Connections(Vec<(&'static str, Arc<Counts>)>);

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("connections", &help("connections"), None, MetricType::Gauge)?;
        for (listener, counts) in &self.0 {
            let labels = [("listener", *listener)];
            family
                .encode_family(&labels)?
                .encode_gauge(&count(counts.open()))?;
        }
        let name = "connections_accepted";
        let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Counter)?;
        for (listener, counts) in &self.0 {
            let labels = [("listener", *listener)];
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&counts.accepted(), None)?;
        }
        let name = "connections_refused";
        let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Counter)?;
        for (listener, counts) in &self.0 {
            for (reason, number) in counts.refused() {
                let labels = [("listener", *listener), ("reason", reason)];
                let mut one = family.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
            }
        }
        Ok(())
    }
}

/// `vo_certificate_not_after_timestamp_seconds`.
struct Certificates {
    delegate: Arc<Delegate>,
    directory: DirectoryHandle,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(..)")
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (directory, in_use) = (self.directory.load(), self.delegate.certificates());
        let named = in_use
            .iter()
            .filter_map(|(vo, purpose, facts)| Some((directory.vo(*vo)?, purpose, facts.not_after)));
        let mut named = named.peekable();
        if named.peek().is_none() {
            return Ok(());
        }
        let name = "vo_certificate_not_after_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Gauge)?;
        for (vo, purpose, not_after) in named {
            let labels = [("vo", vo.name.as_str()), ("use", purpose.as_str())];
            family
                .encode_family(&labels)?
                .encode_gauge(&whole(not_after.secs()))?;
        }
        Ok(())
    }
}

/// `upstream_connections`, `upstream_connects`.
struct Connects {
    upstreams: Arc<Meters>,
    directory: DirectoryHandle,
}

impl fmt::Debug for Connects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connects(..)")
    }
}

impl Collector for Connects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let named = named(&self.directory, &self.upstreams);
        if named.is_empty() {
            return Ok(());
        }
        let name = "upstream_connections";
        let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Gauge)?;
        for (vo, upstream, meter) in &named {
            for (state, number) in [
                ("open", meter.open()),
                ("idle", meter.idle()),
                ("connecting", meter.connecting()),
            ] {
                let labels = [
                    ("vo", vo.as_str()),
                    ("upstream", upstream.as_str()),
                    ("state", state),
                ];
                family.encode_family(&labels)?.encode_gauge(&count(number))?;
            }
        }
        let name = "upstream_connects";
        let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Counter)?;
        for (vo, upstream, meter) in named {
            let (connected, failed) = meter.connects();
            for (result, number) in [("connected", connected), ("failed", failed)] {
                let labels = [
                    ("vo", vo.as_str()),
                    ("upstream", upstream.as_str()),
                    ("result", result),
                ];
                let mut one = family.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
            }
        }
        Ok(())
    }
}
