//! The gateway's TLS identity: loads certificate and key with clear errors and makes the listener's configuration.

use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ParsedCertificate, ProducesTickets};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::Timestamp;

use super::pem::{self, PemError};

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The private key is of no known kind.
    #[error(
        "the private key in `{0}` is not accepted; accepted: RSA, P-256, P-384 or Ed25519, as PKCS#8, SEC1 or PKCS#1"
    )]
    Key(String),
    /// Certificate and key do not fit each other, or the certificate cannot be read.
    #[error(
        "the TLS certificate and key are not accepted ({0}); accepted: a server certificate (leaf first, then intermediates) and the key that belongs to it"
    )]
    Refused(rustls::Error),
    /// The certificate is not valid now.
    #[error(
        "the TLS certificate is valid from {from} to {to}, and this machine's clock says {now}; accepted: a certificate that is valid now"
    )]
    NotValidNow {
        /// Begin of its validity.
        from: Timestamp,
        /// End of its validity.
        to: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// The TLS library was built without what is needed.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// A certificate chain with its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

impl Identity {
    /// Reads an identity from two PEM files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain, secret) = (pem::file(certificate)?, pem::private_file(key)?);
        let name = |path: &Path| path.display().to_string();
        Self::read(
            (&name(certificate), chain.expose()),
            (&name(key), secret.expose()),
        )
    }

    /// Reads an identity from two PEM texts, each with its name.
    ///
    /// # Errors
    /// [`TlsError`], naming the text.
    pub fn read(certificate: (&str, &str), key: (&str, &str)) -> Result<Self, TlsError> {
        let chain = pem::certificates(certificate.0, certificate.1)?
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let der = pem::key(key.0, key.1)?;
        let key =
            PrivateKeyDer::try_from(der.expose().as_slice()).map_err(|_| TlsError::Key(key.0.to_owned()))?;
        Ok(Self {
            chain,
            key: key.clone_key(),
        })
    }

    /// Whether the server's own certificate is valid at `now`.
    ///
    /// # Errors
    /// [`TlsError::NotValidNow`] with all three times.
    pub fn check_validity(&self, now: Timestamp) -> Result<(), TlsError> {
        let Some((_, leaf)) = self
            .chain
            .first()
            .and_then(|der| X509Certificate::from_der(der).ok())
        else {
            return Ok(()); // `server_config` says what is wrong with it
        };
        let validity = leaf.validity();
        let from = Timestamp::from_secs(validity.not_before.timestamp());
        let to = Timestamp::from_secs(validity.not_after.timestamp());
        if (from..=to).contains(&now) {
            Ok(())
        } else {
            Err(TlsError::NotValidNow { from, to, now })
        }
    }

    /// Whether clients take the server's own certificate for `name` (RFC 9525).
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let leaf = self
            .chain
            .first()
            .and_then(|der| ParsedCertificate::try_from(der).ok());
        let name = ServerName::try_from(name).ok();
        leaf.zip(name)
            .is_some_and(|(leaf, name)| verify_server_name(&leaf, &name).is_ok())
    }

    /// When the server's own certificate ends; `None` when it cannot be read.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
        Some(Timestamp::from_secs(leaf.validity().not_after.timestamp()))
    }

    /// Certificates and key.
    pub(super) fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    /// The certificates, the server's own first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// What lets a client that comes back skip the long handshake. The keys live in memory alone and are replaced every six
/// hours; the last ones are accepted for as long again.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// [`TlsError::Provider`] without random bytes.
    pub fn new() -> Result<Self, TlsError> {
        aws_lc_rs::Ticketer::new().map(Self).map_err(TlsError::Provider)
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(..)")
    }
}

/// A listener's configuration with tickets of its own; see [`server_config_with`].
///
/// # Errors
/// As [`server_config_with`].
pub fn server_config(identity: Identity, alpn: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    server_config_with(identity, alpn, &Tickets::new()?)
}

/// A listener's configuration: TLS 1.3 and 1.2, no client certificates, the protocols of `alpn` (`h2`, `http/1.1`), and
/// tickets that outlive this configuration. The first key exchange offered is X25519MLKEM768.
///
/// # Errors
/// [`TlsError::Refused`] when certificate and key do not fit each other.
pub fn server_config_with(
    identity: Identity,
    alpn: &[&[u8]],
    tickets: &Tickets,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Provider)?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Refused)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = tickets.0.clone();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: (&str, &str) = (
        include_str!("../../certs/vo-ec.pem"),
        include_str!("../../certs/vo-ec.key"),
    );
    const RSA_KEY: &str = include_str!("../../certs/vo-rsa.key");

    #[test]
    fn a_fitting_pair_gives_a_configuration_with_its_protocols() {
        let identity = Identity::read(("server.pem", EC.0), ("server.key", EC.1)).unwrap();
        let config = server_config(identity, &[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    /// One handshake in memory between a listener's configuration and a client's.
    fn shake(
        server: &Arc<rustls::ServerConfig>,
        client: &Arc<rustls::ClientConfig>,
    ) -> (rustls::ServerConnection, rustls::ClientConnection) {
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut near = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut far = rustls::ServerConnection::new(server.clone()).unwrap();
        while near.is_handshaking() || far.is_handshaking() || far.wants_write() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while near.wants_write() {
                near.write_tls(&mut up).unwrap();
            }
            let mut up = up.as_slice();
            while !up.is_empty() {
                far.read_tls(&mut up).unwrap();
                far.process_new_packets().unwrap();
            }
            while far.wants_write() {
                far.write_tls(&mut down).unwrap();
            }
            let mut down = down.as_slice();
            while !down.is_empty() {
                near.read_tls(&mut down).unwrap();
                near.process_new_packets().unwrap();
            }
        }
        (far, near)
    }

    fn self_signed(tickets: &Tickets) -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let identity = Identity::read(("server.pem", &made.cert.pem()), ("server.key", &key)).unwrap();
        let config = server_config_with(identity, &[b"http/1.1"], tickets).unwrap();
        (config, made.cert.der().clone())
    }

    fn client(roots: &[&CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
        let mut store = rustls::RootCertStore::empty();
        for root in roots {
            store.add((*root).clone()).unwrap();
        }
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    #[test]
    fn the_key_exchange_is_safe_from_what_is_recorded_today() {
        let (server, root) = self_signed(&Tickets::new().unwrap());
        let (far, near) = shake(&server, &client(&[&root]));
        for group in [
            far.negotiated_key_exchange_group(),
            near.negotiated_key_exchange_group(),
        ] {
            assert_eq!(group.unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
        }
    }

    #[test]
    fn tickets_are_good_across_a_renewal_with_the_same_keys_and_worth_nothing_with_others() {
        let tickets = Tickets::new().unwrap();
        let ((first, one), (second, two)) = (self_signed(&tickets), self_signed(&tickets));
        let client = client(&[&one, &two]);
        let kind = |server: &Arc<rustls::ServerConfig>| shake(server, &client).1.handshake_kind();
        assert_eq!(kind(&first), Some(rustls::HandshakeKind::Full));
        assert_eq!(kind(&second), Some(rustls::HandshakeKind::Resumed));
        let (stranger, _) = self_signed(&Tickets::new().unwrap());
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut near = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut far = rustls::ServerConnection::new(stranger).unwrap();
        let mut hello = Vec::new();
        near.write_tls(&mut hello).unwrap();
        far.read_tls(&mut hello.as_slice()).unwrap();
        far.process_new_packets().unwrap();
        assert_ne!(far.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let identity = Identity::read(("server.pem", EC.0), ("server.key", RSA_KEY)).unwrap();
        assert!(matches!(server_config(identity, &[]), Err(TlsError::Refused(_))));
    }

    #[test]
    fn an_ended_certificate_is_said_with_all_times() {
        let expired = include_str!("../../certs/expired.pem");
        let identity = Identity::read(("server.pem", expired), ("server.key", EC.1)).unwrap();
        let at = |text| identity.check_validity(Timestamp::parse(text).unwrap());
        assert!(at("2000-06-01T00:00:00Z").is_ok());
        let error = at("2026-01-01T00:00:00Z").unwrap_err().to_string();
        assert!(
            error.contains("2001-01-01T00:00:00Z") && error.contains("2026-01-01T00:00:00Z"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Identity::load(
            Path::new("/nonexistent/server.pem"),
            Path::new("/nonexistent/server.key"),
        )
        .unwrap_err();
        assert!(error.to_string().contains("/nonexistent/server.pem"));
    }
}
