//! A VO's certificate and key: checked on import with every flaw at once, sealed at rest, opened only to sign.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::{Clock, Timestamp};
use crate::id::{CertificateId, Random, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Hash;
use crate::secret::Secret;

use super::client::Trust;
use super::pem::{self, PemError};
use super::seal::{Label, SealError, SealingKey};
use super::signer::{Algorithm, FileKey, Signer};
use super::token::Uri;

/// proxyCertInfo (RFC 3820 section 3.8).
const PROXY_CERT_INFO: &str = "1.3.6.1.5.5.7.1.14";
/// The same, from the drafts before the RFC.
const PROXY_CERT_INFO_DRAFT: &str = "1.3.6.1.4.1.3536.1.222";
/// What the purpose of the envelope of a VO key is called.
const LABEL: &str = "vo certificate key";

/// What the proxies below a VO's certificate are for.
///
/// SECURITY: a computing element treats all proxies of one name alike, and a downloaded one acts outside the gateway. So what
/// people download never has the name under which tools are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// Proxies that the gateway gives to tools, or calls them with.
    #[default]
    Tools,
    /// Proxies that people download.
    Download,
}

impl Use {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tools, Self::Download];

    /// The name in records and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Download => "download",
        }
    }

    /// Reads what [`Use::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// A PEM text with the name that errors call it by.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name of the file, or of the field that carried it.
    pub name: &'a str,
    /// The PEM text.
    pub text: &'a str,
}

/// One thing that is wrong with a certificate or its key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A file is not what it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a certificate.
    #[error(
        "`{file}`: certificate {position} cannot be read; accepted: X.509 version 3 in DER, as `openssl x509` writes it"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// Position in the file, from 1.
        position: usize,
    },
    /// Its time is over.
    #[error("`{file}`: `notAfter` of certificate {position} was {not_after}, {} ago; accepted: a certificate that is valid now ({now} by this machine's clock)", words(now.since(*not_after)))]
    Expired {
        /// The file.
        file: String,
        /// Position in the file, from 1.
        position: usize,
        /// End of its validity.
        not_after: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// Its time has not come.
    #[error("`{file}`: `notBefore` of certificate {position} is {not_before} by its CA's clock, {} ahead of {now} by this machine's clock; accepted: a certificate that is valid now; if it was issued just now, one of the two clocks is wrong (`timedatectl` shows this one)", words(not_before.since(*now)))]
    NotYetValid {
        /// The file.
        file: String,
        /// Position in the file, from 1.
        position: usize,
        /// Begin of its validity.
        not_before: Timestamp,
        /// This machine's clock.
        now: Timestamp,
    },
    /// It is a CA's.
    #[error(
        "`{file}`: `basicConstraints` says CA:TRUE; accepted: an end-entity certificate (a proxy below a CA certificate is refused everywhere)"
    )]
    Authority {
        /// The file.
        file: String,
    },
    /// It is a proxy itself.
    #[error(
        "`{file}`: `proxyCertInfo` is there, so this is a proxy; accepted: the end-entity certificate that the CA issued"
    )]
    IsProxy {
        /// The file.
        file: String,
    },
    /// The subject has no name.
    #[error(
        "`{file}`: `subject` is empty; accepted: a distinguished name, since a proxy's subject is this one plus a CN"
    )]
    NoSubject {
        /// The file.
        file: String,
    },
    /// The key is too short.
    #[error(
        "`{file}`: `subjectPublicKey` is RSA with {bits} bits; accepted: RSA with 2048 to 4096 bits, P-256 or P-384"
    )]
    RsaSize {
        /// The file.
        file: String,
        /// Bits of the modulus.
        bits: usize,
    },
    /// The key is of a kind that peers do not take.
    #[error("`{file}`: `subjectPublicKey` is {found}; accepted: RSA with 2048 to 4096 bits, P-256 or P-384")]
    Unsupported {
        /// The file.
        file: String,
        /// What it is.
        found: String,
    },
    /// It may not sign.
    #[error(
        "`{file}`: `keyUsage` lacks digitalSignature; accepted: a certificate whose key may sign (RFC 3820 section 3.1)"
    )]
    MayNotSign {
        /// The file.
        file: String,
    },
    /// The private key is not read.
    #[error(
        "the private key in `{file}` is not accepted; accepted: RSA with 2048 to 4096 bits, P-256 or P-384, as PKCS#8, SEC1 or PKCS#1"
    )]
    Key {
        /// The file.
        file: String,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the private key in `{key}` ({found}) does not belong to the certificate in `{certificate}`; accepted: the key whose public half the certificate holds (compare `openssl pkey -pubout` with `openssl x509 -noout -pubkey`)"
    )]
    KeyMismatch {
        /// File of the key.
        key: String,
        /// File of the certificate.
        certificate: String,
        /// What the key is.
        found: Algorithm,
    },
    /// The intermediates do not lead upwards.
    #[error("`{file}`: certificate {position} was not issued by certificate {}; accepted: the VO certificate first, then each one's issuer", position + 1)]
    Chain {
        /// The file.
        file: String,
        /// Position in the file, from 1.
        position: usize,
    },
}

/// Everything that is wrong with a certificate and its key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Flaws(pub Vec<Flaw>);

impl AsProblem for Flaws {
    fn as_problem(&self) -> Problem {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Problem::new(Kind::Invalid, "the certificate is not accepted").with("errors", all)
    }
}

/// A certificate with its key that passed every check and is not stored yet.
#[derive(Debug)]
pub struct Checked {
    facts: Facts,
    chain: Vec<Vec<u8>>,
    /// PKCS#8, SEC1 or PKCS#1; or the name of a key on a token.
    key: Secret<Vec<u8>>,
}

/// A certificate that passed every check but that of its key.
#[derive(Debug)]
pub struct Keyless {
    facts: Facts,
    chain: Vec<Vec<u8>>,
}

impl Keyless {
    /// What the certificate says.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        spki(&self.chain)
    }

    /// The same with the key on a token that was shown to be its own.
    #[must_use]
    pub fn on_token(self, key: &Uri) -> Checked {
        Checked {
            facts: self.facts,
            chain: self.chain,
            key: Secret::new(key.to_string().into_bytes()),
        }
    }
}

fn spki(chain: &[Vec<u8>]) -> Vec<u8> {
    let leaf = chain.first().and_then(|leaf| parse("", 1, leaf).ok());
    leaf.map(|leaf| leaf.public_key().raw.to_vec())
        .unwrap_or_default()
}

/// What an envelope held.
#[derive(Debug)]
pub enum Opened {
    /// The key itself.
    Here(Arc<dyn Signer>),
    /// The name of a key on a token.
    OnToken(Uri),
}

impl Checked {
    /// What the certificate says.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The key, sealed for this VO, and with it what is stored.
    ///
    /// # Errors
    /// [`SealError`] when the random source fails.
    pub fn seal(
        self,
        id: CertificateId,
        (vo, purpose): (VoId, Use),
        sealing: &SealingKey,
        random: &dyn Random,
    ) -> Result<VoCertificate, SealError> {
        let sealed_key = sealing.seal(random, &label(vo, self.facts.sha256), self.key.expose())?;
        Ok(VoCertificate {
            id,
            vo,
            purpose,
            facts: self.facts,
            chain: self.chain,
            sealed_key,
        })
    }

    /// The key as a signer, for a certificate that is used without being stored.
    #[must_use]
    pub fn signer(&self) -> Option<Arc<dyn Signer>> {
        FileKey::read(self.key.expose()).map(|key| Arc::new(key) as Arc<dyn Signer>)
    }

    /// Label of the token that its key is on.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        let text = std::str::from_utf8(self.key.expose()).ok()?;
        Some(Uri::parse(text).ok()?.token().to_owned())
    }

    /// The certificates in DER: its own, then its intermediates.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }
}

/// What a VO certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the certificate (DER).
    pub sha256: Hash,
    /// Its subject, the very bytes (DER).
    pub subject: Vec<u8>,
    /// Its subject in words (`C=GB, O=.., CN=..`).
    pub subject_text: String,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Its key.
    pub algorithm: Algorithm,
    /// What works, but not everywhere.
    pub warnings: Vec<String>,
}

impl Facts {
    /// Whether a peer could take the two subjects for one: the bytes, or the words in whatever case.
    #[must_use]
    pub fn is_named_like(&self, other: &Self) -> bool {
        self.subject == other.subject || self.subject_text.eq_ignore_ascii_case(&other.subject_text)
    }

    /// Reads a certificate that was checked before.
    ///
    /// # Errors
    /// [`Flaw`] when it cannot be read or its key is of no accepted kind.
    pub fn of(name: &str, der: &[u8]) -> Result<Self, Flaw> {
        let certificate = parse(name, 1, der)?;
        let algorithm = algorithm(name, &certificate)?;
        Ok(facts(der, &certificate, algorithm))
    }
}

/// A VO certificate as it rests in the store, its key sealed.
#[derive(Clone)]
pub struct VoCertificate {
    /// Its id.
    pub id: CertificateId,
    /// Whose it is.
    pub vo: VoId,
    /// What for.
    pub purpose: Use,
    /// What it says.
    pub facts: Facts,
    /// The certificates in DER: its own, then its intermediates.
    pub chain: Vec<Vec<u8>>,
    /// The envelope that holds the private key.
    pub sealed_key: Vec<u8>,
}

/// More certificates than this are in no chain.
const CHAIN_MOST: usize = 24;

impl VoCertificate {
    /// Whether it is proven to be from a CA that is trusted here: by its own chain, or with CAs among `more`.
    #[must_use]
    pub fn is_proven(&self, trust: &Trust, more: &[Vec<u8>]) -> bool {
        let Some((own, above)) = self.chain.split_first() else {
            return false;
        };
        let between: Vec<&[u8]> = above
            .iter()
            .take(CHAIN_MOST)
            .chain(more.iter().take(CHAIN_MOST))
            .map(Vec::as_slice)
            .collect();
        trust.issued(own, &between)
    }

    /// Opens the key, or learns on which token it is.
    ///
    /// # Errors
    /// [`SealError`] when there is no sealing key, it is another one, or the row was tampered with.
    pub fn open(&self, sealing: Option<&SealingKey>) -> Result<Opened, SealError> {
        let sealing = sealing.ok_or(SealError::Sealed)?;
        let key = sealing.open(&self.label(), &self.sealed_key)?;
        // SECURITY: the name of a key is sealed too: whoever writes to the store cannot point to another.
        if Uri::is_meant(key.expose()) {
            let text = std::str::from_utf8(key.expose()).map_err(|_| SealError::Broken)?;
            return Uri::parse(text)
                .map(Opened::OnToken)
                .map_err(|_| SealError::Broken);
        }
        FileKey::read(key.expose())
            .map(|key| Opened::Here(Arc::new(key)))
            .ok_or(SealError::Broken)
    }

    /// Its public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        spki(&self.chain)
    }
}

impl VoCertificate {
    /// What its envelope is for.
    #[must_use]
    pub fn label(&self) -> Label {
        label(self.vo, self.facts.sha256)
    }
}

impl fmt::Debug for VoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VoCertificate({}, {})", self.id, self.facts.subject_text)
    }
}

// SECURITY: an envelope moved to another VO or beside another certificate does not open.
fn label(vo: VoId, certificate: Hash) -> Label {
    Label::new(LABEL).with(vo.uuid().as_bytes()).with(&certificate.0)
}

/// Checks a certificate (leaf first, then intermediates) and its key, both in PEM, at the time of `clock`.
///
/// A self-signed certificate at the end (the CA's own) is left out of the chain.
///
/// # Errors
/// [`Flaws`]: all that can be found at once.
pub fn check(certificate: Source<'_>, key: Source<'_>, clock: &dyn Clock) -> Result<Checked, Flaws> {
    let mut flaws = Vec::new();
    let mut note = |flaw: Flaw| flaws.push(flaw);
    let chain = pem::certificates(certificate.name, certificate.text)
        .map_err(|error| note(error.into()))
        .ok();
    let key_der = pem::key(key.name, key.text)
        .map_err(|error| note(error.into()))
        .ok();
    let facts = chain
        .as_deref()
        .and_then(|chain| chain_facts(certificate.name, chain, clock.now(), &mut flaws));
    if let Some(der) = &key_der {
        check_key(
            key.name,
            der,
            certificate.name,
            chain.as_deref(),
            facts.is_some(),
            &mut flaws,
        );
    }
    match (facts, chain, key_der) {
        (Some(facts), Some(chain), Some(key)) if flaws.is_empty() => Ok(Checked {
            facts,
            chain: without_root(chain),
            key,
        }),
        _ => Err(Flaws(flaws)),
    }
}

/// The same of a certificate alone, whose key is elsewhere.
///
/// # Errors
/// [`Flaws`]: all that can be found at once.
pub fn check_certificate(certificate: Source<'_>, clock: &dyn Clock) -> Result<Keyless, Flaws> {
    let mut flaws = Vec::new();
    let chain =
        pem::certificates(certificate.name, certificate.text).map_err(|error| Flaws(vec![error.into()]))?;
    match chain_facts(certificate.name, &chain, clock.now(), &mut flaws) {
        Some(facts) if flaws.is_empty() => Ok(Keyless {
            facts,
            chain: without_root(chain),
        }),
        _ => Err(Flaws(flaws)),
    }
}

fn without_root(mut chain: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if chain.len() > 1 {
        chain.pop_if(|last| parse("", 1, last).is_ok_and(|last| is_self_signed(&last)));
    }
    chain
}

fn check_key(
    name: &str,
    der: &Secret<Vec<u8>>,
    certificate: &str,
    chain: Option<&[Vec<u8>]>,
    known: bool,
    flaws: &mut Vec<Flaw>,
) {
    let Some(key) = FileKey::read(der.expose()) else {
        // Where the certificate's own key is of a refused kind, saying it once is enough.
        if known || chain.is_none() {
            flaws.push(Flaw::Key {
                file: name.to_owned(),
            });
        }
        return;
    };
    let Some(Ok(leaf)) = chain
        .and_then(<[_]>::first)
        .map(|leaf| parse(certificate, 1, leaf))
    else {
        return;
    };
    if key.spki().as_deref() != Ok(leaf.public_key().raw) {
        flaws.push(Flaw::KeyMismatch {
            key: name.to_owned(),
            certificate: certificate.to_owned(),
            found: key.algorithm(),
        });
    }
}

/// Checks all certificates of a file; the first one's facts when its key is of an accepted kind.
fn chain_facts(name: &str, chain: &[Vec<u8>], now: Timestamp, flaws: &mut Vec<Flaw>) -> Option<Facts> {
    let file = || name.to_owned();
    let mut parsed = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        match parse(name, index + 1, der) {
            Ok(certificate) => parsed.push(certificate),
            Err(flaw) => flaws.push(flaw),
        }
    }
    if parsed.len() < chain.len() {
        return None;
    }
    for (index, certificate) in parsed.iter().enumerate() {
        check_validity(name, index + 1, certificate, now, flaws);
    }
    for (index, pair) in parsed.windows(2).enumerate() {
        let [lower, upper] = pair else { continue };
        // SECURITY: names and signature both, so that a look-alike intermediate is not handed to peers.
        let leads = lower.issuer().as_raw() == upper.subject().as_raw()
            && upper.is_ca()
            && lower.verify_signature(Some(upper.public_key())).is_ok();
        if !leads {
            flaws.push(Flaw::Chain {
                file: file(),
                position: index + 1,
            });
        }
    }
    let (leaf, der) = (parsed.first()?, chain.first()?);
    check_leaf(name, leaf, flaws);
    match algorithm(name, leaf) {
        Ok(algorithm) => Some(facts(der, leaf, algorithm)),
        Err(flaw) => {
            flaws.push(flaw);
            None
        }
    }
}

fn check_leaf(name: &str, leaf: &X509Certificate<'_>, flaws: &mut Vec<Flaw>) {
    let file = || name.to_owned();
    if leaf.is_ca() {
        flaws.push(Flaw::Authority { file: file() });
    }
    let is_proxy = |oid: &str| oid == PROXY_CERT_INFO || oid == PROXY_CERT_INFO_DRAFT;
    if leaf
        .iter_extensions()
        .any(|extension| is_proxy(&extension.oid.to_id_string()))
    {
        flaws.push(Flaw::IsProxy { file: file() });
    }
    if leaf.subject().iter().next().is_none() {
        flaws.push(Flaw::NoSubject { file: file() });
    }
    // RFC 3820 section 3.1: where keyUsage is there, digitalSignature must be asserted.
    let may_sign = match leaf.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.digital_signature()),
        Err(_) => false,
    };
    if !may_sign {
        flaws.push(Flaw::MayNotSign { file: file() });
    }
}

fn check_validity(
    name: &str,
    position: usize,
    certificate: &X509Certificate<'_>,
    now: Timestamp,
    flaws: &mut Vec<Flaw>,
) {
    let (not_before, not_after) = validity(certificate);
    if now < not_before {
        flaws.push(Flaw::NotYetValid {
            file: name.to_owned(),
            position,
            not_before,
            now,
        });
    }
    if now > not_after {
        flaws.push(Flaw::Expired {
            file: name.to_owned(),
            position,
            not_after,
            now,
        });
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (
        Timestamp::from_secs(validity.not_before.timestamp()),
        Timestamp::from_secs(validity.not_after.timestamp()),
    )
}

fn parse<'a>(name: &str, position: usize, der: &'a [u8]) -> Result<X509Certificate<'a>, Flaw> {
    match X509Certificate::from_der(der) {
        // The parser does not look at the class of the outer tag; other readers refuse what is no SEQUENCE (X.690).
        Ok((&[], certificate)) if der.first() == Some(&0x30) => Ok(certificate),
        _ => Err(Flaw::Unreadable {
            file: name.to_owned(),
            position,
        }),
    }
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn algorithm(name: &str, certificate: &X509Certificate<'_>) -> Result<Algorithm, Flaw> {
    let key = certificate.public_key();
    let unsupported = |found: String| Flaw::Unsupported {
        file: name.to_owned(),
        found,
    };
    match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => {
            let bits = key
                .parsed()
                .map_err(|_| unsupported("not readable".to_owned()))?
                .key_size();
            match u16::try_from(bits) {
                Ok(size) if (2048..=4096).contains(&size) => Ok(Algorithm::Rsa(size)),
                _ => Err(Flaw::RsaSize {
                    file: name.to_owned(),
                    bits,
                }),
            }
        }
        "1.2.840.10045.2.1" => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|curve| curve.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => Ok(Algorithm::P256),
                Some("1.3.132.0.34") => Ok(Algorithm::P384),
                Some("1.3.132.0.35") => Err(unsupported("P-521".to_owned())),
                Some(other) => Err(unsupported(format!("the curve {other}"))),
                None => Err(unsupported("a curve without a name".to_owned())),
            }
        }
        "1.3.101.112" => Err(unsupported("Ed25519".to_owned())),
        other => Err(unsupported(format!("the algorithm {other}"))),
    }
}

fn facts(der: &[u8], certificate: &X509Certificate<'_>, algorithm: Algorithm) -> Facts {
    let (not_before, not_after) = validity(certificate);
    let mut warnings = Vec::new();
    if !matches!(algorithm, Algorithm::Rsa(_)) {
        warnings.push(format!(
            "the key is {algorithm}: OpenSSL, ARC and Apache take proxies below it; GridFTP, xrootd and MyProxy will refuse them (an RSA key fits all)"
        ));
    }
    if matches!(certificate.key_usage(), Ok(None)) {
        warnings.push("the certificate has no `keyUsage`; some peers want digitalSignature in it".to_owned());
    }
    Facts {
        sha256: Hash::of(der),
        subject: certificate.subject().as_raw().to_vec(),
        subject_text: certificate.subject().to_string(),
        not_before,
        not_after,
        algorithm,
        warnings,
    }
}

/// A length of time in its two largest units.
fn words(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [
        (31_557_600, "y"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "min"),
        (1, "s"),
    ];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size {
            parts.push(format!("{} {name}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        "0 s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
