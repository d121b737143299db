use std::time::Duration;

use super::*;
use crate::clock::HandClock;
use crate::id::{Ids, SystemSource};

macro_rules! fixture {
    ($name:literal) => {
        (
            include_str!(concat!("../../certs/", $name, ".pem")),
            include_str!(concat!("../../certs/", $name, ".key")),
        )
    };
}

fn now() -> HandClock {
    HandClock::new(Timestamp::parse("2026-11-21T12:00:00Z").unwrap())
}

fn try_pair(pair: (&str, &str)) -> Result<Checked, Flaws> {
    check(
        Source {
            name: "vo.pem",
            text: pair.0,
        },
        Source {
            name: "vo.key",
            text: pair.1,
        },
        &now(),
    )
}

fn flaws(pair: (&str, &str)) -> Vec<Flaw> {
    try_pair(pair)
        .map(|checked| checked.facts.subject_text)
        .unwrap_err()
        .0
}

#[test]
fn good_certificates_of_every_accepted_kind_pass() {
    for (pair, algorithm, chain) in [
        (fixture!("vo-ec"), Algorithm::P256, 1),
        (fixture!("vo-p384"), Algorithm::P384, 1),
        (fixture!("vo-rsa"), Algorithm::Rsa(2048), 1),
        (fixture!("vo-chain"), Algorithm::Rsa(2048), 2),
    ] {
        let checked = try_pair(pair).unwrap();
        assert_eq!(checked.facts.algorithm, algorithm);
        assert_eq!(checked.chain.len(), chain);
        assert_eq!(
            checked.facts.warnings.is_empty(),
            matches!(algorithm, Algorithm::Rsa(_))
        );
        assert!(
            checked
                .facts
                .subject_text
                .starts_with("C=GB, O=Countersign throw-away, CN=VO vo-")
        );
        assert_eq!(checked.facts.not_before.to_string(), "2020-01-01T00:00:00Z");
    }
}

#[test]
fn the_authoritys_own_certificate_at_the_end_is_left_out() {
    let (certificate, key) = fixture!("vo-ec");
    let with_root = format!("{certificate}{}", include_str!("../../certs/ca.pem"));
    assert_eq!(try_pair((&with_root, key)).unwrap().chain.len(), 1);
}

#[test]
fn each_bad_certificate_has_exactly_its_own_flaw() {
    assert!(matches!(flaws(fixture!("expired"))[..], [Flaw::Expired { .. }]));
    assert!(matches!(
        flaws(fixture!("future"))[..],
        [Flaw::NotYetValid { .. }]
    ));
    assert!(matches!(
        flaws(fixture!("rsa1024"))[..],
        [Flaw::RsaSize { bits: 1024, .. }]
    ));
    assert!(matches!(flaws(fixture!("p521"))[..], [Flaw::Unsupported { .. }]));
    assert!(matches!(
        flaws(fixture!("ed25519"))[..],
        [Flaw::Unsupported { .. }]
    ));
    assert!(matches!(
        flaws(fixture!("no-signing"))[..],
        [Flaw::MayNotSign { .. }]
    ));
    assert!(matches!(flaws(fixture!("proxy"))[..], [Flaw::IsProxy { .. }]));
    let key = fixture!("vo-rsa").1;
    assert!(matches!(
        flaws((fixture!("vo-ec").0, key))[..],
        [Flaw::KeyMismatch { .. }]
    ));
    assert!(matches!(
        flaws((fixture!("vo-ec").0, include_str!("../../certs/encrypted.key")))[..],
        [Flaw::Pem(PemError::Encrypted { .. })]
    ));
    assert!(matches!(
        flaws((fixture!("vo-ec").0, fixture!("p521").1))[..],
        [Flaw::Key { .. }]
    ));
}

#[test]
fn a_ca_certificate_is_refused_and_all_flaws_come_at_once() {
    let found = flaws((include_str!("../../certs/ca.pem"), fixture!("vo-rsa").1));
    assert!(
        found.iter().any(|flaw| matches!(flaw, Flaw::Authority { .. })),
        "{found:?}"
    );
    assert!(
        found.iter().any(|flaw| matches!(flaw, Flaw::MayNotSign { .. })),
        "{found:?}"
    );
    assert!(
        found.iter().any(|flaw| matches!(flaw, Flaw::KeyMismatch { .. })),
        "{found:?}"
    );
}

#[test]
fn both_files_are_judged_when_both_are_wrong() {
    let found = flaws(("hello", include_str!("../../certs/encrypted.key")));
    assert!(matches!(
        found[..],
        [
            Flaw::Pem(PemError::NoCertificate { .. }),
            Flaw::Pem(PemError::Encrypted { .. })
        ]
    ));
}

#[test]
fn intermediates_must_lead_upwards() {
    let (certificate, key) = fixture!("vo-ec");
    let wrong = format!("{certificate}{}", fixture!("vo-rsa").0);
    assert!(matches!(
        flaws((&wrong, key))[..],
        [Flaw::Chain { position: 1, .. }]
    ));
}

#[test]
fn a_skewed_clock_is_said_with_both_times_and_the_difference() {
    let clock = HandClock::new(Timestamp::parse("2019-12-31T20:30:00Z").unwrap());
    let (text, key) = fixture!("vo-ec");
    let checked = check(
        Source { name: "vo.pem", text },
        Source {
            name: "vo.key",
            text: key,
        },
        &clock,
    );
    let message = checked.map(|_| ()).unwrap_err().to_string();
    for part in [
        "vo.pem",
        "`notBefore`",
        "2020-01-01T00:00:00Z",
        "2019-12-31T20:30:00Z",
        "3 h 30 min ahead",
        "accepted:",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn every_flaw_names_its_file_and_what_is_accepted() {
    for pair in [
        fixture!("expired"),
        fixture!("future"),
        fixture!("rsa1024"),
        fixture!("p521"),
        fixture!("no-signing"),
        fixture!("proxy"),
        (fixture!("vo-ec").0, fixture!("vo-rsa").1),
        ("", ""),
    ] {
        for flaw in flaws(pair) {
            let message = flaw.to_string();
            assert!(
                message.contains("`vo.") && message.contains("accepted"),
                "{message}"
            );
            assert!(!message.ends_with('.') && !message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn a_stored_certificate_signs_only_with_its_key_its_vo_and_its_own_row() {
    let random = std::sync::Arc::new(SystemSource::new());
    let ids = Ids::new(std::sync::Arc::new(now()), random.clone());
    let sealing = SealingKey::generate(&*random).unwrap();
    let stored = try_pair(fixture!("vo-ec"))
        .unwrap()
        .seal(
            ids.next().unwrap(),
            (ids.next().unwrap(), Use::Tools),
            &sealing,
            &*random,
        )
        .unwrap();
    let Opened::Here(key) = stored.open(Some(&sealing)).unwrap() else {
        panic!("on a token")
    };
    assert_eq!(key.algorithm(), Algorithm::P256);
    assert!(matches!(stored.open(None), Err(SealError::Sealed)));
    let moved = VoCertificate {
        vo: ids.next().unwrap(),
        ..stored.clone()
    };
    assert!(matches!(moved.open(Some(&sealing)), Err(SealError::Broken)));
    let other = try_pair(fixture!("vo-rsa")).unwrap();
    let swapped = VoCertificate {
        facts: other.facts,
        ..stored
    };
    assert!(matches!(swapped.open(Some(&sealing)), Err(SealError::Broken)));
}

#[test]
fn lengths_of_time_are_said_in_two_units() {
    for (seconds, said) in [
        (0, "0 s"),
        (59, "59 s"),
        (3_661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ] {
        assert_eq!(words(Duration::from_secs(seconds)), said);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", data_encoding::BASE64.encode(&bytes));
        proptest::prop_assert!(try_pair((&text, fixture!("vo-ec").1)).is_err());
    }
}
