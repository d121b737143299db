//! Making old segments small, and moving them elsewhere, beside a writer that goes on.
//!
//! A segment is compressed under another name, synced, read back and compared with what it was; then it gets its name, and only
//! then the plain one goes. To be moved it is copied under another name, synced, compared and named in the archive, and then a
//! link to it takes the place of the file in one step. At any moment of that the log is whole, and readers find every
//! segment where they look for it: in the log's folder.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::packed::{self, Source, pack, same};
use super::queue::Shared;
use super::segment::{self, Header};
use super::writer::sync_folder;
use super::{Audit, AuditError, dropped};

/// The newest segments stay as they are: they are the ones that are read.
const NEWEST: usize = 4;
/// What the name of a file ends with that is not whole yet.
const UNFINISHED: &str = ".new";

impl Audit {
    /// Compresses one old segment, or moves one to the archive, as the settings ask. Says whether there was one to do it with.
    ///
    /// # Errors
    /// [`AuditError`]: a file could not be read or written, or was read back as another; then the segment stays as it was.
    pub async fn tidy_one(&self) -> Result<bool, AuditError> {
        let _turn = self.0.old_segments.lock().await;
        let shared = self.0.shared.clone();
        let (tell, told) = oneshot::channel();
        let work = move || {
            // Requests come first.
            let _ = rustix::process::nice(10);
            let _ = tell.send(tidy_one(&shared));
        };
        let folder = self.folder();
        std::thread::Builder::new()
            .name("audit-archive".into())
            .spawn(work)
            .map_err(|error| AuditError::from_io(folder, &error))?;
        let done = told.await.map_err(|_| AuditError::Stopped)?;
        done.map_err(|error| AuditError::from_io(folder, &error))
    }
}

fn tidy_one(shared: &Arc<Shared>) -> io::Result<bool> {
    let config = &shared.config;
    let go_on = || match shared.is_stopped() {
        true => Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the log is being closed",
        )),
        false => Ok(()),
    };
    let tidy = Tidy {
        folder: &config.folder,
        compress: config.compress,
        archive: config.archive.as_deref(),
        go_on: &go_on,
    };
    tidy.one()
}

/// What is to be done with old segments.
pub(super) struct Tidy<'a> {
    pub(super) folder: &'a Path,
    pub(super) compress: bool,
    /// Where compressed ones are moved to.
    pub(super) archive: Option<&'a Path>,
    /// Whether there is time for more.
    pub(super) go_on: &'a dyn Fn() -> io::Result<()>,
}

impl Tidy<'_> {
    /// Deals with the oldest segment that is not as it should be; false when there is none, or somebody reads all of the log.
    pub(super) fn one(&self) -> io::Result<bool> {
        let Some(_alone) = dropped::hold_alone(self.folder)? else {
            return Ok(false);
        };
        self.sweep()?;
        let base = dropped::read(self.folder)?.map_or(0, |dropped| dropped.segments);
        let mut indexes = segment::list(self.folder)?;
        indexes.truncate(indexes.len().saturating_sub(NEWEST));
        let mut failed = None;
        for index in indexes.into_iter().filter(|index| *index >= base) {
            let path = segment::path(self.folder, index);
            let done = match path.exists() {
                true => self.pack(&path),
                false => self.file_away(&path),
            };
            match done {
                // Where one failed, all others are dealt with now: it would come first again.
                Ok(true) if failed.is_none() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(false), Err)
    }

    /// Removes what a crash left half done.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name
                .strip_suffix(UNFINISHED)
                .is_some_and(|name| name.ends_with(packed::SUFFIX))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn pack(&self, path: &Path) -> io::Result<bool> {
        let small = packed::packed(path);
        if !self.compress && !small.exists() {
            return Ok(false);
        }
        // Both are there when it ended before the plain one was removed.
        if !small.exists() || !self.is_same(path, &small)? {
            let unfinished = unfinished(&small);
            let written = self.write(path, &unfinished);
            if written.is_err() {
                let _ = fs::remove_file(&unfinished);
            }
            written?;
            fs::rename(&unfinished, &small)?;
            sync_folder(self.folder)?;
        }
        fs::remove_file(path)?;
        sync_folder(self.folder)?;
        Ok(true)
    }

    /// The compressed form of the segment `path` in a file of its own, once it was read back as the same.
    fn write(&self, path: &Path, to: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(to)?);
        pack(&mut File::open(path)?, &mut file, self.go_on)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        match self.is_same(path, to)? {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "segment `{}` was not read back as it was, and stays as it is",
                path.display()
            ))),
        }
    }

    /// Whether a compressed segment is `plain`, byte for byte; one that cannot be read is not.
    fn is_same(&self, plain: &Path, small: &Path) -> io::Result<bool> {
        let found = Source::packed(small)
            .and_then(|mut small| same(&mut BufReader::new(File::open(plain)?), &mut small, self.go_on));
        match found {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
            found => found,
        }
    }

    /// Moves a compressed segment to the archive, and leaves a link.
    fn file_away(&self, path: &Path) -> io::Result<bool> {
        let small = packed::packed(path);
        let Some(archive) = self.archive.filter(|_| !small.is_symlink()) else {
            return Ok(false);
        };
        let header = Header::read(path)?.ok_or_else(|| io::Error::other("its header was changed"))?;
        let to = archive.join(name(&header));
        if !to.exists() {
            self.copy(&small, &to)?;
        }
        // SECURITY: whatever was there before is what is there now, or it is not touched.
        if !same(&mut File::open(&small)?, &mut File::open(&to)?, self.go_on)? {
            return Err(io::Error::other(format!(
                "`{}` is in the archive already, and is another",
                to.display()
            )));
        }
        // A crash may have come between its name and the sync, so this is never taken for done.
        File::open(&to)?.sync_all()?;
        sync_folder(archive)?;
        let link = unfinished(&small);
        symlink(&to, &link)?;
        fs::rename(&link, &small)?;
        sync_folder(self.folder)?;
        Ok(true)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let unfinished = unfinished(to);
        let copied = fs::copy(from, &unfinished).and_then(|_| File::open(&unfinished)?.sync_all());
        if copied.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        copied?;
        fs::rename(&unfinished, to)
    }
}

/// Name of a segment in the archive: that of one log and epoch only.
fn name(header: &Header) -> String {
    let log = header.origin.to_string();
    let log = log.get(..16).unwrap_or_default();
    let (epoch, index) = (header.epoch, header.index);
    format!("{log}-{epoch:06}-{index:010}.log{}", packed::SUFFIX)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}
