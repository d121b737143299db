//! The two byte surfaces of this module, for `fuzz` and the tests that replay its inputs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use std::sync::LazyLock;
use std::time::Duration;

use der::Encode;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::info::{INDEPENDENT, INHERIT_ALL, LIMITED};
use super::{Anchors, Limits, Policy, ProxyCertInfo, verify};
use crate::clock::Timestamp;
use crate::record::Hash;
use crate::trust::pem;

/// The CA that issued what stands in `fuzz/seeds`.
static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let ca = pem::certificates("ca.pem", include_str!("../../../certs/ca.pem")).unwrap();
    Anchors::new("ca.pem", &ca, &[]).unwrap()
});

/// Certificates in DER, one after the other, as a chain.
///
/// A chain that holds also holds without its lowest proxy, for the same end entity and with no less a policy; and its
/// parts are those that a second reader of X.509 finds.
pub(crate) fn fuzz_chain(data: &[u8]) {
    let limits = Limits {
        lifetime: Duration::from_secs(200 * 366 * 86_400),
        ..Limits::default()
    };
    let now = Timestamp::from_secs(1_800_000_000);
    let chain = certificates(data);
    let Ok(verified) = verify(&chain, &ANCHORS, &limits, now) else {
        return;
    };
    assert_eq!(verify(&chain, &ANCHORS, &limits, now).as_ref(), Ok(&verified));
    let depth = verified.proxies.len();
    assert!(depth <= limits.depth && depth < chain.len());
    assert_eq!(verified.end_entity.sha256, Hash::of(chain[depth]));
    assert!(verified.not_after >= now);
    // What came along above the end entity need not be of the path, and need not be a certificate.
    let read: Vec<X509Certificate<'_>> = chain[..=depth]
        .iter()
        .map(|der| {
            X509Certificate::from_der(der)
                .expect("accepted, but another reader refuses it")
                .1
        })
        .collect();
    assert_eq!(verified.spki, read[0].public_key().raw);
    assert_eq!(verified.end_entity.subject, read[depth].subject().as_raw());
    for pair in read.windows(2) {
        assert_eq!(pair[0].issuer().as_raw(), pair[1].subject().as_raw());
        assert!(!pair[0].is_ca());
        assert_eq!(
            pair[0].subject().iter().count(),
            pair[1].subject().iter().count() + 1
        );
    }
    if depth > 0 {
        let above = verify(&chain[1..], &ANCHORS, &limits, now)
            .expect("the chain holds, and not without its lowest proxy");
        assert_eq!(above.end_entity, verified.end_entity);
        assert!(above.policy <= verified.policy);
    }
}

fn certificates(mut data: &[u8]) -> Vec<&[u8]> {
    let mut chain = Vec::new();
    while !data.is_empty() && chain.len() < 30 {
        let length = match X509Certificate::from_der(data) {
            Ok((rest, _)) => data.len() - rest.len(),
            Err(_) => data.len(),
        };
        let (certificate, rest) = data.split_at(length);
        chain.push(certificate);
        data = rest;
    }
    chain
}

/// A value as `proxyCertInfo`: what is accepted is of the very few forms that exist.
pub(crate) fn fuzz_info(data: &[u8]) {
    let Ok(info) = ProxyCertInfo::read(data) else {
        return;
    };
    let language = match info.policy {
        Policy::InheritAll => INHERIT_ALL,
        Policy::Limited => LIMITED,
        Policy::Independent => INDEPENDENT,
    };
    // Written by hand, not by the code that reads: the policy is the end of the value, and a number may come first.
    let mut policy = language.to_der().unwrap();
    policy.splice(0..0, [0x30, u8::try_from(policy.len()).unwrap()]);
    assert!(data.ends_with(&policy), "{info:?}");
    assert_eq!(
        info.path_length.is_some(),
        data.len() > policy.len() + 2,
        "{info:?}"
    );
}
