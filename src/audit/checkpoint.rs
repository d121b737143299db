//! Signed heads of the log, as C2SP tlog-checkpoints: origin, size, root, one signature.
//!
//! The first line is `ORIGIN/EPOCH`: a log that was restored or damaged goes on in a new epoch, whose checkpoints can
//! never be mistaken for those of the old one.

use std::io::{self, BufRead};

use signed_note::{Note, Signature, Verifier as _, VerifierList};

use super::key::{LogKey, VerifyingKey};
use crate::record::Hash;

/// The head of a log at some size, with the signed note that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// First line of the note: the log's name and its epoch.
    pub origin: String,
    /// Epoch of the log, from 1.
    pub epoch: u64,
    /// Number of records that it covers.
    pub size: u64,
    /// Root of the Merkle tree over them (RFC 6962).
    pub root: Hash,
    /// The whole signed note.
    pub note: String,
}

/// Why a note is not a checkpoint of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note with a checkpoint in it.
    #[error("this is not a checkpoint (accepted: a signed note with origin and epoch, size, root)")]
    Malformed,
    /// Signed by another key, or not at all, or the text was changed.
    #[error("the checkpoint of size {0} is not signed by the log's key")]
    Signature(u64),
    /// Signed over other records than stand in the log.
    #[error("the records are not those that the checkpoint of size {0} was signed over")]
    Root(u64),
    /// A checkpoint of another log.
    #[error("the checkpoint is of `{0}`, not of this log")]
    Origin(String),
}

impl Checkpoint {
    /// Signs a checkpoint of the log `name` in `epoch`.
    pub(crate) fn sign(
        key: &LogKey,
        name: &str,
        epoch: u64,
        size: u64,
        root: Hash,
    ) -> Result<Self, CheckpointError> {
        let origin = format!("{name}/{epoch}");
        let text = format!("{origin}\n{size}\n{}\n", data_encoding::BASE64.encode(&root.0));
        let id = key.public(name).key_id();
        let signature = Signature::new(name.to_owned(), id, key.sign(text.as_bytes()))
            .map_err(|_| CheckpointError::Origin(name.to_owned()))?;
        let note = Note::new(text.as_bytes(), &[signature]).map_err(|_| CheckpointError::Malformed)?;
        let note = String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::Malformed)?;
        Ok(Self {
            origin,
            epoch,
            size,
            root,
            note,
        })
    }

    /// Reads a note without checking its signature; see [`Checkpoint::check`].
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let (text, _) = note.rsplit_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let mut lines = text.split('\n');
        let mut read = || {
            let origin = lines.next()?.to_owned();
            let number = lines.next()?;
            let size = number
                .parse::<u64>()
                .ok()
                .filter(|size| size.to_string() == number)?;
            let text = lines.next()?;
            let root = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
            // Padding in the middle is taken by the decoder; a root has one spelling.
            if data_encoding::BASE64.encode(&root) != text {
                return None;
            }
            let epoch = origin.rsplit_once('/')?.1;
            let epoch = epoch
                .parse::<u64>()
                .ok()
                .filter(|read| read.to_string() == epoch)?;
            Some(Self {
                epoch,
                size,
                root: Hash(root.try_into().ok()?),
                origin,
                note: note.to_owned(),
            })
        };
        read().ok_or(CheckpointError::Malformed)
    }

    /// The text that is signed: the lines before the empty one.
    pub(crate) fn text(&self) -> &str {
        let end = self.note.rfind("\n\n").map_or(0, |at| at + 1);
        self.note.get(..end).unwrap_or_default()
    }

    /// Name of the log: the origin without the epoch.
    #[must_use]
    pub fn log(&self) -> &str {
        self.origin.rsplit_once('/').map_or("", |(log, _)| log)
    }

    /// Checks that the log's `key` signed it and that it is of that log.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn check(&self, key: &VerifyingKey) -> Result<(), CheckpointError> {
        self.signature(key).map(drop)
    }

    /// The same checkpoint without other signatures than that of the log.
    pub(crate) fn signed_by(&self, key: &VerifyingKey) -> Result<Self, CheckpointError> {
        let signature = self.signature(key)?;
        let line = String::from_utf8(signature.to_bytes()).map_err(|_| CheckpointError::Malformed)?;
        Ok(Self {
            note: format!("{}\n{line}", self.text()),
            ..self.clone()
        })
    }

    fn signature(&self, key: &VerifyingKey) -> Result<Signature, CheckpointError> {
        // SECURITY: nothing in a checkpoint is believed before this.
        let note = Note::from_bytes(self.note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        let unsigned = || CheckpointError::Signature(self.size);
        let (mut signed, _) = note
            .verify(&VerifierList::new(vec![Box::new(key.clone())]))
            .map_err(|_| unsigned())?;
        if self.origin != format!("{}/{}", key.name(), self.epoch) {
            return Err(CheckpointError::Origin(self.origin.clone()));
        }
        signed.pop().ok_or_else(unsigned)
    }

    /// Names of all keys that are said to have signed it, the log's first as a rule. Nobody's word.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.note.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
        lines
            .lines()
            .filter_map(|line| Some(line.strip_prefix("\u{2014} ")?.split_once(' ')?.0.to_owned()))
            .collect()
    }
}

/// Reads the next note of a file of notes, each followed by an empty line; `None` at the end, or when the last one was
/// not written whole.
pub(crate) fn next_note(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut note = String::new();
    let mut blank = 0;
    loop {
        let before = note.len();
        if reader.read_line(&mut note)? == 0 || !note.ends_with('\n') {
            return Ok(None);
        }
        if note.len() - before == 1 {
            blank += 1;
            if blank == 2 {
                note.pop();
                return Ok(Some(note));
            }
        }
        if note.len() > 1_000_000 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a checkpoint of more than 1 MB",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SystemSource;

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed_and_by_its_own_log_only() {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        let root = Hash::of(b"root");
        let signed = Checkpoint::sign(&key, "gw.example.org/log", 3, 42, root).unwrap();
        let read = Checkpoint::parse(&signed.note).unwrap();
        assert_eq!(read, signed);
        read.check(&key.public("gw.example.org/log")).unwrap();
        assert!(read.check(&key.public("other.example.org/log")).is_err());
        let changed = Checkpoint::parse(&signed.note.replace("\n42\n", "\n41\n")).unwrap();
        assert_eq!(
            changed.check(&key.public("gw.example.org/log")),
            Err(CheckpointError::Signature(41))
        );
        let text = format!("{}\n", signed.note.split("\n\n").next().unwrap());
        let other = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
        assert_eq!((other.origin(), other.size()), ("gw.example.org/log/3", 42));
        assert_eq!(other.hash().0, root.0);
    }

    #[test]
    fn a_half_written_note_is_left_out() {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        let one = Checkpoint::sign(&key, "a/log", 1, 1, Hash::of(b"1"))
            .unwrap()
            .note;
        let two = Checkpoint::sign(&key, "a/log", 1, 2, Hash::of(b"2"))
            .unwrap()
            .note;
        let file = format!("{one}\n{two}\n{}", &one[..one.len() / 2]);
        let mut reader = io::Cursor::new(file);
        assert_eq!(next_note(&mut reader).unwrap(), Some(one));
        assert_eq!(next_note(&mut reader).unwrap(), Some(two));
        assert_eq!(next_note(&mut reader).unwrap(), None);
    }
}
