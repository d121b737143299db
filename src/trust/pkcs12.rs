//! Reads PKCS#12 files (RFC 7292): a certificate, its key and the certificates above it, as browsers and CAs hand them out.
//!
//! Read where the file is: neither it nor its password goes to the gateway, only what it holds. Files that are encrypted with
//! RC2 or Triple DES are refused with the command that converts them.

use der::pem::LineEnding;
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;

use super::chain;
use super::pem;
use super::signer::{FileKey, Signer};
use crate::secret::Secret;

/// No such file is longer, in bytes.
pub const LONGEST: usize = 1 << 20;
/// No chain is longer.
const MOST: usize = 10;

/// Why a PKCS#12 file was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs12Error {
    /// It is too long.
    #[error("`{file}` is longer than 1 MiB, which no file with one certificate is")]
    TooLong {
        /// The file.
        file: String,
    },
    /// The password is wrong.
    #[error("the password does not open `{file}`")]
    Password {
        /// The file.
        file: String,
    },
    /// It is encrypted in an old way.
    #[error(
        "`{file}` is encrypted in a way that is not accepted any more (RC2 or Triple DES); accepted: AES (PBES2), as OpenSSL 3 writes it. \
         To convert it: `openssl pkcs12 -legacy -in {file} -nodes | openssl pkcs12 -export -out NEW.p12`"
    )]
    Old {
        /// The file.
        file: String,
    },
    /// It cannot be read.
    #[error("`{file}` is no PKCS#12 file, or is damaged (PEM is given with --certificate and --key)")]
    Unreadable {
        /// The file.
        file: String,
    },
    /// It does not hold exactly one key.
    #[error("`{file}` holds {found} private keys; accepted: exactly one")]
    Keys {
        /// The file.
        file: String,
        /// How many.
        found: usize,
    },
    /// Its key is of another kind.
    #[error("the key in `{file}` is of a kind that is not accepted; accepted: RSA, P-256 and P-384")]
    Kind {
        /// The file.
        file: String,
    },
    /// No certificate has its key.
    #[error("no certificate in `{file}` belongs to the key in it")]
    NoCertificate {
        /// The file.
        file: String,
    },
}

/// What a file holds.
#[derive(Debug)]
pub struct Held {
    /// The certificate of the key, then those above it (PEM).
    pub certificate: String,
    /// The key (PEM, PKCS#8).
    pub key: Secret<String>,
}

/// Opens a file. `name` stands for it in errors.
///
/// # Errors
/// [`Pkcs12Error`].
pub fn read(name: &str, bytes: &[u8], password: &Secret<String>) -> Result<Held, Pkcs12Error> {
    let file = || name.to_owned();
    if bytes.len() > LONGEST {
        return Err(Pkcs12Error::TooLong { file: file() });
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password.expose()).map_err(|error| match error {
        Error::MacError(_) => Pkcs12Error::Password { file: file() },
        Error::UnsupportedEncryptionScheme => Pkcs12Error::Old { file: file() },
        _ => Pkcs12Error::Unreadable { file: file() },
    })?;
    let [key] = archive.keys.as_slice() else {
        let found = archive.keys.len();
        return Err(Pkcs12Error::Keys { file: file(), found });
    };
    let key = key.key.as_der();
    let spki = FileKey::read(key).and_then(|key| key.spki().ok());
    let spki = spki.ok_or_else(|| Pkcs12Error::Kind { file: file() })?;
    let certificates: Vec<&[u8]> = archive.certs.iter().map(|bag| bag.cert.as_der()).collect();
    let chain = chain_of(&spki, &certificates).ok_or_else(|| Pkcs12Error::NoCertificate { file: file() })?;
    let unreadable = |_| Pkcs12Error::Unreadable { file: file() };
    Ok(Held {
        certificate: pem::write(&chain).map_err(unreadable)?,
        key: der::pem::encode_string("PRIVATE KEY", LineEnding::LF, key)
            .map(Secret::new)
            .map_err(|_| Pkcs12Error::Unreadable { file: file() })?,
    })
}

/// The certificate with this key, then who signed it, and so on. What else is in the file is left out.
fn chain_of(spki: &[u8], certificates: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let has_key = |der: &&&[u8]| chain::public_key(der).is_some_and(|key| key == spki);
    let mut chain = vec![certificates.iter().find(has_key)?.to_vec()];
    while chain.len() < MOST {
        let last = chain.last()?;
        let above = |der: &&&[u8]| !chain.iter().any(|known| known == *der) && chain::is_signed_by(last, der);
        match certificates.iter().find(above) {
            Some(above) => chain.push(above.to_vec()),
            None => break,
        }
    }
    Some(chain)
}

/// What is taken is a key with its own certificate first, each signed by the next.
#[cfg(any(test, feature = "fuzzing"))]
#[expect(
    clippy::unwrap_used,
    reason = "a target ends at the first thing that is not as it claims"
)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(held) = read("x.p12", bytes, &Secret::new("secret".to_owned())) else {
        return;
    };
    let key = pem::key("x.p12", held.key.expose()).unwrap();
    let chain = pem::certificates("x.p12", &held.certificate).unwrap();
    let spki = FileKey::read(key.expose()).unwrap().spki().unwrap();
    assert!(chain.first().and_then(|der| chain::public_key(der)) == Some(spki));
    let signed = chain.iter().zip(chain.iter().skip(1));
    assert!(
        signed
            .into_iter()
            .all(|(below, above)| chain::is_signed_by(below, above))
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/vo-rsa.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/vo-rsa.key");

    fn openssl(arguments: &[&str]) {
        let ran = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs (apt-get install openssl)");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// A file as `openssl pkcs12 -export` writes it.
    fn exported(folder: &Path, more: &[&str]) -> Vec<u8> {
        let out = folder.join("vo.p12");
        let path = out.to_str().unwrap();
        let export = ["pkcs12", "-export", "-passout", "pass:secret", "-out", path];
        openssl(&[&export[..], &["-in", CERTIFICATE, "-inkey", KEY], more].concat());
        std::fs::read(out).unwrap()
    }

    fn opened(bytes: &[u8], password: &str) -> Result<Held, Pkcs12Error> {
        read("vo.p12", bytes, &Secret::new(password.to_owned()))
    }

    #[test]
    fn what_openssl_writes_by_default_and_with_aes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let expected = pem::certificates("vo", &std::fs::read_to_string(CERTIFICATE).unwrap()).unwrap();
        for more in [
            &[][..],
            &[
                "-keypbe",
                "AES-128-CBC",
                "-certpbe",
                "AES-128-CBC",
                "-macalg",
                "sha512",
            ],
            &["-certpbe", "NONE"],
            &["-name", "the certificate of a VO", "-iter", "100000"],
        ] {
            let bytes = exported(folder.path(), more);
            let held = opened(&bytes, "secret").unwrap();
            let chain = pem::certificates("vo", &held.certificate).unwrap();
            assert_eq!(chain[0], expected[0], "{more:?}");
            let key = |text: &str| {
                FileKey::read(pem::key("vo", text).unwrap().expose())
                    .unwrap()
                    .spki()
                    .unwrap()
            };
            assert_eq!(
                key(held.key.expose()),
                key(&std::fs::read_to_string(KEY).unwrap())
            );
            let wrong = Pkcs12Error::Password {
                file: "vo.p12".into(),
            };
            assert_eq!(opened(&bytes, "wrong").unwrap_err(), wrong);
            fuzz(&bytes);
        }
    }

    #[test]
    fn old_ways_of_encryption_are_refused_with_the_command_that_converts() {
        let folder = tempfile::tempdir().unwrap();
        for more in [
            &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"][..],
            &["-legacy"],
        ] {
            let bytes = exported(folder.path(), more);
            let refused = opened(&bytes, "secret").unwrap_err();
            assert_eq!(
                refused,
                Pkcs12Error::Old {
                    file: "vo.p12".into()
                },
                "{more:?}"
            );
            assert!(
                refused.to_string().contains("openssl pkcs12 -legacy -in vo.p12"),
                "{refused}"
            );
        }
    }

    #[test]
    fn without_its_key_or_its_certificate_or_its_end_it_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, found) = ("vo.p12".to_owned(), 0);
        let bytes = exported(folder.path(), &["-nokeys"]);
        assert_eq!(
            opened(&bytes, "secret").unwrap_err(),
            Pkcs12Error::Keys {
                file: file.clone(),
                found
            }
        );
        let bytes = exported(folder.path(), &[]);
        for end in (0..bytes.len()).step_by(7) {
            assert!(opened(&bytes[..end], "secret").is_err(), "{end}");
        }
        let long = vec![0x30; LONGEST + 1];
        assert_eq!(
            opened(&long, "secret").unwrap_err(),
            Pkcs12Error::TooLong { file }
        );
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&bytes);
        }
    }
}
