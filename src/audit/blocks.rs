//! A segment's file, written in whole blocks past the page cache.
//!
//! Through the page cache each sync first has to find and write back what is dirty, and keeps the disk and the processor
//! busy for longer (`docs/concepts/performance.md`). A block that is not full yet is written again with the next batch: with the
//! same bytes before the new ones, as the page cache does it too. Where a file system knows no such writes, the page cache
//! is used as ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Alignment of offset, length and memory: at least what every disk asks for that has blocks of up to 4 KiB.
const BLOCK: usize = 4096;

/// Zeros are written and synced in pieces, so that they do not hold up the writer's own fdatasync: it waits for one of them.
const PIECE: usize = 128 * 1024;

/// Makes a file of `bytes` zeros at `path`, or what is there into one; durable, but for its name. Asks `goes_on` after each
/// piece.
///
/// # Errors
/// What the system says, or `goes_on`.
pub(super) fn zeros(path: &Path, bytes: u64, goes_on: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let direct = match bytes % BLOCK as u64 {
        0 => OFlags::DIRECT,
        _ => OFlags::empty(),
    };
    match fill(path, bytes, direct, &goes_on) {
        Err(error) if !direct.is_empty() && is_unfit(&error) => fill(path, bytes, OFlags::empty(), &goes_on),
        filled => filled,
    }
}

fn fill(path: &Path, mut left: u64, flags: OFlags, goes_on: &impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    let room = vec![0; PIECE + BLOCK];
    let start = room.as_ptr().align_offset(BLOCK);
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let zeros = start.checked_add(piece).and_then(|end| room.get(start..end));
        file.write_all(zeros.ok_or_else(|| io::Error::other("no aligned memory"))?)?;
        file.sync_data()?;
        left -= piece as u64;
        goes_on()?;
    }
    file.sync_all()
}

/// A file that is written from its start to its end.
#[derive(Debug)]
pub(super) struct Blocks {
    path: PathBuf,
    file: File,
    direct: bool,
    /// Where the next byte goes.
    offset: u64,
    /// The bytes before it in its block, as they stand in the file.
    tail: Vec<u8>,
    /// Memory to write from, with room to begin at a multiple of [`BLOCK`].
    room: Vec<u8>,
}

impl Blocks {
    /// Opens the file at `path`, to be written from its first byte on. What it holds already stays until then.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, direct) = match open(path, OFlags::DIRECT) {
            Ok(file) => (file, true),
            Err(error) if is_unfit(&error) => (open(path, OFlags::empty())?, false),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            direct,
            offset: 0,
            tail: Vec::with_capacity(BLOCK),
            room: Vec::new(),
        })
    }

    /// The open file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Where the next byte goes.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends `bytes`, and syncs them. After an error nothing is known of the file, and it must not be written again.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.write(bytes) {
            // Only the disk itself knows whether its blocks are larger than ours; nothing is written then.
            Err(error) if self.direct && self.offset == 0 && is_unfit(&error) => {
                self.file = open(&self.path, OFlags::empty())?;
                self.direct = false;
                self.write(bytes)?;
            }
            written => written?,
        }
        self.file.sync_data()?;
        self.offset += bytes.len() as u64;
        if self.direct {
            let whole = (self.tail.len() + bytes.len()) / BLOCK * BLOCK;
            match whole.checked_sub(self.tail.len()) {
                Some(used) if whole > 0 => {
                    self.tail.clear();
                    self.tail.extend_from_slice(bytes.get(used..).unwrap_or_default());
                }
                _ => self.tail.extend_from_slice(bytes),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.direct {
            return self.file.write_all_at(bytes, self.offset);
        }
        let used = self.tail.len() + bytes.len();
        let whole = used.next_multiple_of(BLOCK);
        if self.room.len() < whole + BLOCK {
            self.room.resize(whole + BLOCK, 0);
        }
        let start = self.room.as_ptr().align_offset(BLOCK);
        let blocks = start
            .checked_add(whole)
            .and_then(|end| self.room.get_mut(start..end))
            .ok_or_else(|| io::Error::other("no aligned memory"))?;
        let (old, rest) = blocks.split_at_mut(self.tail.len());
        let (new, zeros) = rest.split_at_mut(bytes.len());
        old.copy_from_slice(&self.tail);
        new.copy_from_slice(bytes);
        zeros.fill(0);
        // A block that was written in part is at hand whole: the next write of it begins with the same bytes.
        self.file
            .write_all_at(blocks, self.offset - self.tail.len() as u64)
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
}

/// Whether a file system or disk says that it knows no writes of this kind.
fn is_unfit(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn zeros(folder: &Path, size: usize) -> PathBuf {
        let path = folder.join("segment");
        fs::write(&path, vec![0; size]).unwrap();
        path
    }

    #[test]
    fn zeros_are_as_many_as_asked_for_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spare");
        for size in [0, 1, 4_096, 10_000, PIECE as u64 + 4_096, 2 * PIECE as u64 + 1] {
            fs::write(&path, b"something else").unwrap();
            super::zeros(&path, size, || Ok(())).unwrap();
            let held = fs::read(&path).unwrap();
            assert_eq!(held.len() as u64, size);
            assert!(held.iter().all(|byte| *byte == 0));
        }
        let stopped = || Err(io::Error::from(io::ErrorKind::Interrupted));
        let error = super::zeros(&path, 3 * PIECE as u64, stopped).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(fs::metadata(&path).unwrap().len(), PIECE as u64);
    }

    proptest! {
        #[test]
        fn what_was_appended_stands_in_the_file_and_zeros_follow(
            pieces in prop::collection::vec(prop::collection::vec(1_u8.., 1..9_000), 1..12),
            page_cache in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = zeros(folder.path(), 128 * 1024);
            let mut blocks = Blocks::open(&path).unwrap();
            if page_cache {
                blocks.file = open(&path, OFlags::empty()).unwrap();
                blocks.direct = false;
            }
            let mut told = Vec::new();
            for piece in &pieces {
                blocks.append(piece).unwrap();
                told.extend_from_slice(piece);
                let held = fs::read(&path).unwrap();
                prop_assert_eq!(held.len(), 128 * 1024);
                prop_assert!(held.starts_with(&told));
                prop_assert!(held.iter().skip(told.len()).all(|byte| *byte == 0));
                prop_assert_eq!(blocks.offset(), told.len() as u64);
            }
        }
    }
}
