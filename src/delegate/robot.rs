//! The VO's own certificate as a client's, in TLS: how the gateway is known to MyProxy servers, and to nobody else. Tools and
//! resources are called with a person's proxy.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, Signer as TlsSigner, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;

use crate::trust::signer::{Algorithm, Signer};

use super::mint::Issuer;
use super::proxies::OneProxy;

/// Presents the issuer's certificate and its chain.
pub(super) fn presents(issuer: &Issuer) -> Arc<dyn ResolvesClientCert> {
    let chain = issuer.chain().iter().cloned().map(CertificateDer::from).collect();
    let key = Arc::new(Robot(issuer.signer().clone()));
    Arc::new(OneProxy(Arc::new(CertifiedKey::new(chain, key))))
}

#[derive(Debug)]
struct Robot(Arc<dyn Signer>);

impl SigningKey for Robot {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn TlsSigner>> {
        let ours: &[SignatureScheme] = match self.0.algorithm() {
            Algorithm::P256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Algorithm::P384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            // TLS 1.3 takes the first only (RFC 8446 section 4.2.3).
            Algorithm::Rsa(_) => &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256],
        };
        let scheme = ours.iter().find(|scheme| offered.contains(scheme)).copied()?;
        Some(Box::new(InScheme(self.0.clone(), scheme)))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.algorithm() {
            Algorithm::P256 | Algorithm::P384 => SignatureAlgorithm::ECDSA,
            Algorithm::Rsa(_) => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct InScheme(Arc<dyn Signer>, SignatureScheme);

impl TlsSigner for InScheme {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = match self.1 {
            SignatureScheme::RSA_PSS_SHA256 => self.0.sign_pss(message),
            _ => self.0.sign(message),
        };
        signed.map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.1
    }
}
