//! Reads PEM files (RFC 7468): certificates and private keys, with one clear error for everything else.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::secret::{self, Secret};

/// No PEM file is longer, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Why a PEM file was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("`{file}` cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file has no certificate.
    #[error(
        "`{file}` holds no certificate; accepted: PEM (`-----BEGIN CERTIFICATE-----`), the certificate itself first, then its intermediates"
    )]
    NoCertificate {
        /// The file.
        file: String,
    },
    /// The file has no private key.
    #[error(
        "`{file}` holds no private key; accepted: one PEM key, `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` or `RSA PRIVATE KEY`"
    )]
    NoKey {
        /// The file.
        file: String,
    },
    /// The file has several private keys.
    #[error("`{file}` holds more than one private key; accepted: exactly one")]
    SeveralKeys {
        /// The file.
        file: String,
    },
    /// The private key is under a pass phrase.
    #[error(
        "the private key in `{file}` is encrypted, which is not accepted: decrypt it first (`openssl pkey -in ENCRYPTED -out PLAIN`); it is sealed again on import"
    )]
    Encrypted {
        /// The file.
        file: String,
    },
    /// The PEM text is damaged.
    #[error("`{file}` is not valid PEM: a section is cut off or is not base64")]
    Damaged {
        /// The file.
        file: String,
    },
}

/// Reads a PEM file of at most 1 MiB.
///
/// # Errors
/// [`PemError::Unreadable`], also when it is too long or not text.
pub fn file(path: &Path) -> Result<Secret<String>, PemError> {
    let unreadable = |reason: String| unreadable(path, reason);
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    let bytes = Secret::new(bytes);
    if bytes.expose().len() as u64 > FILE_MAX {
        return Err(unreadable("it is longer than 1 MiB".to_owned()));
    }
    text(path, &bytes)
}

/// The same for a file with a private key, which nobody but its owner (and its group, to read) may have access to.
///
/// # Errors
/// [`PemError::Unreadable`], also when other accounts may read or change it.
pub fn private_file(path: &Path) -> Result<Secret<String>, PemError> {
    let bytes = secret::read_file(path).map_err(|error| unreadable(path, error.to_string()))?;
    text(path, &bytes)
}

fn text(path: &Path, bytes: &Secret<Vec<u8>>) -> Result<Secret<String>, PemError> {
    let accepted = "it is not text; accepted: PEM (for DER: `openssl x509 -inform DER -in FILE -out FILE.pem`; for PKCS#12: `openssl pkcs12 -in FILE -nodes -out FILE.pem`)";
    String::from_utf8(bytes.expose().clone())
        .map(Secret::new)
        .map_err(|_| unreadable(path, accepted.to_owned()))
}

fn unreadable(path: &Path, reason: String) -> PemError {
    PemError::Unreadable {
        file: path.display().to_string(),
        reason,
    }
}

/// All certificates in `text`, as DER, in their order. `name` stands for the text in errors.
///
/// # Errors
/// [`PemError::NoCertificate`], [`PemError::Damaged`].
pub fn certificates(name: &str, text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let found: Vec<Vec<u8>> = sections(name, text)?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| der.expose().clone())
        .collect();
    if found.is_empty() {
        Err(PemError::NoCertificate {
            file: name.to_owned(),
        })
    } else {
        Ok(found)
    }
}

/// The one private key in `text`, as DER (PKCS#8, SEC1 or PKCS#1). `name` stands for the text in errors.
///
/// # Errors
/// [`PemError::Encrypted`], [`PemError::NoKey`], [`PemError::SeveralKeys`], [`PemError::Damaged`].
pub fn key(name: &str, text: &str) -> Result<Secret<Vec<u8>>, PemError> {
    let file = || name.to_owned();
    // The old form announces itself in a header line (RFC 1421 section 4.6.1.1), the new one in its label.
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PemError::Encrypted { file: file() });
    }
    let is_key = |kind| {
        matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey
        )
    };
    let mut keys = sections(name, text)?
        .into_iter()
        .filter(|(kind, _)| is_key(*kind));
    let (_, key) = keys.next().ok_or_else(|| PemError::NoKey { file: file() })?;
    if keys.next().is_some() {
        Err(PemError::SeveralKeys { file: file() })
    } else {
        Ok(key)
    }
}

/// Certificates (DER) as one PEM text, in their order.
///
/// # Errors
/// [`der::Error`] when one is too long to be encoded.
pub fn write<'a>(certificates: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<String, der::Error> {
    certificates
        .into_iter()
        .map(|certificate| {
            Ok(der::pem::encode_string(
                "CERTIFICATE",
                der::pem::LineEnding::LF,
                certificate,
            )?)
        })
        .collect()
}

/// A section's kind and its bytes (DER).
type Section = (SectionKind, Secret<Vec<u8>>);

fn sections(name: &str, text: &str) -> Result<Vec<Section>, PemError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes())
        .map(|section| section.map(|(kind, der)| (kind, Secret::new(der))))
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::Damaged {
            file: name.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../certs/vo-ec.pem");
    const KEY: &str = include_str!("../../certs/vo-ec.key");

    #[test]
    fn what_is_written_reads_back() {
        let chain = certificates("f", include_str!("../../certs/vo-chain.pem")).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(certificates("f", &write(&chain).unwrap()).unwrap(), chain);
    }

    #[test]
    fn an_encrypted_key_is_refused_with_the_command_that_decrypts_it() {
        for text in [
            include_str!("../../certs/encrypted.key"),
            include_str!("../../certs/encrypted-old.key"),
        ] {
            let error = key("vo.key", text).unwrap_err();
            assert_eq!(
                error,
                PemError::Encrypted {
                    file: "vo.key".to_owned()
                }
            );
            assert!(error.to_string().contains("openssl pkey"));
        }
    }

    #[test]
    fn each_wrong_file_has_its_own_error() {
        assert!(matches!(
            certificates("f", KEY),
            Err(PemError::NoCertificate { .. })
        ));
        assert!(matches!(
            certificates("f", "hello"),
            Err(PemError::NoCertificate { .. })
        ));
        assert!(matches!(key("f", CERTIFICATE), Err(PemError::NoKey { .. })));
        assert!(matches!(
            key("f", &format!("{KEY}{KEY}")),
            Err(PemError::SeveralKeys { .. })
        ));
        assert!(matches!(
            certificates("f", &CERTIFICATE[..200]),
            Err(PemError::Damaged { .. })
        ));
        assert!(certificates("f", &CERTIFICATE.replacen('M', "\u{1}", 1)).is_err());
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = file(&folder.path().join("vo.pem")).unwrap_err().to_string();
        assert!(
            missing.contains("vo.pem") && missing.contains("No such file"),
            "{missing}"
        );
        let path = folder.path().join("vo.der");
        std::fs::write(&path, [0x30, 0x82, 0xff, 0xfe]).unwrap();
        assert!(
            file(&path)
                .unwrap_err()
                .to_string()
                .contains("openssl x509 -inform DER")
        );
    }
}
