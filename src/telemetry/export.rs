//! Tells a collector of traces: OTLP over HTTP with Protocol Buffers. A bounded queue stands between the requests and the
//! sender; a collector that is slow or away costs spans, which are counted, and never a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::config::Traces;
use super::otlp;
use super::trace::Facts;
use crate::outbound::{self, Outbound, OutboundError};

/// Requests in one message to the collector.
const BATCH: usize = 256;
/// How long the first of them waits for company.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what is under way and the rest may take when the gateway stops.
const LAST: Duration = Duration::from_secs(2);

/// Where finished requests are handed over. Cheap to clone.
#[derive(Clone)]
pub struct Exporter(Arc<Queue>);

struct Queue {
    requests: mpsc::Sender<Facts>,
    metrics: Metrics,
}

/// Where the settings are.
const SETTINGS: &str = "telemetry.traces";

impl Exporter {
    /// Whether it can be started with these settings.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn check(config: &Traces) -> Result<(), OutboundError> {
        match &config.endpoint {
            Some(endpoint) => outbound::client(endpoint, config.ca_file.as_deref(), SETTINGS).map(drop),
            None => Ok(()),
        }
    }

    /// Starts the sender, when the settings name a collector. `service` names this gateway; it ends after `stop`, when
    /// what is queued was sent or two seconds have passed.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn start(
        config: &Traces,
        service: &str,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> Result<Option<(Self, impl Future<Output = ()> + Send + 'static + use<>)>, OutboundError> {
        let Some(endpoint) = config.endpoint.clone() else {
            return Ok(None);
        };
        let (requests, queued) = mpsc::channel(config.queue);
        let sender = Sender {
            client: outbound::client(&endpoint, config.ca_file.as_deref(), SETTINGS)?,
            endpoint,
            service: service.to_owned(),
            metrics: metrics.clone(),
            stop,
            failing: false,
        };
        let exporter = Self(Arc::new(Queue {
            requests,
            metrics: metrics.clone(),
        }));
        Ok(Some((exporter, sender.run(queued))))
    }

    /// Hands a finished request over. Never waits: when the queue is full, its spans are dropped and counted.
    pub(super) fn tell(&self, facts: Facts) {
        let spans = 1 + facts.stages.len() as u64;
        if self.0.requests.try_send(facts).is_err() {
            self.0.metrics.spans("dropped", spans);
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(..)")
    }
}

struct Sender {
    client: Outbound,
    endpoint: Uri,
    service: String,
    metrics: Metrics,
    stop: CancellationToken,
    /// Said once, not for each message.
    failing: bool,
}

impl Sender {
    async fn run(mut self, mut queued: mpsc::Receiver<Facts>) {
        let stop = self.stop.clone();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                first = queued.recv() => match first {
                    Some(first) => batch.push(first),
                    None => return,
                },
            }
            let pause = tokio::time::sleep(PAUSE);
            tokio::pin!(pause);
            while batch.len() < BATCH {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = &mut pause => break,
                    next = queued.recv() => match next {
                        Some(next) => batch.push(next),
                        None => break,
                    },
                }
            }
            self.send(&mut batch).await;
        }
        while let Ok(next) = queued.try_recv() {
            batch.push(next);
        }
        if !batch.is_empty() {
            self.send(&mut batch).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<Facts>) {
        let (message, spans) = otlp::request(&self.service, batch);
        batch.clear();
        let late = async {
            tokio::select! {
                () = tokio::time::sleep(PATIENCE) => {}
                () = async { self.stop.cancelled().await; tokio::time::sleep(LAST).await } => {}
            }
        };
        let done = tokio::select! {
            done = self.post(message) => done,
            () = late => Err("no answer in time".to_owned()),
        };
        match done {
            Ok(()) => {
                self.metrics.spans("sent", spans);
                self.failing = false;
            }
            Err(reason) => {
                self.metrics.spans("failed", spans);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the collector does not take traces: {reason}");
                }
            }
        }
    }

    async fn post(&self, message: Vec<u8>) -> Result<(), String> {
        let request = Request::post(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(message)))
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("it answered {}", answer.status().as_u16()))
        }
    }
}
