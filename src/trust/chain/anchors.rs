//! What a chain must lead to: trusted CAs, and the revocation lists of all who issue, read once.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::clock::Timestamp;

use super::certificate::{Certificate, in_words};
use super::refused::{PathFlaw, Rule};

/// No file of a folder of CAs is longer, in bytes; the revocation lists of large CAs have some megabytes.
const FILE_MAX: u64 = 64 << 20;

/// Why CAs or revocation lists were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// A file or folder cannot be read.
    #[error(
        "`{file}` cannot be read: {reason}; accepted: a PEM file, or a folder of them, of CA certificates and revocation lists"
    )]
    Unreadable {
        /// Which.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// A CA's certificate is none.
    #[error("`{0}` holds a certificate that cannot be read; accepted: X.509 certificates of CAs")]
    Certificate(String),
    /// A revocation list is none.
    #[error(
        "`{0}` holds a revocation list that cannot be used; accepted: full lists of version 2 (RFC 5280 section 5)"
    )]
    List(String),
    /// Nothing to trust.
    #[error("`{0}` holds no CA certificate; accepted: at least one (PEM)")]
    None(String),
}

/// Trusted CAs with revocation lists.
pub struct Anchors {
    authorities: Vec<Authority>,
    trusted: Vec<TrustAnchor<'static>>,
    lists: Vec<List>,
    taken: &'static [&'static dyn SignatureVerificationAlgorithm],
}

struct Authority {
    subject: Vec<u8>,
    spki: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    /// How many CAs may be between it and an end entity.
    path_length: Option<u32>,
    name: Vec<u8>,
}

struct List {
    der: Vec<u8>,
    parsed: CertRevocationList<'static>,
    /// The issuer's name as DER.
    issuer: Vec<u8>,
    made: Timestamp,
    due: Option<Timestamp>,
}

impl std::fmt::Debug for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Anchors({} CAs, {} revocation lists)",
            self.trusted.len(),
            self.lists.len()
        )
    }
}

impl Anchors {
    /// Trusts `authorities` (DER), and believes `lists` (DER) about what is revoked. With any list, everything between
    /// an end entity and its CA must be on a list that is up to date; without, nothing is looked up.
    ///
    /// `name` stands for where they come from in errors.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn new<'a>(
        name: &str,
        authorities: impl IntoIterator<Item = &'a Vec<u8>>,
        lists: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> Result<Self, AnchorError> {
        let mut this = Self::empty();
        for der in authorities {
            this.trust(name, der)?;
        }
        for der in lists {
            this.believe(name, der)?;
        }
        this.finished(name)
    }

    /// Reads a PEM file, or all files of a folder that are named as CAs and lists are (`*.pem`, `*.crt`, `*.crl`, and
    /// `HASH.0`, `HASH.r0` of grid folders). Other files of a folder are left alone.
    ///
    /// # Errors
    /// [`AnchorError`], naming the file.
    pub fn load(path: &Path) -> Result<Self, AnchorError> {
        let mut this = Self::empty();
        let name = path.display().to_string();
        for file in files(path)? {
            this.read(&file)?;
        }
        this.finished(&name)
    }

    fn empty() -> Self {
        Self {
            authorities: Vec::new(),
            trusted: Vec::new(),
            lists: Vec::new(),
            taken: taken(),
        }
    }

    fn finished(mut self, name: &str) -> Result<Self, AnchorError> {
        if self.trusted.is_empty() {
            return Err(AnchorError::None(name.to_owned()));
        }
        // The newest list of an issuer is found first.
        self.lists.sort_by_key(|list| std::cmp::Reverse(list.made));
        Ok(self)
    }

    fn read(&mut self, file: &Path) -> Result<(), AnchorError> {
        let name = file.display().to_string();
        let bytes = bytes(file)?;
        if bytes.first() == Some(&0x30) {
            // DER, as some CAs publish their lists.
            return match Certificate::read(&bytes) {
                Some(_) => self.trust(&name, &bytes),
                None => self.believe(&name, &bytes),
            };
        }
        let sections: Result<Vec<(SectionKind, Vec<u8>)>, _> =
            <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes).collect();
        let sections = sections.map_err(|error| unreadable(file, &error.to_string()))?;
        for (kind, der) in &sections {
            match kind {
                SectionKind::Certificate => self.trust(&name, der)?,
                SectionKind::Crl => self.believe(&name, der)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn trust(&mut self, name: &str, der: &[u8]) -> Result<(), AnchorError> {
        let refused = || AnchorError::Certificate(name.to_owned());
        let read = Certificate::read(der).ok_or_else(refused)?;
        let der = CertificateDer::from(der);
        let anchor = anchor_from_trusted_cert(&der).map_err(|_| refused())?;
        let again = |other: &TrustAnchor<'_>| {
            other.subject == anchor.subject && other.subject_public_key_info == anchor.subject_public_key_info
        };
        // The same CA under the names of two hashes; renewed under its key, each with its time.
        if !self.trusted.iter().any(again) {
            self.trusted.push(anchor.to_owned());
        }
        self.authorities.push(Authority {
            subject: anchor.subject.as_ref().to_vec(),
            spki: anchor.subject_public_key_info.as_ref().to_vec(),
            not_before: read.not_before(),
            not_after: read.not_after(),
            path_length: read.ca_path_length(),
            name: read.subject_der(),
        });
        Ok(())
    }

    fn believe(&mut self, name: &str, der: &[u8]) -> Result<(), AnchorError> {
        let refused = || AnchorError::List(name.to_owned());
        if self.lists.iter().any(|list| list.der == der) {
            return Ok(());
        }
        let parsed = OwnedCertRevocationList::from_der(der).map_err(|_| refused())?;
        let (_, read) = CertificateRevocationList::from_der(der).map_err(|_| refused())?;
        self.lists.push(List {
            parsed: parsed.into(),
            issuer: read.issuer().as_raw().to_vec(),
            made: Timestamp::from_secs(read.last_update().timestamp()),
            due: read
                .next_update()
                .map(|due| Timestamp::from_secs(due.timestamp())),
            der: der.to_vec(),
        });
        Ok(())
    }

    /// How many CAs and how many lists there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.trusted.len(), self.lists.len())
    }

    /// When the first of the lists is out of date.
    #[must_use]
    pub fn lists_due(&self) -> Option<Timestamp> {
        self.lists.iter().filter_map(|list| list.due).min()
    }

    /// The names of the CAs (DER), as a server tells them to clients.
    #[must_use]
    pub fn names(&self) -> Vec<&[u8]> {
        let mut names: Vec<&[u8]> = self
            .authorities
            .iter()
            .map(|authority| authority.name.as_slice())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The kinds of signature that are taken.
    pub(super) const fn taken(&self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        self.taken
    }

    /// Checks the path from an end entity to a trusted CA (RFC 5280), with the certificates that came with it.
    pub(super) fn check_path(
        &self,
        end_entity: &[u8],
        above: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), PathFlaw> {
        let end_entity = CertificateDer::from(end_entity);
        let end_entity = EndEntityCert::try_from(&end_entity)?;
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &list.parsed).collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let anchored = |path: &VerifiedPath<'_>| self.check_anchor(path, now);
        let since = std::time::Duration::from_secs(u64::try_from(now.secs()).unwrap_or(0));
        end_entity.verify_for_usage(
            self.taken,
            &self.trusted,
            above,
            UnixTime::since_unix_epoch(since),
            KeyUsage::client_auth(),
            revocation,
            Some(&anchored),
        )?;
        Ok(())
    }

    /// SECURITY: a trust anchor is a name and a key for webpki; what else its certificate says is looked at here.
    fn check_anchor(&self, path: &VerifiedPath<'_>, now: Timestamp) -> Result<(), webpki::Error> {
        let (anchor, between) = (path.anchor(), path.intermediate_certificates().count());
        // SECURITY: a link names an issuer, so no authority may have others issue under the name of another that is trusted.
        let is_trusted = |subject: &[u8]| {
            let mut known = self.authorities.iter();
            known.any(|authority| authority.subject == subject)
        };
        if path
            .intermediate_certificates()
            .any(|certificate| is_trusted(certificate.subject()))
        {
            return Err(webpki::Error::UnknownIssuer);
        }
        let mut in_time = self.authorities.iter().filter(|authority| {
            authority.subject == anchor.subject.as_ref()
                && authority.spki == anchor.subject_public_key_info.as_ref()
                && (authority.not_before..=authority.not_after).contains(&now)
        });
        let allows = |authority: &Authority| {
            authority
                .path_length
                .is_none_or(|allowed| between as u64 <= u64::from(allowed))
        };
        match in_time.clone().next() {
            None => Err(webpki::Error::InvalidCertValidity),
            Some(_) if in_time.any(allows) => Ok(()),
            Some(_) => Err(webpki::Error::PathLenConstraintViolated),
        }
    }

    /// Whether what issued `proxy` has revoked it. No list of that issuer, nothing revoked: hardly any end entity has one.
    pub(super) fn check_proxy(
        &self,
        proxy: &Certificate<'_>,
        issuer: &Certificate<'_>,
        now: Timestamp,
    ) -> Result<(), Rule> {
        let name = proxy.issuer_der();
        let Some(list) = self.lists.iter().find(|list| list.issuer == name) else {
            return Ok(());
        };
        let in_time = list.made <= now && list.due.is_none_or(|due| now < due);
        if !in_time || !issuer.signed_list(&list.der, self.taken) {
            return Err(Rule::RevocationList);
        }
        match list.parsed.find_serial(proxy.serial()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Rule::Revoked),
            Err(_) => Err(Rule::RevocationList),
        }
    }

    /// The CAs in words.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        self.names().into_iter().map(in_words).collect()
    }
}

/// The kinds of signature that are taken.
pub(super) fn taken() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    rustls::crypto::aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all
}

fn files(path: &Path) -> Result<Vec<PathBuf>, AnchorError> {
    let failed = |error: std::io::Error| unreadable(path, &error.to_string());
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if is_named_so(&file) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// `*.pem`, `*.crt`, `*.crl`, `*.N`, `*.rN`.
fn is_named_so(file: &Path) -> bool {
    let ending = file
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    let digits = ending.strip_prefix('r').unwrap_or(ending);
    ["pem", "crt", "crl"].contains(&ending)
        || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn bytes(file: &Path) -> Result<Vec<u8>, AnchorError> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| unreadable(file, &error.to_string());
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .map_err(failed)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(unreadable(file, "it is longer than 64 MiB"));
    }
    Ok(bytes)
}

fn unreadable(file: &Path, reason: &str) -> AnchorError {
    AnchorError::Unreadable {
        file: file.display().to_string(),
        reason: reason.to_owned(),
    }
}
