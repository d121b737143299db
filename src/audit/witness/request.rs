//! The body of `add-checkpoint`: the size that is known, a proof from there, the new checkpoint.

use crate::audit::checkpoint::Checkpoint;
use crate::record::Hash;

/// Most hashes of a proof.
const HASHES: usize = 63;
/// Most bytes of a body.
pub(crate) const LONGEST: usize = 64 * 1024;

/// A checkpoint for a witness, with the proof that it continues the one of size `old`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddCheckpoint {
    /// Size of the checkpoint that the witness knows.
    pub(crate) old: u64,
    /// The proof.
    pub(crate) proof: Vec<Hash>,
    /// The new checkpoint.
    pub(crate) checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Reads a body. `None` when it is none.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        if body.len() > LONGEST {
            return None;
        }
        let (head, note) = std::str::from_utf8(body).ok()?.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = number(lines.next()?.strip_prefix("old ")?)?;
        let proof = lines.map(hash).collect::<Option<Vec<_>>>()?;
        if proof.len() > HASHES {
            return None;
        }
        Some(Self {
            old,
            proof,
            checkpoint: Checkpoint::parse(note).ok()?,
        })
    }

    /// The body.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&data_encoding::BASE64.encode(&hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint.note);
        text
    }
}

/// A number in its one spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text)
}

/// A hash in its one spelling.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    let hash = Hash(bytes.try_into().ok()?);
    (data_encoding::BASE64.encode(&hash.0) == text).then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::LogKey;
    use crate::id::SystemSource;

    proptest! {
        #[test]
        fn a_body_is_read_as_it_was_written(old: u64, size: u64, hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..63)) {
            let key = LogKey::generate(&SystemSource::new()).unwrap();
            let checkpoint = Checkpoint::sign(&key, "a/log", 3, size, Hash::of(b"root")).unwrap();
            let sent = AddCheckpoint { old, proof: hashes.into_iter().map(Hash).collect(), checkpoint };
            prop_assert_eq!(AddCheckpoint::parse(sent.text().as_bytes()), Some(sent));
        }

        #[test]
        fn what_is_read_is_what_is_written(body in "(old [0-9]{1,3}\n)?([A-Za-z0-9+/]{43}=\n){0,3}\n?(a/1\n1\n[A-Za-z0-9+/]{43}=\n)?\n?(. x AAAAAAA=\n)?") {
            if let Some(read) = AddCheckpoint::parse(body.as_bytes()) {
                prop_assert_eq!(read.text(), body);
            }
        }
    }

    #[test]
    fn a_body_has_one_form() {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        let note = Checkpoint::sign(&key, "a/log", 1, 5, Hash::of(b"root"))
            .unwrap()
            .note;
        let hash = data_encoding::BASE64.encode(&[7; 32]);
        assert!(AddCheckpoint::parse(format!("old 3\n{hash}\n\n{note}").as_bytes()).is_some());
        let many = format!("{hash}\n").repeat(64);
        for bad in [
            format!("old 03\n{hash}\n\n{note}"),
            format!("old +3\n\n{note}"),
            format!("old 3\r\n\n{note}"),
            format!("new 3\n\n{note}"),
            format!("old 3\n{hash}\n{note}"),
            format!("old 3\n{}\n\n{note}", &hash[4..]),
            format!("old 3\n{many}\n{note}"),
            "old 3\n\n".to_owned(),
            format!("old 3\n\n{}{note}", " ".repeat(LONGEST)),
        ] {
            assert_eq!(AddCheckpoint::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
