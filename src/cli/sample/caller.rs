//! Reads the proxy credential that the gateway hands to the tool, and tells what it says.

use data_encoding::BASE64;
use serde_json::{Value, json};
use x509_parser::pem::Pem;

/// The header in which the credential comes: base64 of a PEM file.
pub(super) const HEADER: &str = "x-countersign-proxy";

/// What the credential says about itself. The sample tool believes it; a real one verifies the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The first certificate of the file.
    Proxy {
        /// Its subject, most general part first.
        subject: String,
        /// Its issuer.
        issuer: String,
        /// Its serial number in decimal.
        serial: String,
        /// When it ends, RFC 3339.
        not_after: String,
        /// Whether the file carries a private key, so that the tool could act with it.
        key: bool,
        /// How many certificates the file has.
        certificates: usize,
    },
    /// The header was there and could not be read.
    Unreadable(&'static str),
}

impl Caller {
    /// Reads the value of [`HEADER`].
    #[must_use]
    pub(super) fn read(value: &[u8]) -> Self {
        let Ok(file) = BASE64.decode(value) else {
            return Self::Unreadable("not base64");
        };
        let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&file).collect();
        let Ok(blocks) = blocks else {
            return Self::Unreadable("not a PEM file");
        };
        let key = blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY"));
        let certificates: Vec<&Pem> = blocks
            .iter()
            .filter(|block| block.label == "CERTIFICATE")
            .collect();
        let Some(first) = certificates.first() else {
            return Self::Unreadable("no certificate in it");
        };
        let Ok(certificate) = first.parse_x509() else {
            return Self::Unreadable("not a certificate");
        };
        Self::Proxy {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.tbs_certificate.serial.to_string(),
            not_after: crate::clock::Timestamp::from_secs(certificate.validity().not_after.timestamp())
                .to_string(),
            key,
            certificates: certificates.len(),
        }
    }

    /// As JSON.
    #[must_use]
    pub(super) fn document(&self) -> Value {
        match self {
            Self::Unreadable(why) => json!({ "error": why }),
            Self::Proxy {
                subject,
                issuer,
                serial,
                not_after,
                key,
                certificates,
            } => json!({
                "subject": subject,
                "issuer": issuer,
                "serial": serial,
                "not_after": not_after,
                "private_key": key,
                "certificates": certificates,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_certificate_of_the_file_is_shown() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut form = rcgen::CertificateParams::default();
        form.distinguished_name = rcgen::DistinguishedName::new();
        form.distinguished_name
            .push(rcgen::DnType::OrganizationName, "Example");
        form.distinguished_name
            .push(rcgen::DnType::CommonName, "John Smith");
        form.serial_number = Some(rcgen::SerialNumber::from(1_234_567_890_123_u64));
        form.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let file = form.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        let caller = Caller::read(BASE64.encode(file.as_bytes()).as_bytes()).document();
        assert_eq!(caller["subject"], "O=Example, CN=John Smith");
        assert_eq!(caller["serial"], "1234567890123");
        assert_eq!(caller["not_after"], "2030-01-02T00:00:00Z");
        assert_eq!(
            (&caller["private_key"], &caller["certificates"]),
            (&json!(true), &json!(1))
        );
    }

    #[test]
    fn what_is_no_credential_is_said_to_be_none() {
        let encoded = |text: &str| BASE64.encode(text.as_bytes());
        for (value, why) in [
            ("%%".to_owned(), "not base64"),
            (encoded("hello"), "no certificate in it"),
            (
                encoded("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "not a certificate",
            ),
        ] {
            assert_eq!(
                Caller::read(value.as_bytes()).document(),
                json!({ "error": why }),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Caller::read(&bytes);
            let _ = Caller::read(BASE64.encode(&bytes).as_bytes());
        }
    }
}
