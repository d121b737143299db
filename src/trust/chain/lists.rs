//! Revocation lists (RFC 5280 section 5): read once, each signature verified once for each key, serials looked up in an index.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::clock::Timestamp;
use crate::record::Hash;

use super::anchors::AnchorError;
use super::certificate::{in_words, key_signed_list};

/// So many keys are remembered for a list; its issuer's name has one, or a few.
const KEYS_MAX: usize = 16;

/// A revocation list.
pub(super) struct List {
    der: Vec<u8>,
    parsed: CertRevocationList<'static>,
    /// The issuer's name as DER.
    issuer: Vec<u8>,
    made: Timestamp,
    due: Option<Timestamp>,
    /// Its CRL number, big-endian without leading zeros.
    number: Option<Vec<u8>>,
    /// What tells it from other lists of the same issuer: its key, and the part of the certificates that it is about.
    kind: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// The keys (SHA-256 of `SubjectPublicKeyInfo`) that were tried, and whether each has signed it.
    tried: RwLock<Vec<(Hash, bool)>>,
}

/// What the lists of an issuer say of one of its certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// There is no list of an issuer with this name.
    Unlisted,
    /// No list that can be relied on.
    Unknown,
    /// A list of this issuer names it.
    Revoked,
    /// A list that is up to date does not name it.
    Good,
}

/// Who issued a certificate: name (without tag and length) and key (`SubjectPublicKeyInfo`, DER).
pub(super) struct Signer<'a> {
    pub(super) name: &'a [u8],
    pub(super) spki: &'a [u8],
}

/// All lists.
#[derive(Default)]
pub(super) struct Lists(Vec<List>);

impl Lists {
    /// Takes one more (DER). `None` when it is none, or of a kind that is not taken.
    pub(super) fn add(&mut self, der: &[u8]) -> Option<()> {
        if !self.0.iter().any(|list| list.der == der) {
            self.0.push(List::read(der)?);
        }
        Some(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first of them is out of date.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|list| list.due).min()
    }

    /// Whether any is about a part of its issuer's certificates only (RFC 5280 section 5.2.5).
    pub(super) fn any_in_parts(&self) -> bool {
        self.0.iter().any(List::is_part)
    }

    /// As webpki takes them, the newest first.
    pub(super) fn parsed(&self) -> Vec<&CertRevocationList<'static>> {
        let mut lists: Vec<&List> = self.0.iter().collect();
        lists.sort_by_key(|list| std::cmp::Reverse(list.made));
        lists.into_iter().map(|list| &list.parsed).collect()
    }

    /// What is said of the certificate with this serial (the bytes of the INTEGER). All lists that this issuer's key
    /// signed are looked at, and one that names the certificate is enough, also when it is out of date: nothing is
    /// trusted again.
    pub(super) fn status(
        &self,
        serial: &[u8],
        issuer: &Signer<'_>,
        now: Timestamp,
        taken: &[&dyn SignatureVerificationAlgorithm],
    ) -> Status {
        let mut status = Status::Unlisted;
        let of_issuer = self.0.iter().filter(|list| list.parsed.issuer() == issuer.name);
        for list in of_issuer {
            if status == Status::Unlisted {
                status = Status::Unknown;
            }
            let named = !matches!(list.parsed.find_serial(serial), Ok(None));
            let covers = !list.is_part() && list.due.is_some_and(|due| now < due);
            // SECURITY: of two authorities with one name, each is heeded about its own certificates only.
            if (named || covers) && list.is_signed_by(issuer.spki, taken) {
                if named {
                    return Status::Revoked;
                }
                status = Status::Good;
            }
        }
        status
    }

    /// Whether these may take the place of `before`: no issuer that `is_needed` is without a list now that had one, and
    /// none has an older one.
    pub(super) fn may_follow(
        &self,
        before: &Self,
        is_needed: impl Fn(&[u8]) -> bool,
    ) -> Result<(), AnchorError> {
        let (newest, newest_before) = (self.newest(), before.newest());
        for (issuer, made_before) in newest_before {
            if !is_needed(issuer) {
                continue;
            }
            let issuer_text = || in_words(issuer);
            match newest.get(issuer) {
                None => return Err(AnchorError::Gone(issuer_text())),
                Some(made) if *made < made_before => {
                    return Err(AnchorError::Older {
                        issuer: issuer_text(),
                        why: format!("it was made at {made}, that at {made_before}"),
                    });
                }
                Some(_) => {}
            }
        }
        let (highest, highest_before) = (self.highest(), before.highest());
        for (kind, number_before) in highest_before {
            if highest
                .get(&kind)
                .is_some_and(|number| less(number, number_before))
            {
                return Err(AnchorError::Older {
                    issuer: in_words(kind.0),
                    why: "its CRL number is lower".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// When the newest list of each issuer was made.
    fn newest(&self) -> BTreeMap<&[u8], Timestamp> {
        let mut newest = BTreeMap::new();
        for list in &self.0 {
            let made = newest.entry(&list.issuer[..]).or_insert(list.made);
            *made = (*made).max(list.made);
        }
        newest
    }

    /// The highest CRL number for each issuer and kind of list.
    #[expect(
        clippy::type_complexity,
        reason = "issuer, key and part, as they stand in the list"
    )]
    fn highest(&self) -> BTreeMap<(&[u8], &(Option<Vec<u8>>, Option<Vec<u8>>)), &[u8]> {
        let mut highest: BTreeMap<_, &[u8]> = BTreeMap::new();
        for list in &self.0 {
            let Some(number) = &list.number else { continue };
            let known = highest.entry((&list.issuer[..], &list.kind)).or_insert(number);
            if less(known, number) {
                *known = number;
            }
        }
        highest
    }
}

fn less(one: &[u8], other: &[u8]) -> bool {
    (one.len(), one) < (other.len(), other)
}

impl List {
    fn read(der: &[u8]) -> Option<Self> {
        let parsed = OwnedCertRevocationList::from_der(der).ok()?;
        let (_, read) = CertificateRevocationList::from_der(der).ok()?;
        let key = |extension: &x509_parser::extensions::X509Extension<'_>| match extension.parsed_extension()
        {
            ParsedExtension::AuthorityKeyIdentifier(name) => {
                name.key_identifier.as_ref().map(|name| name.0.to_vec())
            }
            _ => None,
        };
        let parsed: CertRevocationList<'static> = parsed.into();
        Some(Self {
            issuer: read.issuer().as_raw().to_vec(),
            made: Timestamp::from_secs(read.last_update().timestamp()),
            due: read
                .next_update()
                .map(|due| Timestamp::from_secs(due.timestamp())),
            number: read.crl_number().map(|number| number.to_bytes_be()),
            kind: (
                read.extensions().iter().find_map(key),
                parsed.issuing_distribution_point().map(<[u8]>::to_vec),
            ),
            parsed,
            der: der.to_vec(),
            tried: RwLock::default(),
        })
    }

    fn is_part(&self) -> bool {
        self.kind.1.is_some()
    }

    /// Whether this key signed it. A list may have some megabytes, so this is found out once for each key.
    fn is_signed_by(&self, spki: &[u8], taken: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let key = Hash::of(spki);
        let tried = self.tried.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signed)) = tried.iter().find(|(tried, _)| *tried == key) {
            return *signed;
        }
        drop(tried);
        let signed = key_signed_list(spki, &self.der, taken);
        let mut tried = self.tried.write().unwrap_or_else(PoisonError::into_inner);
        if tried.len() < KEYS_MAX && !tried.iter().any(|(tried, _)| *tried == key) {
            tried.push((key, signed));
        }
        signed
    }

    #[cfg(test)]
    pub(super) fn tried(&self) -> usize {
        self.tried.read().unwrap().len()
    }
}

#[cfg(test)]
impl Lists {
    /// How many signatures were verified.
    pub(super) fn verified(&self) -> usize {
        self.0.iter().map(List::tried).sum()
    }
}
