//! Keys that sign in the name of a VO, behind the [`Signer`] trait: a key from a file, or one on a PKCS#11 token
//! ([`super::token`]).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};

use super::token::TokenError;

/// What a key is, as far as a signature and its peers are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
    /// RSA (PKCS#1 v1.5) with SHA-256; the modulus in bits.
    Rsa(u16),
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
        }
    }
}

/// A private key that signs and never leaves.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Its kind.
    fn algorithm(&self) -> Algorithm;

    /// Whether a signature has to be waited for, so that none is asked for in a lane.
    fn is_slow(&self) -> bool {
        false
    }

    /// Its public key as a `SubjectPublicKeyInfo` (DER, RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// [`SignError`] when the key cannot be reached.
    fn spki(&self) -> Result<Vec<u8>, SignError>;

    /// The signature of `message`, in the form that stands in a certificate.
    ///
    /// # Errors
    /// [`SignError`] when the key cannot be reached or refuses.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// The signature of `message` by an RSA key in the form that TLS 1.3 wants (RSASSA-PSS with SHA-256).
    ///
    /// # Errors
    /// [`SignError`] when the key is no RSA key, cannot be reached or refuses.
    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// The signature of `message`; where it has to be waited for, on a thread that may wait.
///
/// # Errors
/// [`SignError`].
pub async fn sign_apart(signer: &Arc<dyn Signer>, message: &[u8]) -> Result<Vec<u8>, SignError> {
    if !signer.is_slow() {
        return signer.sign(message);
    }
    let (signer, message) = (signer.clone(), message.to_vec());
    let signed = tokio::task::spawn_blocking(move || signer.sign(&message)).await;
    signed.unwrap_or(Err(SignError::Refused))
}

/// A key did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It would not.
    #[error("the private key did not sign")]
    Refused,
    /// It is on a token that would not.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A private key that was read from a file (and rests sealed in the store).
pub struct FileKey(Pair);

enum Pair {
    Ec(EcdsaKeyPair, Algorithm),
    Rsa(RsaKeyPair),
}

impl FileKey {
    /// Reads PKCS#8, SEC1 or PKCS#1 (DER). `None` when it is none of them, or of a kind that is not accepted.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let p256 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der).ok();
        let p384 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_ASN1_SIGNING, der).ok();
        let rsa = || {
            RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(der))
                .ok()
        };
        p256()
            .map(|pair| Pair::Ec(pair, Algorithm::P256))
            .or_else(|| p384().map(|pair| Pair::Ec(pair, Algorithm::P384)))
            .or_else(|| rsa().map(Pair::Rsa))
            .map(Self)
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({})", self.algorithm())
    }
}

impl Signer for FileKey {
    fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Pair::Ec(_, algorithm) => *algorithm,
            Pair::Rsa(pair) => {
                Algorithm::Rsa(u16::try_from(pair.public_modulus_len() * 8).unwrap_or(u16::MAX))
            }
        }
    }

    fn spki(&self) -> Result<Vec<u8>, SignError> {
        let der: PublicKeyX509Der<'_> = match &self.0 {
            Pair::Ec(pair, _) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(|_| SignError::Refused)?;
        Ok(der.as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = unused_random();
        match &self.0 {
            Pair::Ec(pair, _) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignError::Refused),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SignError::Refused)?;
                Ok(signature)
            }
        }
    }

    fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let Pair::Rsa(pair) = &self.0 else {
            return Err(SignError::Refused);
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PSS_SHA256, &salts(), message, &mut signature)
            .map_err(|_| SignError::Refused)?;
        Ok(signature)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the signature functions take a random source and ignore it"
)]
fn unused_random() -> SystemRandom {
    SystemRandom::new()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the salt of a signature in TLS is made where the library makes it"
)]
fn salts() -> SystemRandom {
    SystemRandom::new()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;
    use crate::trust::pem;

    fn key(text: &str) -> FileKey {
        FileKey::read(pem::key("test", text).unwrap().expose()).unwrap()
    }

    #[test]
    fn every_accepted_form_of_a_key_is_read() {
        for (text, algorithm) in [
            (include_str!("../../certs/vo-ec.key"), Algorithm::P256),
            (include_str!("../../certs/vo-p384.key"), Algorithm::P384),
            (include_str!("../../certs/vo-rsa.key"), Algorithm::Rsa(2048)),
            (include_str!("../../certs/vo-chain.key"), Algorithm::Rsa(2048)),
        ] {
            assert_eq!(key(text).algorithm(), algorithm);
        }
    }

    #[test]
    fn keys_that_are_too_weak_or_unknown_are_not_read() {
        for text in [
            include_str!("../../certs/rsa1024.key"),
            include_str!("../../certs/p521.key"),
            include_str!("../../certs/ed25519.key"),
        ] {
            assert!(FileKey::read(pem::key("test", text).unwrap().expose()).is_none());
        }
    }

    #[test]
    fn signatures_verify_with_the_public_key() {
        let Pair::Ec(pair, _) = key(include_str!("../../certs/vo-ec.key")).0 else {
            panic!("not EC")
        };
        let public = pair.public_key().as_ref().to_vec();
        let signature = FileKey(Pair::Ec(pair, Algorithm::P256)).sign(b"message").unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
            .verify(b"message", &signature)
            .unwrap();
        let Pair::Rsa(pair) = key(include_str!("../../certs/vo-rsa.key")).0 else {
            panic!("not RSA")
        };
        let public = pair.public_key().as_ref().to_vec();
        let signature = FileKey(Pair::Rsa(pair)).sign(b"message").unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(b"message", &signature)
            .unwrap();
    }
}
