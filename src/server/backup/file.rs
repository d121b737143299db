//! Files of a backup: copied with their hash, to the disk, for their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::record::Hash;

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Name below the backup's folder.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Hash,
}

/// Copies `from` (or its first `bytes`) to the new file `name` in `folder`.
pub(super) fn copy(
    from: &Path,
    folder: &Path,
    name: &str,
    bytes: Option<u64>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Written> {
    let copied = || {
        let mut reader = File::open(from)?.take(bytes.unwrap_or(u64::MAX));
        let mut to = create(folder, name)?;
        let written = pass(&mut reader, name, Some(&mut to), progress)?;
        to.sync_all()?;
        Ok::<_, io::Error>(written)
    };
    let written = copied().with_context(|| format!("`{}` cannot be copied", from.display()))?;
    match bytes {
        Some(bytes) if bytes != written.bytes => {
            anyhow::bail!("`{}` has become shorter", from.display())
        }
        _ => Ok(written),
    }
}

/// Writes the new file `name` in `folder`.
pub(super) fn write(mut content: &[u8], folder: &Path, name: &str) -> anyhow::Result<Written> {
    let mut written = || {
        let mut to = create(folder, name)?;
        let written = pass(&mut content, name, Some(&mut to), &|_| ())?;
        to.sync_all()?;
        Ok::<_, io::Error>(written)
    };
    written().with_context(|| format!("`{name}` cannot be written"))
}

/// Length and hash of the file at `path`.
pub(super) fn look(path: &Path, name: &str) -> anyhow::Result<Written> {
    let read = || pass(&mut File::open(path)?, name, None, &|_| ());
    read().with_context(|| format!("`{}` cannot be read", path.display()))
}

fn pass(
    from: &mut dyn Read,
    name: &str,
    mut to: Option<&mut File>,
    progress: &dyn Fn(u64),
) -> io::Result<Written> {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut chunk = vec![0; 1024 * 1024];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut chunk)?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        digest.update(part);
        if let Some(to) = &mut to {
            to.write_all(part)?;
        }
        bytes += part.len() as u64;
        progress(bytes);
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest.finish().as_ref());
    Ok(Written {
        name: name.to_owned(),
        bytes,
        sha256: Hash(sha256),
    })
}

fn create(folder: &Path, name: &str) -> io::Result<File> {
    let path = below(folder, name)?;
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// `name` below `folder`. SECURITY: a manifest cannot name anything outside.
pub(super) fn below(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let plain = !name.is_empty()
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if plain {
        Ok(folder.join(name))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{name}` is no name of a file in a backup"),
        ))
    }
}

/// Every path below `folder` that is no folder, in order.
pub(super) fn tree(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the names of everything below `folder` durable.
pub(super) fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
