//! The lock of a data folder: one process at a time changes what lies in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("`{}` is in use by another process{}", folder.display(), process(holder))]
    Held {
        /// The folder.
        folder: PathBuf,
        /// What the holder wrote down: its process id.
        holder: String,
    },
    /// The file cannot be used.
    #[error("`{}` cannot be locked: {source}", file.display())]
    File {
        /// The lock's file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn process(holder: &str) -> String {
    match holder {
        "" => String::new(),
        holder => format!(" (process {holder})"),
    }
}

/// Held as long as it lives, and no longer than the process.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "the lock goes with the open file")] File);

impl FolderLock {
    /// Locks the data folder `data`.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(data: &Path) -> Result<Self, LockError> {
        let path = data.join("lock");
        let failed = |source| LockError::File {
            file: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder);
                holder.retain(|c| c.is_ascii_digit());
                return Err(LockError::Held {
                    folder: data.to_owned(),
                    holder,
                });
            }
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
            .map_err(failed)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path()).unwrap();
        let refused = FolderLock::take(folder.path()).unwrap_err().to_string();
        let own = format!("(process {})", std::process::id());
        assert!(refused.contains(&own), "{refused}");
        drop(held);
        drop(FolderLock::take(folder.path()).unwrap());
    }
}
