//! From something that a provider found (a certificate, a chain, a serial, a name) to the proxy that it came from.
//!
//! Peers delegate further below our proxy, and most of their logs keep names only. So every certificate of a chain is
//! looked at, whichever way round it stands: the one that is in the map is the first proxy above the VO certificate, and
//! those below it are not in there. Of a name, every CN is looked at that could be a serial of ours.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::id::{PersonId, RequestId};
use crate::record::{Hash, TraceEvent};
use crate::store::{Db, StoreError};
use crate::trust::pem;

use super::store::{self, Mapped};

/// Nobody pastes more.
const LONGEST: usize = 1 << 20;
/// Certificates of one chain, and CNs of one name, that are looked up.
const MOST: usize = 32;
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
    certificate: Hash,
    spki: Hash,
    names: Vec<u64>,
}

/// By what a proxy was found; the first two prove that it is the one, the others rest on somebody's word.
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

    /// Whether what was presented can only have come from this proxy.
    #[must_use]
    pub const fn proves(self) -> bool {
        matches!(self, Self::Certificate | Self::PublicKey)
    }
}

/// A proxy that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// By what.
    pub by: By,
    /// The proxy and for whom it was minted.
    pub proxy: Mapped,
}

/// The query was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is nothing that a proxy can be traced by; accepted: a certificate or chain (PEM or DER), its public key (PEM), a serial (decimal, or hexadecimal with 0x or colons), a SHA-256 of the certificate or of its public key (64 hexadecimal digits), or a distinguished name with its CNs"
)]
pub struct TraceError;

impl TraceQuery {
    /// Reads a query: a file's bytes, or what somebody typed.
    ///
    /// # Errors
    /// [`TraceError`], which says what is accepted.
    pub fn parse(input: &[u8]) -> Result<Self, TraceError> {
        if input.len() > LONGEST {
            return Err(TraceError);
        }
        der_chain(input)
            .or_else(|| text(std::str::from_utf8(input).ok()?.trim()))
            .map(Self)
            .ok_or(TraceError)
    }

    /// Whether what it names can only be one proxy: a certificate, a public key, or the hash of one. A serial or a name is
    /// somebody's word.
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

    /// The proxies that it leads to; empty when none is ours.
    pub(super) async fn run(&self, db: &Db) -> Result<Vec<Traced>, StoreError> {
        match &self.0 {
            Query::Chain(chain) => by_chain(db, chain).await,
            Query::Hash(hash) => by_hash(db, *hash).await,
            Query::Serials(serials) => by_serials(db, serials, By::Serial).await,
            Query::Name(serials) => by_serials(db, serials, By::Subject).await,
        }
    }
}

async fn by_chain(db: &Db, chain: &[Presented]) -> Result<Vec<Traced>, StoreError> {
    let mut all: Vec<Traced> = Vec::new();
    // A file may hold the chains of several proxies: each of them is answered.
    for presented in chain {
        let mut found = by_hash(db, presented.certificate).await?;
        if found.is_empty() {
            found = by_hash(db, presented.spki).await?;
        }
        for traced in found {
            let is_there = |known: &Traced| known.proxy.is(&traced.proxy);
            if !all.iter().any(is_there) {
                all.push(traced);
            }
        }
    }
    if !all.is_empty() {
        return Ok(all);
    }
    // What was delegated below our proxy still names it. SECURITY: a name can be forged, and the answer says so.
    let names: Vec<u64> = chain
        .iter()
        .flat_map(|presented| presented.names.iter().copied())
        .collect();
    by_serials(db, &names, By::Subject).await
}

async fn by_hash(db: &Db, hash: Hash) -> Result<Vec<Traced>, StoreError> {
    let found = store::by_hash(db, hash).await?;
    let by = |proxy: &Mapped| {
        if proxy.certificate == Some(hash) {
            By::Certificate
        } else {
            By::PublicKey
        }
    };
    Ok(found
        .into_iter()
        .map(|proxy| Traced {
            by: by(&proxy),
            proxy,
        })
        .collect())
}

async fn by_serials(db: &Db, serials: &[u64], by: By) -> Result<Vec<Traced>, StoreError> {
    let mut seen = Vec::new();
    for serial in serials.iter().take(MOST) {
        if seen.contains(serial) {
            continue;
        }
        seen.push(*serial);
        let found = store::by_serial(db, *serial).await?;
        if !found.is_empty() {
            return Ok(found.into_iter().map(|proxy| Traced { by, proxy }).collect());
        }
    }
    Ok(Vec::new())
}

/// One or several certificates in DER, one after the other.
fn der_chain(input: &[u8]) -> Option<Query> {
    let chain = certificates(input)?;
    (!chain.is_empty()).then_some(Query::Chain(chain))
}

fn certificates(mut input: &[u8]) -> Option<Vec<Presented>> {
    let mut chain = Vec::new();
    while !input.is_empty() && chain.len() < MOST {
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
        certificate: Hash::of(certificate.as_raw()),
        spki: Hash::of(certificate.public_key().raw),
        names: names.take(MOST).collect(),
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
        chain.truncate(MOST);
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
        .take(MOST)
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
        assert!(TraceError.to_string().contains("accepted:"));
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
