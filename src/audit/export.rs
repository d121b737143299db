//! Records for other programs: as JSON lines, as a table (CSV), as OCSF events; and a log's files read whole.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::read::{ReadError, Reader};
use super::{ocsf, render, segment};
use crate::id::RequestId;
use crate::record::{Entry, Event, Record};

/// Open requests of which the intent is kept, so that an outcome can say who did it.
const OPEN: usize = 16_384;

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
    intents: HashMap<RequestId, Box<Entry>>,
    order: VecDeque<RequestId>,
}

impl Export {
    /// The head of the table.
    #[must_use]
    pub fn head() -> String {
        row(COLUMNS.iter().map(|name| (*name).to_owned()))
    }

    /// A record as a row of the table, without a line end; `user` is the user name of who did it, where it is known.
    pub fn row(&mut self, record: &Record, user: Option<&str>) -> String {
        let intent = self.intent_of(record);
        let row = cells(record, intent.as_deref(), user);
        self.keep(record, intent);
        row
    }

    /// A record as an OCSF event, one line of JSON.
    pub fn ocsf(&mut self, record: &Record) -> String {
        let intent = self.intent_of(record);
        let line = ocsf::event(record, intent.as_deref()).to_string();
        self.keep(record, intent);
        line
    }

    fn intent_of(&mut self, record: &Record) -> Option<Box<Entry>> {
        match record.event {
            Event::Outcome(_) | Event::Lease(_) | Event::Trace(_) => {
                self.intents.remove(&record.event.request()?)
            }
            _ => None,
        }
    }

    fn keep(&mut self, record: &Record, intent: Option<Box<Entry>>) {
        let entry = match (&record.event, intent) {
            (Event::Intent(entry), _) => {
                self.order.push_back(entry.request);
                entry.clone()
            }
            // More may come of it.
            (Event::Lease(_) | Event::Trace(_), Some(entry)) => entry,
            _ => return,
        };
        self.intents.insert(entry.request, entry);
        while self.order.len() > OPEN {
            if let Some(oldest) = self.order.pop_front() {
                self.intents.remove(&oldest);
            }
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
        }
        Event::Mint(mint) => {
            set("person", Some(mint.person.to_string()));
            set("session", Some(mint.session.to_string()));
            set("vo", Some(mint.vo.to_string()));
            set("tool", Some(mint.tool.clone()));
            set("serial", Some(mint.serial.clone()));
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
/// SECURITY: clients choose paths and names; a cell that begins with one of these is a formula to a spreadsheet.
fn harmless(cell: &str) -> String {
    // A cell stays on its line.
    let plain = cell.replace(['\n', '\r'], " ");
    match cell.chars().next() {
        Some(
            '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}',
        ) => {
            format!("'{plain}")
        }
        _ => plain,
    }
}

/// All records of a log's folder, oldest first: those of epochs that ended as far as they can be read, then those of the
/// present one up to the newest checkpoint.
#[derive(Debug)]
pub struct Files {
    folders: VecDeque<PathBuf>,
    folder: PathBuf,
    reader: Option<Reader>,
    /// Records of the present epoch.
    total: u64,
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
        Ok(Self {
            folders,
            folder: folder.to_owned(),
            reader: None,
            total: Reader::open(folder, 0)?.limit(),
        })
    }

    /// Records of the present epoch, which are the most.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
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
                    Some(Reader::open(&folder, 0)?)
                } else {
                    // Where nothing can be read, the next epoch tells what was lost.
                    Reader::to(&folder, 0, u64::MAX).ok()
                };
                continue;
            };
            let present = self.folders.is_empty();
            match reader.read() {
                Ok(Some(found)) => return Ok(Some(found.record)),
                Ok(None) => self.reader = None,
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

    #[test]
    fn only_so_many_intents_are_kept() {
        let ids = crate::audit::testing::ids();
        let mut export = Export::default();
        let mut first = None;
        for _ in 0..=OPEN {
            let entry = crate::audit::testing::entry(&ids);
            first.get_or_insert(entry.request);
            export.keep(&record(Event::Intent(Box::new(entry))), None);
        }
        assert_eq!((export.intents.len(), export.order.len()), (OPEN, OPEN));
        assert!(!export.intents.contains_key(&first.unwrap()));
    }

    fn record(event: Event) -> Record {
        Record {
            v: 1,
            seq: 0,
            time: crate::clock::Timestamp(0),
            mono: 0,
            salt: String::new(),
            cut: None,
            event,
        }
    }
}
