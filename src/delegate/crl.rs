//! The revocation list of a VO's proxies (RFC 5280 section 5): one for each certificate that the VO mints with, signed by
//! that certificate's own key, made when it is asked for and something has changed or half of its time is over.

use std::sync::Arc;
use std::time::Duration;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, UintRef, UtcTime};
use der::{Choice, Decode, Encode, Sequence};
use uuid::Uuid;

use super::revoked::Why;
use super::{Delegate, DelegateError};
use crate::clock::Timestamp;
use crate::id::{CertificateId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::trust::certificate::{Facts, Use, VoCertificate};
use crate::trust::pem;
use crate::trust::signer::{Algorithm, Signer};

/// How long a list is good for; a new one is made when half of it is over.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// How far a list is dated back, for readers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(300);

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
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
    revoked: Option<Vec<Entry>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Clone, Sequence)]
struct AlgorithmIdentifier<'a> {
    algorithm: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct Entry {
    serial: der::asn1::Uint,
    at: Time,
    extensions: Option<Vec<Extension>>,
}

/// None of ours is critical, and DER leaves its default out.
#[derive(Sequence)]
struct Extension {
    id: ObjectIdentifier,
    value: der::asn1::OctetString,
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

/// What one list says.
struct Contents {
    number: i64,
    made: Timestamp,
    due: Timestamp,
    /// Serial, since when, and why.
    revoked: Vec<(u64, Timestamp, String)>,
}

/// The list (DER), signed.
fn sign(facts: &Facts, signer: &dyn Signer, contents: &Contents) -> Result<Vec<u8>, DelegateError> {
    let encoded = |error: der::Error| DelegateError::Mint(error.into());
    let body = body(facts, signer.algorithm(), contents).map_err(encoded)?;
    let signature = signer
        .sign(&body)
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

fn body(facts: &Facts, key: Algorithm, contents: &Contents) -> der::Result<Vec<u8>> {
    let extension =
        |id, value: Vec<u8>| der::asn1::OctetString::new(value).map(|value| Extension { id, value });
    let entry = |(serial, at, why): &(u64, Timestamp, String)| {
        let reason = Why::reason_code(why)
            .map(|code| extension(REASON, vec![0x0a, 1, code]))
            .transpose()?;
        Ok(Entry {
            serial: der::asn1::Uint::new(&serial.to_be_bytes())?,
            at: Time::of(*at)?,
            extensions: reason.map(|reason| vec![reason]),
        })
    };
    let entries = contents
        .revoked
        .iter()
        .map(entry)
        .collect::<der::Result<Vec<Entry>>>()?;
    let number = UintRef::new(&contents.number.to_be_bytes())?.to_der()?;
    Body {
        version: 1,
        algorithm: algorithm(key),
        issuer: AnyRef::from_der(&facts.subject)?,
        this_update: Time::of(contents.made)?,
        next_update: Time::of(contents.due)?,
        revoked: (!entries.is_empty()).then_some(entries),
        extensions: vec![extension(CRL_NUMBER, number)?],
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

impl Delegate {
    /// Whether proxies are, or were, minted below a certificate with this subject (DER).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_issuer(&self, subject: &[u8]) -> Result<bool, StoreError> {
        let chains = rows!(&self.db, (String,), "SELECT chain FROM vo_certificate")?;
        let is = |(chain,): &(String,)| {
            let leaf = pem::certificates("vo_certificate", chain)
                .ok()?
                .into_iter()
                .next()?;
            Some(Facts::of("vo_certificate", &leaf).ok()?.subject == subject)
        };
        Ok(chains.iter().any(|chain| is(chain).unwrap_or(false)))
    }

    /// Whether this public key is in the map already, or that of a VO certificate, those that were replaced included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn is_known_key(&self, spki: Hash) -> Result<bool, StoreError> {
        let minted = rows!(
            &self.db,
            (i64,),
            "SELECT serial FROM proxy WHERE spki = $1 LIMIT 1",
            spki.0.as_slice()
        )?;
        if !minted.is_empty() {
            return Ok(true);
        }
        let chains = rows!(&self.db, (String,), "SELECT chain FROM vo_certificate")?;
        Ok(chains.iter().any(|(chain,)| {
            let chain = pem::certificates("vo_certificate", chain).unwrap_or_default();
            chain.iter().any(|der| {
                let read = x509_parser::parse_x509_certificate(der);
                read.is_ok_and(|(_, read)| Hash::of(read.public_key().raw) == spki)
            })
        }))
    }

    /// The revocation lists of a VO (PEM), one for each of its certificates that has not ended, old ones included: proxies
    /// of theirs may be about.
    ///
    /// # Errors
    /// [`DelegateError::NoCertificate`] when it has none; [`DelegateError::Seal`] when a new list is due and the key is
    /// sealed; [`DelegateError::Store`].
    pub async fn revocation_lists(&self, vo: VoId, name: &str) -> Result<String, DelegateError> {
        let now = self.ids.clock().now();
        let mut lists = String::new();
        // Whoever asks is nobody in particular: one list is made at a time, and nobody who writes waits for those who read.
        let _turn = self.listing.lock().await;
        for certificate in certificates(&self.db, vo).await? {
            if certificate.facts.not_after < now {
                continue;
            }
            let der = match self.revocation_list(&certificate, now).await {
                // One whose key no longer opens does not take the others' lists away.
                Err(DelegateError::Seal(error)) if !self.is_in_use(&certificate) => {
                    tracing::error!(
                        "no list for the ended certificate {}: {error}",
                        certificate.facts.sha256
                    );
                    continue;
                }
                made => made?,
            };
            let text = der::pem::encode_string("X509 CRL", der::pem::LineEnding::LF, &der);
            lists.push_str(&text.map_err(|error| DelegateError::Mint(der::Error::from(error).into()))?);
        }
        if lists.is_empty() {
            return Err(DelegateError::NoCertificate {
                vo: name.to_owned(),
                purpose: Use::Tools,
            });
        }
        Ok(lists)
    }

    /// Whether proxies are minted below it now.
    fn is_in_use(&self, certificate: &VoCertificate) -> bool {
        let present = self.certificate(certificate.vo, certificate.purpose);
        present.is_some_and(|present| present.sha256 == certificate.facts.sha256)
    }

    async fn revocation_list(
        &self,
        certificate: &VoCertificate,
        now: Timestamp,
    ) -> Result<Vec<u8>, DelegateError> {
        let issuer = certificate.facts.sha256;
        let mut tx = self.db.begin_read().await?;
        let digest = digest(&revoked(&mut tx, issuer, now).await?);
        if let Some(last) = last(&mut tx, issuer).await?
            && last.digest == digest
            && now < last.due.minus(LIFETIME / 2)
        {
            return Ok(last.der);
        }
        drop(tx);
        let mut tx = self.db.begin_write().await?;
        let revoked = revoked(&mut tx, issuer, now).await?;
        let digest = self::digest(&revoked);
        let last = last(&mut tx, issuer).await?;
        let signer: Arc<dyn Signer> = certificate.signer(self.sealing.as_ref())?;
        let contents = Contents {
            number: last.map_or(1, |last| last.number + 1),
            made: now.minus(BACKDATED),
            due: now.plus(LIFETIME),
            revoked,
        };
        let der = sign(&certificate.facts, &*signer, &contents)?;
        keep(&mut tx, certificate, &contents, digest, &der).await?;
        tx.commit().await?;
        Ok(der)
    }
}

/// The last list of a certificate.
struct Last {
    number: i64,
    due: Timestamp,
    digest: Hash,
    der: Vec<u8>,
}

/// All certificates of a VO, those that were replaced included.
async fn certificates(db: &Db, vo: VoId) -> Result<Vec<VoCertificate>, StoreError> {
    let found = rows!(
        db,
        (Uuid, String, String, Vec<u8>),
        "SELECT id, purpose, chain, sealed_key FROM vo_certificate WHERE vo_id = $1 ORDER BY created_at DESC, id",
        vo.uuid()
    )?;
    let read = |(id, purpose, chain, sealed_key): (Uuid, String, String, Vec<u8>)| {
        let broken =
            |error: &dyn std::fmt::Display| StoreError::Inconsistent(format!("vo_certificate {id}: {error}"));
        let chain = pem::certificates("vo_certificate", &chain).map_err(|error| broken(&error))?;
        let leaf = chain.first().ok_or_else(|| broken(&"no certificate"))?;
        Ok(VoCertificate {
            id: CertificateId::from(id),
            vo,
            purpose: Use::parse(&purpose).ok_or_else(|| broken(&"no use of a certificate"))?,
            facts: Facts::of("vo_certificate", leaf).map_err(|error| broken(&error))?,
            chain,
            sealed_key,
        })
    };
    found.into_iter().map(read).collect()
}

/// What is revoked and has not ended by itself.
async fn revoked(
    tx: &mut Tx,
    issuer: Hash,
    now: Timestamp,
) -> Result<Vec<(u64, Timestamp, String)>, StoreError> {
    let found = tx_rows!(
        tx,
        (i64, i64, Option<String>),
        "SELECT serial, ended_at, why FROM proxy WHERE issuer = $1 AND ended_at IS NOT NULL AND not_after >= $2 ORDER BY serial",
        issuer.0.as_slice(),
        now.micros()
    )?;
    let row = |(serial, at, why): (i64, i64, Option<String>)| {
        (
            u64::try_from(serial).unwrap_or_default(),
            Timestamp(at),
            why.unwrap_or_default(),
        )
    };
    Ok(found.into_iter().map(row).collect())
}

fn digest(revoked: &[(u64, Timestamp, String)]) -> Hash {
    let line = |(serial, at, why): &(u64, Timestamp, String)| format!("{serial} {} {why}\n", at.micros());
    Hash::of(revoked.iter().map(line).collect::<String>().as_bytes())
}

async fn last(tx: &mut Tx, issuer: Hash) -> Result<Option<Last>, StoreError> {
    let found = tx_rows!(
        tx,
        (i64, i64, Vec<u8>, Vec<u8>),
        "SELECT number, due_at, digest, list FROM revocation_list WHERE issuer = $1",
        issuer.0.as_slice()
    )?;
    let row = |(number, due, digest, der): (i64, i64, Vec<u8>, Vec<u8>)| {
        let digest = digest.try_into().map(Hash);
        let digest =
            digest.map_err(|_| StoreError::Inconsistent("a revocation list has no digest".to_owned()))?;
        Ok(Last {
            number,
            due: Timestamp(due),
            digest,
            der,
        })
    };
    found.into_iter().next().map(row).transpose()
}

async fn keep(
    tx: &mut Tx,
    certificate: &VoCertificate,
    contents: &Contents,
    digest: Hash,
    der: &[u8],
) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO revocation_list (issuer, vo_id, number, made_at, due_at, digest, list) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, made_at = excluded.made_at, due_at = excluded.due_at,
             digest = excluded.digest, list = excluded.list",
        certificate.facts.sha256.0.as_slice(),
        certificate.vo.uuid(),
        contents.number,
        contents.made.micros(),
        contents.due.micros(),
        digest.0.as_slice(),
        der
    )
    .map(|_| ())
}
