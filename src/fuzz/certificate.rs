//! Certificates: what an administrator imports, and what is brought to be traced.

use der::Decode;

use crate::clock::{HandClock, Timestamp};
use crate::delegate::TraceQuery;
use crate::record::Hash;
use crate::trust::certificate::{Facts, Source, check};
use crate::trust::pem;

/// DER as a certificate, then the same as PEM.
///
/// What is accepted is one SEQUENCE for another reader of DER too, with nothing behind it, and the facts are those of these
/// very bytes. PEM leads to the same.
pub(super) fn certificate(data: &[u8]) {
    if let Ok(facts) = Facts::of("fuzz", data) {
        assert_eq!(facts.sha256, Hash::of(data));
        let outer = der::AnyRef::from_der(data).expect("accepted, but no DER");
        assert_eq!(der::Tagged::tag(&outer), der::Tag::Sequence);
        let text = pem::write([&data.to_vec()]).expect("accepted, but not to be written as PEM");
        assert_eq!(pem::certificates("fuzz", &text).unwrap(), [data.to_vec()]);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(chain) = pem::certificates("fuzz", text) {
        assert!(!chain.is_empty());
        let again = pem::write(&chain).unwrap();
        assert_eq!(pem::certificates("fuzz", &again).unwrap(), chain);
    }
    let clock = HandClock::new(Timestamp::from_secs(1_795_262_400));
    let source = Source { name: "fuzz", text };
    if let Ok(checked) = check(source, source, &clock) {
        // Certificate and key in one text: then there is at least a leaf, and it is the first of that text.
        let chain = pem::certificates("fuzz", text).unwrap();
        assert_eq!(checked.chain().first(), chain.first());
        assert_eq!(checked.facts().sha256, Hash::of(&chain[0]));
        assert!(checked.facts().not_before <= checked.facts().not_after);
    }
}

/// Bytes as something to be traced.
///
/// What is looked for is said in a short line; a chain is the same in PEM as in DER, and spaces around a text change
/// nothing.
pub(super) fn trace(data: &[u8]) {
    let Ok(query) = TraceQuery::parse(data) else {
        return;
    };
    assert_eq!(TraceQuery::parse(data).unwrap(), query);
    let shown = query.shown();
    assert!(
        shown.bytes().all(|b| b.is_ascii_hexdigit() || b == b' '),
        "{shown:?}"
    );
    match query.by() {
        "certificate" if std::str::from_utf8(data).is_err() => {
            if let Ok(text) = pem::write([&data.to_vec()])
                && let Ok(again) = TraceQuery::parse(text.as_bytes())
            {
                assert_eq!(again, query);
            }
        }
        "fingerprint" => {
            assert_eq!(shown.len(), 64);
            assert_eq!(TraceQuery::parse(shown.as_bytes()).unwrap(), query);
        }
        "serial" => {
            assert!(shown.split(' ').all(|serial| serial.parse::<u64>().is_ok()));
            let first = shown.split(' ').next().unwrap_or_default();
            assert!(TraceQuery::parse(first.as_bytes()).is_ok(), "{first}");
        }
        _ => {}
    }
    if let Ok(text) = std::str::from_utf8(data)
        && query.by() != "certificate"
    {
        assert_eq!(TraceQuery::parse(format!(" {text}\n").as_bytes()).unwrap(), query);
    }
}
