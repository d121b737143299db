//! The revocation lists of a VO's proxies (RFC 5280 section 5).
//!
//! Proxies hang below a VO's certificate by its name and its key, and so do lists: there is one for each name with each
//! key, signed by that key, and it holds what is revoked below *all* certificates that have both, renewed ones included.
//! A name that has several keys has a list for each of them, told apart by the key's identifier.
//!
//! A list is made when it is asked for and something has changed, or half of its time is over; that it is signed stands in
//! the log before. Where no new one can be made (without the sealing key, the signing module, the log or the store) the last one
//! is given for as long as it is good.

mod list;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use uuid::Uuid;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::revoked::Why;
use super::{Delegate, DelegateError};
use crate::audit::Audit;
use crate::authorize::Permit;
use crate::clock::Timestamp;
use crate::id::{CertificateId, RequestId, VoId};
use crate::record::Hash;
use crate::store::{Db, StoreError, Tx, rows, run, tx_rows};
use crate::trust::certificate::{Facts, Use, VoCertificate};
use crate::trust::pem;
use crate::trust::seal::SealError;
use crate::trust::signer::Signer;
use list::{Contents, Entry, sign};

/// The task by which lists are asked for.
pub const TASK: &str = "crl";
/// How long a list is good for; a new one is made when half of it is over.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// How far a list is dated back, for readers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(300);
/// Which form of list this build makes; lists of another form are made anew.
const FORM: &str = "2";

/// What lets a list be signed: a request for it that was permitted, and the log.
#[derive(Debug)]
pub struct Signing<'a> {
    request: RequestId,
    audit: &'a Audit,
}

impl<'a> Signing<'a> {
    /// For `request`, whose permit this is.
    ///
    /// # Errors
    /// [`DelegateError::NoTool`] when something else was permitted.
    pub fn permitted(permit: &Permit, request: RequestId, audit: &'a Audit) -> Result<Self, DelegateError> {
        // SECURITY: a list is signed for whoever may ask for it, and for no other task.
        let task = &permit.found().task;
        let right = task.name == TASK && task.local.is_some();
        right
            .then_some(Self { request, audit })
            .ok_or(DelegateError::NoTool)
    }
}

#[cfg(test)]
impl<'a> Signing<'a> {
    /// Stands in for a permit in tests that are not about decisions.
    pub(super) const fn witnessed(request: RequestId, audit: &'a Audit) -> Self {
        Self { request, audit }
    }
}

/// All certificates with one name and one key, whichever VO has them, newest first.
struct Issuer {
    /// `SubjectPublicKeyInfo` (DER).
    spki: Vec<u8>,
    certificates: Vec<VoCertificate>,
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

    /// The revocation lists of a VO (PEM), one for each name and key of its certificates that have not ended, old ones
    /// included: proxies of theirs may be about.
    ///
    /// # Errors
    /// [`DelegateError::NoCertificate`] when it has none; [`DelegateError::Seal`] when a new list is due, the key is sealed
    /// and the last list is out of date; [`DelegateError::Audit`]; [`DelegateError::Store`].
    pub async fn revocation_lists(
        &self,
        vo: VoId,
        name: &str,
        by: &Signing<'_>,
    ) -> Result<String, DelegateError> {
        let now = self.ids.clock().now();
        let mut lists = String::new();
        // Whoever asks is nobody in particular: one list is made at a time, and nobody who writes waits for those who read.
        let _turn = self.listing.lock().await;
        for issuer in issuers(&self.db, vo).await? {
            if issuer.not_after() < now {
                continue;
            }
            let der = match self.revocation_list(&issuer, now, by).await {
                // One whose key no longer opens does not take the others' lists away.
                Err(DelegateError::Seal(error)) if !self.is_in_use(&issuer) => {
                    tracing::error!("no list for the ended certificates of {issuer}: {error}");
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

    /// Whether proxies are minted below one of its certificates now.
    fn is_in_use(&self, issuer: &Issuer) -> bool {
        issuer.certificates.iter().any(|certificate| {
            let present = self.certificate(certificate.vo, certificate.purpose);
            present.is_some_and(|present| present.sha256 == certificate.facts.sha256)
        })
    }

    /// The last list, or a new one where that does not say what is revoked, or half of its time is over.
    async fn revocation_list(
        &self,
        issuer: &Issuer,
        now: Timestamp,
        by: &Signing<'_>,
    ) -> Result<Vec<u8>, DelegateError> {
        let mut tx = self.db.begin_read().await?;
        let revoked = revoked(&mut tx, issuer, now).await?;
        let last = last(&mut tx, issuer).await?;
        drop(tx);
        let digest = digest(&revoked);
        if let Some(last) = &last
            && last.digest == digest
            && now < last.due.minus(LIFETIME / 2)
        {
            return Ok(last.der.clone());
        }
        let number = last.as_ref().map_or(1, |last| last.number.saturating_add(1));
        let made = self.made(issuer, (number, now), (&revoked, digest), by).await;
        match (made, last) {
            (Err(error), Some(last)) if now < last.due => {
                tracing::error!("the last list of {issuer} is given until {}: {error}", last.due);
                Ok(last.der)
            }
            (made, _) => made,
        }
    }

    /// A new list, signed and kept.
    async fn made(
        &self,
        issuer: &Issuer,
        (number, now): (u64, Timestamp),
        (revoked, digest): (&[Entry], Hash),
        by: &Signing<'_>,
    ) -> Result<Vec<u8>, DelegateError> {
        let (signer, certificate) = issuer.key(self)?;
        let key = issuer.key_identifier();
        let contents = Contents {
            issuer: &certificate.facts.subject,
            key: key.as_deref(),
            number,
            made: now.minus(BACKDATED),
            due: now.plus(LIFETIME),
            revoked,
        };
        let der = sign(&contents, (&signer, certificate.facts.sha256, certificate.vo), by).await?;
        let mut tx = self.db.begin_write().await?;
        keep(&mut tx, certificate, &contents, digest, &der).await?;
        tx.commit().await?;
        Ok(der)
    }
}

impl Issuer {
    /// When the last of its certificates, and so the last proxy below it, ends.
    fn not_after(&self) -> Timestamp {
        let ends = self.certificates.iter().map(|one| one.facts.not_after);
        ends.max().unwrap_or(Timestamp(i64::MIN))
    }

    /// Its key, and the newest certificate whose envelope opens.
    fn key(&self, delegate: &Delegate) -> Result<(Arc<dyn Signer>, &VoCertificate), DelegateError> {
        let mut refused = SealError::Sealed.into();
        for certificate in &self.certificates {
            match delegate.signer(certificate) {
                Ok(signer) => return Ok((signer, certificate)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Its certificates; one that was imported twice counts once.
    fn hashes(&self) -> BTreeSet<Hash> {
        self.certificates.iter().map(|one| one.facts.sha256).collect()
    }

    /// How certificates name its key (RFC 5280 sections 4.2.1.2 and 5.2.1). `None` where its certificates differ: with
    /// either name some reader would pass the list by.
    fn key_identifier(&self) -> Option<Vec<u8>> {
        let leaves = self.certificates.iter().filter_map(|one| one.chain.first());
        let mut named: Vec<Vec<u8>> = leaves.filter_map(|der| subject_key(der)).collect();
        named.sort_unstable();
        named.dedup();
        match &named[..] {
            [] => {
                let (_, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&self.spki).ok()?;
                let key = &spki.subject_public_key.data;
                let hash = aws_lc_rs::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, key);
                Some(hash.as_ref().to_vec())
            }
            [one] => Some(one.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = self.certificates.first();
        f.write_str(newest.map_or("nobody", |newest| newest.facts.subject_text.as_str()))
    }
}

fn subject_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
            _ => None,
        })
}

/// The last list of an issuer.
struct Last {
    number: u64,
    due: Timestamp,
    digest: Hash,
    der: Vec<u8>,
}

/// The issuers of a VO's proxies: all certificates there are, those that were replaced included, by name and key.
async fn issuers(db: &Db, vo: VoId) -> Result<Vec<Issuer>, StoreError> {
    let found = rows!(
        db,
        Row,
        "SELECT id, vo_id, purpose, chain, sealed_key FROM vo_certificate ORDER BY created_at DESC, id",
    )?;
    let mut issuers: Vec<Issuer> = Vec::new();
    for row in found {
        let (id, of) = (row.0, VoId::from(row.1));
        let (certificate, spki) = match certificate(row) {
            Ok(read) => read,
            // What is wrong with another VO's certificate is told where that one's lists are asked for.
            Err(_) if of != vo => continue,
            Err(reason) => return Err(StoreError::Inconsistent(format!("vo_certificate {id}: {reason}"))),
        };
        let same = |issuer: &&mut Issuer| {
            let named = issuer.certificates.first();
            issuer.spki == spki && named.is_some_and(|one| one.facts.subject == certificate.facts.subject)
        };
        match issuers.iter_mut().find(same) {
            Some(issuer) => issuer.certificates.push(certificate),
            None => issuers.push(Issuer {
                spki,
                certificates: vec![certificate],
            }),
        }
    }
    issuers.retain(|issuer| issuer.certificates.iter().any(|one| one.vo == vo));
    Ok(issuers)
}

type Row = (Uuid, Uuid, String, String, Vec<u8>);

/// A certificate with its public key (`SubjectPublicKeyInfo`, DER).
fn certificate((id, vo, purpose, chain, sealed_key): Row) -> Result<(VoCertificate, Vec<u8>), String> {
    let chain = pem::certificates("vo_certificate", &chain).map_err(|error| error.to_string())?;
    let leaf = chain.first().ok_or("no certificate")?;
    let facts = Facts::of("vo_certificate", leaf).map_err(|error| error.to_string())?;
    let spki = crate::trust::chain::public_key(leaf).ok_or("no public key")?;
    let certificate = VoCertificate {
        id: CertificateId::from(id),
        vo: VoId::from(vo),
        purpose: Use::parse(&purpose).ok_or("no use of a certificate")?,
        facts,
        chain,
        sealed_key,
    };
    Ok((certificate, spki))
}

/// What is revoked below any of its certificates and has not ended by itself.
async fn revoked(tx: &mut Tx, issuer: &Issuer, now: Timestamp) -> Result<Vec<Entry>, StoreError> {
    let mut revoked = Vec::new();
    for certificate in issuer.hashes() {
        let found = tx_rows!(
            &mut *tx,
            (i64, i64, Option<String>),
            "SELECT serial, ended_at, why FROM proxy WHERE issuer = $1 AND ended_at IS NOT NULL AND not_after >= $2",
            certificate.0.as_slice(),
            now.micros()
        )?;
        revoked.extend(found.into_iter().map(|(serial, since, why)| Entry {
            serial: u64::try_from(serial).unwrap_or_default(),
            since: Timestamp(since),
            why: why.unwrap_or_default(),
        }));
    }
    // A serial stands on a list once; below two certificates it would be two proxies', and the graver reason is said.
    revoked.sort_by_key(|entry| (entry.serial, Why::reason_code(&entry.why).is_none(), entry.since));
    revoked.dedup_by_key(|entry| entry.serial);
    Ok(revoked)
}

fn digest(revoked: &[Entry]) -> Hash {
    let line = |entry: &Entry| format!("{} {} {}\n", entry.serial, entry.since.micros(), entry.why);
    let lines: String = revoked.iter().map(line).collect();
    Hash::of(format!("{FORM}\n{lines}").as_bytes())
}

/// The list with the highest number of those that were ever made for one of its certificates: each had lists of its own
/// once, and numbers only grow.
async fn last(tx: &mut Tx, issuer: &Issuer) -> Result<Option<Last>, StoreError> {
    let mut last: Option<Last> = None;
    for certificate in issuer.hashes() {
        let found = tx_rows!(
            &mut *tx,
            (i64, i64, Vec<u8>, Vec<u8>),
            "SELECT number, due_at, digest, list FROM revocation_list WHERE issuer = $1",
            certificate.0.as_slice()
        )?;
        for (number, due, digest, der) in found {
            let number = u64::try_from(number).unwrap_or_default();
            if last.as_ref().is_some_and(|last| last.number >= number) {
                continue;
            }
            let digest = digest.try_into().map(Hash);
            let digest =
                digest.map_err(|_| StoreError::Inconsistent("a revocation list has no digest".to_owned()))?;
            last = Some(Last {
                number,
                due: Timestamp(due),
                digest,
                der,
            });
        }
    }
    Ok(last)
}

async fn keep(
    tx: &mut Tx,
    certificate: &VoCertificate,
    contents: &Contents<'_>,
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
        i64::try_from(contents.number).unwrap_or(i64::MAX),
        contents.made.micros(),
        contents.due.micros(),
        digest.0.as_slice(),
        der
    )
    .map(|_| ())
}
