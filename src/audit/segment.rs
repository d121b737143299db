//! The files of the log: a header block, then frames, then zeros.
//!
//! A segment's header says which position of the log it continues from and carries the tree's edge there. Whatever an
//! older segment holds beyond that position is *void*: it was written, but never acknowledged.
//!
//! A frame is `magic, length, batch, CRC-32, record` (integers little-endian, 4 bytes each). A batch is what one write
//! and one fdatasync put down; its last frame is flagged. Because a batch is written only after the one before was
//! synced, an unreadable frame with a *later* batch beyond it was once acknowledged (damage), and one with nothing but
//! its own batch beyond it never was (a torn tail).
//!
//! The last frame of a batch holds no record but the batch's *tag*: HMAC-SHA256, under a key that is derived from the log
//! key, over epoch, segment, batch and the tree's edge behind the batch. Checkpoints sign everything, but up to a second
//! later; until then the tag shows that the gateway wrote it. Logs of before have batches that end with a record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::packed::{self, Source};
use super::tree::Edge;
use crate::clock::Timestamp;
use crate::record::Hash;

/// Bytes of a segment's header block.
pub(crate) const HEADER: usize = 4096;
/// Bytes of a frame before its record.
pub(crate) const FRAME: usize = 16;
/// Longest record, in bytes (the length field of the C2SP tile format).
pub(crate) const LONGEST: usize = 65_535;

const MAGIC: &[u8; 16] = b"countersign log\0";
const FORMAT: u32 = 1;
const FRAME_MAGIC: [u8; 4] = *b"\xc5fr1";
const LAST: u32 = 1 << 31;
/// The frame holds the tag of its batch.
const TAG: u32 = 1 << 30;
/// Bytes of a tag's frame.
pub(crate) const TAGGED: usize = FRAME + 32;
const PEAKS: usize = 64;

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Epoch of the log.
    pub(crate) epoch: u64,
    /// Number of the segment in its epoch, from 0.
    pub(crate) index: u64,
    /// When it was taken into use.
    pub(crate) time: Timestamp,
    /// SHA-256 of the log's name.
    pub(crate) origin: Hash,
    /// The tree before the segment's first record; its size is that record's position.
    pub(crate) edge: Edge,
}

impl Header {
    /// Position of the first record.
    pub(crate) const fn first(&self) -> u64 {
        self.edge.size()
    }

    /// The header block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEADER);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&FORMAT.to_le_bytes());
        block.extend_from_slice(&self.epoch.to_le_bytes());
        block.extend_from_slice(&self.index.to_le_bytes());
        block.extend_from_slice(&self.time.0.to_le_bytes());
        block.extend_from_slice(&self.origin.0);
        block.extend_from_slice(&self.edge.size().to_le_bytes());
        for peak in self.edge.peaks().iter().take(PEAKS) {
            block.extend_from_slice(&peak.0);
        }
        block.resize(HEADER - 4, 0);
        let crc = crc32fast::hash(&block);
        block.extend_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads a header block; `None` when it is none, or changed.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let (body, crc) = block.split_last_chunk::<4>()?;
        if block.len() != HEADER || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut fields = Fields(body);
        if fields.take::<16>()? != *MAGIC || u32::from_le_bytes(fields.take()?) != FORMAT {
            return None;
        }
        let epoch = u64::from_le_bytes(fields.take()?);
        let index = u64::from_le_bytes(fields.take()?);
        let time = Timestamp(i64::from_le_bytes(fields.take()?));
        let origin = Hash(fields.take()?);
        let size = u64::from_le_bytes(fields.take()?);
        let peaks = (0..size.count_ones())
            .map(|_| fields.take().map(Hash))
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            epoch,
            index,
            time,
            origin,
            edge: Edge::new(size, peaks)?,
        })
    }

    /// Reads the header of a segment file; `None` when it has none that is whole.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut block = vec![0; HEADER];
        match Source::open(path)?.read_exact(&mut block) {
            Ok(()) => Ok(Self::decode(&block)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

/// Frames that will be written at once, as one batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    open: Option<usize>,
}

impl Batch {
    /// Starts a new batch behind `prefix` (a segment's header block, or nothing).
    pub(crate) fn begin(&mut self, prefix: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(prefix);
        self.open = None;
    }

    /// Bytes so far.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame whose record `write` appends to the buffer; gives the record back to be hashed.
    pub(crate) fn add(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.close(number, 0);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME]);
        write(&mut self.bytes);
        self.open = Some(at);
        self.bytes.get(at + FRAME..).unwrap_or_default()
    }

    /// Ends the batch with its tag. The bytes are ready to be written.
    pub(crate) fn end(&mut self, number: u32, tag: &[u8; 32]) -> &[u8] {
        self.add(number, |bytes| bytes.extend_from_slice(tag));
        self.close(number, LAST | TAG);
        &self.bytes
    }

    fn close(&mut self, number: u32, flags: u32) {
        let Some((head, payload)) = self
            .open
            .take()
            .and_then(|at| self.bytes.get_mut(at..)?.split_first_chunk_mut::<FRAME>())
        else {
            return;
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let batch = ((number & !(LAST | TAG)) | flags).to_le_bytes();
        let crc = checksum(length, batch, payload).to_le_bytes();
        for (to, from) in head
            .iter_mut()
            .zip([FRAME_MAGIC, length, batch, crc].as_flattened())
        {
            *to = *from;
        }
    }
}

fn checksum(length: [u8; 4], batch: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(&batch);
    crc.update(payload);
    crc.finalize()
}

/// A frame's head, once its checksum was found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Number of its batch in the segment, from 1.
    pub(crate) batch: u32,
    /// Whether it ends the batch.
    pub(crate) last: bool,
    /// Whether it holds the batch's tag instead of a record.
    pub(crate) tag: bool,
    /// Bytes of its record.
    pub(crate) length: usize,
}

struct Head {
    length: [u8; 4],
    batch: [u8; 4],
    crc: u32,
    size: usize,
}

fn head(bytes: &[u8; FRAME]) -> Option<Head> {
    let mut fields = Fields(bytes);
    if fields.take()? != FRAME_MAGIC {
        return None;
    }
    let (length, batch) = (fields.take()?, fields.take()?);
    let size = usize::try_from(u32::from_le_bytes(length)).ok()?;
    (1..=LONGEST).contains(&size).then_some(Head {
        length,
        batch,
        crc: u32::from_le_bytes(fields.take()?),
        size,
    })
}

impl Head {
    fn check(&self, payload: &[u8]) -> Option<Frame> {
        let batch = u32::from_le_bytes(self.batch);
        (checksum(self.length, self.batch, payload) == self.crc).then_some(Frame {
            batch: batch & !(LAST | TAG),
            last: batch & LAST != 0,
            tag: batch & TAG != 0,
            length: self.size,
        })
    }
}

/// The frame at the start of `bytes` with what it holds; `None` when there is none that is whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<FRAME>()?;
    let head = head(first)?;
    let payload = rest.get(..head.size)?;
    Some((head.check(payload)?, payload))
}

/// Reads the frames of one segment file in order.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: BufReader<Source>,
    /// Where the next frame begins.
    pub(crate) offset: u64,
    payload: Vec<u8>,
}

impl Frames {
    /// Starts at the first frame.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::at(path, HEADER as u64)
    }

    /// Starts at a frame of which the offset is known.
    pub(crate) fn at(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = Source::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            reader: BufReader::with_capacity(256 * 1024, file),
            offset,
            payload: Vec::new(),
        })
    }

    /// The next record's frame with the record, past tags; `None` where there is no whole one. Then the reader stands before
    /// it, so that it can be asked again when more was written.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Frame, &[u8])>> {
        loop {
            match self.step()? {
                Some((frame, _)) if frame.tag => {}
                Some((frame, _)) => return Ok(Some((frame, &self.payload))),
                None => return Ok(None),
            }
        }
    }

    /// The next frame, whatever it holds.
    pub(crate) fn step(&mut self) -> io::Result<Option<(Frame, &[u8])>> {
        match self.read() {
            Ok(Some(frame)) => {
                self.offset += (FRAME + frame.length) as u64;
                Ok(Some((frame, &self.payload)))
            }
            Ok(None) => self.again(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.again(),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut bytes = [0; FRAME];
        self.reader.read_exact(&mut bytes)?;
        let Some(head) = head(&bytes) else { return Ok(None) };
        self.payload.resize(head.size, 0);
        self.reader.read_exact(&mut self.payload)?;
        Ok(head.check(&self.payload))
    }

    /// Forgets what was read ahead of the next frame.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(self.offset)).map(|_| ())
    }

    fn again<T>(&mut self) -> io::Result<Option<T>> {
        self.forget()?;
        Ok(None)
    }
}

/// What a segment holds beyond its last readable record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Bytes from there to the last one that is not zero.
    pub(crate) bytes: u64,
    /// Records among them.
    pub(crate) frames: u64,
    /// Highest batch number of those frames.
    pub(crate) batch: u32,
}

/// Looks at everything from `offset` to the end of the file.
pub(crate) fn rest(path: &Path, offset: u64) -> io::Result<Rest> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut file = Source::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut chunk = vec![0; ZEROS.len()];
    let (mut at, mut end) = (0_u64, 0_u64);
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        if Some(bytes) != ZEROS.get(..read) {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            end = at + last as u64 + 1;
        }
        at += read as u64;
    }
    let mut found = Rest {
        bytes: end,
        ..Rest::default()
    };
    file.seek(SeekFrom::Start(offset))?;
    count_frames(&mut file.take(end), &mut found)?;
    Ok(found)
}

/// Counts the whole frames in what `from` gives. SECURITY: a compressed segment of a few kilobytes may give gigabytes, so no more
/// is held than the longest frame and a piece.
fn count_frames(from: &mut impl Read, found: &mut Rest) -> io::Result<()> {
    const AHEAD: usize = FRAME + LONGEST;
    let (mut held, mut ended) = (Vec::new(), false);
    while !ended || !held.is_empty() {
        if !ended {
            let wanted = (2 * AHEAD).saturating_sub(held.len()) as u64;
            ended = (from.by_ref().take(wanted).read_to_end(&mut held)? as u64) < wanted;
        }
        let mut at = 0;
        // A frame that begins before this is here whole, if it is one.
        let until = if ended {
            held.len()
        } else {
            held.len().saturating_sub(AHEAD)
        };
        while at < until {
            let rest = held.get(at..).unwrap_or_default();
            at += match decode(rest) {
                Some((frame, _)) => {
                    found.frames += u64::from(!frame.tag);
                    found.batch = found.batch.max(frame.batch);
                    FRAME + frame.length
                }
                None => 1,
            };
        }
        held.drain(..at.min(held.len()));
    }
    Ok(())
}

/// Position of a record, read from its first bytes without parsing the rest.
pub(crate) fn position(record: &[u8]) -> Option<u64> {
    let rest = record.strip_prefix(b"{\"v\":1,\"seq\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// File name of segment `index`.
pub(crate) fn path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{index:010}.log"))
}

/// The part of a file's name that is the number of a segment; compressed ones are segments too.
fn of_segment(name: &str) -> Option<&str> {
    name.strip_suffix(packed::SUFFIX)
        .unwrap_or(name)
        .strip_suffix(".log")
}

/// Whether a file of this name is a segment.
pub(crate) fn is_segment(name: &str) -> bool {
    of_segment(name).is_some()
}

/// Folder that keeps the files of an epoch that ended.
pub(crate) fn epoch_folder(folder: &Path, epoch: u64) -> PathBuf {
    folder.join(format!("epoch-{epoch:06}"))
}

/// Numbers of all segments in `folder`, in order. Empty when there is no such folder.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = numbered(folder, of_segment, 10)?;
    // One that was just compressed may be there in both forms.
    numbers.dedup();
    Ok(numbers)
}

/// Length and SHA-256 of every file of the epochs that ended, by folder and name.
pub(crate) fn aside(folder: &Path) -> io::Result<BTreeMap<String, (u64, Hash)>> {
    let mut files = BTreeMap::new();
    for epoch in epochs(folder)? {
        let inner = epoch_folder(folder, epoch);
        for entry in fs::read_dir(&inner)? {
            let path = entry?.path();
            if path.is_dir() {
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path);
            files.insert(name.to_string_lossy().into_owned(), fingerprint(&path)?);
        }
    }
    Ok(files)
}

/// Length and SHA-256 of a file.
pub(crate) fn fingerprint(path: &Path) -> io::Result<(u64, Hash)> {
    let mut file = File::open(path)?;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut chunk = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        digest.update(bytes);
        length += bytes.len() as u64;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.finish().as_ref());
    Ok((length, Hash(hash)))
}

/// Epochs that ended and whose files are kept, in order.
pub(crate) fn epochs(folder: &Path) -> io::Result<Vec<u64>> {
    numbered(folder, |name| name.strip_prefix("epoch-"), 6)
}

fn numbered(folder: &Path, part: fn(&str) -> Option<&str>, width: usize) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name
            .to_str()
            .and_then(part)
            .filter(|digits| digits.len() >= width);
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_follows_the_last_record_is_looked_at_without_being_held_whole() {
        /// A record, very many bytes that are none, and a record across every border of what is read.
        struct Long {
            at: u64,
            frame: Vec<u8>,
            most: usize,
        }
        impl Read for Long {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                const EVERY: u64 = 999_983;
                self.most = self.most.max(to.len());
                for byte in to.iter_mut() {
                    let within = usize::try_from(self.at % EVERY).unwrap();
                    *byte = self.frame.get(within).copied().unwrap_or(1);
                    self.at += 1;
                }
                Ok(to.len())
            }
        }
        let mut batch = Batch::default();
        batch.begin(&[]);
        batch.add(3, |to| to.extend_from_slice(&[b'x'; 5_000]));
        let frame = batch.end(3, &[9; 32]).to_vec();
        let mut long = Long {
            at: 0,
            frame,
            most: 0,
        };
        let mut found = Rest::default();
        count_frames(&mut long.by_ref().take(64 * 1024 * 1024), &mut found).unwrap();
        assert_eq!((found.frames, found.batch), (68, 3));
        assert!(long.most <= 4 * (FRAME + LONGEST), "{} bytes at once", long.most);
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(
            epoch: u64, index: u64, time: i64, origin: [u8; 32], size: u64, seed: [u8; 32], at in 0..HEADER, flip in 1..=255_u8,
        ) {
            let peaks = (0..size.count_ones()).map(|n| Hash::of(&[&seed[..], &n.to_le_bytes()].concat())).collect();
            let header = Header { epoch, index, time: Timestamp(time), origin: Hash(origin), edge: Edge::new(size, peaks).unwrap() };
            let mut block = header.encode();
            prop_assert_eq!(block.len(), HEADER);
            prop_assert_eq!(Header::decode(&block), Some(header));
            block[at] ^= flip;
            prop_assert_eq!(Header::decode(&block), None);
        }

        #[test]
        fn frames_are_read_as_they_were_written_and_no_changed_byte_passes(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..2000), 1..8), at: prop::sample::Index, flip in 1..=255_u8,
        ) {
            let mut batch = Batch::default();
            batch.begin(&[]);
            for record in &records {
                let payload = batch.add(7, |bytes| bytes.extend_from_slice(record)).to_vec();
                prop_assert_eq!(&payload, record);
            }
            let bytes = batch.end(7, &[9; 32]).to_vec();
            let mut rest = bytes.as_slice();
            for record in &records {
                let (frame, payload) = decode(rest).unwrap();
                prop_assert_eq!(payload, record.as_slice());
                prop_assert_eq!(frame, Frame { batch: 7, last: false, tag: false, length: record.len() });
                rest = &rest[FRAME + record.len()..];
            }
            let tag = Frame { batch: 7, last: true, tag: true, length: 32 };
            prop_assert_eq!(decode(rest), Some((tag, &[9; 32][..])));
            prop_assert_eq!(rest.len(), TAGGED);
            let mut changed = bytes[..FRAME + records[0].len()].to_vec();
            let at = at.index(changed.len());
            changed[at] ^= flip;
            prop_assert_eq!(decode(&changed), None);
        }

        #[test]
        fn no_bytes_make_the_decoders_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (decode(&bytes), Header::decode(&bytes), position(&bytes));
        }
    }
}
