use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::clock::{Clock, HandClock, SystemClock};
use crate::id::SystemSource;
use crate::trust::certificate::{Source, check};

macro_rules! issuer {
    ($name:literal) => {
        issuer(
            include_str!(concat!("../../certs/", $name, ".pem")),
            include_str!(concat!("../../certs/", $name, ".key")),
        )
    };
}

fn issuer(certificate: &str, key: &str) -> Arc<Issuer> {
    let clock = HandClock::new(now());
    let checked = check(
        Source {
            name: "vo.pem",
            text: certificate,
        },
        Source {
            name: "vo.key",
            text: key,
        },
        &clock,
    )
    .unwrap();
    let signer = checked.signer().unwrap();
    Arc::new(Issuer::new(
        checked.facts().clone(),
        checked.chain().to_vec(),
        signer,
    ))
}

fn settings() -> ProxySettings {
    ProxySettings {
        lifetime: Duration::from_secs(3600),
        policy: ProxyPolicy::InheritAll,
        path_length: None,
        key: ProxyKey::P256,
    }
}

fn request() -> RequestId {
    RequestId::from(uuid::Uuid::from_bytes(
        random_bytes(&SystemSource::new()).unwrap(),
    ))
}

/// A new key of the kind that `settings` ask for.
fn key(settings: &ProxySettings) -> Result<KeyPair, MintError> {
    match settings.key {
        ProxyKey::P256 => KeyPair::p256(),
        ProxyKey::Rsa2048 => KeyPair::rsa2048(),
    }
}

/// The machine's time, because openssl verifies against it.
fn now() -> Timestamp {
    SystemClock::new().now()
}

fn mint(issuer: &Arc<Issuer>, settings: &ProxySettings, at: Timestamp) -> Proxy {
    let request = request();
    choose(
        request,
        issuer,
        settings,
        || key(settings),
        at,
        &SystemSource::new(),
    )
    .unwrap()
    .sign(&Durable::witnessed(request))
    .unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl is missing: apt-get install openssl");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn file(proxy: &Proxy) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.pem"), proxy.pem().unwrap().expose()).unwrap();
    std::fs::write(folder.path().join("ca.pem"), include_str!("../../certs/ca.pem")).unwrap();
    folder
}

#[test]
fn openssl_verifies_a_proxy_of_every_kind_of_vo_key_and_policy() {
    for issuer in [
        issuer!("vo-ec"),
        issuer!("vo-rsa"),
        issuer!("vo-p384"),
        issuer!("vo-chain"),
    ] {
        for policy in [
            ProxyPolicy::InheritAll,
            ProxyPolicy::Limited,
            ProxyPolicy::Independent,
        ] {
            for path_length in [None, Some(0), Some(3)] {
                let settings = ProxySettings {
                    policy,
                    path_length,
                    ..settings()
                };
                let folder = file(&mint(&issuer, &settings, now()));
                let verify = [
                    "verify",
                    "-allow_proxy_certs",
                    "-CAfile",
                    "ca.pem",
                    "-untrusted",
                    "proxy.pem",
                    "proxy.pem",
                ];
                let (ok, said) = openssl(folder.path(), &verify);
                assert!(ok, "{:?} {settings:?}: {said}", issuer.facts.algorithm);
                assert!(
                    !openssl(
                        folder.path(),
                        &[
                            "verify",
                            "-CAfile",
                            "ca.pem",
                            "-untrusted",
                            "proxy.pem",
                            "proxy.pem"
                        ]
                    )
                    .0
                );
            }
        }
    }
}

#[test]
fn openssl_reads_every_field_of_the_profile() {
    let proxy = mint(&issuer!("vo-ec"), &settings(), now());
    let folder = file(&proxy);
    let (_, said) = openssl(folder.path(), &["x509", "-in", "proxy.pem", "-noout", "-text"]);
    for part in [
        "Version: 3 (0x2)".to_owned(),
        format!("Serial Number: {}", proxy.serial()),
        "Issuer: C = GB, O = Countersign throw-away, CN = VO vo-ec\n".to_owned(),
        format!(
            "Subject: C = GB, O = Countersign throw-away, CN = VO vo-ec, CN = {}\n",
            proxy.serial()
        ),
        "Proxy Certificate Information: critical".to_owned(),
        "Path Length Constraint: infinite".to_owned(),
        "Policy Language: Inherit all".to_owned(),
        "X509v3 Key Usage: critical\n                Digital Signature\n".to_owned(),
        "ASN1 OID: prime256v1".to_owned(),
    ] {
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
    for never in ["Alternative Name", "CA:TRUE", "Certificate Sign"] {
        assert!(!said.contains(never), "{never} is in: {said}");
    }
}

#[test]
fn what_a_vo_lets_its_proxies_say_of_their_person_is_read_by_openssl_and_binds_nobody() {
    let person = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    for (username, issuer) in [(Some("john"), issuer!("vo-rsa")), (None, issuer!("vo-chain"))] {
        let (request, settings) = (request(), settings());
        let told = Told::of(person.into(), username);
        let chosen = choose(
            request,
            &issuer,
            &settings,
            KeyPair::p256,
            now(),
            &SystemSource::new(),
        );
        let chosen = chosen.unwrap().telling(Some(told));
        let proxy = chosen.sign(&Durable::witnessed(request)).unwrap();
        let folder = file(&proxy);
        let verify = "verify -allow_proxy_certs -CAfile ca.pem -untrusted proxy.pem proxy.pem";
        let (ok, said) = openssl(folder.path(), &verify.split(' ').collect::<Vec<_>>());
        assert!(ok, "{said}");
        let (_, said) = openssl(folder.path(), &["x509", "-in", "proxy.pem", "-noout", "-text"]);
        // No word behind the colon: it is not critical.
        assert!(said.contains("X509v3 Subject Directory Attributes: \n"), "{said}");
        assert_eq!(said.contains("john"), username.is_some(), "{said}");
        let (_, said) = openssl(folder.path(), &["asn1parse", "-in", "proxy.pem"]);
        let dump = said
            .lines()
            .find(|line| line.contains("[HEX DUMP]:30") && line.contains("0A0992"));
        let (_, dump) = dump.unwrap().split_once("[HEX DUMP]:").unwrap();
        std::fs::write(
            folder.path().join("value"),
            data_encoding::HEXUPPER.decode(dump.trim().as_bytes()).unwrap(),
        )
        .unwrap();
        let (_, said) = openssl(folder.path(), &["asn1parse", "-in", "value", "-inform", "DER"]);
        let found: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("OBJECT") || line.contains("UTF8STRING"))
            .map(|line| line.rsplit(':').next().unwrap())
            .collect();
        let id = person.to_string();
        let expected = match username {
            None => vec!["uniqueIdentifier", id.as_str()],
            Some(name) => vec!["uniqueIdentifier", id.as_str(), "userId", name],
        };
        let known = |name: &str| name.replace("0.9.2342.19200300.100.1.44", "uniqueIdentifier");
        assert_eq!(found.into_iter().map(known).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_rsa_proxy_is_verified_by_openssl_and_may_encipher_keys() {
    for issuer in [issuer!("vo-ec"), issuer!("vo-rsa")] {
        let settings = ProxySettings {
            key: ProxyKey::Rsa2048,
            policy: ProxyPolicy::Limited,
            ..settings()
        };
        let proxy = mint(&issuer, &settings, now());
        let folder = file(&proxy);
        let verify = "verify -allow_proxy_certs -CAfile ca.pem -untrusted proxy.pem proxy.pem";
        let (ok, said) = openssl(folder.path(), &verify.split(' ').collect::<Vec<_>>());
        assert!(ok, "{said}");
        let (_, said) = openssl(folder.path(), &["x509", "-in", "proxy.pem", "-noout", "-text"]);
        for part in [
            "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
            "Public-Key: (2048 bit)",
            "Policy Language: 1.3.6.1.4.1.3536.1.1.1.9",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        let (ok, said) = openssl(folder.path(), &["rsa", "-in", "proxy.pem", "-check", "-noout"]);
        assert!(ok && said.contains("RSA key ok"), "{said}");
        let (_, of_certificate) = openssl(folder.path(), &["x509", "-in", "proxy.pem", "-noout", "-pubkey"]);
        let (_, of_key) = openssl(folder.path(), &["pkey", "-in", "proxy.pem", "-pubout"]);
        assert_eq!(of_certificate, of_key);
        assert!(
            proxy
                .pem()
                .unwrap()
                .expose()
                .contains("-----BEGIN PRIVATE KEY-----")
        );
        assert!(proxy.certified_key().is_ok());
    }
}

#[test]
fn the_file_is_certificate_key_vo_certificate_intermediates() {
    let proxy = mint(&issuer!("vo-chain"), &settings(), now());
    let file = proxy.pem().unwrap();
    let labels: Vec<&str> = file
        .expose()
        .lines()
        .filter(|line| line.starts_with("-----BEGIN"))
        .collect();
    let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
    assert_eq!(labels, [certificate, key, certificate, certificate]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.pem"), file.expose()).unwrap();
    let (_, of_certificate) = openssl(folder.path(), &["x509", "-in", "proxy.pem", "-noout", "-pubkey"]);
    let (_, of_key) = openssl(folder.path(), &["pkey", "-in", "proxy.pem", "-pubout"]);
    assert_eq!(of_certificate, of_key);
    let vo = crate::trust::pem::certificates("x", include_str!("../../certs/vo-chain.pem")).unwrap();
    assert_eq!(
        crate::trust::pem::certificates("x", file.expose()).unwrap()[1..],
        vo
    );
}

#[test]
fn two_mints_have_different_keys_and_serials() {
    let issuer = issuer!("vo-ec");
    let chosen: Vec<Chosen> = (0..50)
        .map(|_| {
            choose(
                request(),
                &issuer,
                &settings(),
                KeyPair::p256,
                now(),
                &SystemSource::new(),
            )
            .unwrap()
        })
        .collect();
    assert_eq!(chosen.iter().map(Chosen::spki).collect::<HashSet<_>>().len(), 50);
    assert_eq!(
        chosen.iter().map(Chosen::serial).collect::<HashSet<_>>().len(),
        50
    );
    assert!(
        chosen
            .iter()
            .all(|chosen| chosen.serial() > 0 && chosen.serial() < 1 << 63)
    );
}

#[test]
fn what_was_chosen_is_what_is_signed() {
    let request = request();
    let chosen = choose(
        request,
        &issuer!("vo-rsa"),
        &settings(),
        KeyPair::p256,
        now(),
        &SystemSource::new(),
    )
    .unwrap();
    let (serial, spki, from, to) = (
        chosen.serial(),
        chosen.spki(),
        chosen.not_before(),
        chosen.not_after(),
    );
    let proxy = chosen.sign(&Durable::witnessed(request)).unwrap();
    let (_, parsed) = X509Certificate::from_der(proxy.certificate()).unwrap();
    assert_eq!(
        parsed
            .raw_serial_as_string()
            .replace(':', "")
            .trim_start_matches('0'),
        format!("{serial:x}")
    );
    assert_eq!(Hash::of(parsed.public_key().raw), spki);
    assert_eq!(parsed.validity().not_before.timestamp(), from.secs());
    assert_eq!(parsed.validity().not_after.timestamp(), to.secs());
}

#[test]
fn the_receipt_of_another_request_signs_nothing() {
    let (one, other) = (request(), request());
    let choose = || {
        choose(
            one,
            &issuer!("vo-ec"),
            &settings(),
            KeyPair::p256,
            now(),
            &SystemSource::new(),
        )
        .unwrap()
    };
    let refused = choose().sign(&Durable::witnessed(other));
    assert!(matches!(refused, Err(MintError::ForeignReceipt)));
    assert!(choose().sign(&Durable::witnessed(one)).is_ok());
}

#[test]
fn an_expired_or_future_issuer_mints_nothing() {
    let issuer = issuer!("vo-ec");
    let (from, to) = (issuer.facts.not_before, issuer.facts.not_after);
    let try_at = |at| {
        choose(
            request(),
            &issuer,
            &settings(),
            KeyPair::p256,
            at,
            &SystemSource::new(),
        )
        .map(|_| ())
    };
    assert!(matches!(
        try_at(to.minus(Duration::from_secs(30))),
        Err(MintError::IssuerExpired(_))
    ));
    assert!(matches!(
        try_at(to.plus(Duration::from_secs(30))),
        Err(MintError::IssuerExpired(_))
    ));
    assert!(matches!(
        try_at(from.minus(Duration::from_secs(1))),
        Err(MintError::IssuerNotYetValid(_))
    ));
    assert!(try_at(from).is_ok());
}

#[test]
fn the_issuers_name_keeps_its_very_bytes() {
    // A name with two CNs, a multi-valued RDN and old string types, as long-lived grid CAs still issue.
    let name = [
        0x30, 0x3d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, 0x47, 0x42, 0x31, 0x1c,
        0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x03, 0x14, 0x02, 0x61, 0xe9, 0x30, 0x0f, 0x06, 0x03, 0x55, 0x04,
        0x0a, 0x1e, 0x08, 0x00, 0x56, 0x00, 0x4f, 0x00, 0x20, 0x00, 0x41, 0x31, 0x10, 0x30, 0x0e, 0x06, 0x03,
        0x55, 0x04, 0x03, 0x0c, 0x07, b'V', b'O', b' ', b't', b'w', b'o', b'!',
    ];
    let base = issuer!("vo-ec");
    let facts = Facts {
        subject: name.to_vec(),
        ..base.facts.clone()
    };
    let odd = Arc::new(Issuer::new(facts, base.chain.clone(), base.signer.clone()));
    let proxy = mint(&odd, &settings(), now());
    let (_, parsed) = X509Certificate::from_der(proxy.certificate()).unwrap();
    assert_eq!(parsed.issuer().as_raw(), name);
    assert_eq!(parsed.subject().as_raw()[2..][..name.len() - 2], name[2..]);
    assert_eq!(
        parsed.subject().iter_rdn().count(),
        parsed.issuer().iter_rdn().count() + 1
    );
}

proptest! {
    #[test]
    fn every_lifetime_policy_and_path_reads_back(
        lifetime in 1u64..4_000_000_000,
        at in 1_600_000_000i64..4_900_000_000,
        path_length in proptest::option::of(any::<u8>()),
        policy in prop_oneof![Just(ProxyPolicy::InheritAll), Just(ProxyPolicy::Limited), Just(ProxyPolicy::Independent)],
    ) {
        let issuer = issuer!("vo-ec");
        let settings = ProxySettings { lifetime: Duration::from_secs(lifetime), policy, path_length, key: ProxyKey::P256 };
        let at = Timestamp::from_secs(at);
        let proxy = mint(&issuer, &settings, at);
        let (rest, parsed) = X509Certificate::from_der(proxy.certificate()).unwrap();
        prop_assert!(rest.is_empty());
        parsed.verify_signature(Some(X509Certificate::from_der(&issuer.chain[0]).unwrap().1.public_key())).unwrap();
        let end = parsed.validity().not_after.timestamp();
        prop_assert_eq!(end, at.plus(settings.lifetime).min(issuer.facts.not_after).secs());
        prop_assert_eq!(parsed.validity().not_before.timestamp(), at.minus(BACKDATED).secs());
        prop_assert_eq!(parsed.issuer().as_raw(), &issuer.facts.subject[..]);
        prop_assert_eq!(parsed.subject().as_raw(), proxy.subject());
        let names: Vec<_> = parsed.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
        let serial = proxy.serial().to_string();
        prop_assert_eq!(names.last().copied(), Some(serial.as_str()));
        let extension = parsed.iter_extensions().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.14").unwrap();
        prop_assert!(extension.critical);
        let info = ProxyCertInfo::from_der(extension.value).unwrap();
        prop_assert_eq!(info.path_length, path_length);
        prop_assert_eq!(parsed.extensions().len(), 2);
        prop_assert!(proxy.certified_key().is_ok());
    }
}
