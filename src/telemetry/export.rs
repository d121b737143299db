//! Tells a collector of traces: OTLP over HTTP with Protocol Buffers. A bounded queue stands between the requests and the
//! sender; a collector that is slow or away costs spans, which are counted, and never a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::config::Traces;
use super::otlp;
use super::trace::Facts;

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

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The authorities to trust cannot be read.
    #[error("`{0}` is not a file of PEM certificates that can be trusted")]
    Authorities(String),
    /// TLS cannot be set up.
    #[error("TLS towards the collector cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Exporter {
    /// Whether it can be started with these settings.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn check(config: &Traces) -> Result<(), ExportError> {
        match config.endpoint {
            Some(_) => client(config).map(drop),
            None => Ok(()),
        }
    }

    /// Starts the sender, when the settings name a collector. `service` names this gateway; it ends after `stop`, when
    /// what is queued was sent or two seconds have passed.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn start(
        config: &Traces,
        service: &str,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> Result<Option<(Self, impl Future<Output = ()> + Send + 'static + use<>)>, ExportError> {
        let Some(endpoint) = config.endpoint.clone() else {
            return Ok(None);
        };
        let (requests, queued) = mpsc::channel(config.queue);
        let sender = Sender {
            client: client(config)?,
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
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
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

fn client(config: &Traces) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, ExportError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(config)?)
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The authorities of the settings, else the system's.
fn roots(config: &Traces) -> Result<RootCertStore, ExportError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &config.ca_file else {
        if config
            .endpoint
            .as_ref()
            .is_some_and(|uri| uri.scheme_str() == Some("https"))
        {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        return Ok(roots);
    };
    let flaw = || ExportError::Authorities(file.display().to_string());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|_| flaw())? {
        roots.add(certificate.map_err(|_| flaw())?).map_err(|_| flaw())?;
    }
    if roots.is_empty() {
        return Err(flaw());
    }
    Ok(roots)
}
