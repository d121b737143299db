//! Reports over the log: who used what, and whether every request is accounted for.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use signed_note::{Note, Signature, Verifier as _, VerifierList};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::key::{LogKey, VerifyingKey};
use super::ongoing::Ongoing;
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Ending, Entry, Event, Record};

/// First line of a signed report. A checkpoint has the log's name there, so neither is taken for the other.
const FIRST: &str = "countersign completeness report";

/// What the rows of [`Usage`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Tools, as `VO/tool`.
    Tool,
    /// People, by their ids.
    Person,
    /// What was acted on, as `VO/tool type/id`.
    Dataset,
}

/// What was done. Every number counts records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Permitted requests (`intent`).
    pub requests: u64,
    /// Refused requests (`refused`).
    pub refused: u64,
    /// Logins that succeeded (`login` with result `ok`).
    pub logins: u64,
    /// Permitted requests of kind `download`.
    pub downloads: u64,
    /// Permitted requests of kind `update` or `delete`.
    pub updates_deletes: u64,
    /// Permitted requests of kind `transfer`: data or ownership went to somebody else.
    pub transfers: u64,
    /// Bytes that went to tools, by the outcomes.
    pub bytes_in: u64,
    /// Bytes that came from tools, by the outcomes.
    pub bytes_out: u64,
}

impl Used {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.logins += other.logins;
        self.downloads += other.downloads;
        self.updates_deletes += other.updates_deletes;
        self.transfers += other.transfers;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// Usage per tool, person or dataset. Records come oldest first.
#[derive(Debug)]
pub struct Usage {
    by: By,
    rows: BTreeMap<String, Used>,
    /// Rows of open requests, so that their bytes are counted where they belong.
    open: Ongoing<String>,
}

impl Usage {
    /// An empty report.
    #[must_use]
    pub fn new(by: By) -> Self {
        Self {
            by,
            rows: BTreeMap::new(),
            open: Ongoing::default(),
        }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Intent(entry) => self.intent(entry),
            Event::Refused(refused) => {
                let refused_one = Used {
                    refused: 1,
                    ..Used::default()
                };
                self.count(self.key(&refused.entry), &refused_one);
            }
            Event::Login(login) if login.result == "ok" => {
                let key = match self.by {
                    By::Person => login.person.map_or_else(none, |person| person.to_string()),
                    By::Tool => "-/countersign".to_owned(),
                    By::Dataset => none(),
                };
                let login = Used {
                    logins: 1,
                    ..Used::default()
                };
                self.count(key, &login);
            }
            Event::Outcome(outcome) => {
                let key = self.open.end(outcome.request).unwrap_or_else(none);
                let bytes = Used {
                    bytes_in: outcome.bytes_in,
                    bytes_out: outcome.bytes_out,
                    ..Used::default()
                };
                if bytes != Used::default() {
                    self.count(key, &bytes);
                }
            }
            _ => {}
        }
    }

    /// The rows by name; `-` is what names none.
    #[must_use]
    pub fn rows(&self) -> &BTreeMap<String, Used> {
        &self.rows
    }

    /// All rows together.
    #[must_use]
    pub fn total(&self) -> Used {
        let mut total = Used::default();
        self.rows.values().for_each(|row| total.add(row));
        total
    }

    fn intent(&mut self, entry: &Entry) {
        let kind = entry.place.kind.as_deref();
        let is = |kinds: &[&str]| u64::from(kind.is_some_and(|kind| kinds.contains(&kind)));
        let used = Used {
            requests: 1,
            downloads: is(&["download"]),
            updates_deletes: is(&["update", "delete"]),
            transfers: is(&["transfer"]),
            ..Used::default()
        };
        let key = self.key(entry);
        self.open.begin(entry.request, key.clone());
        self.count(key, &used);
    }

    fn count(&mut self, key: String, used: &Used) {
        self.rows.entry(key).or_default().add(used);
    }

    fn key(&self, entry: &Entry) -> String {
        let place = &entry.place;
        let at = || {
            let vo = place.vo.as_deref().unwrap_or("-");
            format!("{vo}/{}", place.tool.as_deref().unwrap_or("-"))
        };
        match (self.by, &entry.resource) {
            (By::Tool, _) => at(),
            (By::Person, _) => entry
                .subject
                .person
                .map_or_else(none, |person| person.to_string()),
            (By::Dataset, Some(resource)) => format!("{} {}/{}", at(), resource.kind, resource.id),
            (By::Dataset, None) => none(),
        }
    }
}

fn none() -> String {
    "-".to_owned()
}

/// What happened on one day (UTC). An intent and its ending count on the day of the intent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Day {
    /// `YYYY-MM-DD`.
    pub day: String,
    /// Requests of which any record says that they were let through. One more than there are intents is one without an
    /// intent, or with a second outcome.
    pub accepted: u64,
    /// Requests with an intent.
    pub intents: u64,
    /// Of these: with an outcome that says how it ended.
    pub outcomes: u64,
    /// Of these: found open after a crash; nobody knows.
    pub unknown: u64,
    /// Of these: such as need no outcome (`audit = "intent"` in the manifest), without one.
    pub assets: u64,
    /// Of these: not ended yet when the report was made.
    pub open: u64,
    /// Positions of the log that are missing.
    pub gaps: u64,
    /// Recoveries that found something missing.
    pub damage: u64,
    /// Refused requests, those of strangers included.
    pub refused: u64,
    /// Requests refused because the log could not take their records.
    pub unwritten: u64,
}

impl Day {
    /// Whether every request that was let through has its intent, every intent its ending, and no record is missing.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.accepted == self.intents
            && self.intents == self.outcomes + self.unknown + self.assets + self.open
            && self.gaps == 0
            && self.damage == 0
    }
}

/// Whether every request is accounted for, by day. Records come oldest first, and are all of a log, or all of a VO.
#[derive(Debug, Default)]
pub struct Completeness {
    days: BTreeMap<i64, Day>,
    /// Requests without an outcome: the day of the intent, and whether it needs none.
    open: HashMap<RequestId, (i64, bool)>,
    /// Requests that are not open, though a record says so; counted once each.
    strays: HashSet<RequestId>,
    next: Option<u64>,
    whole: bool,
    /// The first record that is kept, where older ones were dropped.
    first: Option<u64>,
    /// The time of that record.
    began: Option<Timestamp>,
}

impl Completeness {
    /// An empty report; `whole` when all records of the log are counted, so that missing positions show.
    #[must_use]
    pub fn new(whole: bool) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }

    /// Begins at the record `first`: those before it were dropped. What is left of requests that began before is not counted.
    #[must_use]
    pub fn beginning(self, first: u64) -> Self {
        Self {
            first: Some(first),
            ..self
        }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        let at = record.time.secs().div_euclid(86_400);
        let gap = match self.next {
            // Each epoch begins anew at 0.
            Some(next) if self.whole && record.seq != 0 => record.seq.abs_diff(next),
            None if self.whole => record.seq.abs_diff(self.first.unwrap_or(0)),
            _ => 0,
        };
        self.next = Some(record.seq + 1);
        if self.first.is_some() {
            self.began.get_or_insert(record.time);
        }
        let day = self.day(at);
        day.gaps += gap;
        match &record.event {
            Event::Intent(entry) => {
                day.accepted += 1;
                day.intents += 1;
                let asset = entry.no_outcome;
                self.open.insert(entry.request, (at, asset));
            }
            Event::Outcome(outcome) => self.outcome(at, outcome.request, outcome.ending),
            Event::Mint(mint) => self.of_open(at, mint.request),
            Event::RevocationList(list) => self.of_open(at, list.request),
            Event::Lease(lease) => self.of_open(at, lease.request),
            Event::Refused(_) => day.refused += 1,
            Event::Strangers(strangers) => day.refused += strangers.count,
            Event::Unwritten { count, .. } => day.unwritten += count,
            Event::Recovery(recovery) => day.damage += u64::from(!recovery.damage.is_empty()),
            _ => {}
        }
    }

    /// The days in order.
    #[must_use]
    pub fn days(mut self) -> Vec<Day> {
        for (at, asset) in self.open.into_values() {
            if let Some(day) = self.days.get_mut(&at) {
                *(if asset { &mut day.assets } else { &mut day.open }) += 1;
            }
        }
        self.days.into_values().collect()
    }

    fn day(&mut self, at: i64) -> &mut Day {
        self.days.entry(at).or_insert_with(|| Day {
            day: Timestamp::from_secs(at * 86_400)
                .to_string()
                .split('T')
                .next()
                .unwrap_or_default()
                .to_owned(),
            ..Day::default()
        })
    }

    fn outcome(&mut self, at: i64, request: RequestId, ending: Ending) {
        match self.open.remove(&request) {
            Some((at, _)) => {
                let day = self.day(at);
                *(if ending == Ending::Unknown {
                    &mut day.unknown
                } else {
                    &mut day.outcomes
                }) += 1;
            }
            None => self.stray(at, request),
        }
    }

    /// A record that only a request with an intent can have.
    fn of_open(&mut self, at: i64, request: RequestId) {
        if !self.open.contains_key(&request) {
            self.stray(at, request);
        }
    }

    fn stray(&mut self, at: i64, request: RequestId) {
        let before = self
            .began
            .is_some_and(|began| began_at(request).is_some_and(|at| at < began));
        if !before && self.strays.insert(request) {
            self.day(at).accepted += 1;
        }
    }
}

/// When a request began, by its id.
fn began_at(request: RequestId) -> Option<Timestamp> {
    let (seconds, nanos) = request.uuid().get_timestamp()?.to_unix();
    let micros = seconds
        .checked_mul(1_000_000)?
        .checked_add(u64::from(nanos / 1_000))?;
    Some(Timestamp(i64::try_from(micros).ok()?))
}

/// `report` (lines, each ended) as a note signed with the log's key, over the log as its `checkpoint` has it.
///
/// # Errors
/// [`CheckpointError`] when it cannot stand in a note.
pub fn sign(
    key: &LogKey,
    name: &str,
    checkpoint: &Checkpoint,
    report: &str,
) -> Result<String, CheckpointError> {
    let root = data_encoding::BASE64.encode(&checkpoint.root.0);
    // SECURITY: the first line keeps it apart from all else that this key signs.
    let text = format!(
        "{FIRST}\n{}\n{}\n{root}\n{report}",
        checkpoint.origin, checkpoint.size
    );
    let id = key.public(name).key_id();
    let signature = Signature::new(name.to_owned(), id, key.sign(text.as_bytes()))
        .map_err(|_| CheckpointError::Origin(name.to_owned()))?;
    let note = Note::new(text.as_bytes(), &[signature]).map_err(|_| CheckpointError::Malformed)?;
    String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::Malformed)
}

/// The text of a signed report, when `key` signed it.
///
/// # Errors
/// [`CheckpointError`].
pub fn check<'a>(note: &'a str, key: &VerifyingKey) -> Result<&'a str, CheckpointError> {
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
    parsed
        .verify(&VerifierList::new(vec![Box::new(key.clone())]))
        .map_err(|_| CheckpointError::Signature(0))?;
    let text = note.rsplit_once("\n\n").map(|(text, _)| text);
    text.and_then(|text| text.strip_prefix(FIRST))
        .and_then(|rest| rest.strip_prefix('\n'))
        .ok_or(CheckpointError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{ORIGIN, entry, ids, outcome};
    use crate::id::SystemSource;
    use crate::record::{Hash, Recovery};

    fn record(seq: u64, day: i64, event: Event) -> Record {
        Record {
            v: 1,
            seq,
            time: Timestamp::from_secs(day * 86_400 + 5),
            mono: 0,
            salt: String::new(),
            cut: None,
            event,
        }
    }

    fn days(events: Vec<(u64, i64, Event)>) -> Vec<Day> {
        let mut report = Completeness::new(true);
        for (seq, day, event) in events {
            report.add(&record(seq, day, event));
        }
        report.days()
    }

    #[test]
    fn an_ending_counts_on_the_day_of_its_intent_and_every_request_is_accounted_for() {
        let ids = ids();
        let [ended, unknown, open, mut asset] = [entry(&ids), entry(&ids), entry(&ids), entry(&ids)];
        asset.no_outcome = true;
        let intent = |entry: &Entry| Event::Intent(Box::new(entry.clone()));
        let outcome_of = |entry: &Entry, ending| {
            let ended = crate::record::Outcome {
                ending,
                ..outcome(entry.request)
            };
            Event::Outcome(Box::new(ended))
        };
        let found = days(vec![
            (0, 1, intent(&ended)),
            (1, 1, intent(&unknown)),
            (2, 1, intent(&asset)),
            (3, 2, intent(&open)),
            (4, 2, outcome_of(&ended, Ending::Answered)),
            (5, 2, outcome_of(&unknown, Ending::Unknown)),
        ]);
        assert!(found.iter().all(Day::is_complete), "{found:?}");
        let first = Day {
            day: "1970-01-02".into(),
            accepted: 3,
            intents: 3,
            outcomes: 1,
            unknown: 1,
            assets: 1,
            ..Day::default()
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].intents, found[1].open), (1, 1));
    }

    #[test]
    fn what_is_missing_shows() {
        let ids = ids();
        let entry = entry(&ids);
        let intent = || Event::Intent(Box::new(entry.clone()));
        let ended = || Event::Outcome(Box::new(outcome(entry.request)));
        let complete = |events| days(events).iter().all(Day::is_complete);
        assert!(complete(vec![(0, 1, intent()), (1, 1, ended())]));
        assert!(!complete(vec![(0, 1, intent()), (2, 1, ended())]), "a gap");
        assert!(
            !complete(vec![(1, 1, intent()), (2, 1, ended())]),
            "the beginning"
        );
        assert!(!complete(vec![(0, 1, ended())]), "no intent");
        assert!(
            !complete(vec![(0, 1, intent()), (1, 1, ended()), (2, 1, ended())]),
            "ended twice"
        );
        let lost = Event::Recovery(Recovery {
            damage: vec!["a hole".into()],
            ..Recovery::default()
        });
        assert!(!complete(vec![(0, 1, lost)]), "damage");
        // An epoch begins anew at 0.
        assert!(complete(vec![
            (0, 1, intent()),
            (1, 1, ended()),
            (0, 2, Event::Stop { reason: "x".into() })
        ]));
    }

    #[test]
    fn what_was_dropped_is_no_gap_and_an_ending_without_its_dropped_intent_is_no_stray() {
        let ids = ids();
        let before = entry(&ids);
        let time = Timestamp(began_at(before.request).unwrap().0 + 5_000);
        let count = |ended: RequestId, first| {
            let mut report = Completeness::new(true).beginning(first);
            let stop = Event::Stop { reason: "x".into() };
            for (seq, event) in [(7, stop), (8, Event::Outcome(Box::new(outcome(ended))))] {
                report.add(&Record {
                    time,
                    ..record(seq, 1, event)
                });
            }
            report.days()
        };
        assert!(count(before.request, 7).iter().all(Day::is_complete));
        assert!(!count(before.request, 6).iter().all(Day::is_complete), "a gap");
        let mut later = *before.request.uuid().as_bytes();
        later[0] += 1;
        let later = uuid::Uuid::from_bytes(later).into();
        assert!(
            !count(later, 7).iter().all(Day::is_complete),
            "its intent is not there"
        );
    }

    #[test]
    fn a_signed_report_is_checked_by_the_logs_key_and_is_no_checkpoint() {
        let key = LogKey::generate(&SystemSource::new()).unwrap();
        let checkpoint = Checkpoint::sign(&key, ORIGIN, 1, 9, Hash::of(b"root")).unwrap();
        let note = sign(&key, ORIGIN, &checkpoint, "1970-01-02 intents=3\n").unwrap();
        let public = key.public(ORIGIN);
        let text = check(&note, &public).unwrap();
        assert!(
            text.starts_with(&format!("{ORIGIN}/1\n9\n")) && text.ends_with("intents=3"),
            "{text}"
        );
        assert!(check(&note.replace("intents=3", "intents=4"), &public).is_err());
        assert!(
            check(&checkpoint.note, &public).is_err(),
            "a checkpoint is no report"
        );
        assert!(Checkpoint::parse(&note).is_err(), "a report is no checkpoint");
        let other = LogKey::generate(&SystemSource::new()).unwrap();
        assert!(check(&note, &other.public(ORIGIN)).is_err());
    }
}
