//! Clients that show a certificate: whom a listener trusts, kept up to date while it runs, and its TLS configuration.
//!
//! A handshake is judged once, a request each time anew ([`Trust::verify`]): connections outlive certificates and lists.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};

use crate::clock::{Clock, Timestamp};

use super::chain::{self, AnchorError, Anchors, Limits, PathFlaw, Refused, Rule, Verified};
use super::tls::{Identity, TlsError};

/// CAs and revocation lists in a file or folder, as they were last read.
pub struct Trust {
    path: PathBuf,
    limits: Limits,
    anchors: ArcSwap<Anchors>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({}, {:?})", self.path.display(), self.anchors.load())
    }
}

impl Trust {
    /// Reads CAs and lists.
    ///
    /// # Errors
    /// [`AnchorError`], naming the file.
    pub fn load(path: PathBuf, limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, AnchorError> {
        Ok(Self {
            anchors: ArcSwap::from_pointee(Anchors::load(&path)?),
            path,
            limits,
            clock,
        })
    }

    /// Reads them anew. Waits for files.
    ///
    /// # Errors
    /// [`AnchorError`]; then what was read before holds on, up to the end of each list.
    pub fn reload(&self) -> Result<(), AnchorError> {
        self.anchors.store(Arc::new(Anchors::load(&self.path)?));
        Ok(())
    }

    /// Judges a chain (DER, the client's own certificate first) at this moment, by the lists of this moment.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify<C: AsRef<[u8]>>(&self, chain: &[C]) -> Result<Verified, Refused> {
        chain::verify(chain, &self.anchors.load(), &self.limits, self.clock.now())
    }

    /// When the first of the revocation lists is out of date; from then on its CA's certificates are refused.
    #[must_use]
    pub fn lists_due(&self) -> Option<Timestamp> {
        self.anchors.load().lists_due()
    }
}

/// The TLS configuration of a listener whose clients must show a certificate or a proxy: TLS 1.3 alone, nothing resumed.
///
/// # Errors
/// [`TlsError::Refused`] when certificate and key do not fit each other.
pub fn server_config(
    identity: Identity,
    alpn: &[&[u8]],
    trust: &Arc<Trust>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier {
        trust: trust.clone(),
        provider: provider.clone(),
    };
    let (chain, key) = identity.into_parts();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        // SECURITY: under TLS 1.2 the client's signature would be verified by code that refuses every proxy.
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(TlsError::Refused)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // SECURITY: a resumed session would show a certificate that nobody has judged again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Verifier {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    /// No hints: a proxy's issuer is a person, so a client that chooses by CA names would find none of its own.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<&[u8]> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(AsRef::as_ref)
            .collect();
        match self.trust.verify(&chain) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => {
                tracing::debug!("a client's certificate is not accepted: {refused}");
                Err(alert(&refused.rule).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The library's own way parses the certificate and refuses proxies: the key alone is what the signature needs.
        let spki = chain::public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(spki),
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What the client's TLS is told.
const fn alert(rule: &Rule) -> CertificateError {
    match rule {
        Rule::Revoked | Rule::Path(PathFlaw::Revoked) => CertificateError::Revoked,
        Rule::Path(PathFlaw::RevocationUnknown) | Rule::RevocationList => {
            CertificateError::UnknownRevocationStatus
        }
        Rule::Expired(_) | Rule::Path(PathFlaw::Time) => CertificateError::Expired,
        Rule::NotYetValid(_) => CertificateError::NotValidYet,
        Rule::Path(PathFlaw::Untrusted) | Rule::NoEndEntity => CertificateError::UnknownIssuer,
        Rule::Unreadable => CertificateError::BadEncoding,
        _ => CertificateError::ApplicationVerificationFailure,
    }
}
