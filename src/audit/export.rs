//! Records for other programs: as JSON lines, as a table (CSV), as OCSF events; and a log's files read whole.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::key::VerifyingKey;
use super::ongoing::Ongoing;
use super::read::{ReadError, Reader, newest_checkpoint};
use super::tree::Edge;
use super::{ocsf, render, segment};
use crate::record::{Entry, Event, Record};

/// The columns of the table.
pub const COLUMNS: [&str; 24] = [
    "time",
    "seq",
    "event",
    "request",
    "trace",
    "person",
    "user",
    "session",
    "source",
    "vo",
    "tool",
    "task",
    "kind",
    "method",
    "path",
    "resource",
    "decision",
    "reason",
    "policies",
    "serial",
    "status",
    "ending",
    "bytes_in",
    "bytes_out",
];

/// Writes records as rows of a table, or as OCSF events. They come oldest first, so that an outcome finds its intent; one
/// that comes without says only what stands in itself.
#[derive(Debug, Default)]
pub struct Export {
    intents: Ongoing<Box<Entry>>,
}

impl Export {
    /// The head of the table.
    #[must_use]
    pub fn head() -> String {
        row(COLUMNS.iter().map(|name| (*name).to_owned()))
    }

    /// A record as a row of the table, without a line end; `user` is the user name of who did it, where it is known.
    pub fn row(&mut self, record: &Record, user: Option<&str>) -> String {
        let row = cells(record, self.intent_of(record), user);
        self.keep(record);
        row
    }

    /// A record as an OCSF event, one line of JSON.
    pub fn ocsf(&mut self, record: &Record) -> String {
        let line = ocsf::event(record, self.intent_of(record)).to_string();
        self.keep(record);
        line
    }

    /// The intent that a record belongs to.
    fn intent_of(&self, record: &Record) -> Option<&Entry> {
        match record.event {
            Event::Outcome(_) | Event::Lease(_) | Event::Trace(_) => {
                self.intents.about(record.event.request()?).map(|entry| &**entry)
            }
            _ => None,
        }
    }

    fn keep(&mut self, record: &Record) {
        match &record.event {
            Event::Intent(entry) => self.intents.begin(entry.request, entry.clone()),
            // More may come of a lease or a trace.
            Event::Outcome(outcome) => drop(self.intents.end(outcome.request)),
            _ => {}
        }
    }
}

fn cells(record: &Record, intent: Option<&Entry>, user: Option<&str>) -> String {
    let event = &record.event;
    let entry = match event {
        Event::Intent(entry) => Some(&**entry),
        Event::Refused(refused) => Some(&refused.entry),
        _ => intent,
    };
    let mut cells: HashMap<&str, String> = HashMap::new();
    let mut set = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            cells.insert(name, value);
        }
    };
    set("time", Some(record.time.to_string()));
    set("seq", Some(record.seq.to_string()));
    set("event", Some(event.name().to_owned()));
    set("request", event.request().map(|id| id.to_string()));
    set("user", user.map(str::to_owned));
    if let Some(entry) = entry {
        let (place, subject) = (&entry.place, &entry.subject);
        set("trace", entry.trace.map(|trace| trace.to_string()));
        set("person", subject.person.map(|id| id.to_string()));
        set("session", subject.session.map(|id| id.to_string()));
        set("source", Some(entry.source.clone()));
        set("vo", place.vo.clone());
        set("tool", place.tool.clone());
        set("task", place.task.clone());
        set("kind", place.kind.clone());
        set("method", Some(place.method.clone()));
        set("path", place.path.clone());
        let resource = entry.resource.as_ref();
        set(
            "resource",
            resource.map(|resource| format!("{}/{}", resource.kind, resource.id)),
        );
        if let Some(decision) = &entry.decision {
            set(
                "decision",
                Some(if decision.permit { "permit" } else { "denial" }.into()),
            );
            set("reason", Some(decision.reason.clone()));
            set("policies", Some(decision.policies.join(" ")));
        }
        set(
            "serial",
            entry
                .delegation
                .as_ref()
                .and_then(|delegation| delegation.serial.clone()),
        );
    }
    match event {
        Event::Refused(refused) => set("status", Some(refused.status.to_string())),
        Event::Outcome(outcome) => {
            set("status", outcome.status.map(|status| status.to_string()));
            set("ending", Some(render::ending(outcome.ending).to_owned()));
            set("bytes_in", Some(outcome.bytes_in.to_string()));
            set("bytes_out", Some(outcome.bytes_out.to_string()));
            set("reason", outcome.error.clone());
        }
        Event::Login(login) => {
            set("person", login.person.map(|id| id.to_string()));
            set("session", login.session.map(|id| id.to_string()));
            set("source", Some(login.source.clone()));
            set("reason", Some(login.result.clone()));
        }
        Event::SessionEnded(ended) => {
            set("person", Some(ended.person.to_string()));
            set("session", ended.sessions.first().map(|id| id.to_string()));
            set("reason", Some(ended.reason.clone()));
        }
        Event::Change(event) => {
            let change = &event.change;
            set("person", change.person.map(|id| id.to_string()));
            set("vo", Some(change.vo.to_string()));
            set("task", Some(change.action.clone()));
            set("resource", Some(format!("{}/{}", change.kind, change.target)));
            set("reason", event.reason.clone());
        }
        Event::Mint(mint) => {
            set("person", Some(mint.person.to_string()));
            set("session", Some(mint.session.to_string()));
            set("vo", Some(mint.vo.to_string()));
            set("tool", Some(mint.tool.clone()));
            set("serial", Some(mint.serial.clone()));
        }
        Event::RevocationList(list) => {
            set("vo", Some(list.vo.to_string()));
            set("task", Some("crl".to_owned()));
            set("resource", Some(format!("revocation_list/{}", list.number)));
        }
        Event::Lease(lease) => {
            let permit = lease.decision.permit;
            set("decision", Some(if permit { "permit" } else { "denial" }.into()));
            set("reason", Some(lease.decision.reason.clone()));
            set("bytes_in", Some(lease.bytes_in.to_string()));
            set("bytes_out", Some(lease.bytes_out.to_string()));
        }
        Event::Strangers(strangers) => {
            set("source", Some(strangers.source.clone()));
            set(
                "reason",
                Some(format!("{} ({} times)", strangers.problem, strangers.count)),
            );
        }
        Event::Alert(alert) => {
            set("person", Some(alert.person.to_string()));
            set("vo", Some(alert.vo.to_string()));
            set("tool", alert.tool.clone());
            set("task", Some(alert.task.clone()));
            set("reason", Some(format!("{} denials", alert.count)));
        }
        Event::OwnershipConflict(conflict) => {
            let claimed = &conflict.claimed;
            set("person", conflict.owner.map(|id| id.to_string()));
            set("vo", Some(claimed.vo.to_string()));
            set("tool", Some(claimed.tool.clone()));
            set("resource", Some(format!("{}/{}", claimed.kind, claimed.id)));
        }
        Event::Stop { reason } => set("reason", Some(reason.clone())),
        Event::Unwritten { count, .. } => set("reason", Some(format!("{count} requests"))),
        _ => {}
    }
    row(COLUMNS.iter().map(|name| cells.remove(name).unwrap_or_default()))
}

/// A row of a table (RFC 4180), without a line end.
pub fn row(cells: impl Iterator<Item = String>) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    // Nothing fails in memory.
    let _ = writer.write_record(cells.map(|cell| harmless(&cell)));
    let bytes = writer.into_inner().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// A cell that no spreadsheet runs.
///
/// SECURITY: clients choose paths and names; a cell that begins with a sign of a formula is one to a spreadsheet. What
/// separates cells differs between countries: where it is a semicolon, one within a cell begins another.
fn harmless(cell: &str) -> String {
    let mut harmless = String::with_capacity(cell.len() + 1);
    if cell.starts_with(['\t', '\r', '\n']) {
        harmless.push('\'');
    }
    let mut begins = true;
    for sign in cell.chars() {
        if begins && is_formula(sign) {
            harmless.push('\'');
        }
        begins = match sign {
            ';' | '\t' | '\r' | '\n' | '|' => true,
            // What is quoted begins behind the quote.
            '"' | ' ' => begins,
            _ => false,
        };
        // A cell stays on its line.
        harmless.push(if matches!(sign, '\n' | '\r') { ' ' } else { sign });
    }
    harmless
}

fn is_formula(sign: char) -> bool {
    matches!(
        sign,
        '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}'
    )
}

/// All records of a log's folder, oldest first: those of epochs that ended as far as they can be read, then those of the
/// present one up to the newest checkpoint.
#[derive(Debug)]
pub struct Files {
    folders: VecDeque<PathBuf>,
    folder: PathBuf,
    reader: Option<Reader>,
    /// Up to where the present epoch is read.
    newest: Option<Checkpoint>,
    /// The tree over the present epoch, when it was read.
    edge: Option<Edge>,
}

impl Files {
    /// Opens the log in `folder`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let epochs = segment::epochs(folder).map_err(|source| ReadError::File {
            path: folder.to_owned(),
            source,
        })?;
        let mut folders: VecDeque<_> = epochs
            .into_iter()
            .map(|epoch| segment::epoch_folder(folder, epoch))
            .collect();
        folders.push_back(folder.to_owned());
        let files = Self {
            folders,
            folder: folder.to_owned(),
            reader: None,
            newest: newest_checkpoint(folder),
            edge: None,
        };
        // A folder without a log is said at once.
        Reader::to(folder, 0, files.total())?;
        Ok(files)
    }

    /// The newest checkpoint when the log was opened, if `key` signed it and the records that were read are those that it
    /// was signed over. Nobody else's checkpoint may stand beside what was counted.
    ///
    /// # Errors
    /// [`CheckpointError`]; `None` where there is no checkpoint.
    pub fn checked(&self, key: &VerifyingKey) -> Result<Option<&Checkpoint>, CheckpointError> {
        let Some(newest) = &self.newest else {
            return Ok(None);
        };
        // SECURITY: whoever can write a log's files must not get the log's key to sign a root of hers.
        newest.check(key)?;
        let read = self.edge.as_ref().map(|edge| (edge.size(), edge.root()));
        if read != Some((newest.size, newest.root)) {
            return Err(CheckpointError::Root(newest.size));
        }
        Ok(Some(newest))
    }

    /// Records of the present epoch, which are the most.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.size)
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(folder) = self.folders.pop_front() else {
                    return Ok(None);
                };
                self.reader = if folder == self.folder {
                    let mut reader = Reader::to(&folder, 0, self.total())?;
                    reader.keep_edge();
                    Some(reader)
                } else {
                    // Where nothing can be read, the next epoch tells what was lost.
                    Reader::to(&folder, 0, u64::MAX).ok()
                };
                continue;
            };
            let present = self.folders.is_empty();
            match reader.read() {
                Ok(Some(found)) => return Ok(Some(found.record)),
                Ok(None) => {
                    self.edge = reader.edge().cloned();
                    self.reader = None;
                }
                // The end of an epoch that ended, however it did.
                Err(ReadError::Damaged { .. }) if !present => self.reader = None,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_behind_what_separates_cells_elsewhere_is_made_harmless() {
        for (cell, shown) in [
            ("x;=WEBSERVICE(B1);", "x;'=WEBSERVICE(B1);"),
            ("x; \"@SUM(1)", "x; \"'@SUM(1)"),
            ("x\t+1", "x\t'+1"),
            ("x\n-1", "x '-1"),
            ("x\r\u{ff1d}1", "x '\u{ff1d}1"),
            ("=1;=2;;=3", "'=1;'=2;;'=3"),
            ("/a?b=1;c=-2", "/a?b=1;c=-2"),
        ] {
            assert_eq!(harmless(cell), shown);
        }
    }

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_made_harmless() {
        for cell in ["=1+1", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\u{ff1d}1"] {
            let shown = harmless(cell);
            assert!(shown.starts_with('\''), "{shown:?}");
        }
        assert_eq!(
            row(["a,b".into(), "c\"d".into(), "e".into()].into_iter()),
            "\"a,b\",\"c\"\"d\",e"
        );
        assert_eq!(
            row(["=HYPERLINK(\"x\")\nnext".into()].into_iter()),
            "\"'=HYPERLINK(\"\"x\"\") next\""
        );
        assert_eq!(row(["plain".into(), "2=3".into()].into_iter()), "plain,2=3");
    }

    fn read_all(log: &Path) -> (Files, usize) {
        let mut files = Files::open(log).unwrap();
        let mut count = 0;
        while files.read().unwrap().is_some() {
            count += 1;
        }
        (files, count)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_checkpoint_is_given_only_when_the_key_signed_it_over_the_records_that_were_read() {
        use crate::audit::testing::{ORIGIN, key, open};

        let data = tempfile::tempdir().unwrap();
        open(data.path()).audit.close("test").await;
        let log = data.path().join("log");
        let file = log.join("checkpoint");
        let older = std::fs::read_to_string(&file).unwrap();
        open(data.path()).audit.close("test").await;
        let true_one = newest_checkpoint(&log).unwrap();
        assert!(true_one.size > Checkpoint::parse(&older).unwrap().size);
        let public = key(data.path()).public(ORIGIN);
        let (files, count) = read_all(&log);
        assert_eq!(count as u64, true_one.size);
        assert_eq!(files.checked(&public).unwrap(), Some(&true_one));
        assert_eq!(
            Files::open(&log).unwrap().checked(&public).unwrap_err(),
            CheckpointError::Root(true_one.size),
            "nothing was read"
        );
        let root = data_encoding::BASE64.encode(&true_one.root.0);
        let forged = data_encoding::BASE64.encode(&[7; 32]);
        std::fs::write(&file, true_one.note.replace(&root, &forged)).unwrap();
        assert_eq!(
            read_all(&log).0.checked(&public).unwrap_err(),
            CheckpointError::Signature(true_one.size)
        );
        let other = crate::record::Hash([7; 32]);
        let of_others =
            Checkpoint::sign(&key(data.path()), ORIGIN, true_one.epoch, true_one.size, other).unwrap();
        std::fs::write(&file, &of_others.note).unwrap();
        assert_eq!(
            read_all(&log).0.checked(&public).unwrap_err(),
            CheckpointError::Root(true_one.size)
        );

        // An older one alone hides no records, and neither does a note that was not written whole.
        let all = log.join("checkpoints");
        let notes = std::fs::read_to_string(&all).unwrap();
        let half = &older[..older.len() - 9];
        for (alone, notes, size) in [
            (&older, notes.clone(), true_one.size),
            (&older, format!("{notes}{half}"), true_one.size),
            (&true_one.note, half.to_owned(), true_one.size),
            (&true_one.note, format!("{older}\n"), true_one.size),
        ] {
            std::fs::write(&file, alone).unwrap();
            std::fs::write(&all, &notes).unwrap();
            assert_eq!(newest_checkpoint(&log).unwrap().size, size, "{notes:?}");
            let (files, count) = read_all(&log);
            assert_eq!(count as u64, size);
            files.checked(&public).unwrap();
        }
    }
}
