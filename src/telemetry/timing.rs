//! How long things take: histograms without a lock, and the stages of the path.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::clock::Clock;

/// Bounds of times within the gateway, in nanoseconds: 50 µs to 10 s.
const FINE: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Bounds of times that others need, in nanoseconds: 1 ms to 60 s.
const COARSE: &[u64] = &[
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];
/// Bounds of numbers.
const NUMBERS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// A histogram with fixed bounds; an observation is two additions to atomics. Shared by all clones.
#[derive(Clone)]
pub struct Histogram(Arc<Buckets>);

struct Buckets {
    bounds: &'static [u64],
    /// How many of what is observed make one of what is shown.
    scale: f64,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Times of 50 µs to 10 s.
    #[must_use]
    pub fn times() -> Self {
        Self::with(FINE, 1e9)
    }

    /// Times of 1 ms to 60 s.
    #[must_use]
    pub fn long_times() -> Self {
        Self::with(COARSE, 1e9)
    }

    /// Numbers up to 1,000.
    #[must_use]
    pub fn numbers() -> Self {
        Self::with(NUMBERS, 1.0)
    }

    fn with(bounds: &'static [u64], scale: f64) -> Self {
        Self(Arc::new(Buckets {
            bounds,
            scale,
            // The last one is for what lies above every bound.
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        self.count(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a number.
    pub fn count(&self, value: u64) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn encode_into(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let Buckets {
            bounds,
            scale,
            counts,
            sum,
        } = &*self.0;
        let bounds = bounds.iter().map(|bound| as_float(*bound) / scale);
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = as_float(sum.load(Ordering::Relaxed)) / scale;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of nanoseconds is shown with 15 digits"
)]
const fn as_float(number: u64) -> f64 {
    number as f64
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histogram(..)")
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode_into(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A stage of the path, as `ARCHITECTURE.md` charts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Framing, target, host, task.
    Place,
    /// Who asks.
    Subject,
    /// May they.
    Decide,
    /// With what.
    Plan,
    /// Until the record is durable.
    Intent,
    /// Sent on, until the head of the answer.
    Act,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 6] = [
        Self::Place,
        Self::Subject,
        Self::Decide,
        Self::Plan,
        Self::Intent,
        Self::Act,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Subject => "subject",
            Self::Decide => "decide",
            Self::Plan => "plan",
            Self::Intent => "intent",
            Self::Act => "act",
        }
    }
}

/// One histogram for each stage.
#[derive(Clone, Debug)]
pub(super) struct Stages([Histogram; Stage::ALL.len()]);

impl Stages {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Histogram::times()))
    }

    pub(super) fn observe(&self, stage: Stage, time: Duration) {
        if let Some(histogram) = self.0.get(stage as usize) {
            histogram.observe(time);
        }
    }
}

impl EncodeMetric for Stages {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (stage, histogram) in Stage::ALL.iter().zip(&self.0) {
            let labels = [("stage", stage.as_str())];
            histogram.encode_into(&mut encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A request's watch: one reading of the monotonic clock at each boundary between two stages.
#[derive(Debug)]
pub struct Lap<'a> {
    stages: &'a Stages,
    clock: &'a dyn Clock,
    trace: &'a super::Trace,
    last: Duration,
}

impl<'a> Lap<'a> {
    pub(super) fn start(stages: &'a Stages, clock: &'a dyn Clock, trace: &'a super::Trace) -> Self {
        Self {
            stages,
            clock,
            trace,
            last: clock.monotonic(),
        }
    }

    /// This stage ends here, and the next one begins; gives how long it took.
    pub fn mark(&mut self, stage: Stage) -> Duration {
        let now = self.clock.monotonic();
        let time = now.saturating_sub(self.last);
        self.stages.observe(stage, time);
        self.trace.stage(stage, self.last, now);
        self.last = now;
        time
    }
}
