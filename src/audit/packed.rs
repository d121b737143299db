//! Old segments, compressed: `NNNNNNNNNN.log.zst`, which `zstd -d` turns into the segment that it was, byte for byte.
//!
//! The form is the seekable one of Zstandard: independent frames, the segment's header block first and then pieces of
//! [`PIECE`] bytes, and at the end a skippable frame with the table of their lengths, so that a record is read without what is
//! before it. Every reader opens a segment here and sees the same bytes in either form.
//!
//! SECURITY: lengths are bounded before anything is made room for: a piece is at most [`PIECE`] bytes, whatever its frame says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use zstd::bulk::{Compressor, Decompressor};

use super::segment::HEADER;

/// What the name of a compressed segment ends with, behind that of the segment.
pub(super) const SUFFIX: &str = ".zst";
/// Bytes of a segment that are compressed together.
const PIECE: usize = 256 * 1024;
/// Most pieces: a segment of 4 GiB, with the room that one may be longer.
const MOST: usize = 40_000;
/// Longest compressed piece: what cannot be compressed grows a little.
const LONGEST: usize = PIECE + PIECE / 128 + 1024;
/// The higher ones take several times as long for a few percent.
const LEVEL: i32 = 3;

const SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Bytes of a skippable frame before its content.
const HEAD: usize = 8;
/// Bytes of a piece's lengths in the table.
const ENTRY: usize = 8;
/// Bytes at the end of the table: number of frames, descriptor, magic.
const FOOT: usize = 9;

/// A segment file, in either form.
#[derive(Debug)]
pub(crate) enum Source {
    Plain(File),
    Packed(Box<Packed>),
}

/// The file in which the segment `path` stands: itself, or its compressed form. The plain one counts while both are there.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    let packed = packed(path);
    match fs::symlink_metadata(path).is_err() && fs::symlink_metadata(&packed).is_ok() {
        true => packed,
        false => path.to_owned(),
    }
}

/// The compressed form of the segment `path`.
pub(crate) fn packed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// Where a segment was moved to, when it is not reached there now.
pub(crate) fn out_of_reach(path: &Path) -> Option<PathBuf> {
    let packed = packed(path);
    let moved = fs::read_link(&packed).ok()?;
    (fs::metadata(path).is_err() && fs::metadata(&packed).is_err()).then_some(moved)
}

impl Source {
    /// Opens the segment `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let missing = match File::open(path) {
            Ok(file) => return Ok(Self::Plain(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            Err(error) => return Err(error),
        };
        match File::open(packed(path)) {
            Ok(file) => Ok(Self::Packed(Box::new(Packed::read(file)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(match out_of_reach(path) {
                Some(moved) => io::Error::other(format!(
                    "it was moved to `{}`, which cannot be reached now: mount the archive",
                    moved.display()
                )),
                None => missing,
            }),
            Err(error) => Err(error),
        }
    }

    /// Opens a compressed segment by its own name.
    pub(crate) fn packed(path: &Path) -> io::Result<Self> {
        Ok(Self::Packed(Box::new(Packed::read(File::open(path)?)?)))
    }

    /// Number of bytes of the segment.
    pub(crate) fn length(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => Ok(packed.length()),
        }
    }
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(to),
            Self::Packed(packed) => packed.read(to),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Packed(packed) => packed.seek(to),
        }
    }
}

/// A compressed segment that is read. Holds one piece at a time.
pub(crate) struct Packed {
    file: File,
    pieces: Vec<Piece>,
    decompressor: Decompressor<'static>,
    /// The piece that is held, and its content.
    held: Option<usize>,
    content: Vec<u8>,
    compressed: Vec<u8>,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Where its frame begins in the file, and how long it is.
    from: u64,
    compressed: usize,
    /// Which bytes of the segment it has.
    begins: u64,
    length: usize,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("pieces", &self.pieces.len())
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "this is not a compressed segment, or it was changed",
    )
}

impl Packed {
    fn read(mut file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut foot = [0; FOOT];
        let end = bytes.checked_sub(FOOT as u64).ok_or_else(damaged)?;
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut foot)?;
        let count = count(&foot).ok_or_else(damaged)?;
        let table = HEAD + count * ENTRY + FOOT;
        let from = bytes.checked_sub(table as u64).ok_or_else(damaged)?;
        file.seek(SeekFrom::Start(from))?;
        let mut tail = vec![0; table];
        file.read_exact(&mut tail)?;
        let pieces = pieces(&tail, from).ok_or_else(damaged)?;
        Ok(Self {
            file,
            pieces,
            decompressor: Decompressor::new()?,
            held: None,
            content: Vec::new(),
            compressed: Vec::new(),
            at: 0,
        })
    }

    fn length(&self) -> u64 {
        self.pieces
            .last()
            .map_or(0, |piece| piece.begins + piece.length as u64)
    }

    /// Makes the piece with the next byte the one that is held. `None` at the end.
    fn piece(&mut self) -> io::Result<Option<Piece>> {
        let behind = self.pieces.partition_point(|piece| piece.begins <= self.at);
        let nth = behind.saturating_sub(1);
        let inside = |piece: &Piece| self.at - piece.begins < piece.length as u64;
        let Some(piece) = self.pieces.get(nth).copied().filter(inside) else {
            return Ok(None);
        };
        if self.held != Some(nth) {
            self.held = None;
            self.compressed.resize(piece.compressed, 0);
            self.file.seek(SeekFrom::Start(piece.from))?;
            self.file.read_exact(&mut self.compressed)?;
            self.content.resize(piece.length, 0);
            // No more is ever written than there is room for, whatever the frame says of itself.
            let written = self
                .decompressor
                .decompress_to_buffer(&self.compressed, self.content.as_mut_slice())
                .map_err(|_| damaged())?;
            if written != piece.length {
                return Err(damaged());
            }
            self.held = Some(nth);
        }
        Ok(Some(piece))
    }
}

impl Read for Packed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.piece()? else { return Ok(0) };
        let from = usize::try_from(self.at - piece.begins).map_err(|_| damaged())?;
        let here = self.content.get(from..).unwrap_or_default();
        let count = here.len().min(to.len());
        for (to, from) in to.iter_mut().zip(here) {
            *to = *from;
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Packed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Number of pieces that the end of a table names.
fn count(foot: &[u8; FOOT]) -> Option<usize> {
    let (count, rest) = foot.split_first_chunk::<4>()?;
    let (descriptor, magic) = rest.split_first()?;
    // No checksums: each record has its own, and the tree is above them.
    let known = *descriptor == 0 && *magic == SEEKABLE.to_le_bytes();
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    (known && (1..=MOST).contains(&count)).then_some(count)
}

/// The pieces by their table, which begins at `end`. They fill the file up to there.
fn pieces(table: &[u8], end: u64) -> Option<Vec<Piece>> {
    let (head, rest) = table.split_first_chunk::<HEAD>()?;
    let (entries, foot) = rest.split_last_chunk::<FOOT>()?;
    let length = u32::try_from(rest.len()).ok()?.to_le_bytes();
    let known = *head.as_slice() == *[SKIPPABLE.to_le_bytes(), length].as_flattened();
    if !known || count(foot)? * ENTRY != entries.len() {
        return None;
    }
    let (mut from, mut begins, mut pieces) = (0_u64, 0_u64, Vec::new());
    for entry in entries.chunks_exact(ENTRY) {
        let (compressed, length) = entry.split_first_chunk::<4>()?;
        let number = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).ok();
        let piece = Piece {
            from,
            compressed: number(*compressed)?,
            begins,
            length: number(length.try_into().ok()?)?,
        };
        if !(1..=PIECE).contains(&piece.length) || !(1..=LONGEST).contains(&piece.compressed) {
            return None;
        }
        from += piece.compressed as u64;
        begins += piece.length as u64;
        pieces.push(piece);
    }
    (from == end).then_some(pieces)
}

/// Compresses a segment. `go_on` is asked after each piece.
pub(crate) fn pack(
    from: &mut impl Read,
    to: &mut impl Write,
    go_on: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    let mut compressor = Compressor::new(LEVEL)?;
    let (mut entries, mut count, mut wanted) = (Vec::new(), 0_u32, HEADER);
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        from.by_ref().take(wanted as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        let compressed = compressor.compress(&piece)?;
        to.write_all(&compressed)?;
        for length in [compressed.len(), piece.len()] {
            let length = u32::try_from(length).map_err(io::Error::other)?;
            entries.extend_from_slice(&length.to_le_bytes());
        }
        count += 1;
        wanted = PIECE;
        go_on()?;
    }
    let length = u32::try_from(entries.len() + FOOT).map_err(io::Error::other)?;
    to.write_all(&SKIPPABLE.to_le_bytes())?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&entries)?;
    to.write_all(&count.to_le_bytes())?;
    to.write_all(&[0])?;
    to.write_all(&SEEKABLE.to_le_bytes())
}

/// Whether two readers give the same bytes. `go_on` is asked after each piece.
pub(crate) fn same(
    one: &mut impl Read,
    other: &mut impl Read,
    go_on: impl Fn() -> io::Result<()>,
) -> io::Result<bool> {
    let (mut left, mut right) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(PIECE as u64).read_to_end(&mut left)?;
        other.by_ref().take(PIECE as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
        go_on()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0000000000.log");
        fs::write(packed(&path), bytes).unwrap();
        (folder, path)
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut made = Vec::new();
        pack(&mut &*bytes, &mut made, || Ok(())).unwrap();
        made
    }

    /// Bytes that compress like records do, and some that do not.
    fn segment(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 7 < 5 {
                    b"record"[at % 6]
                } else {
                    (state >> 24) as u8
                }
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_compressed_segment_is_read_as_it_was_from_everywhere(
            length in 1..700_000_usize, seed: u32, places in proptest::collection::vec(any::<prop::sample::Index>(), 1..6),
        ) {
            let bytes = segment(length, seed);
            let (_folder, path) = stored(&compressed(&bytes));
            let mut source = Source::open(&path).unwrap();
            prop_assert_eq!(source.length().unwrap(), length as u64);
            let mut whole = Vec::new();
            source.read_to_end(&mut whole).unwrap();
            prop_assert!(whole == bytes);
            for place in places {
                let at = place.index(length);
                source.seek(SeekFrom::Start(at as u64)).unwrap();
                let mut some = vec![0; (length - at).min(3_000)];
                source.read_exact(&mut some).unwrap();
                prop_assert!(some == bytes[at..at + some.len()]);
            }
        }

        #[test]
        fn no_changed_byte_gives_more_than_was_there(length in 1..300_000_usize, seed: u32, at: prop::sample::Index, flip in 1..=255_u8) {
            let mut made = compressed(&segment(length, seed));
            let at = at.index(made.len());
            made[at] ^= flip;
            let (_folder, path) = stored(&made);
            if let Ok(mut source) = Source::open(&path) {
                let most = source.length().unwrap();
                prop_assert!(most <= (made.len() * PIECE) as u64);
                let mut whole = Vec::new();
                if source.read_to_end(&mut whole).is_ok() {
                    prop_assert_eq!(whole.len() as u64, most);
                }
            }
        }
    }

    #[test]
    fn a_piece_that_would_grow_beyond_its_bounds_is_refused() {
        // A frame of 64 MiB of zeros in few bytes, under a table that says it is short.
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 3).unwrap();
        for said in [PIECE as u32, 64 * 1024 * 1024, u32::MAX] {
            let mut file = bomb.clone();
            file.extend_from_slice(&SKIPPABLE.to_le_bytes());
            file.extend_from_slice(&((ENTRY + FOOT) as u32).to_le_bytes());
            file.extend_from_slice(&(bomb.len() as u32).to_le_bytes());
            file.extend_from_slice(&said.to_le_bytes());
            file.extend_from_slice(&1_u32.to_le_bytes());
            file.push(0);
            file.extend_from_slice(&SEEKABLE.to_le_bytes());
            let (_folder, path) = stored(&file);
            let read = Source::open(&path).and_then(|mut source| source.read(&mut [0; 16]));
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData, "{said}");
        }
    }

    #[test]
    fn the_program_zstd_gives_the_segment_back() {
        let bytes = segment(600_000, 7);
        let (_folder, path) = stored(&compressed(&bytes));
        let output = std::process::Command::new("zstd")
            .args(["-d", "-c", "-q"])
            .arg(packed(&path))
            .output()
            .expect("zstd runs (apt-get install zstd)");
        assert!(output.status.success() && output.stdout == bytes);
    }

    #[test]
    fn what_was_moved_and_is_out_of_reach_says_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0000000000.log");
        std::os::unix::fs::symlink("/nowhere/0000000000.log.zst", packed(&path)).unwrap();
        let error = Source::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("`/nowhere/0000000000.log.zst`") && error.contains("mount"),
            "{error}"
        );
        assert_eq!(
            Source::open(&folder.path().join("1.log")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
