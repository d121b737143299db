//! Connections to upstreams: TCP, TLS, mutual TLS, Unix sockets. The address is judged at every connect.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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

use super::address::{self, OwnListeners};
use super::meters::Meter;
use crate::vo::{Upstream, UpstreamAddress};

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// Connects to one upstream, whatever the URI says.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub upstream: Arc<Upstream>,
    pub tls: Option<Tls>,
    pub own: Arc<ArcSwap<OwnListeners>>,
    pub timeout: Duration,
    pub meter: Arc<Meter>,
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
            let connecting = async {
                match tokio::time::timeout(this.timeout, this.connect()).await {
                    Ok(stream) => stream,
                    Err(_) => Err(ConnectError::Failed("no connection in time".into())),
                }
            };
            this.meter.clone().counted(connecting).await.map(TokioIo::new)
        })
    }
}

impl Connector {
    async fn connect(&self) -> Result<Stream, ConnectError> {
        let tcp = match &self.upstream.address {
            UpstreamAddress::Unix(path) => {
                if self.own.load().sockets.contains(path) {
                    return Err(ConnectError::Refused(address::Refused::OwnListener.as_str()));
                }
                let stream = UnixStream::connect(path).await.map_err(|error| failed(&error))?;
                return Ok(Stream(Box::new(stream)));
            }
            UpstreamAddress::Tcp(host, port) | UpstreamAddress::Tls { host, port, .. } => {
                self.tcp(host, *port).await?
            }
        };
        let Some(tls) = &self.tls else {
            return Ok(Stream(Box::new(tcp)));
        };
        let stream = tokio_rustls::TlsConnector::from(tls.config.clone())
            .connect(tls.name.clone(), tcp)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Stream(Box::new(stream)))
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
