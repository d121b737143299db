//! One certificate, read strictly and once: the parts that the rules look at, as the very bytes that were signed.

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use der::{Choice, Decode, Encode, Sequence, Tag, Tagged};
use rustls_pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::clock::Timestamp;

use super::info::{DRAFT, PROXY_CERT_INFO};

pub(super) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(super) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// Bits of keyUsage (RFC 5280 section 4.2.1.3).
const DIGITAL_SIGNATURE: usize = 0;
const KEY_CERT_SIGN: usize = 5;
const CRL_SIGN: usize = 6;

/// RFC 5280 section 4.1, and for a revocation list section 5.1: a body, and its signature.
#[derive(Sequence)]
pub(super) struct Signed<'a> {
    body: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
}

/// RFC 5280 section 4.1.2.
#[derive(Sequence)]
struct Body<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    version: Option<u8>,
    serial: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    issuer: AnyRef<'a>,
    validity: Validity,
    subject: AnyRef<'a>,
    spki: AnyRef<'a>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    issuer_unique: Option<BitStringRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    subject_unique: Option<BitStringRef<'a>>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension<'a>>>,
}

#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

#[derive(Choice)]
enum Time {
    #[asn1(type = "UTCTime")]
    Utc(UtcTime),
    #[asn1(type = "GeneralizedTime")]
    General(GeneralizedTime),
}

impl Time {
    fn timestamp(&self) -> Timestamp {
        let since = match self {
            Self::Utc(time) => time.to_unix_duration(),
            Self::General(time) => time.to_unix_duration(),
        };
        Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// RFC 5280 section 4.1.2.9.
#[derive(Sequence)]
pub(super) struct Extension<'a> {
    pub(super) id: ObjectIdentifier,
    #[asn1(default = "Default::default")]
    pub(super) critical: bool,
    pub(super) value: &'a OctetStringRef,
}

/// RFC 5280 section 4.2.1.9.
#[derive(Sequence)]
pub(super) struct BasicConstraints {
    #[asn1(default = "Default::default")]
    pub(super) authority: bool,
    pub(super) path_length: Option<u32>,
}

#[derive(Sequence)]
struct Spki<'a> {
    algorithm: AnyRef<'a>,
    key: BitStringRef<'a>,
}

impl Spki<'_> {
    fn signed(
        &self,
        body: &[u8],
        algorithm: AnyRef<'_>,
        signature: BitStringRef<'_>,
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let (Some(key), Some(signature)) = (self.key.as_bytes(), signature.as_bytes()) else {
            return false;
        };
        let is = |id: AlgorithmIdentifier, found: AnyRef<'_>| id.as_ref() == found.value();
        taken
            .iter()
            .filter(|taken| {
                is(taken.signature_alg_id(), algorithm) && is(taken.public_key_alg_id(), self.algorithm)
            })
            .any(|taken| taken.verify_signature(key, body, signature).is_ok())
    }
}

/// Whether a key (`SubjectPublicKeyInfo`, DER) signed a revocation list (DER).
pub(super) fn key_signed_list(
    spki: &[u8],
    list: &[u8],
    taken: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let (Ok(spki), Ok(outer)) = (Spki::from_der(spki), Signed::from_der(list)) else {
        return false;
    };
    let body = outer.body.to_der();
    body.is_ok_and(|body| spki.signed(&body, outer.algorithm, outer.signature, taken))
}

/// A certificate.
pub(super) struct Certificate<'a> {
    signed: Vec<u8>,
    signature_algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
    body: Body<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads DER with nothing behind it.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let outer = Signed::from_der(der).ok()?;
        if outer.body.tag() != Tag::Sequence {
            return None;
        }
        let signed = outer.body.to_der().ok()?;
        let body: Body<'a> = outer.body.decode_as().ok()?;
        let right = body.serial.tag() == Tag::Integer
            && [body.issuer, body.subject, body.spki, body.algorithm]
                .iter()
                .all(|part| part.tag() == Tag::Sequence);
        right.then_some(Self {
            signed,
            signature_algorithm: outer.algorithm,
            signature: outer.signature,
            body,
        })
    }

    pub(super) fn is_version_3(&self) -> bool {
        self.body.version == Some(2)
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.extension(PROXY_CERT_INFO).is_some()
    }

    pub(super) fn is_draft(&self) -> bool {
        self.extension(DRAFT).is_some()
    }

    /// Whether it calls itself a CA, or says something about that which cannot be read.
    pub(super) fn is_authority(&self) -> bool {
        self.extension(BASIC_CONSTRAINTS).is_some_and(|extension| {
            BasicConstraints::from_der(extension.value.as_bytes()).map_or(true, |read| read.authority)
        })
    }

    /// How many CAs may be below this CA, before an end entity.
    pub(super) fn ca_path_length(&self) -> Option<u32> {
        let value = self.extension(BASIC_CONSTRAINTS)?.value.as_bytes();
        BasicConstraints::from_der(value).ok()?.path_length
    }

    pub(super) fn names_one_algorithm(&self) -> bool {
        self.signature_algorithm == self.body.algorithm
    }

    /// Whether `above` signed this, by an algorithm of `taken`.
    pub(super) fn is_signed_by(
        &self,
        above: &Certificate<'_>,
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        above.signed(&self.signed, self.signature_algorithm, self.signature, taken)
    }

    /// Whether the key `spki` (`SubjectPublicKeyInfo`, DER) signed this.
    pub(super) fn is_signed_by_key(
        &self,
        spki: &[u8],
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        Spki::from_der(spki)
            .is_ok_and(|spki| spki.signed(&self.signed, self.signature_algorithm, self.signature, taken))
    }

    /// Whether its key signed `message`, by one of `accepted`.
    pub(super) fn key_signed(
        &self,
        message: &[u8],
        signature: &[u8],
        accepted: &[AlgorithmIdentifier],
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let Ok(spki) = self.body.spki.decode_as::<Spki<'_>>() else {
            return false;
        };
        let Some(key) = spki.key.as_bytes() else {
            return false;
        };
        let fits = |taken: &&&dyn SignatureVerificationAlgorithm| {
            accepted.contains(&taken.signature_alg_id())
                && taken.public_key_alg_id().as_ref() == spki.algorithm.value()
        };
        taken
            .iter()
            .filter(fits)
            .any(|taken| taken.verify_signature(key, message, signature).is_ok())
    }

    /// What keeps it from being a CA's (RFC 5280 sections 4.2.1.3 and 4.2.1.9). Version 1 says nothing of CAs: only one
    /// that signed itself is taken for one.
    pub(super) fn lacks_of_an_authority(&self) -> Option<&'static str> {
        if self.is_proxy() {
            return Some("it is a proxy");
        }
        let constraints = self
            .extension(BASIC_CONSTRAINTS)
            .map(|extension| BasicConstraints::from_der(extension.value.as_bytes()));
        match constraints {
            Some(Ok(BasicConstraints { authority: true, .. })) => {}
            Some(Ok(_)) => return Some("its basicConstraints says CA:FALSE"),
            Some(Err(_)) => return Some("its basicConstraints cannot be read"),
            None if !self.is_version_3() && self.issuer() == self.subject() => {}
            None => return Some("it has no basicConstraints"),
        }
        let keeps =
            self.extension(KEY_USAGE).is_some() && !self.usage().is_some_and(|usage| usage.sign_certificates);
        keeps.then_some("its keyUsage lacks keyCertSign")
    }

    /// Whether its keyUsage, where it has one, lets it sign revocation lists.
    pub(super) fn may_sign_lists(&self) -> bool {
        let Some(extension) = self.extension(KEY_USAGE) else {
            return true;
        };
        let bits = BitStringRef::from_der(extension.value.as_bytes());
        bits.is_ok_and(|bits| bits.get(CRL_SIGN).unwrap_or(false))
    }

    fn signed(
        &self,
        body: &[u8],
        algorithm: AnyRef<'_>,
        signature: BitStringRef<'_>,
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let spki = self.body.spki.decode_as::<Spki<'_>>();
        spki.is_ok_and(|spki| spki.signed(body, algorithm, signature, taken))
    }

    /// The bytes of the issuer's name, without tag and length.
    pub(super) fn issuer(&self) -> &'a [u8] {
        self.body.issuer.value()
    }

    /// The bytes of the subject's name, without tag and length.
    pub(super) fn subject(&self) -> &'a [u8] {
        self.body.subject.value()
    }

    /// The subject as DER.
    pub(super) fn subject_der(&self) -> Vec<u8> {
        self.body.subject.to_der().unwrap_or_default()
    }

    /// The issuer as DER.
    pub(super) fn issuer_der(&self) -> Vec<u8> {
        self.body.issuer.to_der().unwrap_or_default()
    }

    pub(super) fn spki_der(&self) -> Vec<u8> {
        self.body.spki.to_der().unwrap_or_default()
    }

    /// The bytes of the serial, as they stand in the INTEGER.
    pub(super) fn serial(&self) -> &'a [u8] {
        self.body.serial.value()
    }

    pub(super) fn not_before(&self) -> Timestamp {
        self.body.validity.not_before.timestamp()
    }

    pub(super) fn not_after(&self) -> Timestamp {
        self.body.validity.not_after.timestamp()
    }

    pub(super) fn extensions(&self) -> &[Extension<'a>] {
        self.body.extensions.as_deref().unwrap_or_default()
    }

    pub(super) fn extension(&self, id: ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions().iter().find(|extension| extension.id == id)
    }

    /// What its keyUsage allows: signing, and signing certificates. Everything without one; `None` when it cannot be read.
    pub(super) fn usage(&self) -> Option<Usage> {
        let Some(extension) = self.extension(KEY_USAGE) else {
            return Some(Usage {
                sign: true,
                sign_certificates: false,
            });
        };
        let bits = BitStringRef::from_der(extension.value.as_bytes()).ok()?;
        let bit = |at| bits.get(at).unwrap_or(false);
        Some(Usage {
            sign: bit(DIGITAL_SIGNATURE),
            sign_certificates: bit(KEY_CERT_SIGN),
        })
    }
}

/// What a key is for.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    pub(super) sign: bool,
    pub(super) sign_certificates: bool,
}

/// A name (DER) in words.
pub(super) fn in_words(name: &[u8]) -> String {
    X509Name::from_der(name).map_or_else(|_| "unreadable".to_owned(), |(_, name)| name.to_string())
}
