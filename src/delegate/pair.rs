//! The key pair of a proxy, from the moment it is made until the proxy is signed.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RsaKeyPair};

use crate::secret::Secret;
use crate::tool::ProxyKey;

use super::mint::MintError;
use super::pkcs10::Asked;

/// A key pair that no proxy has had before.
pub struct KeyPair {
    private: Private,
    spki: Vec<u8>,
}

enum Private {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    /// Whoever asked has it, and the gateway never sees it.
    Elsewhere(ProxyKey),
}

impl KeyPair {
    /// Makes a P-256 key (some 20 us).
    ///
    /// # Errors
    /// [`MintError::Key`].
    pub fn p256() -> Result<Self, MintError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| MintError::Key)?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| MintError::Key)?;
        let spki = spki.as_ref().to_vec();
        let private = Private::P256(pair);
        Ok(Self { private, spki })
    }

    /// Makes an RSA key with 2048 bits (some 100 ms of computing: never in a lane).
    ///
    /// # Errors
    /// [`MintError::Key`].
    pub fn rsa2048() -> Result<Self, MintError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| MintError::Key)?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| MintError::Key)?;
        let spki = spki.as_ref().to_vec();
        let private = Private::Rsa(pair);
        Ok(Self { private, spki })
    }

    /// The key of somebody else, who has shown to hold it.
    #[must_use]
    pub fn elsewhere(asked: &Asked) -> Self {
        let kind = if asked.is_rsa() {
            ProxyKey::Rsa2048
        } else {
            ProxyKey::P256
        };
        Self {
            private: Private::Elsewhere(kind),
            spki: asked.spki().to_vec(),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ProxyKey {
        match self.private {
            Private::P256(_) => ProxyKey::P256,
            Private::Rsa(_) => ProxyKey::Rsa2048,
            Private::Elsewhere(kind) => kind,
        }
    }

    /// The public half (`SubjectPublicKeyInfo`, DER).
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The private half as PKCS#8 (Globus refuses SEC1); nothing where it is elsewhere.
    pub(super) fn private(&self) -> Result<Secret<Vec<u8>>, MintError> {
        match &self.private {
            Private::P256(pair) => pair
                .to_pkcs8v1()
                .map(|document| Secret::new(document.as_ref().to_vec()))
                .map_err(|_| MintError::Key),
            Private::Rsa(pair) => {
                let der: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| MintError::Key)?;
                Ok(Secret::new(der.as_ref().to_vec()))
            }
            Private::Elsewhere(_) => Ok(Secret::new(Vec::new())),
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.kind().as_str())
    }
}
