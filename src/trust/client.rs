//! Clients that show a certificate: whom a listener trusts, kept up to date while it runs, and its TLS configuration.
//!
//! A handshake is judged once, a request each time anew ([`Trust::verify`]): connections outlive certificates and lists.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
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

/// CAs and revocation lists in a file or folder, as they were last read and taken. Until that succeeded once nobody is let in.
pub struct Trust {
    path: PathBuf,
    limits: Limits,
    anchors: ArcSwapOption<Anchors>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({}, {:?})", self.path.display(), self.anchors.load())
    }
}

impl Trust {
    /// Trust in what lies at `path`; [`Trust::reload`] reads it.
    #[must_use]
    pub const fn new(path: PathBuf, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            anchors: ArcSwapOption::const_empty(),
            path,
            limits,
            clock,
        }
    }

    /// Reads CAs and lists (anew). Waits for files.
    ///
    /// # Errors
    /// [`AnchorError`], naming the file, or the list that is gone or older than the one in use; then what was read before
    /// holds on, up to the end of each list.
    pub fn reload(&self) -> Result<(), AnchorError> {
        let read = Anchors::load(&self.path)?;
        if let Some(before) = &*self.anchors.load() {
            read.may_follow(before)?;
        }
        self.anchors.store(Some(Arc::new(read)));
        Ok(())
    }

    /// Where they lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing could be read yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.load().is_none()
    }

    /// Judges a chain (DER, the client's own certificate first) at this moment, by the lists of this moment.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify<C: AsRef<[u8]>>(&self, chain: &[C]) -> Result<Verified, Refused> {
        // SECURITY: what cannot be read lets nobody in, and keeps nobody away from the other listener.
        let anchors = self.anchors.load();
        let anchors = anchors.as_deref().ok_or_else(|| Refused {
            position: 1,
            subject: "unread".to_owned(),
            rule: Rule::NoAnchors,
        })?;
        chain::verify(chain, anchors, &self.limits, self.clock.now())
    }

    /// Whether a CA that is trusted here issued `certificate` (DER), now or once, itself or by way of CAs among `between`.
    #[must_use]
    pub fn issued(&self, certificate: &[u8], between: &[&[u8]]) -> bool {
        let anchors = self.anchors.load();
        anchors
            .as_deref()
            .is_some_and(|anchors| anchors.issued(certificate, between))
    }

    /// Whether a CA that is trusted here has this name: the bytes, or the words in whatever case.
    #[must_use]
    pub fn has_name(&self, subject: &[u8], text: &str) -> bool {
        let anchors = self.anchors.load();
        anchors
            .as_deref()
            .is_some_and(|anchors| anchors.have_name(subject, text))
    }

    /// When the first of the revocation lists is out of date; from then on its CA's certificates are refused.
    #[must_use]
    pub fn lists_due(&self) -> Option<Timestamp> {
        self.anchors.load().as_deref().and_then(Anchors::lists_due)
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
