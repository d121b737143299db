//! Connections to upstreams: TCP, TLS, mutual TLS, Unix sockets. The address is judged at every connect.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::address::{self, OwnListeners};
use super::meters::Meter;
use crate::vo::{Upstream, UpstreamAddress};

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
    /// Whether the tool must choose HTTP/2.
    pub http2: bool,
}

/// Connects to one upstream, whatever the URI says.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub upstream: Arc<Upstream>,
    pub tls: Option<Tls>,
    pub own: Arc<ArcSwap<OwnListeners>>,
    pub timeout: Duration,
    pub meter: Arc<Meter>,
    /// For how long an upstream that could not be reached is not tried again.
    pub unreachable: Duration,
    pub reach: Arc<Reach>,
}

/// Whether an upstream could be reached a moment ago (passive health). While it could not, requests fail at once, and
/// one at a time tries again.
///
/// Only the way to the upstream counts, never what is said there: nobody's credential makes it unreachable for others.
#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<Option<Gone>>);

#[derive(Debug)]
struct Gone {
    until: Instant,
    trying: bool,
    reason: String,
}

impl Reach {
    /// Lets a connection be tried, or says why not.
    fn admit(&self) -> Result<Try<'_>, ConnectError> {
        let mut gone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match gone.as_mut() {
            Some(gone) if gone.trying || Instant::now() < gone.until => {
                Err(ConnectError::Failed(format!("{} (a moment ago)", gone.reason)))
            }
            Some(gone) => {
                gone.trying = true;
                Ok(Try(self))
            }
            None => Ok(Try(self)),
        }
    }
}

/// A connection that is being made.
struct Try<'a>(&'a Reach);

impl Try<'_> {
    fn ended(self, failed: Option<(&str, Duration)>) {
        let mut gone = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *gone = failed.map(|(reason, unreachable)| Gone {
            until: Instant::now() + unreachable,
            trying: false,
            reason: reason.to_owned(),
        });
    }
}

impl Drop for Try<'_> {
    /// Given up, or ended: the next may try.
    fn drop(&mut self) {
        let mut gone = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = gone.as_mut() {
            gone.trying = false;
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the address {0}")]
    Refused(&'static str),
    #[error("{0}")]
    Failed(String),
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let meter = this.meter.clone();
            meter.counted(this.connect()).await.map(TokioIo::new)
        })
    }
}

impl Connector {
    /// Makes a connection of its own, in time.
    pub(super) async fn connect(&self) -> Result<Stream, ConnectError> {
        let deadline = Instant::now() + self.timeout;
        let late = |_| ConnectError::Failed("no connection in time".into());
        let attempt = self.reach.admit()?;
        let opened = tokio::time::timeout_at(deadline, self.open())
            .await
            .map_err(late)
            .flatten();
        attempt.ended(match &opened {
            Err(ConnectError::Failed(reason)) => Some((reason, self.unreachable)),
            _ => None,
        });
        let stream = opened?;
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        let shaken = tokio_rustls::TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream);
        let stream = tokio::time::timeout_at(deadline, shaken)
            .await
            .map_err(late)?
            .map_err(|error| failed(&error))?;
        if tls.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::Failed("the tool does not choose HTTP/2".into()));
        }
        Ok(Stream(Box::new(stream)))
    }

    async fn open(&self) -> Result<Stream, ConnectError> {
        match &self.upstream.address {
            UpstreamAddress::Unix(path) => {
                if self.own.load().sockets.contains(path) {
                    return Err(ConnectError::Refused(address::Refused::OwnListener.as_str()));
                }
                let stream = UnixStream::connect(path).await.map_err(|error| failed(&error))?;
                Ok(Stream(Box::new(stream)))
            }
            UpstreamAddress::Tcp(host, port) | UpstreamAddress::Tls { host, port, .. } => {
                Ok(Stream(Box::new(self.tcp(host, *port).await?)))
            }
        }
    }

    /// Resolves the name and connects to the first of its addresses that is allowed and answers.
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let resolved = tokio::net::lookup_host((bare, port))
            .await
            .map_err(|error| failed(&error))?;
        let mut last = ConnectError::Failed("the name has no address".into());
        for at in resolved {
            match self.try_address(at).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn try_address(&self, at: SocketAddr) -> Result<TcpStream, ConnectError> {
        let own = self.own.load_full();
        // SECURITY: the address that is judged is the address that is connected to; the name is not resolved again.
        address::check(at, self.upstream.allow_local, &own)
            .map_err(|refused| ConnectError::Refused(refused.as_str()))?;
        let stream = TcpStream::connect(at).await.map_err(|error| failed(&error))?;
        if own.have_port(at.port())
            && is_this_machine(&stream)
            && own.addresses.iter().any(|own| own.ip().is_unspecified())
        {
            return Err(ConnectError::Refused(address::Refused::OwnListener.as_str()));
        }
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        Ok(stream)
    }
}

/// Whether the peer is an address of this very machine: the system then takes that address for our end too.
fn is_this_machine(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip(),
        _ => true,
    }
}

fn failed(error: &io::Error) -> ConnectError {
    ConnectError::Failed(error.to_string())
}

pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to a tool, whatever its kind.
pub(super) struct Stream(pub(super) Box<dyn Transport>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
