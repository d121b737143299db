//! What the vectors of `tests/it/chain` do not show: any bytes, and folders of CAs. OpenSSL is asked there.

use std::path::Path;

use proptest::prelude::*;

use super::fuzz::{fuzz_chain, fuzz_info};
use super::*;

const CA: &str = include_str!("../../../certs/ca.pem");

fn seed(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/proxy-chain");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn the_seeds_of_the_fuzzer_hold() {
    let limits = Limits {
        lifetime: Duration::from_secs(200 * 366 * 86_400),
        ..Limits::default()
    };
    let ca = crate::trust::pem::certificates("ca.pem", CA).unwrap();
    let anchors = Anchors::new("ca.pem", &ca, &[]).unwrap();
    for (name, depth, policy) in [
        ("end-entity", 0, Policy::InheritAll),
        ("proxy", 1, Policy::InheritAll),
        ("limited", 2, Policy::Limited),
        ("three", 3, Policy::Limited),
    ] {
        let bytes = seed(name);
        let mut rest = &bytes[..];
        let mut chain = Vec::new();
        while !rest.is_empty() {
            let (behind, _) = x509_parser::parse_x509_certificate(rest).unwrap();
            chain.push(&rest[..rest.len() - behind.len()]);
            rest = behind;
        }
        let verified = verify(&chain, &anchors, &limits, Timestamp::from_secs(1_800_000_000)).unwrap();
        assert_eq!(
            (verified.proxies.len(), verified.policy),
            (depth, policy),
            "{name}"
        );
    }
}

#[test]
fn a_grid_folder_is_read_and_what_is_no_ca_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("0123abcd.0", CA);
    put("4567ef01.0", CA);
    put("0123abcd.signing_policy", "access_id_CA X509 '/C=GB'");
    put("README", "words");
    assert_eq!(Anchors::load(folder.path()).unwrap().counts(), (1, 0));
    assert_eq!(
        Anchors::load(&folder.path().join("0123abcd.0")).unwrap().counts(),
        (1, 0)
    );
}

#[test]
fn a_folder_without_a_ca_or_with_a_broken_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Anchors::load(folder.path()), Err(AnchorError::None(_))));
    std::fs::write(folder.path().join("0123abcd.0"), CA).unwrap();
    let broken = folder.path().join("0123abcd.r0");
    std::fs::write(
        &broken,
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    let error = Anchors::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("0123abcd.r0") && error.contains("accepted:"),
        "{error}"
    );
    let missing = Anchors::load(&folder.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("none"), "{missing}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_chain(&bytes);
        fuzz_info(&bytes);
    }

    #[test]
    fn a_chain_with_bytes_changed_holds_only_if_all_that_it_claims_holds(
        name in prop::sample::select(vec!["proxy", "limited", "three"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = seed(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz_chain(&bytes);
    }
}
