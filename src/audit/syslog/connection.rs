//! A TLS connection to a receiver, with blocking calls that all end in time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::SyslogError;
use super::config::Config;
use crate::outbound;

/// How long a receiver may take to be connected, for the handshake, and to take some of what is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what was sent may stay without the acknowledgement of the other machine before the connection is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// How long the other side may take to end the connection when it was told of the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a look for the end of the connection takes.
const LOOK: Duration = Duration::from_millis(1);

/// Where the settings are.
const SETTINGS: &str = "[audit.syslog]";

/// TLS as the settings say.
pub(super) fn tls(config: &Config) -> Result<Arc<ClientConfig>, SyslogError> {
    let roots = outbound::authorities(config.ca_file.as_deref(), "audit.syslog")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SyslogError::Tls)?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &config.client else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let unfit = |file: &std::path::Path, what| SyslogError::File {
        file: file.display().to_string(),
        what,
        settings: SETTINGS,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|_| unfit(certificate, "certificates (PEM)"))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|_| unfit(key, "a private key (PEM, not encrypted)"))?;
    let tls = builder
        .with_client_auth_cert(chain, private)
        .map_err(|_| unfit(key, "the key that belongs to `certificate_file`"))?;
    Ok(Arc::new(tls))
}

/// An open connection.
pub(super) struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Connects, and ends the handshake.
    pub(super) fn open(config: &Config, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let session = ClientConnection::new(tls, config.server_name.clone()).map_err(io::Error::other)?;
        let socket = connected(config)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let most = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&socket, most)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.sock.set_read_timeout(Some(LOOK))?;
        Ok(Self(stream))
    }

    /// Whether the other side has not ended it. Receivers say nothing: whatever they say is passed over.
    pub(super) fn look(&mut self) -> io::Result<()> {
        match self.0.read(&mut [0; 1024]) {
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the receiver ended the connection",
            )),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends frames.
    pub(super) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.0.write_all(frames)?;
        self.0.flush()
    }

    /// Ends it in order (RFC 5425 section 4.4). True when the other side ended it too: then it has read everything.
    pub(super) fn close(mut self) -> bool {
        self.0.conn.send_close_notify();
        let told = self.0.flush().is_ok()
            && self.0.sock.shutdown(Shutdown::Write).is_ok()
            && self.0.sock.set_read_timeout(Some(FAREWELL)).is_ok();
        // Tickets of the session may still come.
        told && (0..16).any(|_| matches!(self.0.read(&mut [0; 1024]), Ok(0)))
    }
}

fn connected(config: &Config) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (config.host.as_str(), config.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
