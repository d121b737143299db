//! Certification requests (PKCS#10, RFC 2986), as a holder of a key sends them who wants it certified.
//!
//! Taken from one is the public key alone, and only when the request is signed with its private half. The subject and the
//! attributes are whatever the sender liked, and are never looked at: who the proxy is for is for the gateway to say.

use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// No request is longer, in bytes. One with the longest accepted key takes about 1,100.
pub const LONGEST: usize = 8 * 1024;

/// `AlgorithmIdentifier` of an RSA key (RFC 3279 section 2.3.1): rsaEncryption, NULL.
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `AlgorithmIdentifier` of a key on P-256 (RFC 5480 section 2.1.1): ecPublicKey, prime256v1.
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// The public exponent that is accepted, 65537.
const EXPONENT: &[u8] = &[1, 0, 1];

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no request.
    #[error("the certification request cannot be read; accepted: PKCS#10 in DER, of at most {LONGEST} bytes")]
    Unreadable,
    /// The key is of another kind.
    #[error(
        "the certification request is for a key that is not accepted; accepted: RSA with 2048 to 4096 bits and exponent 65537, or P-256"
    )]
    Key,
    /// The signature is not the key's.
    #[error("the certification request is not signed with the key that it is for")]
    Signature,
}

/// A public key whose private half somebody else has shown to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    spki: Vec<u8>,
    rsa: bool,
}

/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
#[derive(Sequence)]
struct Spki<'a> {
    algorithm: AnyRef<'a>,
    key: BitStringRef<'a>,
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct RsaKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl Asked {
    /// Reads a request and checks its signature.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > LONGEST {
            return Err(RequestError::Unreadable);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|_| RequestError::Unreadable)?;
        if !rest.is_empty() {
            return Err(RequestError::Unreadable);
        }
        let spki = request.certification_request_info.subject_pki.raw;
        let rsa = is_rsa(spki).ok_or(RequestError::Key)?;
        // SECURITY: without it anybody could have the key of somebody else certified in her own name.
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(Self {
            spki: spki.to_vec(),
            rsa,
        })
    }

    /// The public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether it is an RSA key; else it is on P-256.
    #[must_use]
    pub const fn is_rsa(&self) -> bool {
        self.rsa
    }
}

/// Whether an accepted key is RSA; `None` when it is not accepted.
///
/// SECURITY: these bytes stand in a certificate that the VO's key signs, so they are read strictly, to their end.
fn is_rsa(spki: &[u8]) -> Option<bool> {
    let parts = Spki::from_der(spki).ok()?;
    let algorithm = parts.algorithm.to_der().ok()?;
    let key = parts.key.as_bytes()?;
    match algorithm.as_slice() {
        RSA => {
            let key = RsaKey::from_der(key).ok()?;
            let modulus = key.modulus.as_bytes();
            let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
            let odd = modulus.last()? & 1 == 1;
            ((2048..=4096).contains(&bits) && odd && key.exponent.as_bytes() == EXPONENT).then_some(true)
        }
        // Uncompressed (RFC 5480 section 2.2); that the point is on the curve is seen when the signature is checked.
        P256 => (key.len() == 65 && key.first() == Some(&4)).then_some(false),
        _ => None,
    }
}

/// A request reads as its key, or is refused; what is taken reads the same by a second reader.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a target ends at the first thing that is not as it claims"
)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(asked) = Asked::read(bytes) else { return };
    let (rest, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(asked.spki()).expect("a public key");
    assert!(rest.is_empty());
    match spki.parsed().expect("a key of a known kind") {
        x509_parser::public_key::PublicKey::RSA(key) => {
            assert!(asked.is_rsa() && (2048..=4096).contains(&key.key_size()));
        }
        x509_parser::public_key::PublicKey::EC(point) => {
            assert!(!asked.is_rsa() && point.key_size() == 256);
        }
        other => panic!("{other:?}"),
    }
    assert!(bytes.windows(asked.spki().len()).any(|part| part == asked.spki()));
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PublicKeyData,
    };

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(key);
        request.unwrap().der().to_vec()
    }

    fn rsa(bits: usize) -> KeyPair {
        let size = match bits {
            2048 => aws_lc_rs::rsa::KeySize::Rsa2048,
            4096 => aws_lc_rs::rsa::KeySize::Rsa4096,
            _ => aws_lc_rs::rsa::KeySize::Rsa8192,
        };
        let key = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
        let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        KeyPair::try_from(der.as_ref()).unwrap()
    }

    #[test]
    fn rsa_and_p256_keys_are_taken_with_the_very_bytes_of_the_request() {
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        for (key, is_rsa) in [(&p256, false), (&rsa(2048), true)] {
            let der = request(key);
            let asked = Asked::read(&der).unwrap();
            assert_eq!(asked.is_rsa(), is_rsa);
            assert_eq!(asked.spki(), key.subject_public_key_info());
            fuzz(&der);
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        for key in [&p384, &ed25519] {
            assert_eq!(Asked::read(&request(key)), Err(RequestError::Key));
        }
    }

    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        let (mine, hers) = (
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        );
        let (mine, hers) = (mine.subject_public_key_info(), hers);
        let mut der = request(&hers);
        let hers = hers.subject_public_key_info();
        let at = der.windows(hers.len()).position(|part| part == hers).unwrap();
        der[at..at + hers.len()].copy_from_slice(&mine);
        assert_eq!(Asked::read(&der), Err(RequestError::Signature));
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_no_request() {
        let der = request(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        for end in 0..der.len() {
            assert!(Asked::read(&der[..end]).is_err(), "{end}");
        }
        assert_eq!(
            Asked::read(&[&der[..], &[0]].concat()),
            Err(RequestError::Unreadable)
        );
        assert_eq!(
            Asked::read(&vec![0x30; LONGEST + 1]),
            Err(RequestError::Unreadable)
        );
    }
}
