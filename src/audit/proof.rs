//! One record with the proof that it is in the log: a C2SP tlog-proof with the record itself in `extra`.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra BASE64 OF THE RECORD
//! index POSITION
//! HASH OF A NEIGHBOURING SUBTREE (any number of lines, from the leaf up)
//!
//! CHECKPOINT (with the cosignatures of witnesses)
//! ```
//!
//! Whoever has the log's public key can check it without the log, without the gateway and without anybody's help.

use std::fmt;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::key::VerifyingKey;
use super::segment::{self, LONGEST};
use super::tree;
use super::witness::WitnessKey;
use crate::clock::Timestamp;
use crate::record::Hash;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a proof in the largest tree there can be.
const HASHES: usize = 64;
/// Longest proof, in bytes: the longest record in base64, the hashes, and a checkpoint with very many cosignatures.
const MOST: usize = LONGEST.div_ceil(3) * 4 + HASHES * 45 + 32 * 1024;

/// A record and why it is in the log; nothing of it is believed before [`Proof::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub(crate) record: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) path: Vec<Hash>,
    pub(crate) checkpoint: Checkpoint,
}

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The record, as it stands in the log: JSON.
    pub record: String,
    /// Name of the log.
    pub log: String,
    /// Epoch of the log.
    pub epoch: u64,
    /// Position of the record in that epoch.
    pub index: u64,
    /// Records under the checkpoint.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Who saw that checkpoint, of those whose keys were given.
    pub cosigned: Vec<Cosigned>,
    /// Names beside signatures that were not checked, because no key of theirs was given.
    pub unchecked: Vec<String>,
}

/// A witness's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Name of the witness.
    pub witness: String,
    /// When it saw the checkpoint as the newest of its log.
    pub time: Timestamp,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Too long.
    #[error("this is no proof: it is longer than {MOST} bytes")]
    TooLong,
    /// A line is not as it has to be.
    #[error("line {line} of the proof is wrong (accepted: {accepted})")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What belongs there.
        accepted: &'static str,
    },
    /// The record is not one of the log.
    #[error("`extra` does not hold record {0} of a log")]
    Record(u64),
    /// The checkpoint does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tree of the checkpoint does not have the record there.
    #[error(
        "the record is not number {index} of the {size} that were signed: the record, its number, a hash of the proof or the checkpoint was changed"
    )]
    Inclusion {
        /// Where it should be.
        index: u64,
        /// Size of the checkpoint.
        size: u64,
    },
    /// A witness did not cosign.
    #[error("there is no cosignature of the witness `{0}` under the checkpoint, or it was changed")]
    Witness(String),
}

impl Proof {
    /// Reads a proof. Nothing is checked but its form.
    ///
    /// # Errors
    /// [`ProofError::TooLong`], [`ProofError::Line`], [`ProofError::Checkpoint`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > MOST {
            return Err(ProofError::TooLong);
        }
        let wrong = |line, accepted| ProofError::Line { line, accepted };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1, "text in UTF-8"))?;
        let (head, note) = text
            .split_once("\n\n")
            .ok_or(wrong(1, "a proof, an empty line and a checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(wrong(1, HEADER));
        }
        let record = lines
            .next()
            .and_then(|line| line.strip_prefix("extra "))
            .and_then(bytes_of)
            .filter(|record| record.len() <= LONGEST);
        let record = record.ok_or(wrong(2, "`extra` and the record in base64"))?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(number);
        let index = index.ok_or(wrong(3, "`index` and the position of the record"))?;
        let mut path = Vec::new();
        for (line, text) in (4..).zip(lines) {
            let hash = bytes_of(text).and_then(|bytes| bytes.try_into().ok());
            match hash.filter(|_| path.len() < HASHES) {
                Some(hash) => path.push(Hash(hash)),
                None => return Err(wrong(line, "a SHA-256 in base64, at most 64 of them")),
            }
        }
        Ok(Self {
            record,
            index,
            path,
            checkpoint: Checkpoint::parse(note)?,
        })
    }

    /// The record, as it stands in the log.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// The checkpoint that it is a proof against.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Position of the record.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Checks it with the log's key and those of the witnesses that are asked for: each must have cosigned.
    ///
    /// # Errors
    /// [`ProofError`] says what is wrong.
    pub fn check(&self, key: &VerifyingKey, witnesses: &[WitnessKey]) -> Result<Proved, ProofError> {
        // SECURITY: signature first, then the way from the record to the root that was signed. No hash is a checked one
        // because it stands in the file.
        self.checkpoint.check(key)?;
        let size = self.checkpoint.size;
        let root = tree::root_by(tree::leaf(&self.record), self.index, size, &self.path);
        if root != Some(self.checkpoint.root) {
            let index = self.index;
            return Err(ProofError::Inclusion { index, size });
        }
        let cosigned = witnesses.iter().map(|witness| {
            let time = witness.cosigned(&self.checkpoint);
            let witness = witness.name().to_owned();
            match time {
                Some(time) => Ok(Cosigned { witness, time }),
                None => Err(ProofError::Witness(witness)),
            }
        });
        let cosigned: Vec<_> = cosigned.collect::<Result<_, _>>()?;
        let known = |name: &String| name == key.name() || cosigned.iter().any(|by| by.witness == *name);
        let mut unchecked = self.checkpoint.names();
        unchecked.retain(|name| !known(name));
        Ok(Proved {
            record: self.own_record()?.to_owned(),
            log: key.name().to_owned(),
            epoch: self.checkpoint.epoch,
            index: self.index,
            size,
            root: self.checkpoint.root,
            cosigned,
            unchecked,
        })
    }

    /// The record, which says its own position.
    fn own_record(&self) -> Result<&str, ProofError> {
        let text = std::str::from_utf8(&self.record).ok();
        let own = text.filter(|_| segment::position(&self.record) == Some(self.index));
        own.ok_or(ProofError::Record(self.index))
    }
}

/// The file.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base64 = &data_encoding::BASE64;
        writeln!(
            f,
            "{HEADER}\nextra {}\nindex {}",
            base64.encode(&self.record),
            self.index
        )?;
        for hash in &self.path {
            writeln!(f, "{}", base64.encode(&hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint.note)
    }
}

/// Base64 in its one spelling.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    (data_encoding::BASE64.encode(&bytes) == text).then_some(bytes)
}

/// A number in its one spelling.
fn number(text: &str) -> Option<u64> {
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::LogKey;
    use crate::audit::witness::WitnessSigner;
    use crate::id::SystemSource;

    const LOG: &str = "gw.example.org/log";

    fn signed(key: &LogKey, size: u64, root: Hash) -> Checkpoint {
        Checkpoint::sign(key, LOG, 1, size, root).unwrap()
    }

    fn key() -> LogKey {
        LogKey::generate(&SystemSource::new()).unwrap()
    }

    /// Two records under one checkpoint, and the second one's proof.
    fn two(key: &LogKey) -> Proof {
        let record = |seq| format!("{{\"v\":1,\"seq\":{seq},\"time\":0}}").into_bytes();
        let mut edge = tree::Edge::default();
        edge.push(tree::leaf(&record(0)));
        edge.push(tree::leaf(&record(1)));
        Proof {
            record: record(1),
            index: 1,
            path: vec![tree::leaf(&record(0))],
            checkpoint: signed(key, 2, edge.root()),
        }
    }

    proptest! {
        #[test]
        fn a_proof_is_read_as_it_was_written(
            record in proptest::collection::vec(any::<u8>(), 0..500), index: u64, size: u64,
            path in proptest::collection::vec(any::<[u8; 32]>(), 0..=HASHES),
        ) {
            let checkpoint = signed(&key(), size, Hash::of(b"root"));
            let proof = Proof { record, index, path: path.into_iter().map(Hash).collect(), checkpoint };
            let text = proof.to_string();
            prop_assert_eq!(Proof::parse(text.as_bytes()), Ok(proof));
        }

        #[test]
        fn what_is_read_is_what_is_written(
            extra in "[A-Za-z0-9+/=]{0,12}", index in "[0-9]{1,21}", hash in "[A-Za-z0-9+/=]{40,46}", end in "(. x AAAAAAA=\n)?",
        ) {
            let text = format!("{HEADER}\nextra {extra}\nindex {index}\n{hash}\n\na/1\n1\n{hash}\n\n{end}");
            if let Ok(read) = Proof::parse(text.as_bytes()) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }

    #[test]
    fn a_proof_holds_for_its_record_and_no_byte_of_it_can_be_changed() {
        let key = key();
        let public = key.public(LOG);
        let proof = two(&key);
        let proved = proof.check(&public, &[]).unwrap();
        assert_eq!((proved.epoch, proved.index, proved.size), (1, 1, 2));
        assert_eq!(proved.record.as_bytes(), proof.record);
        let text = proof.to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let checked = Proof::parse(&bytes).and_then(|proof| proof.check(&public, &[]));
            assert!(
                checked.is_err(),
                "byte {at}: {:?}",
                String::from_utf8_lossy(&bytes)
            );
            let checked = Proof::parse(&text.as_bytes()[..at]).and_then(|proof| proof.check(&public, &[]));
            assert!(checked.is_err(), "cut at {at}");
        }
        assert!(proof.check(&self::key().public(LOG), &[]).is_err(), "another key");
        assert!(proof.check(&key.public("other.example.org/log"), &[]).is_err());
    }

    #[test]
    fn a_node_of_the_tree_is_no_record() {
        let key = key();
        let proof = two(&key);
        // What stands under the root, as if it were the only record of a smaller tree.
        let leaves = [tree::leaf(b"left"), tree::leaf(&proof.record)];
        let record = [&[1][..], &leaves[0].0, &leaves[1].0].concat();
        let root = tree::joined(&leaves).unwrap();
        let forged = Proof {
            record,
            index: 0,
            path: Vec::new(),
            checkpoint: signed(&key, 1, root),
        };
        assert_eq!(
            forged.check(&key.public(LOG), &[]),
            Err(ProofError::Inclusion { index: 0, size: 1 })
        );
        // And a record that says another number than the one it is proved for.
        let record = b"{\"v\":1,\"seq\":7,\"time\":0}".to_vec();
        let root = tree::leaf(&record);
        let other = Proof {
            record,
            index: 0,
            path: Vec::new(),
            checkpoint: signed(&key, 1, root),
        };
        assert_eq!(other.check(&key.public(LOG), &[]), Err(ProofError::Record(0)));
    }

    #[test]
    fn every_witness_that_is_asked_for_must_have_cosigned() {
        let key = key();
        let public = key.public(LOG);
        let random = SystemSource::new();
        let witness = |name| WitnessSigner::generate(name, &random).unwrap();
        let (one, other) = (witness("one.example.org"), witness("other.example.org"));
        let mut proof = two(&key);
        let time = Timestamp::from_secs(1_795_262_400);
        let line = one.cosign(&proof.checkpoint, time);
        proof.checkpoint.note.push_str(&line);
        let proved = proof.check(&public, &[]).unwrap();
        assert_eq!(proved.unchecked, ["one.example.org"]);
        let proved = proof.check(&public, &[one.public().clone()]).unwrap();
        assert_eq!(
            proved.cosigned,
            [Cosigned {
                witness: "one.example.org".into(),
                time
            }]
        );
        assert_eq!(proved.unchecked, Vec::<String>::new());
        let both = [one.public().clone(), other.public().clone()];
        let missing = ProofError::Witness("other.example.org".into());
        assert_eq!(proof.check(&public, &both), Err(missing));
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        assert_eq!(Proof::parse(&vec![b'a'; MOST + 1]), Err(ProofError::TooLong));
        let proof = two(&key());
        let long = Proof {
            record: vec![b'a'; LONGEST + 1],
            ..proof.clone()
        };
        assert!(matches!(
            Proof::parse(long.to_string().as_bytes()),
            Err(ProofError::Line { line: 2, .. })
        ));
        let many = Proof {
            path: vec![Hash::default(); HASHES + 1],
            ..proof
        };
        assert!(matches!(
            Proof::parse(many.to_string().as_bytes()),
            Err(ProofError::Line { line: 68, .. })
        ));
    }
}
