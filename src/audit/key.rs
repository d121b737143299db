//! The log key: one Ed25519 key per node, apart from every other key, that signs checkpoints, and reports that say they are
//! none.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::tree::Edge;
use crate::id::{Random, RandomError, random_bytes};

/// Signature type byte of Ed25519 in a C2SP signed note.
const ED25519_NOTE: u8 = 1;

/// Why a log key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The file could not be read or written.
    #[error("log key file `{}`: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not an Ed25519 private key.
    #[error("the log key is not an Ed25519 key in PKCS#8 form")]
    Private,
    /// The text is not a public key of the form `name+hash+base64`.
    #[error("`{0}` is not a log's public key (accepted: `name+hash+base64` with an Ed25519 key)")]
    Public(String),
    /// The text is not a public key of a witness.
    #[error(
        "`{0}` is not a witness's public key (accepted: `name+hash+base64` with an Ed25519 cosignature key)"
    )]
    Witness(String),
    /// A name that no signature line can carry.
    #[error(
        "`{0}` cannot be the name of a key (accepted: a name without spaces and without `+`, such as `witness.example.org`)"
    )]
    Name(String),
}

/// The private key that signs checkpoints.
pub struct LogKey(Ed25519KeyPair);

impl LogKey {
    /// A new key from `random`.
    ///
    /// # Errors
    /// [`KeyError::Random`] when there are no random bytes.
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        let mut seed = random_bytes::<32>(random)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Private);
        seed.zeroize();
        key.map(Self)
    }

    /// Reads the key from a PKCS#8 (DER) file.
    ///
    /// # Errors
    /// [`KeyError::File`], or [`KeyError::Private`] when the file holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let der = crate::secret::read_file(path).map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })?;
        Ed25519KeyPair::from_pkcs8(der.expose())
            .map(Self)
            .map_err(|_| KeyError::Private)
    }

    /// Writes the private key to `path` (PKCS#8 DER, mode 0600, never over an existing file) and the public key beside
    /// it, with the extension `pub`, under the name `origin`.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn save(&self, path: &Path, origin: &str) -> Result<(), KeyError> {
        self.save_with(path, &self.public(origin).to_string())
    }

    /// The same with the text of the public key, which depends on what the key is for.
    pub(super) fn save_with(&self, path: &Path, public: &str) -> Result<(), KeyError> {
        let der = self.0.to_pkcs8v1().map_err(|_| KeyError::Private)?;
        write_new(path, 0o600, der.as_ref())?;
        write_new(
            &path.with_extension("pub"),
            0o644,
            format!("{public}\n").as_bytes(),
        )
    }

    /// The public key under the name `origin`.
    #[must_use]
    pub fn public(&self, origin: &str) -> VerifyingKey {
        VerifyingKey::new(origin, self.public_bytes())
    }

    /// The 32 bytes of the public key.
    pub(super) fn public_bytes(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    /// The key of the tags of batches.
    ///
    /// # Errors
    /// [`KeyError::Private`] when the library does not give the key's seed.
    pub(super) fn tags(&self) -> Result<TagKey, KeyError> {
        let seed: Curve25519SeedBin<'_> = self
            .0
            .seed()
            .and_then(|seed| seed.as_be_bytes())
            .map_err(|_| KeyError::Private)?;
        let derived = Salt::new(HKDF_SHA256, b"countersign log").extract(seed.as_ref());
        let derived = derived.expand(&[b"tags of batches, 1"], HMAC_SHA256);
        let derived = derived.map_err(|_| KeyError::Private)?;
        Ok(TagKey(hmac::Key::from(derived)))
    }

    /// Signs `message`: 64 bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(..)")
    }
}

/// The key that marks a batch as the gateway's own until a checkpoint signs it: derived from the log key (RFC 5869), so that
/// only who has that one can write records that are believed after a crash.
#[derive(Clone)]
pub(crate) struct TagKey(hmac::Key);

impl TagKey {
    /// The tag of a batch of a segment, behind which the tree has `edge`.
    pub(crate) fn tag(&self, header: (u64, u64), batch: u32, edge: &Edge) -> [u8; 32] {
        let (epoch, segment) = header;
        let mut context = hmac::Context::with_key(&self.0);
        for number in [epoch, segment, batch.into(), edge.size()] {
            context.update(&number.to_le_bytes());
        }
        for peak in edge.peaks() {
            context.update(&peak.0);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether `tag` is the tag of that batch.
    pub(crate) fn is_of(&self, tag: &[u8], header: (u64, u64), batch: u32, edge: &Edge) -> bool {
        self.tag(header, batch, edge).ct_eq(tag).into()
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(..)")
    }
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyError> {
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::File {
        path: path.to_owned(),
        source,
    })
}

/// The public half of a [`LogKey`] with the log's name; shown as a C2SP verifier key, `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    id: u32,
    key: [u8; 32],
}

impl VerifyingKey {
    fn new(name: &str, key: [u8; 32]) -> Self {
        let id = signed_note::key_id(name, &encoded(ED25519_NOTE, &key));
        Self {
            name: name.to_owned(),
            id,
            key,
        }
    }

    /// The log's name: its origin without the epoch.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key.
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Reads the first line of a `log.pub` file.
    ///
    /// # Errors
    /// [`KeyError::File`] or [`KeyError::Public`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })?;
        text.trim().parse()
    }
}

/// A key as notes know it: the type of its signatures, then its bytes.
pub(super) fn encoded(kind: u8, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(key);
    bytes
}

/// Name and bytes of a verifier key `name+hash+base64` for signatures of this type.
pub(super) fn decoded(kind: u8, text: &str) -> Option<(&str, [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let bytes = data_encoding::BASE64.decode(key.as_bytes()).ok()?;
    let same_id = u32::from_str_radix(id, 16).ok()? == signed_note::key_id(name, &bytes);
    let (found, key) = bytes.split_first()?;
    let right = *found == kind && same_id && signed_note::is_key_name_valid(name);
    right.then_some(())?;
    Some((name, key.try_into().ok()?))
}

/// Whether `key` made the signature.
pub(super) fn verifies(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key)
        .verify(message, signature)
        .is_ok()
}

impl signed_note::Verifier for VerifyingKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        verifies(&self.key, message, signature)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decoded(ED25519_NOTE, text)
            .map(|(name, key)| Self::new(name, key))
            .ok_or_else(|| KeyError::Public(text.to_owned()))
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.id,
            data_encoding::BASE64.encode(&encoded(ED25519_NOTE, &self.key))
        )
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SystemSource;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        key.save(&path, "gw.example.org/log").unwrap();
        let public = VerifyingKey::load(&folder.path().join("log.pub")).unwrap();
        assert_eq!(public, LogKey::load(&path).unwrap().public("gw.example.org/log"));
        assert!(key.save(&path, "gw.example.org/log").is_err());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_verifier_key_is_the_one_of_signed_note() {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        let text = key.public("gw.example.org/log").to_string();
        let other = signed_note::StandardVerifier::new(&text).unwrap();
        assert!(signed_note::Verifier::verify(
            &other,
            b"text\n",
            &key.sign(b"text\n")
        ));
        for bad in ["", "a+b", "a+00000000+AAAA", &text.replace("gw.", "gv.")] {
            assert!(bad.parse::<VerifyingKey>().is_err(), "{bad}");
        }
    }
}
