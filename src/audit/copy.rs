//! What of a log belongs to a copy of it that is taken while the writer goes on: everything up to a signed checkpoint.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, next_note};
use super::segment::{self, Frames, Header};

/// The log as it is copied.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The newest checkpoint in the copy.
    pub checkpoint: Option<Checkpoint>,
    /// Its epoch.
    pub epoch: u64,
    /// Its records of that epoch; those beyond the checkpoint are not signed.
    pub records: u64,
    /// Its files.
    pub files: Vec<Part>,
}

/// A file of the copy.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name below the log's folder.
    pub name: String,
    /// Where it comes from.
    pub path: PathBuf,
    /// How much of it belongs to the copy, from the start.
    pub bytes: u64,
    /// The content, where the file itself may be another one by the time it is copied.
    pub content: Option<Vec<u8>>,
}

/// Number of records that stand in `folder` now, signed or not.
///
/// # Errors
/// When the newest segment cannot be read.
pub fn position(folder: &Path) -> io::Result<u64> {
    let Some(index) = segment::list(folder)?.pop() else {
        return Ok(0);
    };
    let path = segment::path(folder, index);
    let header = header(&path)?;
    let end = end_of(&path, &header, None)?;
    Ok(end.records)
}

/// Plans a copy of the log in `folder`: up to its newest checkpoint while a gateway writes to it (`live`), else all.
///
/// # Errors
/// When a file cannot be read, or is not what it should be.
pub fn plan(folder: &Path, live: bool) -> io::Result<Plan> {
    let checkpoint = newest(folder)?;
    // Beyond it, what a running gateway writes is neither whole nor acknowledged for whoever looks from outside.
    let size = checkpoint
        .as_ref()
        .filter(|_| live)
        .map(|checkpoint| checkpoint.size);
    let mut plan = Plan {
        epoch: 0,
        records: 0,
        files: Vec::new(),
        checkpoint,
    };
    let indexes = segment::list(folder)?;
    let headers = indexes
        .iter()
        .map(|index| header(&segment::path(folder, *index)))
        .collect::<io::Result<Vec<Header>>>()?;
    let mut at = headers.iter().peekable();
    while let Some(header) = at.next() {
        if size.is_some_and(|size| header.first() >= size && header.index > 0) {
            break;
        }
        let path = segment::path(folder, header.index);
        let follows = at
            .peek()
            .is_some_and(|next| size.is_none_or(|size| next.first() < size));
        let bytes = if follows {
            fs::metadata(&path)?.len()
        } else {
            let end = end_of(&path, header, size)?;
            plan.records = end.records;
            end.bytes
        };
        plan.epoch = header.epoch;
        plan.files.push(Part::of(folder, path, bytes));
    }
    plan.notes(folder, live)?;
    plan.others(folder)?;
    Ok(plan)
}

impl Part {
    fn of(folder: &Path, path: PathBuf, bytes: u64) -> Self {
        let name = path.strip_prefix(folder).unwrap_or(&path);
        Self {
            name: name.to_string_lossy().into_owned(),
            path,
            bytes,
            content: None,
        }
    }
}

impl Plan {
    /// The checkpoints, up to the newest one.
    fn notes(&mut self, folder: &Path, live: bool) -> io::Result<()> {
        let path = folder.join("checkpoints");
        let bytes = match &self.checkpoint {
            Some(newest) if live => until(&path, newest)?,
            _ => length(&path)?,
        };
        if bytes > 0 {
            self.files.push(Part::of(folder, path, bytes));
        }
        if let Some(newest) = &self.checkpoint {
            let content = newest.note.clone().into_bytes();
            let part = Part::of(folder, folder.join("checkpoint"), content.len() as u64);
            self.files.push(Part {
                content: Some(content),
                ..part
            });
        }
        Ok(())
    }

    /// Epochs that ended, and what else is kept beside the segments.
    fn others(&mut self, folder: &Path) -> io::Result<()> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let passing = name.starts_with("spare-") || name.ends_with(".new") || name.ends_with(".tmp");
            let taken = name.ends_with(".log") || matches!(name, "checkpoints" | "checkpoint" | "lock");
            if entry.file_type()?.is_file() && !passing && !taken {
                paths.push(entry.path());
            }
        }
        for epoch in segment::epochs(folder)? {
            for entry in fs::read_dir(segment::epoch_folder(folder, epoch))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    paths.push(entry.path());
                }
            }
        }
        paths.sort_unstable();
        for path in paths {
            let bytes = fs::metadata(&path)?.len();
            self.files.push(Part::of(folder, path, bytes));
        }
        Ok(())
    }
}

/// The newest checkpoint. One that is there and cannot be read is not passed over.
fn newest(folder: &Path) -> io::Result<Option<Checkpoint>> {
    match fs::read_to_string(folder.join("checkpoint")) {
        Ok(note) if note.is_empty() => Ok(None),
        Ok(note) => Checkpoint::parse(&note).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Where the note of `newest` ends in the file of all checkpoints.
fn until(path: &Path, newest: &Checkpoint) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut bytes = 0;
    while let Some(note) = next_note(&mut reader)? {
        bytes += note.len() as u64 + 1;
        let one = Checkpoint::parse(&note).map_err(io::Error::other)?;
        if one.epoch == newest.epoch && one.size >= newest.size {
            break;
        }
    }
    Ok(bytes)
}

fn header(path: &Path) -> io::Result<Header> {
    Header::read(path)?
        .ok_or_else(|| io::Error::other(format!("the header of `{}` was changed", path.display())))
}

struct End {
    records: u64,
    bytes: u64,
}

/// Where the last segment of a copy ends: at the end of the batch with record `size - 1`, or where it has no more.
fn end_of(path: &Path, header: &Header, size: Option<u64>) -> io::Result<End> {
    let mut frames = Frames::open(path)?;
    let mut records = header.first();
    let mut ended = true;
    while size.is_none_or(|size| records < size || !ended) {
        match frames.next()? {
            Some((frame, _)) => {
                records += 1;
                ended = frame.last;
            }
            None => break,
        }
    }
    let short = size.is_some_and(|size| records < size);
    if short {
        let what = format!(
            "`{}` ends at record {records}, but more were signed",
            path.display()
        );
        return Err(io::Error::other(what));
    }
    // What a crash tore off is for recovery to judge, so it stays.
    let torn = match size {
        None => segment::rest(path, frames.offset)?.bytes,
        Some(_) => 0,
    };
    Ok(End {
        records,
        bytes: frames.offset + torn,
    })
}
