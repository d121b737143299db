//! The HTTPS listener: connections counted and bounded, TLS, and one HTTP/1.1 or one HTTP/2 connection by ALPN alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{Balancers, Bounds};
use super::counts::{Counts, Open};
use super::framing::{Authority, Limits, Refused};
use super::guard::{Guard, Verdict};
use super::pace::{Asked, Pace, Taken};
use super::proxy;
use super::seldom::Seldom;
use super::sources::{FromSource, Place, Places, Sources};
use super::unheard::Unheard;
use crate::authenticate::{Presented, Source};
use crate::body::Body;
use crate::lane::Lanes;
use crate::problem::{Kind, Problem};
use crate::tool::Target;

/// First byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// How much of a plain request is read to find out where to send it.
const PLAIN_BYTES: usize = 8 * 1024;
/// How long an idle connection has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Windows and buffers of HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const SEND_BUFFER: usize = 256 * 1024;
/// Pings that find dead HTTP/2 peers.
const PING: Duration = Duration::from_secs(20);

/// Answers requests. A refusal is an answer too: it never fails.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Its framing is not judged yet for HTTP/2, and only at the level of bytes for HTTP/1.1:
    /// [`framing::check`](super::framing::check) comes first.
    fn handle<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a ConnectionInfo,
    ) -> BoxFuture<'a, Response<Body>>;

    /// Something ended unheard, for a reason: a connection, since too many are open in all or from its source; a request
    /// over HTTP/2 that the parser does not let through.
    fn shed(&self, source: Source, reason: &'static str) {
        let _ = (source, reason);
    }
}

/// What a request's connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Where it came from.
    pub source: Source,
    /// What it speaks.
    pub protocol: Protocol,
    /// The name that the client asked for in the TLS handshake (SNI).
    pub server_name: Option<String>,
    /// What the client proved to be with a certificate; on the certificate listener always, elsewhere never.
    pub presented: Option<Arc<Presented>>,
}

/// What a connection speaks, chosen by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is served with: connections take what holds when they begin, requests on them the handler of the moment.
pub struct Front {
    /// Certificate, key, protocols.
    pub tls: Arc<rustls::ServerConfig>,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
    /// Times and numbers.
    pub bounds: Bounds,
    /// Sizes of request heads.
    pub limits: Limits,
    /// What stands in front of the gateway.
    pub balancers: Balancers,
}

/// A [`Front`], made ready.
struct Face {
    tls: Arc<rustls::ServerConfig>,
    handler: Arc<dyn Handler>,
    bounds: Arc<Bounds>,
    limits: Limits,
    balancers: Balancers,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Face {
    fn new(front: Front) -> Arc<Self> {
        let (http1, http2) = builders(&front.bounds, front.limits);
        Arc::new(Self {
            tls: front.tls,
            handler: front.handler,
            bounds: Arc::new(front.bounds),
            limits: front.limits,
            balancers: front.balancers,
            http1,
            http2,
        })
    }

    fn shed(&self, client: IpAddr) {
        self.handler
            .shed(Source::Ip(client.to_canonical()), Kind::Busy.name());
    }

    /// Counts a handshake that ended over the client's certificate: nobody asked yet, so there is no request to record.
    fn unproven(&self, client: IpAddr, error: &io::Error) {
        let about = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) = about {
            let source = Source::Ip(client.to_canonical());
            self.handler.shed(source, Kind::WrongCredential.name());
        }
    }
}

/// Everything that connections share.
pub struct Listener {
    face: ArcSwap<Face>,
    places: Arc<Places>,
    sources: Arc<Sources>,
    requests: Arc<Places>,
    requesters: Arc<Sources>,
    counts: Arc<Counts>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("bounds", &self.face.load().bounds)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener that serves with `front`.
    #[must_use]
    pub fn new(front: Front) -> Arc<Self> {
        Arc::new(Self {
            face: ArcSwap::new(Face::new(front)),
            places: Arc::default(),
            sources: Arc::default(),
            requests: Arc::default(),
            requesters: Arc::default(),
            counts: Arc::default(),
        })
    }

    /// Who answers now.
    pub(super) fn handler(&self) -> Arc<dyn Handler> {
        self.face.load().handler.clone()
    }

    /// How TLS is spoken now.
    pub(super) fn tls(&self) -> Arc<rustls::ServerConfig> {
        self.face.load().tls.clone()
    }

    /// A place among the gateway's connections, if there is one.
    pub(super) fn place(&self) -> Option<Place> {
        self.places.take(self.face.load().bounds.connections)
    }

    /// Who is behind a connection from `peer`.
    pub(super) async fn behind(&self, stream: &mut TcpStream, peer: IpAddr) -> io::Result<IpAddr> {
        let face = self.face.load_full();
        let client = behind(&face.balancers, stream, peer).await?;
        Ok(client.to_canonical())
    }

    /// Something from `client` ended unheard.
    pub(super) fn shed(&self, client: IpAddr, reason: &'static str) {
        self.face
            .load()
            .handler
            .shed(Source::Ip(client.to_canonical()), reason);
    }

    /// What is counted of its connections.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Serves with `front` from here on. Connections that are open stay, with the times and sizes that they began with;
    /// requests under way end as they began.
    pub fn swap(&self, front: Front) {
        self.face.store(Face::new(front));
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.places.taken()
    }

    /// How long requests under way may go on when it stops.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.face.load().bounds.drain
    }

    /// Serves all of `sockets`, each connection in one of `lanes`, until `stop`; then takes no more connections, lets requests under way finish within the
    /// drain time, and returns.
    pub async fn serve(
        self: Arc<Self>,
        sockets: Vec<TcpListener>,
        lanes: Arc<Lanes>,
        stop: CancellationToken,
    ) {
        let connections = TaskTracker::new();
        // Cancelled when even the drain time is over: connections that are left are dropped.
        let abandon = CancellationToken::new();
        let accepting: Vec<_> = sockets
            .into_iter()
            .map(|socket| {
                let lives = Lives {
                    stop: stop.clone(),
                    abandon: abandon.clone(),
                    connections: connections.clone(),
                    lanes: lanes.clone(),
                };
                tokio::spawn(self.clone().accept(socket, lives))
            })
            .collect();
        for task in accepting {
            let _ = task.await;
        }
        connections.close();
        if tokio::time::timeout(self.drain(), connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "{} connections were cut off after the drain time",
                connections.len()
            );
            abandon.cancel();
            connections.wait().await;
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener, lives: Lives) {
        loop {
            let accepted = tokio::select! {
                () = lives.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &lives),
                Err(error) => {
                    // Out of file descriptors, most likely: waiting lets connections end, spinning does not.
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Takes a connection in, if there is a place for it; else closes it at once.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, lives: &Lives) {
        let face = self.face.load_full();
        let Some(place) = self.places.take(face.bounds.connections) else {
            self.counts.refuse_full();
            return face.shed(peer.ip());
        };
        let Some(held) = self.hold(&face, place, peer.ip()) else {
            self.counts.refuse_source();
            return face.shed(peer.ip());
        };
        // From here on it belongs to the events of its lane.
        let (Some(lane), Ok(stream)) = (lives.lanes.emptiest(), stream.into_std()) else {
            return;
        };
        let (this, abandon, stop) = (self.clone(), lives.abandon.clone(), lives.stop.clone());
        let inside = lane.enter();
        let work = async move {
            let _inside = inside;
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!("a connection could not be served: {error}"),
            };
            tokio::select! {
                () = abandon.cancelled() => {}
                served = this.connection(stream, peer.ip(), &face, held, stop) => {
                    if let Err(error) = served {
                        tracing::debug!("a connection ended: {error}");
                    }
                }
            }
        };
        lives.connections.spawn_on(work, lane.runtime());
    }

    /// What a connection from `ip` holds. What stands in front of the gateway speaks for many, so it has no share.
    fn hold(&self, face: &Face, place: Place, ip: IpAddr) -> Option<Held> {
        let from = match face.balancers.speaks_for_many(ip) {
            true => None,
            false => Some(self.sources.admit(ip, face.bounds.connections_per_source)?),
        };
        Some(Held {
            _open: Open::count(&self.counts),
            _place: place,
            from,
        })
    }

    async fn connection(
        self: &Arc<Self>,
        mut stream: TcpStream,
        peer: IpAddr,
        face: &Arc<Face>,
        mut held: Held,
        stop: CancellationToken,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let handshake = async {
            let client = behind(&face.balancers, &mut stream, peer).await?;
            if client != peer && !face.balancers.trusted_proxies.contains(client) {
                let share = self.sources.admit(client, face.bounds.connections_per_source);
                held.from = Some(share.ok_or_else(|| {
                    face.shed(client);
                    io::Error::other("this address has too many connections")
                })?);
            }
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first != [TLS_HANDSHAKE] {
                answer_plain(stream).await?;
                return Ok(None);
            }
            let tls = TlsAcceptor::from(face.tls.clone()).accept(stream).await;
            let tls = tls.inspect_err(|error| face.unproven(client, error))?;
            Ok::<_, io::Error>(Some((tls, client.to_canonical())))
        };
        let shaken = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            shaken = tokio::time::timeout(face.bounds.handshake_timeout, handshake) => shaken,
        };
        let Some((tls, client)) = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? else {
            return Ok(());
        };
        let session = tls.get_ref().1;
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let info = ConnectionInfo {
            source: Source::Ip(client),
            protocol,
            server_name: session.server_name().map(str::to_owned),
            presented: presented(session),
        };
        match protocol {
            Protocol::Http1 => {
                let served = self.served(info, client, face, held);
                self.serve_http1(tls, served, face, stop).await
            }
            Protocol::Http2 => {
                let served = self.served(info, client, face, held);
                self.serve_http2(tls, served, face, stop).await
            }
        }
    }

    async fn serve_http1(
        self: &Arc<Self>,
        tls: TlsStream<TcpStream>,
        served: Served,
        face: &Face,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let verdict = Arc::new(Verdict::default());
        let io = TokioIo::new(Guard::http1(
            tls,
            face.bounds.clone(),
            face.limits,
            verdict.clone(),
        ));
        let served = Arc::new(Served {
            verdict: Some(verdict),
            ..served
        });
        let service = service_fn({
            let served = served.clone();
            move |request| served.clone().handle(request)
        });
        let connection = face.http1.serve_connection(io, service).with_upgrades();
        live(connection, &served, stop).await
    }

    async fn serve_http2(
        self: &Arc<Self>,
        tls: TlsStream<TcpStream>,
        served: Served,
        face: &Face,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let unheard = Arc::new(Unheard::default());
        let io = TokioIo::new(Guard::http2(tls, face.bounds.clone(), &unheard));
        let served = Arc::new(Served {
            unheard: Some(unheard.clone()),
            ..served
        });
        let service = service_fn({
            let served = served.clone();
            move |request| {
                unheard.heard();
                served.clone().handle(request)
            }
        });
        let connection = face.http2.serve_connection(io, service);
        live(connection, &served, stop).await
    }

    fn served(self: &Arc<Self>, info: ConnectionInfo, peer: IpAddr, face: &Face, held: Held) -> Served {
        Served {
            listener: self.clone(),
            bounds: face.bounds.clone(),
            peer,
            // Over HTTP/1.1 the guard sees an answer that is not taken; over HTTP/2 only its body's reader does.
            pace: (info.protocol == Protocol::Http2).then(Arc::default),
            info,
            held: Arc::new(held),
            verdict: None,
            unheard: None,
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }
}

/// Who is behind a connection from `peer`.
///
/// SECURITY: only who is trusted may say where a connection comes from, and then must; from anybody else a balancer's head
/// is no TLS, and ends the connection.
async fn behind(balancers: &Balancers, stream: &mut TcpStream, peer: IpAddr) -> io::Result<IpAddr> {
    if !balancers.proxy_protocol.contains(peer) {
        return Ok(peer);
    }
    let said = proxy::read(stream).await.map_err(io::Error::other)?;
    Ok(said.unwrap_or(peer))
}

/// What the client of a connection showed and proved, where it was asked for a certificate.
fn presented(session: &rustls::ServerConnection) -> Option<Arc<Presented>> {
    let chain = session.peer_certificates()?;
    Some(Arc::new(Presented {
        chain: chain.iter().map(|der| der.to_vec()).collect(),
        server_name: session.server_name().map(str::to_owned),
    }))
}

/// Runs a connection until it ends, the gateway stops, it has had no request for too long, or it takes nothing of an
/// answer.
async fn live<C>(connection: C, served: &Served, stop: CancellationToken) -> io::Result<()>
where
    C: Graceful,
{
    let bounds = &served.bounds;
    let connection = pin!(connection);
    let mut connection = pin!(Noting { connection, served });
    let mut seen = served.requests();
    let mut busy = Instant::now();
    let look = match &served.pace {
        Some(_) => bounds.idle_timeout.min(bounds.write_timeout),
        None => bounds.idle_timeout,
    };
    let mut stopping = false;
    let mut stopped = pin!(Seldom::new(stop.cancelled()));
    let mut beat = pin!(Seldom::new(tokio::time::sleep(look)));
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = stopped.as_mut(), if !stopping => {
                // The answer under way is the last one (`Connection: close`, GOAWAY); times are kept until its end.
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
            () = beat.as_mut() => beat.set(Seldom::new(tokio::time::sleep(look))),
        }
        if let Some(pace) = &served.pace
            && pace.is_stuck(bounds.write_timeout)
        {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes nothing of an answer",
            ));
        }
        let now = served.requests();
        if served.under_way() > 0 || now != seen {
            (seen, busy) = (now, Instant::now());
        } else if busy.elapsed() >= bounds.idle_timeout {
            return goodbye(connection).await;
        }
    }
}

/// A connection that can be asked to end after its requests.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = Body, Error = std::convert::Infallible>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Graceful for http2::Connection<I, S, E>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body, Error = std::convert::Infallible>,
    S::Future: 'static,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// A connection whose unheard requests are noted whenever it has moved, and at its end.
struct Noting<'a, C> {
    connection: Pin<&'a mut C>,
    served: &'a Served,
}

impl<C: Graceful> Future for Noting<'_, C> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.connection.as_mut().poll(cx);
        self.served.note(false);
        polled
    }
}

impl<C: Graceful> Graceful for Noting<'_, C> {
    fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.connection.as_mut().graceful_shutdown();
    }
}

impl<C> Drop for Noting<'_, C> {
    fn drop(&mut self) {
        self.served.note(true);
    }
}

/// Ends an idle connection; one that does not take leave in time is dropped.
async fn goodbye<C: Graceful>(mut connection: Pin<&mut C>) -> io::Result<()> {
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(GOODBYE, connection).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The two connection builders. ALPN alone chooses; nothing is guessed from bytes.
fn builders(bounds: &Bounds, limits: Limits) -> (http1::Builder, http2::Builder<TokioExecutor>) {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // The guard keeps time and counts; hyper's own limits lie just above, and its head timer is off.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.saturating_mul(2).max(128 * 1024));
    // Up to 100 fields hyper keeps on the stack.
    if limits.headers > 100 {
        http1.max_headers(limits.headers.saturating_add(8));
    }
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    let head = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(bounds.streams)
        // Above what `framing` refuses, so that the refusal is recorded; the table's 32 bytes a field are on top.
        .max_header_list_size(head.saturating_mul(2))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    (http1, http2)
}

/// How connections live and end.
struct Lives {
    stop: CancellationToken,
    abandon: CancellationToken,
    connections: TaskTracker,
    lanes: Arc<Lanes>,
}

/// What a connection holds while it is open.
struct Held {
    _open: Open,
    _place: Place,
    from: Option<FromSource>,
}

/// The place of a connection and of its request, for as long as a connection that was switched to another protocol is
/// open. In the extensions of requests that ask for it.
#[derive(Clone)]
pub(super) struct Seat {
    _held: Arc<Held>,
    _way: Arc<UnderWay>,
}

/// The requests of one connection.
struct Served {
    listener: Arc<Listener>,
    bounds: Arc<Bounds>,
    peer: IpAddr,
    pace: Option<Arc<Pace>>,
    info: ConnectionInfo,
    held: Arc<Held>,
    verdict: Option<Arc<Verdict>>,
    unheard: Option<Arc<Unheard>>,
    requests: AtomicU64,
    under_way: AtomicUsize,
}

impl Served {
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// What never reached the handler goes on record all the same.
    fn note(&self, over: bool) {
        let noted = self.unheard.iter().flat_map(|unheard| unheard.note(over));
        for (reason, count) in noted {
            let face = self.listener.face.load();
            (0..count).for_each(|_| face.handler.shed(self.info.source, reason));
        }
    }

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        // SECURITY: a stream of messages (gRPC) may pause. Only what is permitted is read at all, over HTTP/2 it keeps
        // nobody else waiting, and there are bounds on streams and requests.
        let messages = self.info.protocol == Protocol::Http2 && is_grpc(request.headers());
        let answered = Arc::new(AtomicBool::new(messages));
        let conversation = answered.clone();
        let stream = self.info.protocol == Protocol::Http2;
        let mut request =
            request.map(|body| Asked::new(body, self.bounds.clone(), conversation, stream).boxed_unsync());
        let face = self.listener.face.load_full();
        let client = face.balancers.client(self.peer, request.headers());
        let flawed = self
            .verdict
            .as_deref()
            .and_then(|verdict| verdict.problem(number))
            .cloned();
        let way = Arc::new(UnderWay::begin(self.clone(), &face.bounds, client));
        // SECURITY: one address cannot fill the gateway with requests that it never finishes, nor can all of them.
        if let Some(problem) = flawed.or_else(|| way.shed()) {
            request.extensions_mut().insert(Refused(problem));
        }
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(Seat {
                _held: self.held.clone(),
                _way: way.clone(),
            });
        }
        let response = if client == self.peer {
            face.handler.handle(request, &self.info).await
        } else {
            let info = ConnectionInfo {
                source: Source::Ip(client),
                ..self.info.clone()
            };
            face.handler.handle(request, &info).await
        };
        answered.store(true, Ordering::Relaxed);
        if let Some(verdict) = &self.verdict {
            verdict.answered(number, response.status() == StatusCode::SWITCHING_PROTOCOLS);
        }
        // The request is under way until its answer's body has gone.
        Ok(response.map(|body| Taken::new(body, self.pace.as_ref(), number, way).boxed_unsync()))
    }
}

/// Whether a request is one of gRPC (gRPC over HTTP/2, "Content-Type").
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Counts a request for as long as it lives.
struct UnderWay {
    served: Arc<Served>,
    place: Option<Place>,
    from: Option<FromSource>,
}

impl UnderWay {
    fn begin(served: Arc<Served>, bounds: &Bounds, client: IpAddr) -> Self {
        served.under_way.fetch_add(1, Ordering::Relaxed);
        let listener = &served.listener;
        Self {
            place: listener.requests.take(bounds.requests),
            from: listener.requesters.admit(client, bounds.requests_per_source),
            served,
        }
    }

    /// Why it is not served, when too many are under way.
    fn shed(&self) -> Option<Problem> {
        let detail = match (&self.place, &self.from) {
            (Some(_), Some(_)) => return None,
            (None, _) => "too many requests are under way",
            (_, None) => "this address has too many requests under way",
        };
        Some(Problem::new(Kind::Busy, detail).retry_after(1))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.served.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers plain HTTP with the HTTPS address, whatever else with nothing. Nothing is ever served in the clear.
async fn answer_plain(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut space = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < PLAIN_BYTES {
        let read = stream.read(&mut space).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(space.get(..read).unwrap_or_default());
    }
    let Some(location) = secure_location(&head) else {
        return stream.shutdown().await;
    };
    let answer = format!(
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Where the same request belongs, when it is a plain GET or HEAD with one plain host.
fn secure_location(head: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(head).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let mut parts = lines.next()?.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    if !matches!(method, "GET" | "HEAD") || version != "HTTP/1.1" || parts.next().is_some() {
        return None;
    }
    let mut hosts = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let authority = Authority::parse(hosts.next()?.1.trim())?;
    let target = Target::parse(target).ok()?;
    hosts
        .next()
        .is_none()
        .then(|| format!("https://{authority}{}", target.as_str()))
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
