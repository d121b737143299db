//! The gateway as a MyProxy server: `myproxy-logon`, `myproxy-info` and `myproxy-get-trustroots`, unmodified, with accounts
//! of the gateway. It keeps nothing: what somebody logs on for is certified on the spot.
//!
//! An adapter and no more. What it is asked for becomes requests of the gateway's own API, which pass the pipeline like
//! everybody's: `session.create` (the same throttle, the same records as any login), `person.me`, `proxy.download` (decided,
//! and on record before anything is signed), `session.end`.

mod ask;
mod config;
mod roots;
mod shown;
mod talk;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::Config;

use super::listener::Listener;
use super::sources::{Places, Sources};
use super::unheard::UNHEARD;
use crate::problem::Kind;
use crate::trust::tls::TlsError;
use ask::Asker;
use roots::Roots;
use shown::Shown;
use talk::{Talk, TalkError};

/// How long a client may take in all, from the connection to the last of the answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at once; they count among those of the gateway too.
const CONNECTIONS: usize = 256;
/// Connections at once from one address (IPv4) or /64 (IPv6).
const PER_SOURCE: usize = 16;

/// What the gateway is as a MyProxy server, beside its listener.
pub struct MyProxyServer {
    roots: Roots,
    shown: Shown,
}

impl std::fmt::Debug for MyProxyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MyProxyServer(..)")
    }
}

impl MyProxyServer {
    /// By its settings.
    ///
    /// # Errors
    /// [`TlsError`] when its certificate cannot be shown.
    pub fn new(config: Config) -> Result<Self, TlsError> {
        Ok(Self {
            shown: Shown::load(config.identity.as_ref())?,
            roots: Roots::new(config.trust_roots),
        })
    }
}

/// What all conversations share.
struct Desk {
    listener: Arc<Listener>,
    server: MyProxyServer,
    /// The gateway's own name, with its port.
    host: Arc<str>,
    places: Arc<Places>,
    sources: Arc<Sources>,
}

impl Listener {
    /// Serves MyProxy clients on `socket` until `stop`; those that are being served end in their own time. `host` is the
    /// gateway's own name, with its port.
    pub async fn serve_myproxy(
        self: Arc<Self>,
        socket: TcpListener,
        server: MyProxyServer,
        host: String,
        stop: CancellationToken,
    ) {
        let drain = self.drain();
        let desk = Arc::new(Desk {
            listener: self,
            host: host.into(),
            server,
            places: Arc::default(),
            sources: Arc::default(),
        });
        let talks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => desk.admit(stream, peer.ip(), &talks),
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        talks.close();
        let _ = tokio::time::timeout(drain, talks.wait()).await;
    }
}

impl Desk {
    /// Takes a connection in, if there is a place for it; else closes it at once.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, talks: &TaskTracker) {
        let place = self.places.take(CONNECTIONS).zip(self.listener.place());
        let Some(place) = place else {
            return self.listener.shed(peer, Kind::Busy.name());
        };
        let desk = self.clone();
        talks.spawn(async move {
            let _place = place;
            match desk.talk(stream, peer).await {
                Ok(()) => {}
                Err(TalkError::Late) => desk.listener.shed(peer, UNHEARD),
                Err(TalkError::Unfit(_)) => desk.listener.shed(peer, Kind::Malformed.name()),
                Err(TalkError::Broken(error)) => tracing::debug!("a MyProxy client was left: {error}"),
            }
        });
    }

    async fn talk(&self, mut stream: TcpStream, peer: IpAddr) -> Result<(), TalkError> {
        let until = Instant::now() + PATIENCE;
        stream.set_nodelay(true)?;
        let client = timeout_at(until, self.listener.behind(&mut stream, peer)).await??;
        let Some(_share) = self.sources.admit(client, PER_SOURCE) else {
            self.listener.shed(client, Kind::Busy.name());
            return Ok(());
        };
        let shown = &self.server.shown;
        let config = shown.config(&self.listener.tls(), Instant::now()).await;
        let acceptor = TlsAcceptor::from(config);
        let tls = timeout_at(until, acceptor.accept(stream)).await??;
        // Globus clients take a byte after the handshake of TLS 1.3, and none after that of TLS 1.2.
        let greets = tls.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let asker = Asker::new(self.listener.handler(), client, self.host.clone());
        Talk::new(tls, until, asker, &self.server.roots).run(greets).await
    }
}
