//! Witnesses: somebody else's word that a log only ever grew (C2SP tlog-witness and tlog-cosignature).
//!
//! A witness keeps the newest checkpoint that it saw of each log, and puts its own signature, with the time, under the
//! next one only when a proof shows that it continues the one before. So a log that was cut, rolled back or rebuilt gets
//! no more cosignatures, and a cosigned checkpoint says when these records were there at the latest. A new epoch is taken as it
//! comes, and said loudly: what it says of the one before is for `audit verify` to hold.
//!
//! [`Client`] is the gateway's side, [`Witness`] the other.

mod client;
mod config;
mod request;
mod state;

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use signed_note::{Note, VerifierList};

use super::checkpoint::Checkpoint;
use super::key::{KeyError, LogKey, decoded, encoded, verifies};
use crate::clock::Timestamp;
use crate::id::Random;

pub use client::Client;
pub use config::Config;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use request::AddCheckpoint;
pub use state::{Answer, StateError, Witness};

/// Signature type byte of an Ed25519 cosignature.
const COSIGNATURE: u8 = 4;
/// Bytes of the time in a cosignature.
const TIME: usize = 8;

/// The private key of a witness, with its name.
#[derive(Debug)]
pub struct WitnessSigner {
    key: LogKey,
    public: WitnessKey,
}

impl WitnessSigner {
    /// A new key for the witness `name`.
    ///
    /// # Errors
    /// [`KeyError`]: no random bytes, or a name that no signed note can carry.
    pub fn generate(name: &str, random: &dyn Random) -> Result<Self, KeyError> {
        Self::of(LogKey::generate(random)?, name)
    }

    fn of(key: LogKey, name: &str) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let public = WitnessKey::new(name, key.public_bytes());
        Ok(Self { key, public })
    }

    /// Reads the private key from `path`, and its name from the public key beside it.
    ///
    /// # Errors
    /// [`KeyError`]: a file cannot be read, or the two do not belong together.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let key = LogKey::load(path)?;
        let public = WitnessKey::load(&path.with_extension("pub"))?;
        let signer = Self::of(key, public.name())?;
        match signer.public == public {
            true => Ok(signer),
            false => Err(KeyError::Public(public.to_string())),
        }
    }

    /// Writes the private key to `path` (mode 0600, never over an existing file) and the public key beside it, with the
    /// extension `pub`.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        self.key.save_with(path, &self.public.to_string())
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// A cosignature's line: that `checkpoint` is, at `time`, the newest consistent one that was seen of its log.
    pub(crate) fn cosign(&self, checkpoint: &Checkpoint, time: Timestamp) -> String {
        let seconds = u64::try_from(time.secs()).unwrap_or(0);
        let mut signature = self.public.id.to_be_bytes().to_vec();
        signature.extend(seconds.to_be_bytes());
        signature.extend(self.key.sign(&message(seconds, checkpoint.text())));
        format!(
            "\u{2014} {} {}\n",
            self.public.name,
            data_encoding::BASE64.encode(&signature)
        )
    }
}

/// What a cosignature signs.
fn message(seconds: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes()
}

/// The public key of a witness, with its name; shown as a C2SP verifier key, `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: u32,
    key: [u8; 32],
}

impl WitnessKey {
    fn new(name: &str, key: [u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            id: signed_note::key_id(name, &encoded(COSIGNATURE, &key)),
            key,
        }
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a file with one key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::File {
            path: path.to_owned(),
            source,
        })?;
        text.trim().parse()
    }

    /// When this witness saw `checkpoint` as the newest of its log; `None` when it did not cosign it.
    #[must_use]
    pub fn cosigned(&self, checkpoint: &Checkpoint) -> Option<Timestamp> {
        let note = Note::from_bytes(checkpoint.note.as_bytes()).ok()?;
        // SECURITY: an invalid line of a known key is an error of the whole note, never passed over.
        let (verified, _) = note
            .verify(&VerifierList::new(vec![Box::new(self.clone())]))
            .ok()?;
        let (time, _) = verified.first()?.signature().split_first_chunk::<TIME>()?;
        i64::try_from(u64::from_be_bytes(*time))
            .ok()
            .map(Timestamp::from_secs)
    }
}

impl signed_note::Verifier for WitnessKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<TIME>() else {
            return false;
        };
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        let seconds = u64::from_be_bytes(*time);
        // A moment that no clock can show is not one.
        seconds <= MOST_SECONDS && verifies(&self.key, &message(seconds, text), signature)
    }
}

/// The end of the year 9999.
const MOST_SECONDS: u64 = 253_402_300_799;

impl FromStr for WitnessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decoded(COSIGNATURE, text)
            .map(|(name, key)| Self::new(name, key))
            .ok_or_else(|| KeyError::Witness(text.to_owned()))
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = data_encoding::BASE64.encode(&encoded(COSIGNATURE, &self.key));
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SystemSource;
    use crate::record::Hash;

    fn checkpoint() -> Checkpoint {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        Checkpoint::sign(&key, "gw.example.org/log", 1, 42, Hash::of(b"root")).unwrap()
    }

    fn with_line(checkpoint: &Checkpoint, line: &str) -> Checkpoint {
        Checkpoint::parse(&format!("{}{line}", checkpoint.note)).unwrap()
    }

    #[test]
    fn a_witness_key_is_read_as_it_was_written_and_is_no_log_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.key");
        let signer = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        signer.save(&path).unwrap();
        assert_eq!(WitnessSigner::load(&path).unwrap().public(), signer.public());
        assert_eq!(
            signer.public().to_string().parse::<WitnessKey>().unwrap(),
            *signer.public()
        );
        assert!(
            signer
                .public()
                .to_string()
                .parse::<super::super::VerifyingKey>()
                .is_err()
        );
        let log = LogKey::generate(&SystemSource::new()).unwrap().public("a/log");
        assert!(log.to_string().parse::<WitnessKey>().is_err());
        for bad in ["", "with space", "a+b", "line\nend"] {
            assert!(
                WitnessSigner::generate(bad, &SystemSource::new()).is_err(),
                "{bad:?}"
            );
        }
        let other = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        fs::write(path.with_extension("pub"), other.public().to_string()).unwrap();
        assert!(WitnessSigner::load(&path).is_err(), "a public key of another");
    }

    #[test]
    fn a_cosignature_holds_for_its_checkpoint_time_and_witness_only() {
        let signer = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        let (checkpoint, time) = (checkpoint(), Timestamp::from_secs(1_795_262_400));
        let line = signer.cosign(&checkpoint, time);
        let cosigned = with_line(&checkpoint, &line);
        assert_eq!(signer.public().cosigned(&cosigned), Some(time));
        assert_eq!(signer.public().cosigned(&checkpoint), None);
        let other = WitnessSigner::generate("witness.example.org", &SystemSource::new()).unwrap();
        assert_eq!(other.public().cosigned(&cosigned), None);
        let changed = cosigned.note.replace("\n42\n", "\n43\n");
        assert_eq!(
            signer.public().cosigned(&Checkpoint::parse(&changed).unwrap()),
            None
        );
        let encoded = line.trim_end().rsplit(' ').next().unwrap();
        let mut bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
        for at in 4..bytes.len() {
            bytes[at] ^= 1;
            let line = format!(
                "\u{2014} witness.example.org {}\n",
                data_encoding::BASE64.encode(&bytes)
            );
            assert_eq!(
                signer.public().cosigned(&with_line(&checkpoint, &line)),
                None,
                "byte {at}"
            );
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn the_cosignature_of_the_specification_says_what_its_text_says() {
        // Of C2SP tlog-cosignature; the witness's key is not published there, its form is.
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let signature = signed_note::Signature::from_bytes(line.trim_end().as_bytes()).unwrap();
        let (time, rest) = signature.signature().split_first_chunk::<TIME>().unwrap();
        assert_eq!((u64::from_be_bytes(*time), rest.len()), (1_679_315_147, 64));
        assert_eq!(
            message(1_679_315_147, "example.com/behind-the-sofa\n20852163\nroot\n"),
            b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nroot\n"
        );
    }
}
