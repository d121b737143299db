//! Chains of proxy certificates (RFC 3820 section 4): from what a peer presents to the end entity that it acts for.
//!
//! [`verify`] is a function of the chain, the trusted CAs with their revocation lists, and the time; it asks nobody and
//! keeps nothing. The end entity is judged by webpki (RFC 5280), and each proxy against the certificate above it by
//! the rules of [`Rule`], which are stricter than OpenSSL's in places; `docs/reference/proxy-chains.md` lists each
//! difference, and a test holds that list against both.
//!
//! ```
//! use countersign::clock::Timestamp;
//! use countersign::trust::chain::{Anchors, Limits, verify};
//! use countersign::trust::pem;
//!
//! let read = |file: &str| pem::certificates(file, &std::fs::read_to_string(file).unwrap()).unwrap();
//! let (ca, chain) = (read("certs/ca.pem"), read("certs/vo-ec.pem"));
//! let anchors = Anchors::new("ca.pem", &ca, &[]).unwrap();
//! let verified = verify(&chain, &anchors, &Limits::default(), Timestamp::from_secs(1_800_000_000)).unwrap();
//! assert!(verified.proxies.is_empty() && verified.end_entity.subject_text.contains("VO vo-ec"));
//! ```

use std::time::Duration;

use rustls_pki_types::{CertificateDer, alg_id};

use crate::clock::Timestamp;
use crate::record::Hash;

mod anchors;
mod certificate;
mod info;
mod lists;
mod proxy;
mod refused;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod anchors_tests;

pub use anchors::{AnchorError, Anchors};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::{fuzz_chain, fuzz_info};
pub use info::{Policy, ProxyCertInfo};
pub use refused::{PathFlaw, Refused, Rule};

use certificate::{Certificate, in_words};

/// More certificates than this are in no chain: ten proxies, an end entity, its CAs.
const MOST: usize = 24;

/// What bounds chains beyond the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many proxies may lie below an end entity.
    pub depth: usize,
    /// From begin to end of validity, no proxy may last longer.
    pub lifetime: Duration,
}

impl Default for Limits {
    /// Ten proxies; twelve days, which holds the million seconds that grids allow.
    fn default() -> Self {
        Self {
            depth: 10,
            lifetime: Duration::from_secs(12 * 86_400),
        }
    }
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// For whom the peer acts.
    pub end_entity: EndEntity,
    /// The proxies, from the bottom (the one that the peer holds the key of) up; none where the end entity came itself.
    pub proxies: Vec<Proxy>,
    /// What all proxies together leave: the strictest of them.
    pub policy: Policy,
    /// Until when end entity and proxies are all valid.
    pub not_after: Timestamp,
    /// The public key of the bottom certificate (`SubjectPublicKeyInfo`, DER): the peer must prove to hold its other half.
    pub spki: Vec<u8>,
}

/// The certificate of a person or service, issued by a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndEntity {
    /// SHA-256 of the certificate (DER).
    pub sha256: Hash,
    /// Its subject, the very bytes (DER).
    pub subject: Vec<u8>,
    /// Its subject in words.
    pub subject_text: String,
    /// Its issuer, the very bytes (DER).
    pub issuer: Vec<u8>,
    /// Its issuer in words.
    pub issuer_text: String,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`, DER).
    pub spki: Hash,
    /// End of its validity.
    pub not_after: Timestamp,
    /// The certificate (DER), then what came with it.
    pub chain: Vec<Vec<u8>>,
}

impl EndEntity {
    fn of<C: AsRef<[u8]>>(certificate: &Certificate<'_>, der: &[u8], above: &[C]) -> Self {
        let above = above.iter().map(AsRef::as_ref);
        Self {
            chain: std::iter::once(der).chain(above).map(<[u8]>::to_vec).collect(),
            sha256: Hash::of(der),
            subject: certificate.subject_der(),
            subject_text: in_words(&certificate.subject_der()),
            issuer: certificate.issuer_der(),
            issuer_text: in_words(&certificate.issuer_der()),
            spki: Hash::of(&certificate.spki_der()),
            not_after: certificate.not_after(),
        }
    }
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// SHA-256 of the certificate (DER).
    pub sha256: Hash,
    /// The bytes of its serial.
    pub serial: Vec<u8>,
    /// Its subject in words.
    pub subject_text: String,
    /// What it says about itself.
    pub info: ProxyCertInfo,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// Verifies a chain (DER; the certificate that the peer holds the key of first) at `now`.
///
/// # Errors
/// [`Refused`]: the first certificate, from the end entity down, that breaks a rule.
pub fn verify<C: AsRef<[u8]>>(
    chain: &[C],
    anchors: &Anchors,
    limits: &Limits,
    now: Timestamp,
) -> Result<Verified, Refused> {
    let (parsed, end) = split(chain, limits)?;
    let refused = |index: usize, rule: Rule| refused(chain, index, rule);
    let (Some(end_entity), Some(end_der)) = (parsed.get(end), chain.get(end)) else {
        return Err(refused(end, Rule::NoEndEntity));
    };
    let above: Vec<CertificateDer<'_>> = chain
        .iter()
        .skip(end + 1)
        .map(|der| CertificateDer::from(der.as_ref()))
        .collect();
    let path = |flaw| refused(end, Rule::Path(flaw));
    anchors.check_path(end_der.as_ref(), &above, now).map_err(path)?;
    // RFC 3820 section 3.1: where keyUsage is there, what signs proxies (or a handshake) has digitalSignature.
    if !end_entity.usage().is_some_and(|usage| usage.sign) {
        return Err(refused(end, Rule::MayNotSign));
    }
    let mut proxies = Vec::with_capacity(end);
    // From the end entity down, so that nothing is believed that is not signed yet.
    for index in (0..end).rev() {
        let (Some(proxy), Some(signer), Some(der)) =
            (parsed.get(index), parsed.get(index + 1), chain.get(index))
        else {
            return Err(refused(index, Rule::Unreadable));
        };
        let info =
            proxy::check(proxy, signer, limits, now, anchors.taken()).map_err(|rule| refused(index, rule))?;
        anchors
            .check_proxy(proxy, signer, now)
            .map_err(|rule| refused(index, rule))?;
        if let Some(allowed) = info
            .path_length
            .filter(|allowed| index as u64 > u64::from(*allowed))
        {
            let below = index;
            return Err(refused(index, Rule::PathLength { allowed, below }));
        }
        proxies.push(Proxy {
            sha256: Hash::of(der.as_ref()),
            serial: proxy.serial().to_vec(),
            subject_text: in_words(&proxy.subject_der()),
            info,
            not_after: proxy.not_after(),
        });
    }
    proxies.reverse();
    Ok(Verified {
        policy: proxies
            .iter()
            .map(|proxy| proxy.info.policy)
            .max()
            .unwrap_or_default(),
        not_after: proxies
            .iter()
            .map(|proxy| proxy.not_after)
            .fold(end_entity.not_after(), Timestamp::min),
        spki: parsed.first().map(Certificate::spki_der).unwrap_or_default(),
        end_entity: EndEntity::of(end_entity, end_der.as_ref(), &above),
        proxies,
    })
}

/// The public key of a certificate (`SubjectPublicKeyInfo`, DER), whatever else it says.
#[must_use]
pub fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    Certificate::read(certificate).map(|certificate| certificate.spki_der())
}

/// Whether `certificate` (DER) names `above` as its issuer and is signed with its key. For what was valid once: neither time
/// nor what else the two say is looked at.
#[must_use]
pub fn is_signed_by(certificate: &[u8], above: &[u8]) -> bool {
    let (Some(certificate), Some(above)) = (Certificate::read(certificate), Certificate::read(above)) else {
        return false;
    };
    certificate.issuer() == above.subject()
        && certificate.names_one_algorithm()
        && certificate.is_signed_by(&above, anchors::taken())
}

/// Whether the key of `certificate` (DER) signed `message`: RSA (PKCS#1 v1.5) with SHA-256, ECDSA with SHA-256 or SHA-384.
#[must_use]
pub fn key_signed(certificate: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let accepted = [
        alg_id::RSA_PKCS1_SHA256,
        alg_id::ECDSA_SHA256,
        alg_id::ECDSA_SHA384,
    ];
    Certificate::read(certificate)
        .is_some_and(|read| read.key_signed(message, signature, &accepted, anchors::taken()))
}

/// The end entity's names in a chain or a single certificate (DER), as [`EndEntity`] has them; nothing is verified.
/// `None` when there is none, or it is a CA's.
#[must_use]
pub fn end_entity<C: AsRef<[u8]>>(chain: &[C]) -> Option<EndEntity> {
    let (parsed, end) = split(chain, &Limits::default()).ok()?;
    let (certificate, der) = (parsed.get(end)?, chain.get(end)?);
    let above = chain.get(end + 1..).unwrap_or_default();
    (!certificate.is_authority()).then(|| EndEntity::of(certificate, der.as_ref(), above))
}

/// A chain (DER) without its proxies: the end entity and what was put above it. `None` as for [`end_entity`].
#[must_use]
pub fn without_proxies<C: AsRef<[u8]>>(chain: &[C]) -> Option<&[C]> {
    let (parsed, end) = split(chain, &Limits::default()).ok()?;
    chain
        .get(end..)
        .filter(|_| !parsed.get(end).is_none_or(Certificate::is_authority))
}

/// Reads the chain up to its end entity, and says where that is: the first certificate that is no proxy.
fn split<'a, C: AsRef<[u8]>>(
    chain: &'a [C],
    limits: &Limits,
) -> Result<(Vec<Certificate<'a>>, usize), Refused> {
    if chain.is_empty() {
        return Err(refused(chain, 0, Rule::Empty));
    }
    if chain.len() > MOST {
        return Err(refused(chain, MOST, Rule::TooLong(MOST)));
    }
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        let certificate =
            Certificate::read(der.as_ref()).ok_or_else(|| refused(chain, index, Rule::Unreadable))?;
        if certificate.is_draft() {
            return Err(refused(chain, index, Rule::Draft));
        }
        let is_proxy = certificate.is_proxy();
        parsed.push(certificate);
        if !is_proxy {
            return Ok((parsed, index));
        }
        if index >= limits.depth {
            return Err(refused(chain, 0, Rule::TooDeep(limits.depth)));
        }
    }
    Err(refused(chain, chain.len() - 1, Rule::NoEndEntity))
}

fn refused<C: AsRef<[u8]>>(chain: &[C], index: usize, rule: Rule) -> Refused {
    let subject = chain
        .get(index)
        .and_then(|der| Certificate::read(der.as_ref()))
        .map_or_else(
            || "unreadable".to_owned(),
            |certificate| in_words(&certificate.subject_der()),
        );
    Refused {
        position: index + 1,
        subject,
        rule,
    }
}
