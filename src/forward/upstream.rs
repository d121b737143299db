//! Sending a request to a tool: pools, the one send, and the answer.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::sync::Cache;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::address::OwnListeners;
use super::config::Config;
use super::connect::{ConnectError, Connector, Tls};
use super::error::ForwardError;
use super::meters::{Busy, Meters};
use super::request::{self, Identity};
use super::response::{self, UnfitAnswer};
use super::traffic::{Moving, Progress};
use crate::authenticate::Source;
use crate::body::Body;
use crate::delegate::Credential;
use crate::id::UpstreamId;
use crate::telemetry::Trace;
use crate::tool::{Address, Tool};
use crate::vo::{Upstream, UpstreamAddress};

/// A permitted request on its way to a tool.
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// The canonical target, the path form's prefix taken off. These bytes are sent.
    pub target: String,
    /// The client's headers, as they came.
    pub headers: HeaderMap,
    /// The client's body.
    pub body: Body,
    /// The tool.
    pub tool: Arc<Tool>,
    /// Where it is.
    pub upstream: Arc<Upstream>,
    /// What it is given to prove authority.
    pub credential: Credential,
    /// What it is told about the request.
    pub identity: Identity,
    /// Which address the request came in by.
    pub address: Address,
    /// Host, and port if not the default, as the client asked for.
    pub public_host: String,
    /// Where the request came from.
    pub client: Source,
    /// The trace that the tool's own goes on.
    pub trace: Trace,
    /// Time to the first byte of the answer, where the task says one.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("identity", &self.identity)
            .field("upstream", &self.upstream.name)
            .finish_non_exhaustive()
    }
}

type Pool = Client<Connector, Body>;

/// Connections are shared under this key only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    upstream: UpstreamId,
    version: i64,
    /// SECURITY: where authority is bound to the connection, it is never shared between proxies.
    proxy: Option<String>,
}

/// Sends requests to tools.
pub struct Forward {
    config: Config,
    pools: Cache<PoolKey, Pool>,
    own: Arc<ArcSwap<OwnListeners>>,
    meters: Arc<Meters>,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("pools", &self.pools.entry_count())
            .finish_non_exhaustive()
    }
}

impl Forward {
    /// A sender without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let pools = Cache::builder()
            .max_capacity(config.pools)
            .time_to_idle(config.pools_idle)
            .build();
        Self {
            config,
            pools,
            own: Arc::default(),
            meters: Arc::default(),
            system_roots: OnceLock::new(),
        }
    }

    /// The same sender, whose connections are counted in `meters`: a reload goes on counting.
    #[must_use]
    pub fn counted_in(mut self, meters: Arc<Meters>) -> Self {
        self.meters = meters;
        self
    }

    /// Says which listeners are the gateway's own; no upstream may be one of them.
    pub fn set_own_listeners(&self, own: OwnListeners) {
        self.own.store(Arc::new(own));
    }

    /// Connections to upstreams, counted.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    /// Counts a request to `upstream` for as long as the guard is kept: until its answer has gone.
    #[must_use]
    pub fn busy(&self, upstream: &Upstream) -> Busy {
        self.meters.of(upstream.id).busy()
    }

    /// Closes the idle connections that were made with a proxy that has ended.
    pub fn forget(&self, proxy: &str) {
        for (key, _) in &self.pools {
            if key.proxy.as_deref() == Some(proxy) {
                self.pools.invalidate(&*key);
            }
        }
    }

    /// Sends one request, once, and gives the tool's answer, cleaned.
    ///
    /// # Errors
    /// [`ForwardError`], which tells whether anything was sent.
    pub async fn send(&self, out: Outgoing) -> Result<Response<Body>, ForwardError> {
        let upstream = out.upstream.clone();
        let pool = self.pool(&upstream, &out.credential)?;
        let context = request::Context {
            tool: &out.tool,
            upstream: &upstream.address,
            identity: &out.identity,
            credential: &out.credential,
            address: out.address,
            public_host: &out.public_host,
            client: out.client,
        };
        let host = request::host(&context);
        let progress = Arc::new(Progress::default());
        let mut head = Request::new(
            Moving::new(out.body, Some(progress.clone()), self.config.idle_timeout).boxed_unsync(),
        );
        *head.uri_mut() = uri(&host, &out.target)?;
        *head.method_mut() = out.method;
        *head.headers_mut() = request::headers(out.headers, &context)?;
        frame_body(&mut head);
        out.trace.write(head.headers_mut());
        let limit = out.timeout.unwrap_or(self.config.first_byte_timeout);
        let answer = first_byte(pool.request(head), &progress, limit)
            .await?
            .map_err(|error| told(&error, &progress, &upstream.name))?;
        let prefix = request::prefix(&out.identity.vo, &out.tool.name);
        self.answer(
            answer,
            &response::Context {
                tool: &out.tool,
                address: out.address,
                request: out.identity.request,
                public_host: &out.public_host,
                prefix: &prefix,
                own: [&request::upstream_host(&upstream.address), &host],
                limits: self.config.answer,
            },
        )
    }

    fn answer(
        &self,
        answer: Response<Incoming>,
        context: &response::Context<'_>,
    ) -> Result<Response<Body>, ForwardError> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UnfitAnswer::Switched.into());
        }
        let (mut head, body) = answer.into_parts();
        response::clean(&mut head.headers, context)?;
        head.extensions.clear();
        let body = body.map_err(Into::into).boxed_unsync();
        let body = Moving::new(body, None, self.config.idle_timeout).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn pool(&self, upstream: &Arc<Upstream>, credential: &Credential) -> Result<Pool, ForwardError> {
        let key = PoolKey {
            upstream: upstream.id,
            version: upstream.version,
            proxy: match credential {
                Credential::ClientCertificate { id, .. } => Some(id.clone()),
                _ => None,
            },
        };
        if let Some(pool) = self.pools.get(&key) {
            return Ok(pool);
        }
        let built = self
            .build(upstream, credential)
            .map_err(|reason| ForwardError::Trust {
                upstream: upstream.name.clone(),
                reason,
            })?;
        Ok(self.pools.get_with(key, || built))
    }

    fn build(&self, upstream: &Arc<Upstream>, credential: &Credential) -> Result<Pool, String> {
        let tls = match &upstream.address {
            UpstreamAddress::Tls { host, ca, name, .. } => Some(Tls {
                config: Arc::new(self.tls(ca.as_deref(), credential)?),
                name: server_name(name.as_deref().unwrap_or(host))?,
            }),
            _ if matches!(credential, Credential::ClientCertificate { .. }) => {
                return Err("a client certificate needs an `https` upstream".into());
            }
            _ => None,
        };
        let connector = Connector {
            upstream: upstream.clone(),
            tls,
            own: self.own.clone(),
            timeout: self.config.connect_timeout,
            meter: self.meters.of(upstream.id),
        };
        // INVARIANT: a request is never sent twice.
        Ok(Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .set_host(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.config.pool_idle)
            .pool_max_idle_per_host(self.config.pool_size)
            .http1_max_headers(self.config.answer.count.saturating_add(1))
            .http1_max_buf_size(self.config.answer.bytes.saturating_add(16 * 1024))
            .build(connector))
    }

    fn tls(&self, ca: Option<&str>, credential: &Credential) -> Result<ClientConfig, String> {
        let roots = match ca {
            Some(pem) => Arc::new(pinned(pem)?),
            None => self.system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match credential {
            Credential::ClientCertificate { resolver, .. } => {
                let mut config = builder.with_client_cert_resolver(resolver.clone());
                // SECURITY: a resumed session would speak as whoever made it; every connection proves its own proxy.
                config.resumption = Resumption::disabled();
                config
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = self.system_roots.get() {
            return Ok(roots.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "the system has no trusted authorities; register the upstream with its own CA".into(),
            );
        }
        Ok(self.system_roots.get_or_init(|| Arc::new(roots)).clone())
    }
}

fn pinned(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("its CA is not PEM: {error:?}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("its CA cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("its CA holds no certificate".into());
    }
    Ok(roots)
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("`{name}` is not a name that a certificate can have"))
}

/// Says how long the body of a `GET` or `HEAD` is when nobody knows: hyper would leave it out without a word.
fn frame_body(head: &mut Request<Body>) {
    let seldom = matches!(*head.method(), Method::GET | Method::HEAD);
    let unknown = !head.body().is_end_stream() && head.body().size_hint().exact().is_none();
    if seldom && unknown {
        head.headers_mut()
            .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The URI whose path and query are exactly the judged target.
fn uri(host: &str, target: &str) -> Result<Uri, ForwardError> {
    let unfit = || ForwardError::Unfit(request::UnfitHeader("target"));
    let path: PathAndQuery = target.parse().map_err(|_| unfit())?;
    // INVARIANT: the bytes that were judged are the bytes that are sent; the parser drops fragments, for one.
    if path.as_str() != target {
        return Err(unfit());
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(host.parse::<Authority>().map_err(|_| unfit())?);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| unfit())
}

/// Waits for the head of the answer; while the request's body still moves, the tool is not late.
async fn first_byte<F: Future + Unpin>(
    mut answer: F,
    progress: &Progress,
    limit: Duration,
) -> Result<F::Output, ForwardError> {
    loop {
        let before = progress.pieces();
        match tokio::time::timeout(limit, &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_) if progress.pieces() != before => {}
            Err(_) => return Err(ForwardError::Timeout(limit.as_secs())),
        }
    }
}

/// What an error of the client means: was anything sent?
fn told(error: &ClientError, progress: &Progress, upstream: &str) -> ForwardError {
    let not_connected = |reason: String| ForwardError::NotConnected {
        upstream: upstream.to_owned(),
        reason,
    };
    let source = error.source();
    if error.is_connect() {
        return match source.and_then(|source| source.downcast_ref::<ConnectError>()) {
            Some(ConnectError::Refused(reason)) => ForwardError::RefusedAddress {
                upstream: upstream.to_owned(),
                reason,
            },
            Some(ConnectError::Failed(reason)) => not_connected(reason.clone()),
            None => not_connected("no connection could be made".into()),
        };
    }
    if let Some(cause) = progress.take_broke() {
        return ForwardError::BodyBroke(cause);
    }
    match source.and_then(|source| source.downcast_ref::<hyper::Error>()) {
        // hyper gives a cancelled request back only when it had written nothing of it.
        Some(cause) if cause.is_canceled() => {
            not_connected("the connection closed before the request was written".into())
        }
        Some(cause) if cause.is_parse() || cause.is_parse_too_large() => ForwardError::NotHttp,
        _ => ForwardError::Broke,
    }
}
