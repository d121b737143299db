//! What of a log belongs to a copy of it that is taken while the writer goes on: everything up to a signed checkpoint.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, next_note};
use super::segment::{self, Frames, Header};
use super::{dropped, packed};

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
    /// As long as the plan lives, none of them is dropped.
    _hold: Option<Arc<File>>,
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
    match headers(folder, true)?.pop() {
        Some(header) => Ok(end_of(&segment::path(folder, header.index), &header, None)?.records),
        None => Ok(0),
    }
}

/// Plans a copy of the log in `folder`: up to its newest checkpoint while a gateway writes to it (`live`), else all.
///
/// # Errors
/// When a file cannot be read, or is not what it should be.
pub fn plan(folder: &Path, live: bool) -> io::Result<Plan> {
    let hold = dropped::hold(folder).map(Arc::new);
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
        _hold: hold,
    };
    let headers = headers(folder, live)?;
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
            fs::metadata(packed::file_of(&path))?.len()
        } else {
            let end = end_of(&path, header, size)?;
            plan.records = end.records;
            end.bytes
        };
        let path = packed::file_of(&path);
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
            let taken = segment::is_segment(name)
                || matches!(
                    name,
                    "checkpoints" | "checkpoint" | "lock" | "probe" | dropped::HOLD
                );
            if entry.file_type()?.is_file() && !passing && !taken {
                paths.push(entry.path());
            }
        }
        for epoch in segment::epochs(folder)? {
            for entry in fs::read_dir(segment::epoch_folder(folder, epoch))? {
                let entry = entry?;
                // Links too: they lead to what was moved.
                if !entry.file_type()?.is_dir() {
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

fn headers(folder: &Path, live: bool) -> io::Result<Vec<Header>> {
    let indexes = segment::list(folder)?;
    let mut headers = Vec::with_capacity(indexes.len());
    for index in &indexes {
        let path = segment::path(folder, *index);
        // The newest may be in place before its header is; nothing in it was acknowledged then.
        if live && indexes.last() == Some(index) && index > &0 && Header::read(&path)?.is_none() {
            break;
        }
        headers.push(header(&path)?);
    }
    Ok(headers)
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
        match frames.step()? {
            Some((frame, _)) => {
                records += u64::from(!frame.tag);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{ORIGIN, config, entry, ids, key, open, public};
    use crate::audit::verify::{Report, verify};
    use crate::audit::{Audit, Restored};
    use crate::record::{Event, Record};

    /// Takes a copy into a data folder of its own; gives what it was found to be.
    fn taken(data: &Path, live: bool) -> (tempfile::TempDir, Report) {
        let to = tempfile::tempdir().unwrap();
        let log = to.path().join("log");
        fs::create_dir(&log).unwrap();
        let plan = plan(&data.join("log"), live).unwrap();
        for part in &plan.files {
            let mut content = match &part.content {
                Some(content) => content.clone(),
                None => fs::read(&part.path).unwrap(),
            };
            content.truncate(usize::try_from(part.bytes).unwrap());
            fs::write(log.join(&part.name), content).unwrap();
        }
        for name in ["log.key", "log.pub"] {
            fs::copy(data.join(name), to.path().join(name)).unwrap();
        }
        let report = verify(&log, &public(data), None, |_| {}).unwrap();
        assert_eq!(report.records, plan.records);
        assert_eq!(plan.checkpoint.map_or(0, |newest| newest.size), report.signed);
        (to, report)
    }

    fn records(data: &Path) -> Vec<Record> {
        let mut reader = crate::audit::read::Reader::open(&data.join("log"), 0).unwrap();
        std::iter::from_fn(|| reader.read().unwrap())
            .map(|found| found.record)
            .collect()
    }

    fn mark(data: &Path, epoch: u64) {
        let reason = "restored: a test".to_owned();
        Restored {
            epoch,
            reason,
            key: None,
        }
        .mark(&data.join("log"), &key(data), ORIGIN)
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_taken_at_any_moment_verifies_and_ends_at_a_checkpoint() {
        let data = tempfile::tempdir().unwrap();
        let audit = open(data.path()).audit;
        let ids = ids();
        let mut most = 0;
        for _ in 0..30 {
            let writes = (0..60).map(|_| audit.write(Event::Intent(Box::new(entry(&ids)))));
            let writes = futures_util::future::join_all(writes);
            let folder = data.path().to_owned();
            let copy = tokio::task::spawn_blocking(move || taken(&folder, true).1);
            let (_, report) = tokio::join!(writes, copy);
            let report = report.unwrap();
            assert_eq!((report.records, report.torn_bytes), (report.signed, 0));
            most = most.max(report.segments);
        }
        audit.close("test").await;
        let (_, report) = taken(data.path(), false);
        assert_eq!(report.records, position(&data.path().join("log")).unwrap());
        assert!(report.segments > 1 && most > 0, "{report:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restored_log_begins_the_epoch_that_the_mark_says_and_settles_what_was_open() {
        let data = tempfile::tempdir().unwrap();
        let audit = open(data.path()).audit;
        let ids = ids();
        let waiting = entry(&ids);
        let receipt = audit.intent(waiting.clone(), Vec::new()).await.unwrap();
        let size = audit.size();
        while audit.checkpoint().is_none_or(|newest| newest.size < size) {
            tokio::task::yield_now().await;
        }
        let (copied, _) = taken(data.path(), true);
        drop(receipt);
        audit.close("test").await;

        mark(copied.path(), 77);
        let opened = open(copied.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (77, 0));
        let open_now: Vec<_> = opened.recovery.open.iter().map(|entry| entry.request).collect();
        assert_eq!(open_now, [waiting.request]);
        opened.audit.close("test").await;
        let report = verify(&copied.path().join("log"), &public(data.path()), None, |_| {}).unwrap();
        assert_eq!((report.epoch, report.earlier.len()), (77, 1));
        assert_eq!(report.earlier[0].damage, None);
        let begun = records(copied.path());
        let begun = begun.iter().find_map(|record| match &record.event {
            Event::Epoch(begun) => Some(begun.clone()),
            _ => None,
        });
        let begun = begun.unwrap();
        assert_eq!(
            (begun.epoch, begun.reason.as_deref()),
            (77, Some("restored: a test"))
        );
        assert!(begun.signed > 0 && begun.root.is_some());

        // The mark says nothing any more, not even at the next start.
        let opened = open(copied.path());
        assert_eq!(opened.recovery.epoch, 77);
        opened.audit.close("test").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_whose_first_start_was_cut_short_is_no_damage() {
        let data = tempfile::tempdir().unwrap();
        open(data.path()).audit.close("test").await;
        mark(data.path(), 77);
        // The files were put aside, and then it ended.
        let log = data.path().join("log");
        let aside = segment::epoch_folder(&log, 1);
        fs::create_dir(&aside).unwrap();
        for part in plan(&log, false).unwrap().files {
            fs::rename(&part.path, aside.join(&part.name)).unwrap();
        }
        let opened = open(data.path());
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (77, 0));
        opened.audit.close("test").await;
        let report = verify(&log, &public(data.path()), None, |_| {}).unwrap();
        assert_eq!(report.earlier[0].damage, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_that_is_older_than_the_checkpoint_elsewhere_names_the_loss() {
        let data = tempfile::tempdir().unwrap();
        let outside = data.path().join("outside");
        let config = |data: &Path| crate::audit::Config {
            outside: Some(outside.clone()),
            ..config(data)
        };
        let audit = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids())
            .unwrap()
            .audit;
        audit.close("test").await;
        let (copied, _) = taken(data.path(), false);
        let audit = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids())
            .unwrap()
            .audit;
        audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
        audit.close("test").await;
        mark(copied.path(), 77);
        let opened = Audit::open(config(copied.path()), key(copied.path()), ORIGIN, ids()).unwrap();
        assert_eq!((opened.recovery.epoch, opened.recovery.damage.len()), (77, 1));
        assert!(
            opened.recovery.damage[0].contains("were signed"),
            "{:?}",
            opened.recovery.damage
        );
        opened.audit.close("test").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mark_that_cannot_be_read_keeps_the_log_closed() {
        let data = tempfile::tempdir().unwrap();
        open(data.path()).audit.close("test").await;
        fs::write(data.path().join("log.restored"), "{").unwrap();
        assert!(Audit::open(config(data.path()), key(data.path()), ORIGIN, ids()).is_err());
    }
}
