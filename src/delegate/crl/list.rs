//! One revocation list: what it says, its bytes (RFC 5280 section 5), and the one place in which a VO's key signs it.

use std::sync::Arc;

use std::time::Duration;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetString, UintRef, UtcTime};
use der::{Choice, Decode, Encode, Sequence};

use super::super::DelegateError;
use super::super::revoked::Why;
use super::Signing;
use crate::clock::Timestamp;
use crate::id::VoId;
use crate::record::{Event, Hash, RevocationList};
use crate::trust::signer::{self, Algorithm, Signer};

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// RFC 5280 section 5.1.
#[derive(Sequence)]
struct CertificateList<'a> {
    body: AnyRef<'a>,
    algorithm: AlgorithmIdentifier<'a>,
    signature: BitStringRef<'a>,
}

/// RFC 5280 section 5.1.2.
#[derive(Sequence)]
struct Body<'a> {
    version: u8,
    algorithm: AlgorithmIdentifier<'a>,
    issuer: AnyRef<'a>,
    this_update: Time,
    next_update: Time,
    revoked: Option<Vec<RevokedCertificate>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Clone, Sequence)]
struct AlgorithmIdentifier<'a> {
    algorithm: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct RevokedCertificate {
    serial: der::asn1::Uint,
    at: Time,
    extensions: Option<Vec<Extension>>,
}

/// None of ours is critical, and DER leaves its default out.
#[derive(Sequence)]
struct Extension {
    id: ObjectIdentifier,
    value: OctetString,
}

/// RFC 5280 section 4.2.1.1: the key alone.
#[derive(Sequence)]
struct AuthorityKeyIdentifier {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    key: Option<OctetString>,
}

/// RFC 5280 section 5.1.2.4: UTCTime through 2049, GeneralizedTime from 2050.
#[derive(Choice)]
enum Time {
    #[asn1(type = "UTCTime")]
    Utc(UtcTime),
    #[asn1(type = "GeneralizedTime")]
    General(GeneralizedTime),
}

impl Time {
    fn of(at: Timestamp) -> der::Result<Self> {
        let since = Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0));
        match UtcTime::from_unix_duration(since) {
            Ok(time) => Ok(Self::Utc(time)),
            Err(_) => GeneralizedTime::from_unix_duration(since).map(Self::General),
        }
    }
}

/// A proxy that is not to be trusted any more.
pub(super) struct Entry {
    pub(super) serial: u64,
    pub(super) since: Timestamp,
    pub(super) why: String,
}

/// What one list says.
pub(super) struct Contents<'a> {
    /// The issuer's name (DER).
    pub(super) issuer: &'a [u8],
    /// How certificates name its key; `None` where they differ in that.
    pub(super) key: Option<&'a [u8]>,
    pub(super) number: u64,
    pub(super) made: Timestamp,
    pub(super) due: Timestamp,
    pub(super) revoked: &'a [Entry],
}

/// A list whose signature is on record.
struct Recorded {
    body: Vec<u8>,
}

/// Writes down that a list is signed, then signs it. Gives the list (DER).
pub(super) async fn sign(
    contents: &Contents<'_>,
    (signer, certificate, vo): (&Arc<dyn Signer>, Hash, VoId),
    by: &Signing<'_>,
) -> Result<Vec<u8>, DelegateError> {
    let encoded = |error: der::Error| DelegateError::Mint(error.into());
    let body = body(contents, signer.algorithm()).map_err(encoded)?;
    let recorded = record(body, contents, (certificate, vo), by).await?;
    // SECURITY: this is the one place in which a VO's key signs a list, and it looks for itself: these very bytes stand in
    // the log, under a request for the list that was permitted.
    let Recorded { body } = recorded;
    let signature = signer::sign_apart(signer, &body)
        .await
        .map_err(|error| DelegateError::Mint(error.into()))?;
    let list = || {
        CertificateList {
            body: AnyRef::from_der(&body)?,
            algorithm: algorithm(signer.algorithm()),
            signature: BitStringRef::from_bytes(&signature)?,
        }
        .to_der()
    };
    list().map_err(encoded)
}

async fn record(
    body: Vec<u8>,
    contents: &Contents<'_>,
    (certificate, vo): (Hash, VoId),
    by: &Signing<'_>,
) -> Result<Recorded, DelegateError> {
    let event = RevocationList {
        request: by.request,
        issuer: certificate,
        vo,
        number: contents.number,
        count: u64::try_from(contents.revoked.len()).unwrap_or(u64::MAX),
        made: contents.made,
        due: contents.due,
        body: Hash::of(&body),
    };
    by.audit.write(Event::RevocationList(Box::new(event))).await?;
    Ok(Recorded { body })
}

fn body(contents: &Contents<'_>, key: Algorithm) -> der::Result<Vec<u8>> {
    let extension = |id, value: Vec<u8>| OctetString::new(value).map(|value| Extension { id, value });
    let entry = |entry: &Entry| {
        let reason = Why::reason_code(&entry.why)
            .map(|code| extension(REASON, vec![0x0a, 1, code]))
            .transpose()?;
        Ok(RevokedCertificate {
            serial: der::asn1::Uint::new(&entry.serial.to_be_bytes())?,
            at: Time::of(entry.since)?,
            extensions: reason.map(|reason| vec![reason]),
        })
    };
    let entries = contents
        .revoked
        .iter()
        .map(entry)
        .collect::<der::Result<Vec<RevokedCertificate>>>()?;
    let mut extensions = Vec::new();
    if let Some(name) = contents.key {
        let name = AuthorityKeyIdentifier {
            key: Some(OctetString::new(name)?),
        };
        extensions.push(extension(AUTHORITY_KEY, name.to_der()?)?);
    }
    let number = UintRef::new(&contents.number.to_be_bytes())?.to_der()?;
    extensions.push(extension(CRL_NUMBER, number)?);
    Body {
        version: 1,
        algorithm: algorithm(key),
        issuer: AnyRef::from_der(contents.issuer)?,
        this_update: Time::of(contents.made)?,
        next_update: Time::of(contents.due)?,
        revoked: (!entries.is_empty()).then_some(entries),
        extensions,
    }
    .to_der()
}

const fn algorithm(key: Algorithm) -> AlgorithmIdentifier<'static> {
    let (algorithm, parameters) = match key {
        Algorithm::P256 => (ECDSA_SHA256, None),
        Algorithm::P384 => (ECDSA_SHA384, None),
        Algorithm::Rsa(_) => (RSA_SHA256, Some(AnyRef::NULL)),
    };
    AlgorithmIdentifier {
        algorithm,
        parameters,
    }
}
