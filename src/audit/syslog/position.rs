//! How far a receiver has the log, kept in a file of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::audit::index::Position;

/// The file that keeps a position.
#[derive(Debug)]
pub(super) struct Kept {
    file: PathBuf,
    stored: Option<Position>,
}

impl Kept {
    /// The position of the receiver `name`, in `folder`.
    ///
    /// # Errors
    /// The file is there and cannot be read, or holds no position: what was sent is not guessed.
    pub(super) fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let file = folder.join(name);
        let stored = match fs::read_to_string(&file) {
            Ok(text) => Some(parsed(&text).ok_or_else(|| {
                let message = format!(
                    "`{}` holds no position, `EPOCH SEQUENCE`; without the file all of the log is sent again",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, stored })
    }

    /// Where to go on; the beginning of the log when nothing is kept.
    pub(super) const fn position(&self) -> Position {
        match self.stored {
            Some(position) => position,
            None => Position { epoch: 0, seq: 0 },
        }
    }

    /// Keeps `position`; durable when it returns.
    ///
    /// # Errors
    /// It cannot be written; the one before is still kept.
    pub(super) fn keep(&mut self, position: Position) -> io::Result<()> {
        if self.stored == Some(position) {
            return Ok(());
        }
        let part = self.file.with_extension("part");
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = File::create(&part)?;
        writeln!(file, "{} {}", position.epoch, position.seq)?;
        file.sync_all()?;
        fs::rename(&part, &self.file)?;
        File::open(folder)?.sync_all()?;
        self.stored = Some(position);
        Ok(())
    }
}

fn parsed(text: &str) -> Option<Position> {
    let (epoch, seq) = text.trim_end().split_once(' ')?;
    Some(Position {
        epoch: epoch.parse().ok()?,
        seq: seq.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("syslog");
        let mut kept = Kept::open(&folder, "siem").unwrap();
        assert_eq!(kept.position(), Position { epoch: 0, seq: 0 });
        let position = Position { epoch: 3, seq: 42 };
        kept.keep(position).unwrap();
        assert_eq!(Kept::open(&folder, "siem").unwrap().position(), position);
        fs::write(folder.join("siem"), "3").unwrap();
        assert!(Kept::open(&folder, "siem").is_err());
    }
}
