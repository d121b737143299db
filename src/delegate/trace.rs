//! From something that a provider found (a certificate, a chain, a serial, a name) to the proxy that it came from.
//!
//! Peers delegate further below our proxy, and most of their logs keep names only. So every certificate of a chain is
//! looked at, whichever way round it stands: the one that is in the map is the first proxy above the VO certificate, and
//! those below it are not in there. Of a name, every CN is looked at that could be a serial of ours.
//!
//! Whoever asks may have put together what it shows. So an answer says of each proxy what is proved ([`Shown`]): that its own
//! certificate or key was shown, and which of the others come from it by their signatures.

use std::collections::HashSet;

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::id::{PersonId, RequestId};
use crate::record::{Hash, TraceEvent};
use crate::store::{Db, StoreError};
use crate::trust::{chain, pem};

use super::store::{self, Mapped};

/// Nobody pastes more.
const LONGEST: usize = 1 << 20;
/// Certificates of one chain, and CNs of one name.
const MOST: usize = 32;
/// Signatures that are checked for one query; what is left is not proved.
const CHECKS: usize = 4 * MOST;
/// What stands before a serial or a hash where it was copied from a tool's output.
const BEGINNINGS: &[&str] = &[
    "serial=",
    "serial number:",
    "serial:",
    "sha256:",
    "sha256 fingerprint=",
    "sha-256 fingerprint=",
];
/// What stands before the SHA-256 of a public key in base64 (curl's `--pinnedpubkey`).
const PIN: &str = "sha256//";

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceQuery(Query);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Query {
    Chain(Vec<Presented>),
    Hash(Hash),
    Serials(Vec<u64>),
    Name(Vec<u64>),
}

/// A certificate that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Presented {
    der: Vec<u8>,
    certificate: Hash,
    spki: Hash,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    is_authority: bool,
    names: Vec<u64>,
}

/// By what a proxy was found; the last two rest on somebody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The very certificate.
    Certificate,
    /// Its public key.
    PublicKey,
    /// Its serial.
    Serial,
    /// A CN of a name.
    Subject,
}

impl By {
    /// The name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PublicKey => "public_key",
            Self::Serial => "serial",
            Self::Subject => "subject",
        }
    }

    /// Whether it is more than somebody's word.
    #[must_use]
    pub const fn proves(self) -> bool {
        matches!(self, Self::Certificate | Self::PublicKey)
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Certificate, Self::PublicKey, Self::Serial, Self::Subject]
            .into_iter()
            .find(|by| by.as_str() == name)
    }
}

/// What was shown of a proxy, and so what is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// By what it was found.
    pub by: By,
    /// Whether its public key leads to proxies of several persons, also where some of them may not be seen.
    pub several: bool,
    /// How many of the other certificates come from it: each is signed with the key of the one above, up to this proxy.
    pub delegated: u32,
    /// How many of the other certificates come from no proxy that was found, as far as can be seen.
    pub beside: u32,
}

impl Shown {
    /// Found by this, and nothing beside it.
    #[must_use]
    pub const fn by(by: By) -> Self {
        Self {
            by,
            several: false,
            delegated: 0,
            beside: 0,
        }
    }

    /// Whether all that was shown can only have come from this proxy, or from others of the same answer.
    #[must_use]
    pub const fn proves(&self) -> bool {
        self.by.proves() && !self.several && self.beside == 0
    }

    /// What is proved, in words for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self { by, .. } if !by.proves() => {
                "Not proved: a serial or a name is somebody's word. Compare validity and tool with what was seen.".to_owned()
            }
            Self { several: true, .. } => {
                "Not proved: this public key leads to proxies of several persons.".to_owned()
            }
            Self { beside: 1.., .. } => format!(
                "Not proved: the proxy's own {} was shown, but nothing says that {} of the other certificates come from it.",
                self.by.noun(),
                self.beside
            ),
            Self { delegated: 1.., .. } => format!(
                "Proved: the other certificates ({}) come from this proxy, each signed with the key above it.",
                self.delegated
            ),
            Self {
                by: By::Certificate, ..
            } => "Proved: this is the certificate of this proxy.".to_owned(),
            Self { .. } => "Proved: this is the public key of this proxy, and leads to one person.".to_owned(),
        }
    }

    /// As it is kept with a case.
    pub(super) fn kept(&self) -> String {
        let (by, several) = (self.by.as_str(), u8::from(self.several));
        format!("{by} {several} {} {}", self.delegated, self.beside)
    }

    pub(super) fn parse(kept: &str) -> Self {
        let mut parts = kept.split(' ');
        let by = parts.next().and_then(By::parse);
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
        let read = (by, number(), number(), number());
        let (Some(by), Some(several), Some(delegated), Some(beside)) = read else {
            // SECURITY: what cannot be read proves nothing.
            return Self::by(By::Subject);
        };
        Self {
            by,
            several: several != 0,
            delegated,
            beside,
        }
    }
}

impl By {
    const fn noun(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PublicKey => "public key",
            Self::Serial => "serial",
            Self::Subject => "name",
        }
    }
}

/// Which proxies whoever asks may see.
pub(super) type May<'a> = &'a (dyn Fn(&Mapped) -> bool + Sync);

/// A proxy that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// By what, and what that proves.
    pub shown: Shown,
    /// The proxy and for whom it was minted.
    pub proxy: Mapped,
}

/// What a query leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The proxies; none when it leads to none of ours.
    pub proxies: Vec<Traced>,
    /// Whether there may be more: not all of what it leads to was looked at.
    pub cut: bool,
}

/// The query was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It is nothing of what is accepted.
    #[error(
        "this is nothing that a proxy can be traced by; accepted: a certificate or chain (PEM or DER), its public key (PEM), a serial (decimal, or hexadecimal with 0x or colons), a SHA-256 of the certificate or of its public key (64 hexadecimal digits), or a distinguished name with its CNs"
    )]
    Nothing,
    /// There is more of it than is looked at.
    #[error("this holds {0} {1}; accepted: at most 32 at once, so trace it in parts")]
    TooMany(usize, &'static str),
}

impl TraceQuery {
    /// Reads a query: a file's bytes, or what somebody typed.
    ///
    /// # Errors
    /// [`TraceError`], which says what is accepted.
    pub fn parse(input: &[u8]) -> Result<Self, TraceError> {
        if input.len() > LONGEST {
            return Err(TraceError::Nothing);
        }
        let query = der_chain(input)
            .or_else(|| text(std::str::from_utf8(input).ok()?.trim()))
            .ok_or(TraceError::Nothing)?;
        let (count, what) = match &query {
            Query::Chain(chain) => (chain.len(), "certificates"),
            Query::Name(serials) => (serials.len(), "CNs that are numbers"),
            Query::Hash(_) | Query::Serials(_) => (1, ""),
        };
        // Nothing is left out in silence: the one that is looked for may be among it.
        match count {
            0..=MOST => Ok(Self(query)),
            _ => Err(TraceError::TooMany(count, what)),
        }
    }

    /// Whether it is more than somebody's word, as a serial or a name is: a certificate, a public key, or the hash of one.
    #[must_use]
    pub const fn proves(&self) -> bool {
        matches!(self.0, Query::Chain(_) | Query::Hash(_))
    }

    /// What kind of query it is, as the record of the trace names it.
    #[must_use]
    pub const fn by(&self) -> &'static str {
        match &self.0 {
            Query::Chain(_) => "certificate",
            Query::Hash(_) => "fingerprint",
            Query::Serials(_) => "serial",
            Query::Name(_) => "subject",
        }
    }

    /// What is looked for, as the record of the trace shows it: a hash or serials, never a whole certificate or name.
    #[must_use]
    pub fn shown(&self) -> String {
        let list = |serials: &[u64]| serials.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match &self.0 {
            Query::Chain(chain) => chain
                .first()
                .map(|first| first.certificate.to_string())
                .unwrap_or_default(),
            Query::Hash(hash) => hash.to_string(),
            Query::Serials(serials) | Query::Name(serials) => list(serials),
        }
    }

    /// The record of this trace by `request`, which found `found`.
    #[must_use]
    pub fn event(&self, request: RequestId, found: &[Traced]) -> TraceEvent {
        let mut persons: Vec<PersonId> = found.iter().map(|traced| traced.proxy.person).collect();
        persons.sort_unstable();
        persons.dedup();
        TraceEvent {
            request,
            by: self.by().to_owned(),
            query: self.shown(),
            found: found
                .iter()
                .map(|traced| traced.proxy.serial.to_string())
                .collect(),
            persons,
        }
    }

    /// The queries in a text of many: one a line (empty lines and those that begin with `#` are left out), and certificates in
    /// PEM anywhere between them, those that follow upon each other from one chain as one query.
    #[must_use]
    pub fn split(text: &str) -> Vec<String> {
        split(text)
    }

    /// The proxies that it leads to, of those that whoever asks may see: others are to it like what nobody knows.
    pub(super) async fn run(&self, db: &Db, may: May<'_>) -> Result<Found, StoreError> {
        match &self.0 {
            Query::Chain(chain) => by_chain(db, may, chain).await,
            Query::Hash(hash) => {
                // SECURITY: a VO's own key is everybody's: it leads to nobody, whatever the map says.
                if store::issuers(db).await?.contains(hash) {
                    return Ok(Found::default());
                }
                by_hash(db, may, *hash).await
            }
            Query::Serials(serials) => by_serials(db, may, serials, By::Serial).await,
            Query::Name(serials) => by_serials(db, may, serials, By::Subject).await,
        }
    }
}

async fn by_chain(db: &Db, may: May<'_>, chain: &[Presented]) -> Result<Found, StoreError> {
    let issuers = store::issuers(db).await?;
    // SECURITY: of what issued the proxies, key and certificate lead to nobody.
    let is_below = |one: &&Presented| !issuers.contains(&one.certificate) && !issuers.contains(&one.spki);
    let shown: Vec<&Presented> = chain.iter().filter(is_below).collect();
    let mut found = Found::default();
    // Of each certificate, the proxy that it is or comes from.
    let mut from: Vec<Option<usize>> = Vec::with_capacity(shown.len());
    // A file may hold the chains of several proxies: each of them is answered.
    for one in &shown {
        let mut these = by_hash(db, may, one.certificate).await?;
        if these.proxies.is_empty() {
            these = by_hash(db, may, one.spki).await?;
        }
        found.cut |= these.cut;
        let mut is = None;
        for traced in these.proxies {
            let known = found
                .proxies
                .iter()
                .position(|known| known.proxy.is(&traced.proxy));
            is = Some(known.unwrap_or(found.proxies.len()));
            if known.is_none() {
                found.proxies.push(traced);
            }
        }
        from.push(is);
    }
    if !found.proxies.is_empty() {
        follow(&shown, &mut from, &mut found.proxies);
        return Ok(found);
    }
    // What was delegated below our proxy still names it. SECURITY: a name can be forged, and the answer says so.
    let names: Vec<u64> = shown.iter().flat_map(|one| one.names.iter().copied()).collect();
    by_serials(db, may, &names, By::Subject).await
}

/// Follows the signatures down from the proxies that were found, and says of each how many certificates come from it, and how
/// many come from none.
fn follow(shown: &[&Presented], from: &mut [Option<usize>], proxies: &mut [Traced]) {
    let mut checks = 0;
    loop {
        let known: Vec<(&Presented, usize)> = shown
            .iter()
            .zip(&*from)
            .filter_map(|(one, from)| Some((*one, (*from)?)))
            .collect();
        let mut more = false;
        for (below, from) in shown.iter().zip(&mut *from).filter(|(_, from)| from.is_none()) {
            let mut signs = |above: &Presented| {
                let may = below.issuer == above.subject && checks < CHECKS;
                checks += usize::from(may);
                may && chain::is_signed_by(&below.der, &above.der)
            };
            if let Some((_, proxy)) = known.iter().find(|(above, _)| signs(above)) {
                *from = Some(*proxy);
                more = true;
                if let Some(traced) = proxies.get_mut(*proxy) {
                    traced.shown.delegated += 1;
                }
            }
        }
        if !more {
            break;
        }
    }
    let lost = shown
        .iter()
        .zip(&*from)
        .filter(|(one, from)| from.is_none() && !one.is_authority);
    let lost = u32::try_from(lost.count()).unwrap_or(u32::MAX);
    for traced in proxies {
        traced.shown.beside = lost;
    }
}

async fn by_hash(db: &Db, may: May<'_>, hash: Hash) -> Result<Found, StoreError> {
    let (found, cut) = store::by_hash(db, hash).await?;
    let persons: HashSet<PersonId> = found.iter().map(|proxy| proxy.person).collect();
    let shown = |proxy: &Mapped| match proxy.certificate == Some(hash) {
        true => Shown::by(By::Certificate),
        // SECURITY: one key that leads to several people proves nothing of any of them.
        false => Shown {
            several: cut || persons.len() > 1,
            ..Shown::by(By::PublicKey)
        },
    };
    let traced = |proxy: Mapped| Traced {
        shown: shown(&proxy),
        proxy,
    };
    let proxies = found.into_iter().map(traced);
    Ok(Found {
        proxies: proxies.filter(|traced| may(&traced.proxy)).collect(),
        cut,
    })
}

async fn by_serials(db: &Db, may: May<'_>, serials: &[u64], by: By) -> Result<Found, StoreError> {
    let mut seen = HashSet::new();
    for serial in serials {
        if !seen.insert(*serial) {
            continue;
        }
        if seen.len() > MOST {
            return Ok(Found {
                cut: true,
                ..Found::default()
            });
        }
        let (mut found, cut) = store::by_serial(db, *serial).await?;
        found.retain(|proxy| may(proxy));
        if !found.is_empty() || cut {
            let shown = Shown::by(by);
            let proxies = found.into_iter().map(|proxy| Traced { shown, proxy });
            return Ok(Found {
                proxies: proxies.collect(),
                cut,
            });
        }
    }
    Ok(Found::default())
}

/// One or several certificates in DER, one after the other.
fn der_chain(input: &[u8]) -> Option<Query> {
    let chain = certificates(input)?;
    (!chain.is_empty()).then_some(Query::Chain(chain))
}

fn certificates(mut input: &[u8]) -> Option<Vec<Presented>> {
    let mut chain = Vec::new();
    while !input.is_empty() {
        let (rest, certificate) = X509Certificate::from_der(input).ok()?;
        chain.push(presented(&certificate));
        input = rest;
    }
    Some(chain)
}

fn presented(certificate: &X509Certificate<'_>) -> Presented {
    let names = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok()?.parse().ok());
    Presented {
        der: certificate.as_raw().to_vec(),
        certificate: Hash::of(certificate.as_raw()),
        spki: Hash::of(certificate.public_key().raw),
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        is_authority: certificate.is_ca(),
        names: names.collect(),
    }
}

fn text(text: &str) -> Option<Query> {
    if text.contains("-----BEGIN") {
        return pem_chain(text);
    }
    if let Some(pin) = text.strip_prefix(PIN) {
        let bytes = data_encoding::BASE64.decode(pin.as_bytes()).ok()?;
        return bytes.try_into().ok().map(|hash| Query::Hash(Hash(hash)));
    }
    let plain = strip(text, BEGINNINGS);
    if let Some(hash) = Hash::parse(plain) {
        return Some(Query::Hash(hash));
    }
    if let Some(serials) = serials(plain) {
        return Some(Query::Serials(serials));
    }
    if let Some(name) = name(text) {
        return Some(name);
    }
    let joined: String = text.split_whitespace().collect();
    der_chain(&data_encoding::BASE64.decode(joined.as_bytes()).ok()?)
}

/// Certificates in PEM, each block with one or more; or a public key alone. What stands beside them is not looked at.
fn pem_chain(text: &str) -> Option<Query> {
    if let Ok(blocks) = pem::certificates("query", text) {
        let mut chain = Vec::new();
        for der in &blocks {
            chain.extend(certificates(der)?);
        }
        return (!chain.is_empty()).then_some(Query::Chain(chain));
    }
    let key = pem::public_key("query", text).ok()?;
    Some(Query::Hash(Hash::of(&key)))
}

const BEGIN: &str = "-----BEGIN ";
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END ";

fn split(text: &str) -> Vec<String> {
    let mut queries: Vec<String> = Vec::new();
    // The issuer of the certificate before, as long as nothing else came in between.
    let mut above: Option<Vec<u8>> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(BEGIN) {
            above = None;
            queries.push(line.to_owned());
            continue;
        }
        let mut block = format!("{line}\n");
        for inside in lines.by_ref() {
            block.push_str(inside.trim());
            block.push('\n');
            if inside.trim().starts_with(END) {
                break;
            }
        }
        // A file may hold keys as well, which nobody needs to see.
        if line != BEGIN_CERTIFICATE {
            continue;
        }
        let names = names(&block);
        let goes_on = matches!((&above, &names), (Some(above), Some((subject, _))) if above == subject);
        above = names.map(|(_, issuer)| issuer);
        match queries.last_mut() {
            Some(chain) if goes_on => chain.push_str(&block),
            _ => queries.push(block),
        }
    }
    queries
}

/// Subject and issuer of the certificate in a PEM block (DER).
fn names(block: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let der = pem::certificates("query", block).ok()?.into_iter().next()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let raw = |name: &x509_parser::x509::X509Name<'_>| name.as_raw().to_vec();
    Some((raw(certificate.subject()), raw(certificate.issuer())))
}

fn strip<'a>(text: &'a str, beginnings: &[&str]) -> &'a str {
    let begins = |beginning: &&&str| {
        text.get(..beginning.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(beginning))
    };
    beginnings
        .iter()
        .find(begins)
        .and_then(|beginning| text.get(beginning.len()..))
        .unwrap_or(text)
        .trim()
}

/// A serial: decimal first, and where only digits stand that could be both, hexadecimal as well.
fn serials(text: &str) -> Option<Vec<u64>> {
    let hexadecimal = |digits: &str| {
        u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| !digits.starts_with('+'))
    };
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hexadecimal(digits).map(|serial| vec![serial]);
    }
    if text.contains(':') {
        return hexadecimal(&text.replace(':', "")).map(|serial| vec![serial]);
    }
    let decimal = text
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten();
    let both: Vec<u64> = decimal.into_iter().chain(hexadecimal(text)).collect();
    (!both.is_empty()).then_some(both)
}

/// The CNs of a name that could be serials, in any of the usual spellings (`/C=GB/CN=7`, `C=GB, CN = 7`).
fn name(text: &str) -> Option<Query> {
    if text.contains(['\n', '\r']) {
        return None;
    }
    let parts = text
        .split(['/', ',', '+', ';'])
        .filter_map(|part| part.split_once('='));
    let serials: Vec<u64> = parts
        .filter(|(kind, _)| kind.trim().eq_ignore_ascii_case("cn"))
        .filter_map(|(_, value)| value.trim().parse().ok())
        .collect();
    (!serials.is_empty()).then_some(Query::Name(serials))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Query> {
        TraceQuery::parse(text.as_bytes()).ok().map(|query| query.0)
    }

    #[test]
    fn serials_are_read_in_every_spelling() {
        assert_eq!(
            parse("9007199254740993"),
            Some(Query::Serials(vec![9_007_199_254_740_993, 0x9007_1992_5474_0993]))
        );
        assert_eq!(parse("0x1F"), Some(Query::Serials(vec![31])));
        assert_eq!(parse("1f:00"), Some(Query::Serials(vec![0x1f00])));
        assert_eq!(
            parse("serial=7FFFFFFFFFFFFFFF\n"),
            Some(Query::Serials(vec![i64::MAX as u64]))
        );
        assert_eq!(parse("4711"), Some(Query::Serials(vec![4711, 0x4711])));
    }

    #[test]
    fn names_give_their_numbers_in_order() {
        let expected = Some(Query::Name(vec![4711, 12]));
        for name in [
            "/C=GB/O=Countersign throw-away/CN=VO imense/CN=4711/CN=12",
            "C=GB, O=x, CN=VO imense, CN=4711, CN=12",
            "C = GB, O = x, CN = VO imense, CN = 4711, CN = 12",
            "cn=4711,cn=12",
        ] {
            assert_eq!(parse(name), expected, "{name}");
        }
        assert_eq!(parse("/C=GB/CN=John Smith"), None);
        assert_eq!(
            parse("/C=DE/O=Universität/CN=VO imense/CN=4711"),
            Some(Query::Name(vec![4711]))
        );
    }

    #[test]
    fn a_public_key_is_its_hash_in_pem_and_as_a_pin() {
        let der = pem::certificates("x", include_str!("../../certs/proxy.pem"))
            .unwrap()
            .remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let key = certificate.public_key().raw;
        let expected = Some(Query::Hash(Hash::of(key)));
        let block = der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, key).unwrap();
        assert_eq!(parse(&block), expected);
        let pin = data_encoding::BASE64.encode(&Hash::of(key).0);
        assert_eq!(parse(&format!("sha256//{pin}")), expected);
    }

    #[test]
    fn a_chain_is_read_from_one_block_and_from_several_and_between_other_lines() {
        let [proxy, vo] = [
            include_str!("../../certs/proxy.pem"),
            include_str!("../../certs/vo-ec.pem"),
        ]
        .map(|text| pem::certificates("x", text).unwrap().remove(0));
        let both = [proxy.clone(), vo.clone()].concat();
        let chain = TraceQuery::parse(&both).unwrap();
        let one_block = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, &both).unwrap();
        let two = pem::write([&proxy, &vo]).unwrap();
        let key = include_str!("../../certs/proxy.key");
        for text in [one_block, format!("subject=x\n{two}"), format!("{key}{two}")] {
            assert_eq!(TraceQuery::parse(text.as_bytes()).unwrap(), chain, "{text}");
        }
        assert!(chain.proves() && !TraceQuery::parse(b"4711").unwrap().proves());
    }

    #[test]
    fn a_text_of_many_is_split_into_lines_and_chains() {
        let (proxy, vo, ca) = (
            include_str!("../../certs/proxy.pem").trim(),
            include_str!("../../certs/vo-ec.pem").trim(),
            include_str!("../../certs/ca.pem").trim(),
        );
        let key = include_str!("../../certs/proxy.key");
        let text = format!("# case 7\n4711\r\n\n{proxy}\n{key}{vo}\n/CN=x/CN=12\n{ca}\n{proxy}\n");
        let queries = TraceQuery::split(&text);
        let expected = [
            "4711".to_owned(),
            format!("{proxy}\n{vo}\n"),
            "/CN=x/CN=12".to_owned(),
            format!("{ca}\n"),
            format!("{proxy}\n"),
        ];
        assert_eq!(queries, expected);
        assert_eq!(TraceQuery::split("\n#\n"), [""; 0]);
    }

    #[test]
    fn base64_with_padding_is_no_name() {
        for text in [
            include_str!("../../certs/ca.pem"),
            include_str!("../../certs/vo-rsa.pem"),
            include_str!("../../certs/vo-p384.pem"),
        ] {
            let der = pem::certificates("x", text).unwrap().remove(0);
            let text = data_encoding::BASE64.encode(&der);
            assert!(text.ends_with('='), "{text}");
            assert!(matches!(parse(&text), Some(Query::Chain(_))), "{text}");
        }
    }

    #[test]
    fn what_is_nothing_is_refused_with_what_is_accepted() {
        for text in [
            "",
            "hello",
            "0x",
            "-1",
            "+7",
            "18446744073709551616 x",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(TraceError::Nothing.to_string().contains("accepted:"));
    }

    #[test]
    fn what_is_more_than_is_looked_at_is_refused_and_not_cut() {
        let der = pem::certificates("x", include_str!("../../certs/ca.pem"))
            .unwrap()
            .remove(0);
        let chain = |count: usize| TraceQuery::parse(&der.repeat(count));
        assert!(chain(MOST).is_ok());
        let refused = chain(MOST + 1).unwrap_err();
        assert_eq!(refused, TraceError::TooMany(MOST + 1, "certificates"));
        assert!(refused.to_string().contains("at most 32"), "{refused}");
        let pem = include_str!("../../certs/ca.pem").repeat(MOST + 1);
        assert_eq!(TraceQuery::parse(pem.as_bytes()), Err(refused));
        let name = "/CN=7".repeat(MOST + 1);
        assert!(matches!(
            TraceQuery::parse(name.as_bytes()),
            Err(TraceError::TooMany(33, _))
        ));
    }

    #[test]
    fn what_is_proved_reads_back_and_what_cannot_be_read_proves_nothing() {
        for by in [By::Certificate, By::PublicKey, By::Serial, By::Subject] {
            for (several, delegated, beside) in [(false, 0, 0), (true, 0, 0), (false, 2, 0), (false, 2, 1)] {
                let shown = Shown {
                    by,
                    several,
                    delegated,
                    beside,
                };
                assert_eq!(Shown::parse(&shown.kept()), shown);
                assert_eq!(shown.words().starts_with("Proved"), shown.proves(), "{shown:?}");
            }
        }
        for kept in [
            "",
            "certificate",
            "certificate 0 0",
            "certificate x 0 0",
            "x 0 0 0",
        ] {
            assert!(!Shown::parse(kept).proves(), "{kept}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[0-9a-fA-F:x/=,CN ]{0,60}") {
            let _ = TraceQuery::parse(&bytes);
            let _ = TraceQuery::parse(text.as_bytes());
        }

        #[test]
        fn every_serial_reads_back_in_decimal_and_hexadecimal(serial in 1u64..1 << 63) {
            prop_assert!(matches!(parse(&serial.to_string()), Some(Query::Serials(found)) if found[0] == serial));
            prop_assert_eq!(parse(&format!("0x{serial:x}")), Some(Query::Serials(vec![serial])));
        }
    }
}
