//! Revocation lists: whose proxies stand on which, when one is signed, and what is left of them without a key.

use x509_parser::extensions::ParsedExtension;

use super::*;
use crate::audit::Audit;
use crate::trust::chain::{Anchors, Limits, Rule, verify};

/// A list as a reader sees it.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) number: u64,
    pub(super) serials: Vec<u64>,
    /// The identifier of the issuer's key.
    pub(super) key: Option<Vec<u8>>,
}

pub(super) fn read(lists: &str) -> Vec<Read> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(lists.as_bytes());
    let one = |block: x509_parser::pem::Pem| {
        let (rest, list) = x509_parser::parse_x509_crl(&block.contents).unwrap();
        assert!(rest.is_empty());
        let revoked = list.iter_revoked_certificates();
        let key = |one: &x509_parser::extensions::X509Extension<'_>| match one.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => {
                key.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        };
        Read {
            number: list.crl_number().unwrap().to_string().parse().unwrap(),
            serials: revoked
                .map(|one| one.serial().to_string().parse().unwrap())
                .collect(),
            key: list.extensions().iter().find_map(key),
        }
    };
    blocks.map(|block| one(block.unwrap())).collect()
}

impl World {
    pub(super) fn audit(&self) -> Audit {
        let config = crate::audit::Config {
            folder: self._folder.path().join("log"),
            segment_bytes: 256 * 1024,
            min_free_bytes: 0,
            stop_free_bytes: 0,
            allow_any_fs: true,
            ..crate::audit::Config::default()
        };
        let key = crate::audit::LogKey::generate(&**self.ids.random()).unwrap();
        Audit::open(config, key, "gw.localhost/log", self.ids.clone())
            .unwrap()
            .audit
    }

    pub(super) async fn lists(&self, audit: &Audit) -> Result<String, DelegateError> {
        let by = Signing::witnessed(self.id(), audit);
        self.delegate.revocation_lists(self.vo.id, "imense", &by).await
    }

    async fn import_as_sha256(&self, (certificate, key): &(String, String)) -> Hash {
        self.import(certificate, key).await;
        let present = self.delegate.certificate(self.vo.id, Use::Tools);
        present.unwrap().sha256
    }

    /// A proxy of somebody new, which is revoked.
    async fn revoked(&self) -> u64 {
        self.revoked_chain().await.0
    }

    /// The same, with its chain.
    async fn revoked_chain(&self) -> (u64, Vec<Vec<u8>>) {
        let wanted = self.wanted(self.id(), Delegation::Pem);
        let (serial, _, credential) = self.get(&wanted).await;
        let serial: u64 = serial.parse().unwrap();
        let chain = pem::certificates("proxy", &file_of(&credential)).unwrap();
        let which = Which {
            person: wanted.person.unwrap().0,
            vo: None,
            serials: None,
        };
        let mut tx = self.delegate.db.begin_write().await.unwrap();
        let revoked = self
            .delegate
            .revoke(&mut tx, &which, Why::Revoked, None)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(revoked.serials, [serial]);
        (serial, chain)
    }

    /// What `openssl crl` says of a list and the certificate that is to have signed it.
    fn openssl_takes(&self, list: &str, certificate: &str) -> bool {
        let put = |name: &str, text: &str| {
            let file = self._folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let output = Command::new("openssl")
            .args(["crl", "-noout", "-verify", "-in"])
            .arg(put("list.crl", list))
            .arg("-CAfile")
            .arg(put("issuer.pem", certificate))
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.contains("verify OK")
    }
}

/// Certificates with this subject, each with one of the keys (PEM): certificate and key.
fn issued(subject: &str, keys: &[&str]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let issue = |key: &&str| {
        std::fs::write(folder.path().join("key"), key).unwrap();
        let output = Command::new("openssl")
            .args(["req", "-x509", "-key", "key", "-days", "30", "-subj", subject])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "keyUsage=critical,digitalSignature"])
            .current_dir(folder.path())
            .output()
            .expect("openssl runs (apt-get install openssl)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), (*key).to_owned())
    };
    keys.iter().map(issue).collect()
}

const SUBJECT: &str = "/O=Test/CN=VO imense";
const EC: &str = include_str!("../../../certs/vo-ec.key");
const RSA: &str = include_str!("../../../certs/vo-rsa.key");

/// A relying party that has the newer of two lists must not miss what stands on the older one.
#[tokio::test]
async fn a_renewed_certificate_with_the_same_key_has_one_list_and_numbers_that_go_on() {
    let world = World::empty().await;
    let audit = world.audit();
    let issued = issued(SUBJECT, &[EC, EC]);
    let present = world.import_as_sha256(&issued[0]).await;
    let mut revoked = vec![world.revoked().await];
    let first = read(&world.lists(&audit).await.unwrap());
    assert_eq!(
        (first.len(), first[0].number, &first[0].serials),
        (1, 1, &revoked)
    );
    // As many lists as the certificate may have had of its own.
    let mut tx = world.delegate.db.begin_write().await.unwrap();
    crate::store::run!(
        &mut tx,
        "UPDATE revocation_list SET number = 41 WHERE issuer = $1",
        present.0.as_slice()
    )
    .unwrap();
    tx.commit().await.unwrap();
    world.import(&issued[1].0, &issued[1].1).await;
    // The same certificate again makes no second list either.
    world.import(&issued[1].0, &issued[1].1).await;
    revoked.push(world.revoked().await);
    revoked.sort_unstable();
    let before = audit.size();
    let text = world.lists(&audit).await.unwrap();
    assert_eq!(world.lists(&audit).await.unwrap(), text);
    assert_eq!(
        audit.size() - before,
        1,
        "one record for the list that was signed"
    );
    let lists = read(&text);
    assert_eq!(lists.len(), 1);
    assert_eq!((lists[0].number, &lists[0].serials), (42, &revoked));
    for (certificate, _) in &issued {
        assert!(world.openssl_takes(&text, certificate));
    }
    world.revoked().await;
    assert_eq!(read(&world.lists(&audit).await.unwrap())[0].number, 43);
}

/// The same with the verifier of the listener for certificates, which has the newer certificate's list alone.
#[tokio::test]
async fn our_own_verifier_refuses_by_the_renewed_list_what_the_first_certificate_issued() {
    use rcgen::{CertificateParams, Issuer, KeyPair, KeyUsagePurpose};
    let named = |name: &str, usages: &[KeyUsagePurpose]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.key_usages = usages.to_vec();
        params
    };
    let mut ca = named("CA", &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let trusted = ca.self_signed(&key).unwrap().der().to_vec();
    let ca = Issuer::new(ca, key);
    let own = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2090, 1, 1),
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let mut lists = vec![own.signed_by(&ca).unwrap().der().to_vec()];
    let world = World::empty().await;
    let audit = world.audit();
    let vo = KeyPair::generate().unwrap();
    let mut revoked = Vec::new();
    for serial in [1_u64, 2] {
        let mut params = named("VO imense", &[KeyUsagePurpose::DigitalSignature]);
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.serial_number = Some(rcgen::SerialNumber::from(serial));
        params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        let issued = params.signed_by(&vo, &ca).unwrap().pem();
        world.import(&issued, &vo.serialize_pem()).await;
        revoked.push(world.revoked_chain().await.1);
    }
    let (_, _, good) = world.get(&world.wanted(world.id(), Delegation::Pem)).await;
    let good = pem::certificates("proxy", &file_of(&good)).unwrap();
    let text = world.lists(&audit).await.unwrap();
    let blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes());
    lists.extend(blocks.map(|block| block.unwrap().contents));
    assert_eq!(lists.len(), 2);
    let anchors = Anchors::new("test", [&trusted], &lists).unwrap();
    let judged = |chain: &[Vec<u8>]| {
        let verified = verify(chain, &anchors, &Limits::default(), world.clock.now());
        verified.map(|_| ()).map_err(|refused| refused.rule)
    };
    assert_eq!(judged(&good), Ok(()));
    for chain in &revoked {
        assert_eq!(judged(chain), Err(Rule::Revoked));
    }
}

#[tokio::test]
async fn a_name_with_two_keys_has_a_list_for_each_which_says_whose_it_is() {
    let world = World::empty().await;
    let audit = world.audit();
    let issued = issued(SUBJECT, &[EC, RSA]);
    let mut revoked = Vec::new();
    for (certificate, key) in &issued {
        world.import(certificate, key).await;
        revoked.push(world.revoked().await);
        world.clock.advance(Duration::from_secs(1));
    }
    let text = world.lists(&audit).await.unwrap();
    let lists = read(&text);
    // The newest first.
    let serials: Vec<&[u64]> = lists.iter().map(|list| &list.serials[..]).collect();
    assert_eq!(serials, [&revoked[1..], &revoked[..1]]);
    let split = text.rfind("-----BEGIN").unwrap();
    let (newest, oldest) = text.split_at(split);
    for (list, at) in [(newest, 1), (oldest, 0)] {
        assert!(world.openssl_takes(list, &issued[at].0), "{at}");
        let der = pem::certificates("x", &issued[at].0).unwrap().remove(0);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let own = certificate
            .extensions()
            .iter()
            .find_map(|one| match one.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
                _ => None,
            });
        assert_eq!(read(list)[0].key, own);
    }
    assert_ne!(lists[0].key, lists[1].key);
    assert!(!world.openssl_takes(newest, &issued[0].0));
}

#[tokio::test]
async fn a_sealed_gateway_gives_the_last_list_for_as_long_as_it_is_good() {
    let mut world = World::new().await;
    let audit = world.audit();
    let last = world.lists(&audit).await.unwrap();
    world.revoked().await;
    let sealing = world.delegate.sealing.take();
    assert_eq!(world.lists(&audit).await.unwrap(), last);
    world.clock.advance(Duration::from_secs(24 * 3_600 - 1));
    assert_eq!(world.lists(&audit).await.unwrap(), last);
    world.clock.advance(Duration::from_secs(1));
    let error = world.lists(&audit).await.unwrap_err();
    assert!(matches!(error, DelegateError::Seal(_)), "{error}");
    world.delegate.sealing = sealing;
    assert_eq!(read(&world.lists(&audit).await.unwrap())[0].number, 2);
}

#[tokio::test]
async fn a_list_is_given_again_while_somebody_else_writes() {
    let world = World::new().await;
    let audit = world.audit();
    let list = world.lists(&audit).await.unwrap();
    let writing = world.delegate.db.begin_write().await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(3), world.lists(&audit)).await;
    assert_eq!(again.expect("no wait for the write lock").unwrap(), list);
    drop(writing);
}

#[tokio::test]
async fn an_ended_certificate_that_does_not_open_takes_no_other_list_away() {
    let world = World::empty().await;
    let audit = world.audit();
    let mut lost = Vec::new();
    for (certificate, key) in issued("/O=Test/CN=VO lost", &[RSA])
        .iter()
        .chain(&issued(SUBJECT, &[EC]))
    {
        lost.push(world.import_as_sha256(&(certificate.clone(), key.clone())).await);
    }
    let lose = async |certificate: Hash| {
        let mut tx = world.delegate.db.begin_write().await.unwrap();
        crate::store::run!(
            &mut tx,
            "UPDATE vo_certificate SET sealed_key = $1 WHERE sha256 = $2",
            b"lost".as_slice(),
            certificate.0.as_slice()
        )
        .unwrap();
        tx.commit().await.unwrap();
    };
    lose(lost[0]).await;
    assert_eq!(read(&world.lists(&audit).await.unwrap()).len(), 1);
    // That of the certificate in use is missed, as soon as no list of it is good.
    lose(lost[1]).await;
    assert_eq!(read(&world.lists(&audit).await.unwrap()).len(), 1);
    world.clock.advance(Duration::from_secs(25 * 3_600));
    let error = world.lists(&audit).await.unwrap_err();
    assert!(matches!(error, DelegateError::Seal(_)), "{error}");
}

#[tokio::test]
async fn without_the_log_no_list_is_signed() {
    let world = World::new().await;
    let audit = world.audit();
    audit.close("a test").await;
    let error = world.lists(&audit).await.unwrap_err();
    assert!(matches!(error, DelegateError::Audit(_)), "{error}");
}

#[tokio::test]
async fn where_no_list_can_be_signed_the_last_one_is_given_while_it_is_good() {
    let world = World::new().await;
    let audit = world.audit();
    let good = world.lists(&audit).await.unwrap();
    world.revoked().await;
    // The log takes no record of a new one.
    audit.close("test").await;
    assert_eq!(world.lists(&audit).await.unwrap(), good);
    world.clock.advance(Duration::from_secs(23 * 3_600));
    assert_eq!(world.lists(&audit).await.unwrap(), good);
    world.clock.advance(Duration::from_secs(3_600));
    let error = world.lists(&audit).await.unwrap_err();
    assert!(matches!(error, DelegateError::Audit(_)), "{error}");
}
