//! The fuzz targets of the log's files (see `crate::fuzz`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target ends at the first thing that is not as it claims"
)]

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::LazyLock;

use super::dropped::{self, Dropped};
use super::packed::{self, Source};
use super::segment::{self, Batch, FRAME, HEADER, Header};
use super::tree::{self, Edge};
use super::witness::{AddCheckpoint, Witness, WitnessSigner};
use super::{Checkpoint, Config, LogKey, Proof, recover, verify};
use crate::clock::{SystemClock, Timestamp};
use crate::id::{Random, RandomError};
use crate::record::{Event, Hash, Record};

const ORIGIN: &str = "gw.example.org/log";

#[derive(Debug)]
struct Same(u8);

impl Random for Same {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(self.0);
        Ok(())
    }
}

/// A log of six records in three batches, all of which a checkpoint signs.
struct Fixture {
    key: LogKey,
    segment: Vec<u8>,
    note: String,
    records: Vec<Vec<u8>>,
}

static LOG: LazyLock<Fixture> = LazyLock::new(|| {
    let key = LogKey::generate(&Same(7)).unwrap();
    let tags = key.tags().unwrap();
    let header = Header {
        epoch: 1,
        index: 0,
        time: Timestamp::from_secs(1_795_262_400),
        origin: Hash::of(ORIGIN.as_bytes()),
        edge: Edge::default(),
    };
    let (mut segment, mut records, mut edge) = (header.encode(), Vec::new(), Edge::default());
    for number in 1..=3 {
        let mut batch = Batch::default();
        batch.begin(&[]);
        for _ in 0..2 {
            let seq = records.len() as u64;
            let record = Record {
                v: crate::record::VERSION,
                seq,
                time: Timestamp::from_secs(1_795_262_400),
                mono: 0,
                salt: "00".repeat(16),
                cut: None,
                event: Event::Stop {
                    reason: format!("the {seq}th"),
                },
            };
            let bytes = serde_json::to_vec(&record).unwrap();
            edge.push(tree::leaf(&bytes));
            batch.add(number, |to| to.extend_from_slice(&bytes));
            records.push(bytes);
        }
        let tag = tags.tag((1, 0), number, &edge);
        segment.extend_from_slice(batch.end(number, &tag));
    }
    let note = Checkpoint::sign(&key, ORIGIN, 1, 6, edge.root()).unwrap().note;
    Fixture {
        key,
        segment,
        note,
        records,
    }
});

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(folder());
}

/// In memory where there is such a place: recovery syncs, and a disk would make it a few inputs a second.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// The log with `change` made to its segment, in a folder of this thread.
fn with_log<T>(change: impl FnOnce(&mut Vec<u8>), ask: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let folder = folder.borrow().path().join("log");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut bytes = LOG.segment.clone();
        change(&mut bytes);
        fs::write(segment::path(&folder, 0), bytes).unwrap();
        fs::write(folder.join("checkpoint"), &LOG.note).unwrap();
        fs::write(folder.join("checkpoints"), format!("{}\n", LOG.note)).unwrap();
        ask(&folder)
    })
}

/// The edge file of what was dropped: what is read is what was written, and whatever stands in it, the log whose first
/// segment is there and says nothing of the kind does not verify with records gone.
pub(crate) fn dropped(data: &[u8]) {
    if let Some(read) = Dropped::decode(data) {
        let again = Dropped::decode(&read.encode().unwrap()).expect("written, but not read");
        assert_eq!(again, read);
    }
    with_log(
        |_| {},
        |folder| {
            fs::write(folder.join(dropped::NAME), data).unwrap();
            let found = verify::verify(folder, &LOG.key.public(ORIGIN), None, |_| {});
            assert!(found.is_err(), "{found:?}");
        },
    );
}

/// A compressed segment: as one, which gives what its table says or an error and never more; and as what is compressed, which
/// is read as it was, from the start and from the middle.
pub(crate) fn packed(data: &[u8]) {
    const MUCH: u64 = 8 * 1024 * 1024;
    let open = |bytes: &[u8]| {
        FOLDER.with(|folder| {
            let path = folder.borrow().path().join("0000000009.log");
            fs::write(packed::packed(&path), bytes).unwrap();
            Source::open(&path)
        })
    };
    if let Ok(source) = open(data) {
        let length = source.length().unwrap();
        assert!(length <= data.len() as u64 * 256 * 1024);
        let mut read = Vec::new();
        if source.take(MUCH).read_to_end(&mut read).is_ok() {
            assert_eq!(read.len() as u64, length.min(MUCH));
        }
    }
    let mut made = Vec::new();
    packed::pack(&mut &*data, &mut made, || Ok(())).unwrap();
    if data.is_empty() {
        return;
    }
    let mut source = open(&made).unwrap();
    assert_eq!(source.length().unwrap(), data.len() as u64);
    for at in [0, data.len() / 2] {
        let mut read = Vec::new();
        source.seek(SeekFrom::Start(at as u64)).unwrap();
        source.read_to_end(&mut read).unwrap();
        assert_eq!(read, data[at..]);
    }
}

/// Bytes of a segment: as a header, as a frame, as what a crash left behind the records, and as changes of the records.
///
/// What is read is what was written. Whatever stands behind the records, recovery finds at least those that were
/// acknowledged; and when one of these was changed, neither recovery nor the verifier says that all is well.
pub(crate) fn segment(data: &[u8]) {
    header(data);
    frame(data);
    torn(data);
    changed(data);
}

fn header(data: &[u8]) {
    let mut block = data.to_vec();
    block.resize(HEADER - 4, 0);
    let crc = crc32fast::hash(&block);
    block.extend_from_slice(&crc.to_le_bytes());
    if let Some(header) = Header::decode(&block) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    assert_eq!(Header::decode(&block[1..]), None);
}

fn frame(data: &[u8]) {
    if let Some((frame, record)) = segment::decode(data) {
        assert_eq!(frame.length, record.len());
        let mut batch = Batch::default();
        batch.begin(&[]);
        batch.add(frame.batch, |to| to.extend_from_slice(record));
        let made = batch.end(frame.batch, &[9; 32]).to_vec();
        let (again, same) = segment::decode(&made).unwrap();
        assert_eq!(
            (again.batch, again.length, same),
            (frame.batch, frame.length, record)
        );
        let whole = FRAME + frame.length;
        assert!(frame.last || frame.tag || data[..whole] == made[..whole]);
    }
    if !data.is_empty() && data.len() <= segment::LONGEST {
        let mut batch = Batch::default();
        batch.begin(&[]);
        batch.add(9, |to| to.extend_from_slice(data));
        let bytes = batch.end(9, &[9; 32]).to_vec();
        let (frame, record) = segment::decode(&bytes).expect("written, but not read");
        assert_eq!(
            (frame.batch, frame.last, frame.tag, record),
            (9, false, false, data)
        );
        let (tag, _) = segment::decode(&bytes[FRAME + data.len()..]).expect("written, but not read");
        assert!(tag.last && tag.tag && tag.batch == 9);
        if let Some(seq) = segment::position(data) {
            assert!(data.starts_with(format!("{{\"v\":1,\"seq\":{seq}").as_bytes()) || data[13] == b'0');
        }
    }
}

fn torn(data: &[u8]) {
    let key = LOG.key.public(ORIGIN);
    with_log(
        |bytes| bytes.extend_from_slice(data),
        |folder| {
            let config = Config {
                folder: folder.to_owned(),
                ..Config::default()
            };
            if let Ok(found) = recover::recover(&config, &key, &LOG.key.tags().unwrap()) {
                assert!(
                    found.records >= 6 && found.epoch == 1 || !found.damage.is_empty(),
                    "{found:?}"
                );
                // Nothing but a whole frame of a later batch shows that something acknowledged is missing.
                assert!(found.damage.is_empty() || data.len() > FRAME, "{found:?}");
            }
        },
    );
}

/// Each three bytes of `data`: where (in the records) and with what.
fn changed(data: &[u8]) {
    let key = LOG.key.public(ORIGIN);
    let change = |bytes: &mut Vec<u8>| {
        let length = bytes.len() - HEADER;
        for edit in data.chunks_exact(3).take(64) {
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % length;
            bytes[HEADER + at] ^= edit[2];
        }
    };
    let mut bytes = LOG.segment.clone();
    change(&mut bytes);
    let same = bytes == LOG.segment;
    with_log(change, |folder| {
        let verified = verify::verify(folder, &key, None, |_| {});
        assert_eq!(verified.is_ok(), same || intact(&bytes), "{verified:?}");
        let config = Config {
            folder: folder.to_owned(),
            ..Config::default()
        };
        if let Ok(found) = recover::recover(&config, &key, &LOG.key.tags().unwrap()) {
            assert_eq!(found.damage.is_empty(), same || intact(&bytes), "{found:?}");
        }
    });
}

/// Whether all records stand there as they were written (a frame's own numbers may differ where nothing hangs on them).
fn intact(bytes: &[u8]) -> bool {
    let (mut rest, mut records) = (&bytes[HEADER..], LOG.records.iter());
    loop {
        match segment::decode(rest) {
            Some((frame, _)) if frame.tag => {}
            Some((_, found)) if records.next().is_some_and(|record| record == found) => {}
            _ => return rest.is_empty() && records.next().is_none(),
        }
        rest = &rest[FRAME + segment::decode(rest).map_or(0, |(frame, _)| frame.length)..];
    }
}

/// Bytes as a record.
///
/// What is read and written again reads the same, and is shown as one line.
pub(crate) fn record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else {
        return;
    };
    let bytes = serde_json::to_vec(&record).unwrap();
    let again: Record = serde_json::from_slice(&bytes).expect("written, but not read");
    assert_eq!(again, record);
    assert_eq!(segment::position(&bytes), (record.v == 1).then_some(record.seq));
    let line = super::render::line(&record);
    assert!(
        !line.contains(['\n', '\r']) && !line.chars().any(char::is_control),
        "{line:?}"
    );
}

/// Bytes as a checkpoint, and as a file of them.
///
/// What is read stands in the text, and another implementation reads the same; and the key vouches only for what it
/// signed.
pub(crate) fn checkpoint(data: &[u8]) {
    let mut file = data;
    let mut count = 0;
    while let Ok(Some(note)) = super::checkpoint::next_note(&mut file) {
        assert!(note.ends_with('\n') && note.len() <= data.len());
        count += note.len();
    }
    assert!(count <= data.len());
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(read) = Checkpoint::parse(text) else { return };
    assert_eq!(read.note, text);
    let begins = format!(
        "{}\n{}\n{}",
        read.origin,
        read.size,
        data_encoding::BASE64.encode(&read.root.0)
    );
    assert!(text.starts_with(&begins), "{text:?}");
    assert!(read.origin.ends_with(&format!("/{}", read.epoch)));
    if read.check(&LOG.key.public(ORIGIN)).is_ok() {
        let signed = |note: &str| note.rsplit_once("\n\n").map(|(text, _)| text.to_owned());
        assert_eq!(signed(text), signed(&LOG.note), "vouched for, but never signed");
        let body = format!("{}\n", signed(text).unwrap());
        let other = tlog_tiles::Checkpoint::from_bytes(body.as_bytes()).expect("signed, but no checkpoint");
        assert_eq!(
            (other.origin(), other.size(), other.hash().0),
            (read.origin.as_str(), read.size, read.root.0)
        );
    }
}

/// Bytes as a proof.
///
/// What is read is what is written; and the key vouches only for records that it signed.
pub(crate) fn proof(data: &[u8]) {
    let Ok(proof) = Proof::parse(data) else { return };
    assert_eq!(proof.to_string().as_bytes(), data, "a second spelling");
    if let Ok(proved) = proof.check(&LOG.key.public(ORIGIN), &[]) {
        let signed = usize::try_from(proved.index)
            .ok()
            .and_then(|index| LOG.records.get(index));
        assert_eq!(
            signed.map(Vec::as_slice),
            Some(proved.record.as_bytes()),
            "vouched for, but never signed"
        );
        assert_eq!((proved.epoch, proved.size), (1, 6));
    }
}

thread_local! {
    static WITNESS: (tempfile::TempDir, Witness) = witness();
}

fn witness() -> (tempfile::TempDir, Witness) {
    let (folder, signer) = (
        folder(),
        WitnessSigner::generate("witness.example.org", &Same(9)).unwrap(),
    );
    let logs = vec![LOG.key.public(ORIGIN)];
    let witness = Witness::open(signer, logs, folder.path(), SystemClock::shared()).unwrap();
    (folder, witness)
}

/// Bytes as what a log sends to a witness.
///
/// What is read is what is written; and the witness cosigns only what the log signed.
pub(crate) fn add_checkpoint(data: &[u8]) {
    let read = AddCheckpoint::parse(data);
    if let Some(read) = &read {
        assert_eq!(read.text().as_bytes(), data, "a second spelling");
    }
    let answer = WITNESS.with(|(_, witness)| witness.add_checkpoint(data));
    assert!(
        [200, 400, 403, 404, 409, 422].contains(&answer.status),
        "{answer:?}"
    );
    assert!(read.is_some() || answer.status == 400, "{answer:?}");
    if answer.status == 200 {
        let text = AddCheckpoint::parse(data).unwrap().checkpoint.text().to_owned();
        assert!(LOG.note.starts_with(&text), "cosigned, but never signed");
    }
}

#[cfg(test)]
mod seeds {
    //! The whole ones are written from the fixture: `COUNTERSIGN_BLESS=1 cargo test --lib audit::fuzz`.
    use super::*;

    /// A proof of one of the fixture's records.
    fn written(index: usize) -> Proof {
        let mut nodes = std::collections::BTreeMap::new();
        let mut edge = Edge::default();
        for record in &LOG.records {
            edge.push_seen(tree::leaf(record), |node, hash| {
                nodes.insert(node, hash);
            });
        }
        let hash = |range: &std::ops::Range<u64>| {
            let nodes: Vec<Hash> = tree::Node::of(range).iter().map(|node| nodes[node]).collect();
            tree::joined(&nodes).unwrap()
        };
        Proof {
            record: LOG.records[index].clone(),
            index: index as u64,
            path: tree::inclusion(index as u64, 6).iter().map(hash).collect(),
            checkpoint: Checkpoint::parse(&LOG.note).unwrap(),
        }
    }

    #[test]
    fn the_seeds_of_proofs_and_checkpoints_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        let note = &LOG.note;
        for (name, text) in [
            ("proof/first", written(0).to_string()),
            ("proof/fifth", written(4).to_string()),
            ("add-checkpoint/first", format!("old 0\n\n{note}")),
            ("add-checkpoint/again", format!("old 6\n\n{note}")),
        ] {
            let path = root.join(name);
            if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &text).unwrap();
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}");
        }
        for index in [0, 4] {
            written(index).check(&LOG.key.public(ORIGIN), &[]).unwrap();
        }
    }
}
