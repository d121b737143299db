//! The envelope in which keys rest: AES-256-GCM under a [`SealingKey`] that lies outside the data folder.
//!
//! An envelope is bound to what it is for (its [`Label`]): one that is moved to another VO, another certificate or an
//! older version does not open.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroize;

use crate::id::{Random, RandomError, random_bytes};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Hash;
use crate::secret::Secret;

/// Version of the envelope written by this build.
const VERSION: u8 = 1;
/// Bytes of the key's id in an envelope: enough to tell "another key" from "changed bytes".
const KEY_ID_LEN: usize = 8;
/// Bytes before the ciphertext: version, key id, nonce.
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
/// No sealing key file is longer.
const FILE_MAX: u64 = 1024;

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no sealing key: the gateway is sealed.
    #[error("the sealing key is not there, so what it seals cannot be used")]
    Sealed,
    /// The sealing key's file cannot be read or written.
    #[error("the sealing key file `{path}` cannot be {done}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        done: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than its owner may read the sealing key.
    #[error("the sealing key file `{path}` has mode {mode:04o}; accepted: 0600 or 0400 (`chmod 600 {path}`)")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the sealing key file `{path}` does not hold a sealing key; accepted: 32 random bytes as 64 hexadecimal digits or in base64"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The envelope was made with another sealing key.
    #[error("this was sealed with another sealing key (id {envelope}; the one given has id {key})")]
    OtherKey {
        /// Id of the key that made the envelope.
        envelope: String,
        /// Id of the key at hand.
        key: String,
    },
    /// The envelope was changed, or belongs to something else.
    #[error("a sealed value does not open: it was changed, or belongs to something else")]
    Broken,
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl AsProblem for SealError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Sealed | Self::OtherKey { .. } => Problem::new(Kind::Sealed, self.to_string()),
            // SECURITY: paths and the system's words stay in the log of the server.
            _ => Problem::new(Kind::Internal, "a sealed value could not be used"),
        }
    }
}

/// What an envelope is for: a purpose and the parts that it is bound to.
#[derive(Clone, Debug)]
pub struct Label(Vec<u8>);

impl Label {
    /// A label for `purpose`.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        Self(Vec::new()).with(purpose.as_bytes())
    }

    /// The same, bound to a further part. Parts are length-prefixed, so that two lists never read the same.
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Self {
        self.0
            .extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }
}

/// The key under which VO keys, static credentials and the assertion key are sealed.
pub struct SealingKey {
    bytes: Secret<[u8; 32]>,
    aead: LessSafeKey,
    id: [u8; KEY_ID_LEN],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({})", HEXLOWER.encode(&self.id))
    }
}

impl SealingKey {
    /// A new key.
    ///
    /// # Errors
    /// [`SealError::Random`] when the source fails.
    pub fn generate(random: &dyn Random) -> Result<Self, SealError> {
        Self::from_bytes(Secret::new(random_bytes::<32>(random)?)).ok_or(SealError::Broken)
    }

    fn from_bytes(bytes: Secret<[u8; 32]>) -> Option<Self> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.expose()).ok()?);
        let named = Secret::new([b"countersign sealing key id".as_slice(), bytes.expose()].concat());
        let mut id = [0; KEY_ID_LEN];
        for (to, from) in id.iter_mut().zip(Hash::of(named.expose()).0) {
            *to = from;
        }
        Some(Self { bytes, aead, id })
    }

    /// The same key once more, for another part of the gateway that seals; `None` never happens for a key that was made.
    #[must_use]
    pub fn twin(&self) -> Option<Self> {
        Self::from_bytes(self.bytes.clone())
    }

    /// What names the key: it stands in each of its envelopes, and tells nothing of the key.
    #[must_use]
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.id)
    }

    /// Whether an envelope says that this key made it.
    #[must_use]
    pub fn made(&self, envelope: &[u8]) -> bool {
        envelope.get(1..=KEY_ID_LEN) == Some(self.id.as_slice())
    }

    /// Reads a key from a file of mode 0600 (or 0400; 0440 where it is root's) that holds 64 hexadecimal digits or base64 of 32 bytes.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::Mode`], [`SealError::Form`], each naming the file.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File {
            path: path.to_owned(),
            done: "read",
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        // SECURITY: the open file is judged, not its name, which could be swapped in between.
        // A service manager that hands a key over keeps it as root's and lets one account in by an access list, whose
        // mask stands where the group's bits are.
        let handed_over = about.uid() == 0 && about.mode() & 0o7777 == 0o440;
        if about.mode() & 0o077 != 0 && !handed_over {
            return Err(SealError::Mode {
                path: path.to_owned(),
                mode: about.mode() & 0o7777,
            });
        }
        let mut text = String::new();
        let read = file.take(FILE_MAX).read_to_string(&mut text);
        let text = Secret::new(text);
        match read {
            Err(source) if source.kind() != std::io::ErrorKind::InvalidData => return Err(failed(source)),
            _ => {}
        }
        key_bytes(text.expose().trim())
            .and_then(Self::from_bytes)
            .ok_or_else(|| SealError::Form {
                path: path.to_owned(),
            })
    }

    /// Writes the key to a new file of mode 0600, and both file and folder to the disk. An existing file is never replaced.
    ///
    /// # Errors
    /// [`SealError::File`], also when the file exists.
    pub fn write(&self, path: &Path) -> Result<(), SealError> {
        let text = Secret::new(HEXLOWER.encode(self.bytes.expose()) + "\n");
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                file.write_all(text.expose().as_bytes())?;
                file.sync_all()?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
            });
        written.map_err(|source| SealError::File {
            path: path.to_owned(),
            done: "written",
            source,
        })
    }

    /// Seals `plain` for `label`.
    ///
    /// # Errors
    /// [`SealError::Random`] when the source fails.
    pub fn seal(&self, random: &dyn Random, label: &Label, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        // A random 96-bit nonce: far fewer than 2^32 values are ever sealed with one key (NIST SP 800-38D section 8.3).
        let nonce = random_bytes::<NONCE_LEN>(random)?;
        let mut body = plain.to_vec();
        let sealed = self.aead.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&label.0),
            &mut body,
        );
        if sealed.is_err() {
            body.zeroize();
            return Err(SealError::Broken);
        }
        let mut envelope = Vec::with_capacity(HEAD_LEN + body.len());
        envelope.push(VERSION);
        envelope.extend_from_slice(&self.id);
        envelope.extend_from_slice(&nonce);
        envelope.append(&mut body);
        Ok(envelope)
    }

    /// Opens an envelope that was sealed for `label`.
    ///
    /// # Errors
    /// [`SealError::OtherKey`]; [`SealError::Broken`] when it was changed or has another label.
    pub fn open(&self, label: &Label, envelope: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
        let (version, rest) = envelope.split_first().ok_or(SealError::Broken)?;
        let (id, rest) = rest.split_at_checked(KEY_ID_LEN).ok_or(SealError::Broken)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        if *version != VERSION {
            return Err(SealError::Broken);
        }
        if id != self.id {
            return Err(SealError::OtherKey {
                envelope: HEXLOWER.encode(id),
                key: HEXLOWER.encode(&self.id),
            });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let mut body = body.to_vec();
        let length = match self.aead.open_in_place(nonce, Aad::from(&label.0), &mut body) {
            Ok(plain) => plain.len(),
            Err(_) => return Err(SealError::Broken),
        };
        body.truncate(length);
        Ok(Secret::new(body))
    }
}

/// Reads 32 bytes in hexadecimal or base64.
fn key_bytes(text: &str) -> Option<Secret<[u8; 32]>> {
    let decoded = match text.len() {
        64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?,
        44 => BASE64.decode(text.as_bytes()).ok()?,
        _ => return None,
    };
    let decoded = Secret::new(decoded);
    decoded.expose().as_slice().try_into().ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::id::SystemSource;

    fn key() -> SealingKey {
        SealingKey::generate(&SystemSource::new()).unwrap()
    }

    proptest! {
        #[test]
        fn an_envelope_opens_to_what_was_sealed_and_never_shows_it(plain in proptest::collection::vec(any::<u8>(), 8..300)) {
            let (key, label) = (key(), Label::new("test").with(b"vo"));
            let envelope = key.seal(&SystemSource::new(), &label, &plain).unwrap();
            prop_assert!(!envelope.windows(8).any(|window| window == &plain[..8]));
            let opened = key.open(&label, &envelope).unwrap();
            prop_assert_eq!(opened.expose(), &plain);
        }

        #[test]
        fn a_changed_or_cut_envelope_never_opens(at in 0usize..64, bit in 0u8..8, cut in 0usize..64) {
            let (key, label) = (key(), Label::new("test"));
            let envelope = key.seal(&SystemSource::new(), &label, b"twenty-seven secret octets!").unwrap();
            let mut changed = envelope.clone();
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            prop_assert!(key.open(&label, &changed).is_err());
            prop_assert!(key.open(&label, &envelope[..cut.min(envelope.len() - 1)]).is_err());
        }
    }

    #[test]
    fn an_envelope_opens_only_for_its_own_label() {
        let key = key();
        let label = Label::new("vo key").with(b"ab").with(b"c");
        let envelope = key.seal(&SystemSource::new(), &label, b"secret").unwrap();
        for other in [
            Label::new("vo key").with(b"a").with(b"bc"),
            Label::new("vo key").with(b"abc"),
            Label::new("static").with(b"ab").with(b"c"),
        ] {
            assert!(matches!(key.open(&other, &envelope), Err(SealError::Broken)));
        }
    }

    #[test]
    fn two_envelopes_of_one_secret_differ() {
        let (key, label) = (key(), Label::new("test"));
        let seal = || key.seal(&SystemSource::new(), &label, b"secret").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn another_key_is_named_as_such() {
        let label = Label::new("test");
        let envelope = key().seal(&SystemSource::new(), &label, b"secret").unwrap();
        let error = key().open(&label, &envelope).unwrap_err();
        assert!(matches!(error, SealError::OtherKey { .. }));
        assert_eq!(error.as_problem().kind, Kind::Sealed);
    }

    #[test]
    fn a_written_key_loads_again_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        let (key, label) = (key(), Label::new("test"));
        key.write(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let envelope = key.seal(&SystemSource::new(), &label, b"secret").unwrap();
        assert_eq!(
            SealingKey::load(&path)
                .unwrap()
                .open(&label, &envelope)
                .unwrap()
                .expose(),
            b"secret"
        );
        assert!(matches!(key.write(&path), Err(SealError::File { .. })));
    }

    #[test]
    fn base64_loads_and_every_bad_file_is_named_with_the_accepted_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        let put = |text: &[u8], mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SealingKey::load(&path)
        };
        assert!(put(BASE64.encode(&[7; 32]).as_bytes(), 0o600).is_ok());
        // Only where the file is root's: a service manager handed it over.
        let handed_over = put(BASE64.encode(&[7; 32]).as_bytes(), 0o440);
        assert_eq!(handed_over.is_ok(), rustix::process::geteuid().is_root());
        for (text, mode, says) in [
            (b"abc".as_slice(), 0o600, "64 hexadecimal digits"),
            (&[0xff; 64], 0o600, "64 hexadecimal digits"),
            (b"", 0o600, "64 hexadecimal digits"),
            (
                HEXLOWER.encode(&[7; 32]).as_bytes(),
                0o640,
                "mode 0640; accepted: 0600",
            ),
        ] {
            let message = put(text, mode).unwrap_err().to_string();
            assert!(
                message.contains(says) && message.contains("sealing.key"),
                "{message}"
            );
        }
        assert!(
            SealingKey::load(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("none")
        );
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = key();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&HEXLOWER.encode(key.bytes.expose())), "{shown}");
    }
}
