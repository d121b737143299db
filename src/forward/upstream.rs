//! Sending a request to a tool: the one send, and the answer.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::address::OwnListeners;
use super::config::Config;
use super::connect::ConnectError;
use super::error::ForwardError;
use super::meters::{Busy, Meters};
use super::pools::Pools;
use super::request::{self, Hop, Identity};
use super::response::{self, UnfitAnswer};
use super::switch::{Handshake, Switched};
use super::traffic::{Moving, Progress, Way};
use crate::authenticate::Source;
use crate::body::Body;
use crate::delegate::Credential;
use crate::telemetry::Trace;
use crate::tool::{Address, Tool, Upgrade};
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
    /// Time to the first byte of the answer, where the task says one.
    pub timeout: Option<Duration>,
    /// The trace that it belongs to.
    pub trace: Trace,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("identity", &self.identity)
            .field("upstream", &self.upstream.name)
            .finish_non_exhaustive()
    }
}

/// Sends requests to tools.
#[derive(Debug)]
pub struct Forward {
    config: Config,
    pools: Pools,
}

/// A request whose head is ready for the next hop.
pub(super) struct Ready {
    pub(super) request: Request<Body>,
    pub(super) progress: Arc<Progress>,
    pub(super) limit: Duration,
    /// The connection of a pool that it goes over.
    way: Option<CaptureConnection>,
    /// The authority under which the upstream knows itself.
    own: Arc<str>,
    upstream: Arc<Upstream>,
    tool: Arc<Tool>,
    address: Address,
    identity: Identity,
    public_host: String,
}

impl Forward {
    /// A sender without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            pools: Pools::new(config.clone()),
            config,
        }
    }

    /// The same sender, whose connections are counted in `meters`: a reload goes on counting.
    #[must_use]
    pub fn counted_in(mut self, meters: Arc<Meters>) -> Self {
        self.pools.meters = meters;
        self
    }

    /// Counts a request to `upstream` for as long as the guard is kept: until its answer has gone.
    #[must_use]
    pub fn busy(&self, upstream: &Upstream) -> Busy {
        self.pools.meters.of(upstream.id).busy()
    }

    /// Says which listeners are the gateway's own; no upstream may be one of them.
    pub fn set_own_listeners(&self, own: OwnListeners) {
        self.pools.set_own_listeners(own);
    }

    /// Closes the idle connections that were made with a proxy that has ended.
    pub fn forget(&self, proxy: &str) {
        self.pools.forget(proxy);
    }

    /// How long a request may be under way before it is decided again, and how often then.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.config.lease
    }

    /// How long a connection that was switched to another protocol may be silent.
    #[must_use]
    pub const fn upgrade_idle_timeout(&self) -> Duration {
        self.config.upgrade_idle_timeout
    }

    /// Sends one request, once, and gives the tool's answer, cleaned.
    ///
    /// # Errors
    /// [`ForwardError`], which tells whether anything was sent.
    pub async fn send(&self, out: Outgoing) -> Result<Response<Body>, ForwardError> {
        let pool = self
            .pools
            .pool(out.tool.id, &out.upstream, &out.credential)
            .map_err(|reason| trust(&out.upstream, reason))?;
        let hop = if out.upstream.http2 {
            Hop::Http2
        } else {
            Hop::Http1
        };
        let mut ready = self.ready(out, hop, pool.authority.clone())?;
        ready.way = Some(capture_connection(&mut ready.request));
        let request = std::mem::take(&mut ready.request);
        let answer = first_byte(pool.client.request(request), &ready.progress, ready.limit)
            .await?
            .map_err(|error| told(&error, &ready))?;
        self.answer(answer, &ready)
    }

    /// Asks the tool to switch a connection of its own to another protocol.
    ///
    /// # Errors
    /// [`ForwardError`]; a switch that is not the one asked for is [`UnfitAnswer::WrongSwitch`].
    pub async fn switch(&self, out: Outgoing, upgrade: Upgrade) -> Result<Switched, ForwardError> {
        let connector = self
            .pools
            .connector(&out.upstream, &out.credential, false)
            .map_err(|reason| trust(&out.upstream, reason))?;
        let handshake = Handshake::asked(&out.headers, upgrade);
        let own = request::upstream_host(&out.upstream.address).into();
        let ready = self.ready(out, Hop::Switch(upgrade), own)?;
        let meter = connector.meter.clone();
        let stream = meter
            .counted(connector.connect())
            .await
            .map_err(|error| not_there(&error, &ready))?;
        self.shake(stream, handshake, ready).await
    }

    /// A connection to an upstream for another protocol than HTTP, inside TLS, with `credential` as client certificate. It
    /// is the caller's alone.
    ///
    /// # Errors
    /// [`ForwardError`]; nothing was sent.
    pub async fn dial(
        &self,
        upstream: &Arc<Upstream>,
        credential: &Credential,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ForwardError> {
        let mut connector = self
            .pools
            .connector(upstream, credential, false)
            .map_err(|reason| trust(upstream, reason))?;
        if let Some(tls) = &mut connector.tls {
            Arc::make_mut(&mut tls.config).alpn_protocols.clear();
        }
        let meter = connector.meter.clone();
        meter
            .counted(connector.connect())
            .await
            .map_err(|error| match error {
                ConnectError::Refused(reason) => ForwardError::RefusedAddress {
                    upstream: upstream.name.clone(),
                    reason,
                },
                ConnectError::Failed(reason) => ForwardError::NotConnected {
                    upstream: upstream.name.clone(),
                    reason,
                },
            })
    }

    fn ready(&self, out: Outgoing, hop: Hop, own: Arc<str>) -> Result<Ready, ForwardError> {
        let host = request::host(&out.tool, out.address, &own, &out.public_host);
        let context = request::Context {
            tool: &out.tool,
            identity: &out.identity,
            credential: &out.credential,
            address: out.address,
            public_host: &out.public_host,
            client: out.client,
            host,
            hop,
        };
        let progress = Arc::new(Progress::default());
        let idle = self.config.idle_timeout;
        // SECURITY: a tool that is judged by headers could read another value of one in a trailer.
        let trailers = out.tool.tasks.iter().all(|task| task.demands.headers.is_empty());
        let body = Moving::new(out.body, Way::Asked, progress.clone(), idle).trailers(trailers);
        let mut request = Request::new(body.boxed_unsync());
        *request.uri_mut() = uri(host, &out.target, hop, &out.upstream.address)?;
        *request.method_mut() = out.method;
        *request.headers_mut() = request::headers(out.headers, &context)?;
        if hop == Hop::Http1 {
            frame_body(&mut request);
        }
        out.trace.write(request.headers_mut());
        Ok(Ready {
            request,
            progress,
            limit: out.timeout.unwrap_or(self.config.first_byte_timeout),
            way: None,
            own,
            upstream: out.upstream,
            tool: out.tool,
            address: out.address,
            identity: out.identity,
            public_host: out.public_host,
        })
    }

    /// The answer as the client gets it.
    pub(super) fn answer(
        &self,
        answer: Response<Incoming>,
        ready: &Ready,
    ) -> Result<Response<Body>, ForwardError> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UnfitAnswer::Switched.into());
        }
        let (mut head, body) = answer.into_parts();
        if let Err(unfit) = self.clean(&mut head.headers, ready) {
            // SECURITY: whoever answers like this may have more to say than this answer.
            if let Some(way) = &ready.way
                && let Some(connection) = way.connection_metadata().as_ref()
            {
                connection.poison();
            }
            return Err(unfit.into());
        }
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6; over HTTP/2 a client takes it for a broken answer.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let body = body.map_err(Into::into).boxed_unsync();
        let idle = self.config.idle_timeout;
        let body = Moving::new(body, Way::Answered, ready.progress.clone(), idle).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    pub(super) fn clean(&self, headers: &mut HeaderMap, ready: &Ready) -> Result<(), UnfitAnswer> {
        let context = response::Context {
            tool: &ready.tool,
            address: ready.address,
            request: ready.identity.request,
            public_host: &ready.public_host,
            prefix: [&ready.identity.vo, &ready.tool.name],
            own: [
                &ready.own,
                request::host(&ready.tool, ready.address, &ready.own, &ready.public_host),
            ],
            limits: self.config.answer,
        };
        response::clean(headers, &context)
    }

    pub(super) const fn limits(&self) -> response::Limits {
        self.config.answer
    }
}

fn trust(upstream: &Upstream, reason: String) -> ForwardError {
    ForwardError::Trust {
        upstream: upstream.name.clone(),
        reason,
    }
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
fn uri(host: &str, target: &str, hop: Hop, upstream: &UpstreamAddress) -> Result<Uri, ForwardError> {
    let unfit = || ForwardError::Unfit(request::UnfitHeader("target".to_owned()));
    let path: PathAndQuery = target.parse().map_err(|_| unfit())?;
    // INVARIANT: the bytes that were judged are the bytes that are sent; the parser drops fragments, for one.
    if path.as_str() != target {
        return Err(unfit());
    }
    if matches!(hop, Hop::Switch(_)) {
        return Ok(path.into());
    }
    let mut parts = http::uri::Parts::default();
    let tls = matches!(upstream, UpstreamAddress::Tls { .. });
    // Over HTTP/1.1 only the path is sent.
    parts.scheme = Some(if tls && hop == Hop::Http2 {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    });
    parts.authority = Some(host.parse::<Authority>().map_err(|_| unfit())?);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| unfit())
}

/// Waits for the head of the answer; while the request's body still moves, the tool is not late.
pub(super) async fn first_byte<F: Future>(
    answer: F,
    progress: &Progress,
    limit: Duration,
) -> Result<F::Output, ForwardError> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = progress.asked();
        match tokio::time::timeout(limit, &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_) if progress.asked() != before => {}
            Err(_) => return Err(ForwardError::Timeout(limit.as_secs())),
        }
    }
}

/// What an error of the client means: was anything sent?
fn told(error: &ClientError, ready: &Ready) -> ForwardError {
    let source = error.source();
    if error.is_connect() {
        return match source.and_then(|source| source.downcast_ref::<ConnectError>()) {
            Some(error) => not_there(error, ready),
            None => not_connected(ready, "no connection could be made".into()),
        };
    }
    broken(source.and_then(|source| source.downcast_ref()), ready)
}

fn not_connected(ready: &Ready, reason: String) -> ForwardError {
    ForwardError::NotConnected {
        upstream: ready.upstream.name.clone(),
        reason,
    }
}

fn not_there(error: &ConnectError, ready: &Ready) -> ForwardError {
    match error {
        ConnectError::Refused(reason) => ForwardError::RefusedAddress {
            upstream: ready.upstream.name.clone(),
            reason,
        },
        ConnectError::Failed(reason) => not_connected(ready, reason.clone()),
    }
}

/// What an error of a connection means.
pub(super) fn broken(error: Option<&hyper::Error>, ready: &Ready) -> ForwardError {
    if let Some(cause) = ready.progress.take_broke() {
        return ForwardError::BodyBroke(cause);
    }
    match error {
        // hyper gives a cancelled request back only when it had written nothing of it.
        Some(cause) if cause.is_canceled() => not_connected(
            ready,
            "the connection closed before the request was written".into(),
        ),
        Some(cause) if cause.is_parse() || cause.is_parse_too_large() => ForwardError::NotHttp,
        _ => ForwardError::Broke,
    }
}
