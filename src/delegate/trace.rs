//! From something that a provider found (a certificate, a chain, a serial, a name) to the proxy that it came from.
//!
//! Peers delegate further below our proxy, and most of their logs keep names only. So every certificate of a chain is
//! looked at, and of a name every CN that could be a serial of ours.

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
    "this is nothing that a proxy can be traced by; accepted: a certificate or chain (PEM or DER), a serial (decimal, or hexadecimal with 0x or colons), a SHA-256 of the certificate or of its public key (64 hexadecimal digits), or a distinguished name with its CNs"
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
    for presented in chain {
        let mut found = by_hash(db, presented.certificate).await?;
        if found.is_empty() {
            found = by_hash(db, presented.spki).await?;
        }
        // One chain has one proxy of ours: the first one above the VO certificate.
        if !found.is_empty() {
            return Ok(found);
        }
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
fn der_chain(mut input: &[u8]) -> Option<Query> {
    let mut chain = Vec::new();
    while !input.is_empty() && chain.len() < MOST {
        let (rest, certificate) = X509Certificate::from_der(input).ok()?;
        chain.push(presented(&certificate));
        input = rest;
    }
    (!chain.is_empty()).then_some(Query::Chain(chain))
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
        let chain = pem::certificates("query", text).ok()?;
        let parsed: Option<Vec<Presented>> = chain
            .iter()
            .take(MOST)
            .map(|der| {
                X509Certificate::from_der(der)
                    .ok()
                    .map(|(_, certificate)| presented(&certificate))
            })
            .collect();
        return parsed.map(Query::Chain);
    }
    let plain = strip(
        text,
        &[
            "serial=",
            "serial:",
            "sha256:",
            "sha256 fingerprint=",
            "sha-256 fingerprint=",
        ],
    );
    if let Some(hash) = Hash::parse(plain) {
        return Some(Query::Hash(hash));
    }
    if let Some(serials) = serials(plain) {
        return Some(Query::Serials(serials));
    }
    if text.contains('=')
        && text.is_ascii()
        && !text.contains('\n')
        && text.to_ascii_lowercase().contains("cn")
    {
        return name(text);
    }
    let joined: String = text.split_whitespace().collect();
    der_chain(&data_encoding::BASE64.decode(joined.as_bytes()).ok()?)
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
    }

    #[test]
    fn hashes_are_read_with_and_without_colons() {
        let hash = Hash::of(b"x");
        let colons: String = hash
            .to_string()
            .to_uppercase()
            .as_bytes()
            .chunks(2)
            .map(|pair| format!("{}{}:", pair[0] as char, pair[1] as char))
            .collect();
        assert_eq!(parse(&hash.to_string()), Some(Query::Hash(hash)));
        assert_eq!(
            parse(&format!("sha256 Fingerprint={}", colons.trim_end_matches(':'))),
            Some(Query::Hash(hash))
        );
    }

    #[test]
    fn a_certificate_is_the_same_in_pem_der_and_base64() {
        let text = include_str!("../../certs/proxy.pem");
        let der = pem::certificates("x", text).unwrap().remove(0);
        let from_der = TraceQuery::parse(&der).unwrap();
        assert_eq!(TraceQuery::parse(text.as_bytes()).unwrap(), from_der);
        assert_eq!(
            TraceQuery::parse(data_encoding::BASE64.encode(&der).as_bytes()).unwrap(),
            from_der
        );
        assert_eq!(
            (from_der.by(), from_der.shown()),
            ("certificate", Hash::of(&der).to_string())
        );
        let Query::Chain(chain) = from_der.0 else {
            panic!("no chain")
        };
        assert_eq!(chain[0].names, [4711]);
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
