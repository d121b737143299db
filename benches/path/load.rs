//! The load: connections that each ask one thing at a time, again and again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::clock::Clock;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The protocol of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 keep-alive, one connection for each client.
    Http1,
    /// HTTP/2, one connection, one stream for each client.
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
}

/// What is asked, and the status that must come.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) bearer: Option<String>,
    pub(crate) status: StatusCode,
}

/// Where to connect, and whom to trust.
pub(crate) struct Client {
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// One client's end of a connection.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>, String),
    Http2(http2::SendRequest<Empty<Bytes>>, String),
}

impl Client {
    /// Opens what `clients` need.
    pub(crate) async fn connect(&self, protocol: Protocol, clients: usize) -> Vec<Connection> {
        let authority = format!("{}:{}", self.host, self.port);
        if protocol == Protocol::Http2 {
            let io = TokioIo::new(self.stream(b"h2").await);
            let (send, drive) = http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
            tokio::spawn(drive);
            return (0..clients)
                .map(|_| Connection::Http2(send.clone(), authority.clone()))
                .collect();
        }
        let mut connections = Vec::new();
        for _ in 0..clients {
            let io = TokioIo::new(self.stream(b"http/1.1").await);
            let (send, drive) = http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(drive);
            connections.push(Connection::Http1(send, authority.clone()));
        }
        connections
    }

    async fn stream(&self, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from(self.host.clone()).expect("a name");
        TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .expect("a TLS connection")
    }
}

impl Connection {
    async fn ask(&mut self, ask: &Ask) {
        let mut request = Request::builder().method(ask.method.clone());
        if let Some(token) = &ask.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = match self {
            Self::Http1(send, authority) => {
                let request = request
                    .uri(&ask.path)
                    .header(HOST, &*authority)
                    .body(Empty::new());
                send.send_request(request.expect("a request")).await
            }
            Self::Http2(send, authority) => {
                let request = request
                    .uri(format!("https://{authority}{}", ask.path))
                    .body(Empty::new());
                send.send_request(request.expect("a request")).await
            }
        };
        let (head, body) = answer.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        assert_eq!(head.status, ask.status, "{}", String::from_utf8_lossy(&body));
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
    let left = Arc::new(AtomicUsize::new(requests));
    let tasks: Vec<_> = connections
        .drain(..)
        .map(|mut connection| {
            let (left, ask, clock) = (left.clone(), ask.clone(), clock.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    connection.ready().await;
                    let start = clock.monotonic();
                    connection.ask(&ask).await;
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
