//! The load: connections that each ask one thing at a time, again and again.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use countersign::clock::Clock;
use http::header::HOST;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Streams of one HTTP/2 connection at most.
const STREAMS: usize = 32;

/// The protocol of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 keep-alive, one connection for each client.
    Http1,
    /// HTTP/2, one stream for each client, at most 32 on one connection.
    Http2,
}

impl Protocol {
    /// Short name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// What is asked, and the status that must come.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Taken in turns.
    pub(crate) paths: Vec<String>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) status: StatusCode,
    /// Length of the request's body.
    pub(crate) sends: u64,
    /// Length that the answer's body must have, if it matters.
    pub(crate) gets: Option<u64>,
}

impl Ask {
    /// A request without a body.
    pub(crate) fn new(
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        status: StatusCode,
    ) -> Self {
        Self {
            method,
            paths: vec![path.to_owned()],
            headers,
            status,
            sends: 0,
            gets: None,
        }
    }
}

/// A body of so many bytes, made of the same piece again and again.
pub(crate) struct Repeat {
    piece: Bytes,
    left: u64,
}

impl Repeat {
    pub(crate) const fn new(piece: Bytes, length: u64) -> Self {
        Self { piece, left: length }
    }
}

impl Body for Repeat {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(self.piece.len() as u64);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..length as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Where to connect, and whom to trust.
#[derive(Clone)]
pub(crate) struct Client {
    port: u16,
    host: String,
    http1: Arc<rustls::ClientConfig>,
    http2: Arc<rustls::ClientConfig>,
    piece: Bytes,
}

/// One client's end of a connection.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Repeat>, Client),
    Http2(http2::SendRequest<Repeat>, Client),
}

impl Client {
    pub(crate) fn new(port: u16, host: &str, tls: &rustls::ClientConfig) -> Self {
        let speaking = |protocol: Protocol| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![protocol.alpn().to_vec()];
            Arc::new(tls)
        };
        Self {
            port,
            host: host.to_owned(),
            http1: speaking(Protocol::Http1),
            http2: speaking(Protocol::Http2),
            piece: vec![b'x'; 64 * 1024].into(),
        }
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The same, whose requests have this as their body.
    pub(crate) fn sending(&self, piece: Bytes) -> Self {
        Self {
            piece,
            ..self.clone()
        }
    }

    /// Opens what `clients` need.
    pub(crate) async fn connect(&self, protocol: Protocol, clients: usize) -> Vec<Connection> {
        let mut connections = Vec::new();
        while connections.len() < clients {
            let connection = self.open(protocol).await.expect("a connection");
            if let Connection::Http2(send, client) = &connection {
                let more = STREAMS.min(clients - connections.len()) - 1;
                let more = (0..more).map(|_| Connection::Http2(send.clone(), client.clone()));
                connections.extend(more.collect::<Vec<_>>());
            }
            connections.push(connection);
        }
        connections
    }

    /// One connection.
    pub(crate) async fn open(&self, protocol: Protocol) -> std::io::Result<Connection> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone()).expect("a name");
        let tls = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.alpn()));
        let io = TokioIo::new(stream);
        if protocol == Protocol::Http2 {
            let made = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .handshake(io)
                .await;
            let (send, drive) = made.map_err(std::io::Error::other)?;
            tokio::spawn(drive);
            return Ok(Connection::Http2(send, self.clone()));
        }
        let (send, drive) = http1::handshake(io).await.map_err(std::io::Error::other)?;
        tokio::spawn(drive);
        Ok(Connection::Http1(send, self.clone()))
    }
}

impl Connection {
    /// Asks, and checks status and length of the answer.
    pub(crate) async fn ask(&mut self, ask: &Ask, turn: usize) {
        let answer = self.answer(ask, turn).await.expect("an answer");
        let (head, mut body) = answer.into_parts();
        if head.status != ask.status {
            let said = body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            panic!(
                "{} and not {}: {}",
                head.status,
                ask.status,
                String::from_utf8_lossy(&said)
            );
        }
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame
                .expect("a body")
                .data_ref()
                .map_or(0, |data| data.len() as u64);
        }
        assert!(ask.gets.is_none_or(|gets| gets == length), "{length} bytes came");
    }

    /// Asks; the head of the answer, and its body still to be read.
    pub(crate) async fn answer(&mut self, ask: &Ask, turn: usize) -> hyper::Result<Response<Incoming>> {
        let path = &ask.paths[turn % ask.paths.len()];
        let mut request = Request::builder().method(ask.method.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        match self {
            Self::Http1(send, client) => {
                let body = Repeat::new(client.piece.clone(), ask.sends);
                let request = request.uri(path).header(HOST, client.authority());
                send.ready().await?;
                send.send_request(request.body(body).expect("a request")).await
            }
            Self::Http2(send, client) => {
                let body = Repeat::new(client.piece.clone(), ask.sends);
                let request = request.uri(format!("https://{}{path}", client.authority()));
                send.ready().await?;
                send.send_request(request.body(body).expect("a request")).await
            }
        }
    }

    async fn ready(&mut self) {
        match self {
            Self::Http1(send, _) => send.ready().await.expect("an open connection"),
            Self::Http2(send, _) => send.ready().await.expect("an open connection"),
        }
    }
}

/// Asks `requests` times over all connections; how long each took.
pub(crate) async fn run(
    connections: &mut Vec<Connection>,
    ask: &Arc<Ask>,
    requests: usize,
    clock: &Arc<dyn Clock>,
) -> Vec<Duration> {
    let begun = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = connections
        .drain(..)
        .map(|mut connection| {
            let (begun, ask, clock) = (begun.clone(), ask.clone(), clock.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while let Some(turn) = next(&begun, requests) {
                    connection.ready().await;
                    let start = clock.monotonic();
                    connection.ask(&ask, turn).await;
                    times.push(clock.monotonic() - start);
                }
                (connection, times)
            })
        })
        .collect();
    let mut times = Vec::with_capacity(requests);
    for task in tasks {
        let (connection, some) = task.await.expect("a client");
        connections.push(connection);
        times.extend(some);
    }
    times
}

/// Asks `requests` times, each on a connection of its own, `clients` at a time; how long each took with its connection.
pub(crate) async fn run_anew(
    client: &Client,
    (protocol, clients): (Protocol, usize),
    ask: &Arc<Ask>,
    requests: usize,
    clock: &Arc<dyn Clock>,
) -> Vec<Duration> {
    let begun = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (begun, ask, clock, client) = (begun.clone(), ask.clone(), clock.clone(), client.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while let Some(turn) = next(&begun, requests) {
                    let start = clock.monotonic();
                    let mut connection = client.open(protocol).await.expect("a connection");
                    connection.ask(&ask, turn).await;
                    times.push(clock.monotonic() - start);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::with_capacity(requests);
    for task in tasks {
        times.extend(task.await.expect("a client"));
    }
    times
}

fn next(begun: &AtomicUsize, requests: usize) -> Option<usize> {
    let turn = begun.fetch_add(1, Ordering::Relaxed);
    (turn < requests).then_some(turn)
}
