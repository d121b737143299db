//! Mints RFC 3820 proxy certificates, byte by byte, with the profile that every peer takes.
//!
//! Two steps, so that nothing is signed before it is on record: [`choose`] picks serial, key and validity; [`Chosen::sign`]
//! signs, and takes a [`Durable`] for it. The certificate's structures are our own because the subject must be the
//! issuer's very bytes plus one CN, which certificate builders cannot express.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use der::asn1::{
    Any, AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UintRef, UtcTime,
    Utf8StringRef,
};
use der::pem::LineEnding;
use der::{Choice, DateTime, Decode, Encode, Sequence, Tag};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::audit::{Receipt, Written};
use crate::clock::Timestamp;
use crate::id::{Random, RandomError, RequestId, random_bytes};
use crate::record::Hash;
use crate::secret::Secret;
use crate::tool::{ProxyKey, ProxyPolicy, ProxySettings};
use crate::trust::certificate::Facts;
use crate::trust::signer::{Algorithm, SignError, Signer};

pub use super::pair::KeyPair;
use super::told::{SUBJECT_DIRECTORY_ATTRIBUTES, Told};

/// How far a proxy is dated back, for peers whose clock is behind.
pub const BACKDATED: Duration = Duration::from_secs(300);
/// No proxy is minted from a certificate that ends sooner than this.
pub const SHORTEST: Duration = Duration::from_secs(60);

const PROXY_CERT_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const INHERIT_ALL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.21.1");
const INDEPENDENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.21.2");
const LIMITED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3536.1.1.1.9");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// Why no proxy was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The VO certificate has ended, or ends within a minute.
    #[error("the virtual organisation's certificate ended at {0}")]
    IssuerExpired(Timestamp),
    /// The VO certificate's time has not come.
    #[error("the virtual organisation's certificate begins at {0}")]
    IssuerNotYetValid(Timestamp),
    /// The certificate could not be written.
    #[error("the proxy could not be encoded: {0}")]
    Encode(#[from] der::Error),
    /// No key could be made.
    #[error("no proxy key could be made")]
    Key,
    /// No RSA key is ready: they are made in advance, and all are used.
    #[error("no RSA key is ready for a proxy: more were asked for than could be made in advance")]
    NoKeyReady,
    /// The receipt is that of another request.
    #[error("the receipt is that of another request")]
    ForeignReceipt,
    /// The VO's key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Proof that the `mint` record of one request is durable. Made from a receipt only:
///
/// ```compile_fail
/// # let request: countersign::id::RequestId = unimplemented!();
/// let durable = countersign::delegate::mint::Durable { request };
/// ```
#[derive(Debug)]
pub struct Durable<'a> {
    request: RequestId,
    receipt: std::marker::PhantomData<&'a ()>,
}

impl<'a> Durable<'a> {
    /// What `receipt` proves: the intent and the `mint` record of one batch are on stable storage.
    #[must_use]
    pub const fn by(receipt: &'a Receipt) -> Self {
        Self {
            request: receipt.request(),
            receipt: std::marker::PhantomData,
        }
    }

    /// What `written` proves: the `mint` record, written in a batch of its own after the intent, is on stable storage.
    #[must_use]
    pub const fn after(written: &'a Written) -> Self {
        Self {
            request: written.request(),
            receipt: std::marker::PhantomData,
        }
    }
}

#[cfg(test)]
impl Durable<'_> {
    /// Stands in for a receipt in tests that are not about the log.
    pub(super) const fn witnessed(request: RequestId) -> Self {
        Self {
            request,
            receipt: std::marker::PhantomData,
        }
    }
}

/// A VO certificate with its key, opened.
#[derive(Debug)]
pub struct Issuer {
    facts: Facts,
    chain: Vec<Vec<u8>>,
    signer: Arc<dyn Signer>,
}

impl Issuer {
    /// An issuer from what its certificate says, its chain (DER, its own first) and its key.
    #[must_use]
    pub fn new(facts: Facts, chain: Vec<Vec<u8>>, signer: Arc<dyn Signer>) -> Self {
        Self { facts, chain, signer }
    }

    /// What the certificate says.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The certificate and those above it (DER).
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Whether its key is on a token, and signs for nobody who cannot wait.
    #[must_use]
    pub fn is_on_token(&self) -> bool {
        self.signer.is_slow()
    }

    /// Its key.
    pub(super) fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }
}

/// A proxy that is chosen but for its key.
pub struct Reserved {
    request: RequestId,
    issuer: Arc<Issuer>,
    serial: u64,
    not_before: Timestamp,
    not_after: Timestamp,
    settings: ProxySettings,
    told: Option<Told>,
}

/// A proxy that is chosen and not signed.
pub struct Chosen {
    reserved: Reserved,
    key: KeyPair,
}

/// Chooses for `request` the serial and validity of a proxy: from 5 minutes before `now` for at most `settings.lifetime`,
/// never past the issuer.
///
/// # Errors
/// [`MintError::IssuerExpired`], [`MintError::IssuerNotYetValid`].
pub fn reserve(
    request: RequestId,
    issuer: &Arc<Issuer>,
    settings: &ProxySettings,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Reserved, MintError> {
    let facts = &issuer.facts;
    if now < facts.not_before {
        return Err(MintError::IssuerNotYetValid(facts.not_before));
    }
    if now.plus(SHORTEST) > facts.not_after {
        return Err(MintError::IssuerExpired(facts.not_after));
    }
    // INVARIANT: a proxy never outlives its issuer; no peer checks that.
    let not_after = now.plus(settings.lifetime).min(facts.not_after);
    Ok(Reserved {
        request,
        issuer: issuer.clone(),
        serial: serial(random)?,
        not_before: Timestamp::from_secs(now.minus(BACKDATED).secs()),
        not_after: Timestamp::from_secs(not_after.secs()),
        settings: settings.clone(),
        told: None,
    })
}

/// The same, of a proxy that will have `key`, which is asked for last, when everything else fits.
///
/// # Errors
/// [`MintError::IssuerExpired`], [`MintError::IssuerNotYetValid`], and what `key` fails with.
pub fn choose(
    request: RequestId,
    issuer: &Arc<Issuer>,
    settings: &ProxySettings,
    key: impl FnOnce() -> Result<KeyPair, MintError>,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Chosen, MintError> {
    let reserved = reserve(request, issuer, settings, now, random)?;
    Ok(reserved.with(key()?))
}

impl Reserved {
    /// The same, ending no later than `end`, but in no less than a minute from when it was chosen.
    #[must_use]
    pub fn ending_by(mut self, end: Timestamp) -> Self {
        let soonest = self.not_before.plus(BACKDATED).plus(SHORTEST);
        self.not_after = self.not_after.min(Timestamp::from_secs(end.max(soonest).secs()));
        self
    }

    /// The proxy, now that its key is known.
    #[must_use]
    pub fn with(self, key: KeyPair) -> Chosen {
        Chosen { reserved: self, key }
    }

    /// The same, saying so much of its person.
    #[must_use]
    pub fn telling(mut self, told: Option<Told>) -> Self {
        self.told = told;
        self
    }

    /// The request that it is for.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// The serial.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Until when it will be valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// 63 random bits, never zero (RFC 5280 section 4.1.2.2: positive).
fn serial(random: &dyn Random) -> Result<u64, RandomError> {
    loop {
        let serial = u64::from_be_bytes(random_bytes(random)?) >> 1;
        if serial != 0 {
            return Ok(serial);
        }
    }
}

impl Chosen {
    /// The same, saying so much of its person.
    #[must_use]
    pub fn telling(mut self, told: Option<Told>) -> Self {
        self.reserved.told = told;
        self
    }

    /// The serial.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.reserved.serial
    }

    /// SHA-256 of the public key (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn spki(&self) -> Hash {
        Hash::of(self.key.spki())
    }

    /// SHA-256 of the issuer's certificate (DER).
    #[must_use]
    pub fn issuer(&self) -> Hash {
        self.reserved.issuer.facts.sha256
    }

    /// From when it will be valid.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.reserved.not_before
    }

    /// Until when it will be valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.reserved.not_after
    }

    /// Signs. `durable` proves that the `mint` record is on stable storage.
    ///
    /// # Errors
    /// [`MintError::ForeignReceipt`] when that is another request's; [`MintError::Sign`] when the VO's key cannot be reached.
    pub fn sign(self, durable: &Durable<'_>) -> Result<Proxy, MintError> {
        self.allowed(durable)?.sign()
    }

    /// The same; where the VO's key is on a token, on a thread that may wait.
    ///
    /// # Errors
    /// As [`Chosen::sign`].
    pub async fn sign_apart(self, durable: &Durable<'_>) -> Result<Proxy, MintError> {
        let allowed = self.allowed(durable)?;
        if !allowed.0.reserved.issuer.signer.is_slow() {
            return allowed.sign();
        }
        let signed = tokio::task::spawn_blocking(move || allowed.sign()).await;
        signed.unwrap_or(Err(MintError::Sign(SignError::Refused)))
    }

    fn allowed(self, durable: &Durable<'_>) -> Result<Allowed, MintError> {
        // SECURITY: this is the one place that lets a VO's key sign a proxy, and it looks for itself: what is signed was
        // permitted, and stands in the log, under the very request for which it was chosen.
        if durable.request != self.reserved.request {
            return Err(MintError::ForeignReceipt);
        }
        Ok(Allowed(self))
    }
}

/// A proxy whose `mint` record is durable.
struct Allowed(Chosen);

impl Allowed {
    fn sign(self) -> Result<Proxy, MintError> {
        let Chosen { reserved, key } = self.0;
        let issuer = AnyRef::from_der(&reserved.issuer.facts.subject)?;
        let name = reserved.serial.to_string();
        let subject = extended(issuer, &name)?.to_der()?;
        let (info, usage) = (proxy_cert_info(&reserved.settings)?, key_usage(&key)?);
        let told = reserved.told.as_ref().map(Told::to_der).transpose()?;
        let mut extensions = vec![critical(PROXY_CERT_INFO, &info)?, critical(KEY_USAGE, &usage)?];
        if let Some(told) = &told {
            extensions.push(extension(SUBJECT_DIRECTORY_ATTRIBUTES, None, told)?);
        }
        let serial = reserved.serial.to_be_bytes();
        let algorithm = signature_algorithm(reserved.issuer.signer.algorithm());
        let body = TbsCertificate {
            version: 2,
            serial: UintRef::new(&serial)?,
            algorithm: algorithm.clone(),
            issuer,
            validity: Validity {
                not_before: time(reserved.not_before)?,
                not_after: time(reserved.not_after)?,
            },
            subject: AnyRef::from_der(&subject)?,
            spki: AnyRef::from_der(key.spki())?,
            extensions,
        }
        .to_der()?;
        let signature = reserved.issuer.signer.sign(&body)?;
        let certificate = Certificate {
            body: AnyRef::from_der(&body)?,
            algorithm,
            signature: BitStringRef::from_bytes(&signature)?,
        }
        .to_der()?;
        Ok(Proxy {
            serial: reserved.serial,
            not_after: reserved.not_after,
            subject,
            certificate,
            key: key.private()?,
            above: reserved.issuer.chain.clone(),
            issuer: reserved.issuer.facts.sha256,
        })
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({})", self.serial)
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chosen({})", self.reserved.serial)
    }
}

/// A signed proxy with its key. It lives in memory only.
pub struct Proxy {
    serial: u64,
    not_after: Timestamp,
    subject: Vec<u8>,
    certificate: Vec<u8>,
    key: Secret<Vec<u8>>,
    above: Vec<Vec<u8>>,
    issuer: Hash,
}

impl Proxy {
    /// The serial.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// End of validity.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The subject (DER).
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The subject in words (`C=GB, O=.., CN=.., CN=serial`).
    #[must_use]
    pub fn subject_text(&self) -> Option<String> {
        X509Name::from_der(&self.subject)
            .ok()
            .map(|(_, name)| name.to_string())
    }

    /// The certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the issuer's certificate (DER).
    #[must_use]
    pub const fn issuer(&self) -> Hash {
        self.issuer
    }

    /// The certificate and those above it (DER).
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        std::iter::once(&self.certificate)
            .chain(&self.above)
            .cloned()
            .collect()
    }

    /// The file that grid tools take: certificate, key (PKCS#8), VO certificate, intermediates.
    ///
    /// # Errors
    /// [`MintError::Encode`].
    pub fn pem(&self) -> Result<Secret<String>, MintError> {
        let block = |label: &str, bytes: &[u8]| {
            der::pem::encode_string(label, LineEnding::LF, bytes).map_err(der::Error::from)
        };
        if self.key.expose().is_empty() {
            return Err(MintError::Key); // it is elsewhere
        }
        let key = Secret::new(block("PRIVATE KEY", self.key.expose())?);
        let mut blocks = vec![block("CERTIFICATE", &self.certificate)?];
        let mut length = key.expose().len();
        for certificate in &self.above {
            blocks.push(block("CERTIFICATE", certificate)?);
        }
        length += blocks.iter().map(String::len).sum::<usize>();
        // At its full length from the start, so that growing leaves no copy of the key behind.
        let mut file = String::with_capacity(length);
        for (index, text) in blocks.iter().enumerate() {
            file.push_str(text);
            if index == 0 {
                file.push_str(key.expose());
            }
        }
        Ok(Secret::new(file))
    }

    /// Certificate, chain and key as rustls presents them.
    ///
    /// # Errors
    /// [`MintError::Key`].
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, MintError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.expose().as_slice()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| MintError::Key)?;
        let chain = std::iter::once(&self.certificate).chain(&self.above);
        let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.serial)
    }
}

/// RFC 5280 section 4.1. The body stays the very bytes that were signed.
#[derive(Sequence)]
struct Certificate<'a> {
    body: AnyRef<'a>,
    algorithm: AlgorithmIdentifier<'a>,
    signature: BitStringRef<'a>,
}

/// RFC 5280 section 4.1.2.
#[derive(Sequence)]
struct TbsCertificate<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: UintRef<'a>,
    algorithm: AlgorithmIdentifier<'a>,
    issuer: AnyRef<'a>,
    validity: Validity,
    subject: AnyRef<'a>,
    spki: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension<'a>>,
}

#[derive(Clone, Sequence)]
struct AlgorithmIdentifier<'a> {
    algorithm: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
#[derive(Choice)]
enum Time {
    #[asn1(type = "UTCTime")]
    Utc(UtcTime),
    #[asn1(type = "GeneralizedTime")]
    General(GeneralizedTime),
}

/// An extension; DER leaves out what is FALSE by default.
#[derive(Sequence)]
struct Extension<'a> {
    id: ObjectIdentifier,
    critical: Option<bool>,
    value: &'a OctetStringRef,
}

#[derive(Sequence)]
struct Attribute<'a> {
    kind: ObjectIdentifier,
    value: Utf8StringRef<'a>,
}

/// RFC 3820 section 3.8.
#[derive(Sequence)]
struct ProxyCertInfo {
    path_length: Option<u8>,
    policy: Policy,
}

#[derive(Sequence)]
struct Policy {
    language: ObjectIdentifier,
}

/// The issuer's name, its bytes untouched, plus one RDN with one CN (RFC 3820 section 3.4).
fn extended(issuer: AnyRef<'_>, common_name: &str) -> der::Result<Any> {
    let attribute = Attribute {
        kind: COMMON_NAME,
        value: Utf8StringRef::new(common_name)?,
    }
    .to_der()?;
    let rdn = AnyRef::new(Tag::Set, &attribute)?.to_der()?;
    Any::new(Tag::Sequence, [issuer.value(), &rdn].concat())
}

fn proxy_cert_info(settings: &ProxySettings) -> der::Result<Vec<u8>> {
    let language = match settings.policy {
        ProxyPolicy::InheritAll => INHERIT_ALL,
        ProxyPolicy::Limited => LIMITED,
        ProxyPolicy::Independent => INDEPENDENT,
    };
    ProxyCertInfo {
        path_length: settings.path_length,
        policy: Policy { language },
    }
    .to_der()
}

/// digitalSignature (bit 0); for an RSA key keyEncipherment (bit 2) too, which old peers use it for.
fn key_usage(key: &KeyPair) -> der::Result<Vec<u8>> {
    match key.kind() {
        ProxyKey::P256 => BitStringRef::new(7, &[0x80])?.to_der(),
        ProxyKey::Rsa2048 => BitStringRef::new(5, &[0xa0])?.to_der(),
    }
}

fn critical(id: ObjectIdentifier, value: &[u8]) -> der::Result<Extension<'_>> {
    extension(id, Some(true), value)
}

fn extension(id: ObjectIdentifier, critical: Option<bool>, value: &[u8]) -> der::Result<Extension<'_>> {
    Ok(Extension {
        id,
        critical,
        value: OctetStringRef::new(value)?,
    })
}

fn signature_algorithm(algorithm: Algorithm) -> AlgorithmIdentifier<'static> {
    match algorithm {
        Algorithm::P256 => AlgorithmIdentifier {
            algorithm: ECDSA_SHA256,
            parameters: None,
        },
        Algorithm::P384 => AlgorithmIdentifier {
            algorithm: ECDSA_SHA384,
            parameters: None,
        },
        // RFC 4055 section 5: the parameters are NULL, not absent.
        Algorithm::Rsa(_) => AlgorithmIdentifier {
            algorithm: RSA_SHA256,
            parameters: Some(AnyRef::NULL),
        },
    }
}

fn time(at: Timestamp) -> der::Result<Time> {
    let since = Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0));
    let date = DateTime::from_unix_duration(since)?;
    if date.year() < 2050 {
        UtcTime::from_date_time(date).map(Time::Utc)
    } else {
        Ok(Time::General(GeneralizedTime::from_date_time(date)))
    }
}

#[cfg(test)]
#[path = "mint_tests.rs"]
mod tests;
