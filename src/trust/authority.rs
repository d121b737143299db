//! The private CA for first use: issues the gateway's server certificate and a throw-away VO certificate, and is gone.
//!
//! The CA certificate is what clients trust, so it is bound as tightly as X.509 allows: path length 0, critical name
//! constraints to the given names and addresses, 90 days. Its key lives only inside [`issue`] and is never written.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use crate::clock::Timestamp;
use crate::id::{Ids, RandomError, random_bytes};
use crate::record::Hash;
use crate::secret::Secret;

/// How long everything issued here is valid.
pub const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Room for clocks that are a little behind.
const BACKDATED: Duration = Duration::from_secs(300);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name cannot stand in a certificate.
    #[error(
        "`{0}` is not a host name; accepted: letters, digits, hyphens and dots, `*` only as the first label"
    )]
    Name(String),
    /// There is no name.
    #[error("no host name or address was given; accepted: at least one")]
    NoName,
    /// The certificate library failed.
    #[error("the private CA could not issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// What the server certificate is for, and what the CA is bound to.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Host names; `*.gw.localhost` stands for every name directly below.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

impl Names {
    /// `localhost`, `gw.localhost`, `*.gw.localhost`, `127.0.0.1` and `::1`.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            dns: ["localhost", "gw.localhost", "*.gw.localhost"]
                .map(str::to_owned)
                .to_vec(),
            ips: vec![
                IpAddr::from([127, 0, 0, 1]),
                IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ],
        }
    }
}

/// A certificate with its key, both in PEM.
#[derive(Debug)]
pub struct Pair {
    /// The certificate, without the CA's.
    pub certificate: String,
    /// Its key (PKCS#8).
    pub key: Secret<String>,
}

/// Everything that the private CA left behind.
#[derive(Debug)]
pub struct Issued {
    /// The CA's certificate, for clients to trust (PEM).
    pub ca: String,
    /// SHA-256 of the CA's certificate (DER), for comparing by eye.
    pub ca_sha256: Hash,
    /// The gateway's server certificate.
    pub server: Pair,
    /// The throw-away VO certificate, P-256.
    pub vo: Pair,
    /// When all of them end.
    pub not_after: Timestamp,
}

/// Makes a CA, issues a server certificate for `names` and a VO certificate for the VO called `vo`, and drops the CA's key.
///
/// # Errors
/// [`AuthorityError`] for names that no certificate can hold.
pub fn issue(names: &Names, vo: &str, ids: &Ids) -> Result<Issued, AuthorityError> {
    check(names)?;
    let now = ids.clock().now();
    let not_after = Timestamp::from_secs(now.plus(LIFETIME).secs());
    let blank = |name: &str| -> Result<CertificateParams, AuthorityError> {
        let mut params = CertificateParams::default();
        params.not_before = Timestamp::from_secs(now.minus(BACKDATED).secs()).to_offset();
        params.not_after = not_after.to_offset();
        params.serial_number = Some(serial(ids)?);
        params.distinguished_name = subject(name);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    };

    // A CA's name of its own, so that two installations never share one (clients keep several).
    let ca_name = format!(
        "CA {}",
        data_encoding::HEXLOWER.encode(&random_bytes::<4>(&**ids.random())?)
    );
    let mut ca = blank(&ca_name)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.name_constraints = Some(constraints(names));
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let mut server = blank("gateway")?;
    server.subject_alt_names = alternative_names(names)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut member = blank(&format!("VO {vo}"))?;
    member.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for params in [&mut server, &mut member] {
        params.is_ca = IsCa::ExplicitNoCa;
    }
    Ok(Issued {
        ca: ca_certificate.pem(),
        ca_sha256: Hash::of(ca_certificate.der()),
        server: pair(&server, &issuer)?,
        vo: pair(&member, &issuer)?,
        not_after,
    })
    // SECURITY: `issuer` is dropped here, and with it the only copy of the CA's key.
}

fn pair(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Pair, AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Pair {
        certificate,
        key: Secret::new(key.serialize_pem()),
    })
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for (kind, value) in [
        (DnType::OrganizationName, "Countersign throw-away"),
        (DnType::CommonName, name),
    ] {
        subject.push(kind, DnValue::Utf8String(value.to_owned()));
    }
    subject
}

fn serial(ids: &Ids) -> Result<SerialNumber, RandomError> {
    let mut bytes = random_bytes::<16>(&**ids.random())?;
    // RFC 5280 section 4.1.2.2: positive, and not zero.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn constraints(names: &Names) -> NameConstraints {
    // RFC 5280 section 4.2.1.10: a name permits itself and everything below it.
    let mut hosts: Vec<&str> = names
        .dns
        .iter()
        .map(|name| name.trim_start_matches("*."))
        .collect();
    hosts.sort_unstable_by_key(|name| name.len());
    let mut permitted: Vec<&str> = Vec::new();
    for host in hosts {
        if !permitted
            .iter()
            .any(|known| host == *known || host.ends_with(&format!(".{known}")))
        {
            permitted.push(host);
        }
    }
    let mut subtrees: Vec<GeneralSubtree> = permitted
        .into_iter()
        .map(|host| GeneralSubtree::DnsName(host.to_owned()))
        .collect();
    subtrees.extend(names.ips.iter().map(|ip| {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*ip, bits))
    }));
    // A kind of name without any permitted subtree would be unbounded: exclude what is never issued.
    let mut excluded = Vec::new();
    if names.dns.is_empty() {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if names.ips.is_empty() {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    NameConstraints {
        permitted_subtrees: subtrees,
        excluded_subtrees: excluded,
    }
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, AuthorityError> {
    let mut alternatives = Vec::new();
    for name in &names.dns {
        alternatives.push(SanType::DnsName(name.as_str().try_into()?));
    }
    alternatives.extend(names.ips.iter().copied().map(SanType::IpAddress));
    Ok(alternatives)
}

fn check(names: &Names) -> Result<(), AuthorityError> {
    if names.dns.is_empty() && names.ips.is_empty() {
        return Err(AuthorityError::NoName);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    for name in &names.dns {
        let host = name.strip_prefix("*.").unwrap_or(name);
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(AuthorityError::Name(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::clock::{Clock, HandClock};
    use crate::id::SystemSource;
    use crate::trust::certificate::{Source, check};
    use crate::trust::pem;
    use crate::trust::signer::Algorithm;

    fn ids() -> Ids {
        // Near the real time, because openssl verifies against the machine's clock.
        let now = crate::clock::SystemClock::new().now();
        Ids::new(Arc::new(HandClock::new(now)), Arc::new(SystemSource::new()))
    }

    fn openssl(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
        let output = std::process::Command::new("openssl")
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

    fn written(issued: &Issued) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.pem", &issued.ca),
            ("server.pem", &issued.server.certificate),
            ("vo.pem", &issued.vo.certificate),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn openssl_accepts_what_was_issued_for_every_name() {
        let issued = issue(&Names::loopback(), "imense", &ids()).unwrap();
        let folder = written(&issued);
        for arguments in [
            &["verify", "-x509_strict", "-CAfile", "ca.pem", "vo.pem"][..],
            &[
                "verify",
                "-x509_strict",
                "-CAfile",
                "ca.pem",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                "localhost",
                "server.pem",
            ],
            &[
                "verify",
                "-CAfile",
                "ca.pem",
                "-verify_hostname",
                "orthanc.gw.localhost",
                "server.pem",
            ],
            &[
                "verify",
                "-CAfile",
                "ca.pem",
                "-verify_ip",
                "127.0.0.1",
                "server.pem",
            ],
            &["verify", "-CAfile", "ca.pem", "-verify_ip", "::1", "server.pem"],
        ] {
            let (ok, said) = openssl(folder.path(), arguments);
            assert!(ok, "{arguments:?}: {said}");
        }
        let (ok, _) = openssl(
            folder.path(),
            &[
                "verify",
                "-CAfile",
                "ca.pem",
                "-verify_hostname",
                "example.org",
                "server.pem",
            ],
        );
        assert!(!ok);
    }

    #[test]
    fn the_authority_is_bound_to_its_names_for_90_days() {
        let ids = ids();
        let issued = issue(&Names::loopback(), "imense", &ids).unwrap();
        let folder = written(&issued);
        let (_, said) = openssl(folder.path(), &["x509", "-in", "ca.pem", "-noout", "-text"]);
        for part in [
            "X509v3 Name Constraints: critical",
            "DNS:localhost",
            "IP:127.0.0.1/255.255.255.255",
            "CA:TRUE, pathlen:0",
            "ASN1 OID: prime256v1",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(said.matches("DNS:").count(), 1);
        assert_eq!(issued.not_after.secs(), ids.clock().now().plus(LIFETIME).secs());
        let der = pem::certificates("ca", &issued.ca).unwrap().remove(0);
        assert_eq!(Hash::of(&der), issued.ca_sha256);
    }

    #[test]
    fn a_name_outside_the_constraints_is_refused_by_openssl() {
        let ids = ids();
        let now = ids.clock().now();
        let mut ca = CertificateParams::default();
        ca.distinguished_name = subject("CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.name_constraints = Some(constraints(&Names::loopback()));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = ca.self_signed(&key).unwrap();
        let issuer = Issuer::new(ca, key);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        for (name, fits) in [
            ("a.localhost", true),
            ("example.org", false),
            ("192.0.2.1", false),
            ("127.0.0.1", true),
        ] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name = subject("x");
            params.not_before = now.minus(BACKDATED).to_offset();
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
            std::fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
            assert_eq!(
                openssl(folder.path(), &["verify", "-CAfile", "ca.pem", "leaf.pem"]).0,
                fits,
                "{name}"
            );
        }
    }

    #[test]
    fn the_vo_certificate_passes_its_own_import() {
        let ids = ids();
        let issued = issue(&Names::loopback(), "imense", &ids).unwrap();
        let checked = check(
            Source {
                name: "vo.pem",
                text: &issued.vo.certificate,
            },
            Source {
                name: "vo.key",
                text: issued.vo.key.expose(),
            },
            &**ids.clock(),
        )
        .unwrap();
        assert_eq!(checked.facts().algorithm, Algorithm::P256);
        assert_eq!(
            checked.facts().subject_text,
            "O=Countersign throw-away, CN=VO imense"
        );
    }

    #[test]
    fn two_authorities_share_neither_name_nor_key() {
        let (one, two) = (
            issue(&Names::loopback(), "a", &ids()).unwrap(),
            issue(&Names::loopback(), "a", &ids()).unwrap(),
        );
        let names: Vec<String> = [&one.ca, &two.ca]
            .map(|text| pem::certificates("ca", text).unwrap().remove(0))
            .iter()
            .map(|der| X509Certificate::from_der(der).unwrap().1.subject().to_string())
            .collect();
        assert_ne!(names[0], names[1]);
        assert_ne!(one.ca_sha256, two.ca_sha256);
    }

    #[test]
    fn names_that_no_certificate_can_hold_are_refused() {
        for name in ["", "a b", "a..b", "*", "a.*.b", "-a", "http://x", "é.example"] {
            let names = Names {
                dns: vec![name.to_owned()],
                ips: vec![],
            };
            assert!(
                matches!(issue(&names, "a", &ids()), Err(AuthorityError::Name(_))),
                "{name}"
            );
        }
        assert!(matches!(
            issue(&Names::default(), "a", &ids()),
            Err(AuthorityError::NoName)
        ));
    }
}
