//! What is trusted, and what is believed of it: certificates that are no CAs, lists that vanish, and how often one is verified.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A CA with its key.
struct Ca {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str, is_ca: IsCa, usages: &[KeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.key_usages = usages.to_vec();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

const ANY: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);
const BOTH: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

impl Ca {
    fn new(name: &str) -> Self {
        let (params, key) = (params(name, ANY, &BOTH), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::new(params, key);
        Self { der, issuer }
    }

    /// A CA below this one.
    fn below(&self, name: &str) -> Self {
        let (params, key) = (params(name, ANY, &BOTH), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let issuer = Issuer::new(params, key);
        Self { der, issuer }
    }

    fn person(&self, serial: u64) -> Vec<u8> {
        let mut params = params(
            "John Smith",
            IsCa::ExplicitNoCa,
            &[KeyUsagePurpose::DigitalSignature],
        );
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }

    /// Its list with this number, made on this day of January 2027.
    fn list(&self, number: u64, day: u8, revoked: &[u64]) -> Vec<u8> {
        self.list_of(number, day, revoked, None)
    }

    /// The same, about a part of its certificates.
    fn list_of(&self, number: u64, day: u8, revoked: &[u64], part: Option<CrlScope>) -> Vec<u8> {
        let part = part.map(|part| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://ca.example.org/part.crl".to_owned()],
            },
            scope: Some(part),
        });
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2027, 1, day),
            next_update: date_time_ymd(2028, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: part,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn rule(chain: &[Vec<u8>], anchors: &Anchors) -> Result<(), Rule> {
    let verified = verify(chain, anchors, &Limits::default(), NOW);
    verified.map(|_| ()).map_err(|refused| refused.rule)
}

#[test]
fn a_lists_signature_is_verified_once_and_not_with_every_request() {
    let ca = Ca::new("CA");
    let anchors = Anchors::new("test", [&ca.der], &[ca.list(1, 1, &[9]), ca.list(2, 2, &[8])]).unwrap();
    let (good, bad) = ([ca.person(1)], [ca.person(8)]);
    for _ in 0..3 {
        assert_eq!(rule(&good, &anchors), Ok(()));
        assert_eq!(rule(&bad, &anchors), Err(Rule::Path(PathFlaw::Revoked)));
    }
    assert_eq!(anchors.lists_verified(), 2);
    // A name that several authorities have had does not make the memory of a list grow.
    let many: Vec<Ca> = (0..20).map(|_| Ca::new("CA")).collect();
    let ders: Vec<&Vec<u8>> = many.iter().map(|ca| &ca.der).collect();
    let anchors = Anchors::new("test", ders, &[ca.list(1, 1, &[])]).unwrap();
    for other in &many {
        assert_eq!(
            rule(&[other.person(1)], &anchors),
            Err(Rule::Path(PathFlaw::RevocationUnknown))
        );
    }
    assert_eq!(anchors.lists_verified(), 16);
}

#[test]
fn all_lists_of_an_issuer_are_looked_at_and_each_authority_speaks_for_its_own_certificates() {
    let (ca, namesake) = (Ca::new("CA"), Ca::new("CA"));
    let (named, both) = ([ca.person(7)], [&ca.der, &namesake.der]);
    for lists in [
        [ca.list(1, 1, &[7]), ca.list(2, 2, &[])],
        [ca.list(2, 2, &[]), ca.list(1, 1, &[7])],
    ] {
        let anchors = Anchors::new("test", both, &lists).unwrap();
        assert_eq!(rule(&named, &anchors), Err(Rule::Path(PathFlaw::Revoked)));
    }
    for lists in [
        [ca.list(1, 1, &[]), namesake.list(9, 9, &[7])],
        [namesake.list(9, 9, &[7]), ca.list(1, 1, &[])],
    ] {
        let anchors = Anchors::new("test", both, &lists).unwrap();
        assert_eq!(rule(&named, &anchors), Ok(()));
        assert_eq!(
            rule(&[namesake.person(7)], &anchors),
            Err(Rule::Path(PathFlaw::Revoked))
        );
    }
}

#[test]
fn a_ca_below_the_trusted_one_is_looked_up_too_and_its_list_is_needed() {
    let root = Ca::new("Root");
    let middle = root.below("Middle");
    let chain = [middle.person(3), middle.der.clone()];
    for (lists, expected) in [
        (vec![root.list(1, 1, &[]), middle.list(1, 1, &[])], Ok(())),
        (
            vec![root.list(1, 1, &[]), middle.list(1, 1, &[3])],
            Err(Rule::Path(PathFlaw::Revoked)),
        ),
        (
            vec![root.list(1, 1, &[])],
            Err(Rule::Path(PathFlaw::RevocationUnknown)),
        ),
        (
            vec![middle.list(1, 1, &[])],
            Err(Rule::Path(PathFlaw::RevocationUnknown)),
        ),
    ] {
        let anchors = Anchors::new("test", [&root.der], &lists).unwrap();
        assert_eq!(rule(&chain, &anchors), expected);
    }
}

#[test]
fn a_list_in_parts_counts_for_its_part_and_a_name_on_any_part_is_enough() {
    let ca = Ca::new("CA");
    let person = [ca.person(7)];
    let unknown = Err(Rule::Path(PathFlaw::RevocationUnknown));
    let revoked = Err(Rule::Path(PathFlaw::Revoked));
    let users = |revoked: &[u64]| ca.list_of(1, 1, revoked, Some(CrlScope::UserCertsOnly));
    let authorities = |revoked: &[u64]| ca.list_of(1, 1, revoked, Some(CrlScope::CaCertsOnly));
    for (lists, expected) in [
        (vec![users(&[]), authorities(&[])], Ok(())),
        (vec![users(&[])], Ok(())),
        (vec![users(&[7])], revoked.clone()),
        (vec![authorities(&[])], unknown),
        (vec![users(&[]), authorities(&[7])], revoked.clone()),
        (vec![users(&[7]), ca.list(2, 2, &[])], revoked),
    ] {
        let anchors = Anchors::new("test", [&ca.der], &lists).unwrap();
        assert_eq!(rule(&person, &anchors), expected);
    }
}

#[test]
fn an_authority_below_a_trusted_one_does_not_issue_under_the_name_of_another() {
    let (one, two) = (Ca::new("One"), Ca::new("Two"));
    let false_two = one.below("Two");
    let chain = [false_two.person(1), false_two.der.clone()];
    let both = Anchors::new("test", [&one.der, &two.der], &[]).unwrap();
    // Told as what it is with the CA of that name: signed by another key.
    assert_eq!(rule(&chain, &both), Err(Rule::Path(PathFlaw::Signature)));
    // What is wrong is the name alone: where nobody else has it, it is anybody's.
    let alone = Anchors::new("test", [&one.der], &[]).unwrap();
    assert_eq!(rule(&chain, &alone), Ok(()));
}

#[test]
fn a_certificate_that_is_no_ca_is_refused_with_file_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let load = |params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("0123abcd.0"), pem).unwrap();
        Anchors::load(folder.path())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(load(params("CA", ANY, &BOTH)), Ok(()));
    assert_eq!(load(params("CA", ANY, &[])), Ok(()));
    for (flawed, why) in [
        (
            params("Host", IsCa::ExplicitNoCa, &[]),
            "its basicConstraints says CA:FALSE",
        ),
        (params("Host", IsCa::NoCa, &[]), "it has no basicConstraints"),
        (
            params("CA", ANY, &[KeyUsagePurpose::CrlSign]),
            "its keyUsage lacks keyCertSign",
        ),
    ] {
        let error = load(flawed).unwrap_err();
        for part in [why, "0123abcd.0", "CN=", "accepted:"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn lists_that_are_gone_or_older_do_not_take_the_place_of_those_in_use() {
    let (ca, other) = (Ca::new("CA"), Ca::new("Other"));
    let anchors = |authorities: &[&Ca], lists: &[Vec<u8>]| {
        let ders: Vec<&Vec<u8>> = authorities.iter().map(|ca| &ca.der).collect();
        Anchors::new("test", ders, lists).unwrap()
    };
    let before = anchors(&[&ca, &other], &[ca.list(5, 5, &[7]), other.list(1, 1, &[])]);
    let follows = |after: &Anchors| after.may_follow(&before).map_err(|error| error.to_string());
    let newer = anchors(&[&ca, &other], &[ca.list(6, 6, &[7]), other.list(1, 1, &[])]);
    assert_eq!(follows(&newer), Ok(()));
    assert_eq!(follows(&before), Ok(()));
    // With the CA its list may go.
    assert_eq!(follows(&anchors(&[&other], &[other.list(1, 1, &[])])), Ok(()));
    for (after, said) in [
        (anchors(&[&ca, &other], &[]), "`CN=CA` any more"),
        (
            anchors(&[&ca, &other], &[other.list(2, 2, &[])]),
            "`CN=CA` any more",
        ),
        (
            anchors(&[&ca, &other], &[ca.list(6, 4, &[7]), other.list(1, 1, &[])]),
            "`CN=CA` is older",
        ),
        (
            anchors(&[&ca, &other], &[ca.list(4, 6, &[7]), other.list(1, 1, &[])]),
            "its CRL number is lower",
        ),
    ] {
        let error = follows(&after).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    // A list that is not a CA's (a VO's of its proxies) is kept as well.
    let vo = Ca::new("VO");
    let before = anchors(&[&ca], &[ca.list(1, 1, &[]), vo.list(1, 1, &[7])]);
    let error = anchors(&[&ca], &[ca.list(1, 1, &[])])
        .may_follow(&before)
        .unwrap_err();
    assert!(matches!(error, AnchorError::Gone(name) if name == "CN=VO"));
}

#[test]
fn a_chain_of_more_certificates_than_are_looked_at_is_refused_and_not_cut() {
    let ca = Ca::new("CA");
    let anchors = Anchors::new("test", [&ca.der], &[]).unwrap();
    let person = ca.person(1);
    let chain = |length: usize| -> Vec<Vec<u8>> {
        let above = std::iter::repeat_n(ca.der.clone(), length - 1);
        std::iter::once(person.clone()).chain(above).collect()
    };
    assert_eq!(rule(&chain(MOST), &anchors), Ok(()));
    for length in [MOST + 1, 33, 100] {
        let refused = verify(&chain(length), &anchors, &Limits::default(), NOW).unwrap_err();
        assert_eq!(refused.rule, Rule::TooLong(MOST));
        assert!(
            refused.to_string().contains("more than 24 certificates"),
            "{refused}"
        );
    }
}
