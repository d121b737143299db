//! What a chain must lead to: trusted CAs, and the revocation lists of all who issue, read once.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    Cert, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder, VerifiedPath,
    anchor_from_trusted_cert,
};

use crate::clock::Timestamp;

use super::certificate::{Certificate, in_words};
use super::lists::{Lists, Signer, Status};
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
    /// A certificate is no CA's.
    #[error(
        "`{file}` holds the certificate of `{subject}`, which is no CA: {why}; accepted: certificates of CAs, and in folders nothing else that is named like one"
    )]
    NoAuthority {
        /// The file.
        file: String,
        /// Its subject in words.
        subject: String,
        /// What it lacks.
        why: &'static str,
    },
    /// A revocation list is none.
    #[error(
        "`{0}` holds a revocation list that cannot be used; accepted: full lists of version 2 (RFC 5280 section 5)"
    )]
    List(String),
    /// An issuer that had a list has none.
    #[error(
        "there is no revocation list of `{0}` any more, and without it nothing of its would be looked up; put it back, or remove the CA with it, or restart the gateway to do without"
    )]
    Gone(String),
    /// An issuer's list is older than the one in use.
    #[error(
        "the revocation list of `{issuer}` is older than the one in use: {why}; accepted: the same one, or a newer one (a restart takes what is there)"
    )]
    Older {
        /// Whose.
        issuer: String,
        /// How that is seen.
        why: String,
    },
    /// Nothing to trust.
    #[error("`{0}` holds no CA certificate; accepted: at least one (PEM)")]
    None(String),
}

/// Who looks revocation up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// This module, for whole lists.
    Own,
    /// webpki, for lists in parts; this module sees to it that no list at all names the certificate.
    Parts,
}

/// Trusted CAs with revocation lists.
pub struct Anchors {
    authorities: Vec<Authority>,
    trusted: Vec<TrustAnchor<'static>>,
    lists: Lists,
    taken: &'static [&'static dyn SignatureVerificationAlgorithm],
}

struct Authority {
    subject: Vec<u8>,
    spki: Vec<u8>,
    /// The same key, as DER.
    key: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    /// How many CAs may be between it and an end entity.
    path_length: Option<u32>,
    name: Vec<u8>,
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
            lists: Lists::default(),
            taken: taken(),
        }
    }

    fn finished(self, name: &str) -> Result<Self, AnchorError> {
        if self.trusted.is_empty() {
            return Err(AnchorError::None(name.to_owned()));
        }
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
        // SECURITY: whoever is trusted here may name people; the certificate of a person or a host that was put among the
        // CAs by mistake must not.
        if let Some(why) = read.lacks_of_an_authority() {
            return Err(AnchorError::NoAuthority {
                file: name.to_owned(),
                subject: in_words(&read.subject_der()),
                why,
            });
        }
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
            key: read.spki_der(),
            not_before: read.not_before(),
            not_after: read.not_after(),
            path_length: read.ca_path_length(),
            name: read.subject_der(),
        });
        Ok(())
    }

    fn believe(&mut self, name: &str, der: &[u8]) -> Result<(), AnchorError> {
        self.lists
            .add(der)
            .ok_or_else(|| AnchorError::List(name.to_owned()))
    }

    /// Whether these may take the place of `before` while the gateway runs: revocation is never undone by a list that is
    /// gone, or that an older one was put in the place of.
    ///
    /// # Errors
    /// [`AnchorError::Gone`], [`AnchorError::Older`].
    pub fn may_follow(&self, before: &Self) -> Result<(), AnchorError> {
        let is = |this: &Self, name: &[u8]| this.authorities.iter().any(|one| one.name == name);
        // A CA that is trusted no more needs no list.
        self.lists
            .may_follow(&before.lists, |issuer| is(self, issuer) || !is(before, issuer))
    }

    /// How many CAs and how many lists there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.trusted.len(), self.lists.len())
    }

    /// Whether a CA that is trusted here issued `certificate` (DER), itself or by way of CAs among `between`. For what was valid
    /// once: neither time nor lists are looked at.
    #[must_use]
    pub fn issued(&self, certificate: &[u8], between: &[&[u8]]) -> bool {
        let Some(certificate) = Certificate::read(certificate) else {
            return false;
        };
        let mut unseen: Vec<Certificate<'_>> = between
            .iter()
            .filter_map(|der| Certificate::read(der))
            .filter(|read| read.lacks_of_an_authority().is_none())
            .collect();
        let mut below = vec![certificate];
        while let Some(one) = below.pop() {
            if !one.names_one_algorithm() {
                continue;
            }
            let name = one.issuer_der();
            let mut known = self.authorities.iter();
            if known.any(|known| known.name == name && one.is_signed_by_key(&known.key, self.taken)) {
                return true;
            }
            let (above, rest): (Vec<_>, Vec<_>) = unseen
                .into_iter()
                .partition(|ca| one.issuer() == ca.subject() && one.is_signed_by(ca, self.taken));
            below.extend(above);
            unseen = rest;
        }
        false
    }

    /// Whether a CA that is trusted here has this name: the bytes, or the words in whatever case.
    #[must_use]
    pub fn have_name(&self, subject: &[u8], text: &str) -> bool {
        let mut known = self.authorities.iter();
        known.any(|known| known.name == subject || in_words(&known.name).eq_ignore_ascii_case(text))
    }

    /// When the first of the lists is out of date.
    #[must_use]
    pub fn lists_due(&self) -> Option<Timestamp> {
        self.lists.due()
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
        let checked = self.path(end_entity, above, now, Lookup::Own);
        match checked {
            // Lists in parts are rare, and webpki knows which part is about which certificate.
            Err(webpki::Error::UnknownRevocationStatus) if self.lists.any_in_parts() => {
                Ok(self.path(end_entity, above, now, Lookup::Parts)?)
            }
            checked => Ok(checked?),
        }
    }

    fn path(
        &self,
        end_entity: &[u8],
        above: &[CertificateDer<'_>],
        now: Timestamp,
        lookup: Lookup,
    ) -> Result<(), webpki::Error> {
        let end_entity = CertificateDer::from(end_entity);
        let end_entity = EndEntityCert::try_from(&end_entity)?;
        let lists = match lookup {
            Lookup::Own => Vec::new(),
            Lookup::Parts => self.lists.parsed(),
        };
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let holds = |path: &VerifiedPath<'_>| {
            self.check_anchor(path, now)?;
            self.check_revocation(path, now, lookup)
        };
        let since = std::time::Duration::from_secs(u64::try_from(now.secs()).unwrap_or(0));
        end_entity
            .verify_for_usage(
                self.taken,
                &self.trusted,
                above,
                UnixTime::since_unix_epoch(since),
                KeyUsage::client_auth(),
                revocation,
                Some(&holds),
            )
            .map(|_| ())
    }

    /// Looks up what stands between an end entity and its CA. webpki would do the same, and verify each list again with
    /// every request.
    fn check_revocation(
        &self,
        path: &VerifiedPath<'_>,
        now: Timestamp,
        lookup: Lookup,
    ) -> Result<(), webpki::Error> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let mut certificate: &Cert<'_> = path.end_entity();
        for issuer in path.intermediate_certificates() {
            let key = issuer.subject_public_key_info();
            let (name, spki) = (issuer.subject(), key.as_ref());
            // RFC 5280 section 6.3.3 (f).
            let may_sign = Certificate::read(&issuer.der()).is_some_and(|read| read.may_sign_lists());
            self.look_up(certificate, &Signer { name, spki }, now, (may_sign, lookup))?;
            certificate = issuer;
        }
        let anchor = path.anchor();
        let mut keys = self.authorities.iter().filter(|authority| {
            authority.subject == anchor.subject.as_ref()
                && authority.spki == anchor.subject_public_key_info.as_ref()
        });
        let authority = keys.next().ok_or(webpki::Error::UnknownIssuer)?;
        let (name, spki) = (&authority.subject[..], &authority.key[..]);
        self.look_up(certificate, &Signer { name, spki }, now, (true, lookup))
    }

    fn look_up(
        &self,
        certificate: &Cert<'_>,
        issuer: &Signer<'_>,
        now: Timestamp,
        (may_sign, lookup): (bool, Lookup),
    ) -> Result<(), webpki::Error> {
        match self.lists.status(certificate.serial(), issuer, now, self.taken) {
            Status::Revoked => Err(webpki::Error::CertRevoked),
            Status::Good if may_sign => Ok(()),
            // SECURITY: with any list, everything is looked up: that nobody says anything is no answer.
            _ if lookup == Lookup::Own => Err(webpki::Error::UnknownRevocationStatus),
            _ => Ok(()),
        }
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
        let (name, spki) = (issuer.subject(), &issuer.spki_der()[..]);
        match self
            .lists
            .status(proxy.serial(), &Signer { name, spki }, now, self.taken)
        {
            Status::Unlisted | Status::Good => Ok(()),
            Status::Revoked => Err(Rule::Revoked),
            Status::Unknown => Err(Rule::RevocationList),
        }
    }

    /// How many signatures of lists were verified so far.
    #[cfg(test)]
    pub(super) fn lists_verified(&self) -> usize {
        self.lists.verified()
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
