//! Turning an [`Event`] into the bytes of a record.
//!
//! The event is serialised by the task that asks for the record; the writer only puts position, time and salt before it.

use std::cell::Cell;
use std::io::Write;

use serde_json::Value;

use super::index::Facts;
use super::segment::LONGEST;
use crate::clock::Timestamp;
use crate::id::{Random, RandomError, RequestId};
use crate::record::{Cut, Event, Hash, VERSION};

/// Bytes that may stand around the event: position, times, salt, mark of a cut.
const ENVELOPE: usize = 320;
/// Longest event, in bytes.
const LONGEST_EVENT: usize = LONGEST - ENVELOPE;

/// What a record means for the table of open requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing.
    None,
    /// An intent: the request is open until its outcome.
    Opens(RequestId),
    /// An outcome.
    Closes(RequestId),
}

impl Mark {
    /// What `event` means for the table of open requests.
    pub(crate) const fn of(event: &Event) -> Self {
        match event {
            Event::Intent(entry) if !entry.no_outcome => Self::Opens(entry.request),
            Event::Outcome(outcome) => Self::Closes(outcome.request),
            _ => Self::None,
        }
    }
}

/// A record that only lacks its place in the log.
#[derive(Debug)]
pub(crate) struct Draft {
    salt: [u8; 32],
    body: Vec<u8>,
    cut: Option<Cut>,
    /// What it means for the table of open requests.
    pub(crate) mark: Mark,
    /// Whether it is written even where only the reserved segment is left.
    pub(crate) vital: bool,
    /// Whether it is signed at once: somebody waits for that.
    pub(crate) signed: bool,
    /// What the record is found by, for the index.
    pub(super) facts: Option<Facts>,
}

impl Draft {
    /// Serialises `event`, cut where it would be longer than a record may be.
    ///
    /// # Errors
    /// [`RandomError`] when there is no salt.
    pub(crate) fn new(event: Event, random: &dyn Random) -> Result<Self, RandomError> {
        let mut bytes = [0; 16];
        random.fill_public(&mut bytes)?;
        let mut salt = [0; 32];
        data_encoding::HEXLOWER.encode_mut(&bytes, &mut salt);
        let (body, cut) = body(&event);
        Ok(Self {
            salt,
            mark: Mark::of(&event),
            vital: event.is_vital(),
            signed: event.is_signed_first(),
            facts: match &cut {
                None => Some(Facts::of(event)),
                Some(_) => serde_json::from_slice(&body).ok().map(Facts::of),
            },
            cut,
            body,
        })
    }

    /// Bytes that the record will have at most.
    pub(crate) const fn bound(&self) -> usize {
        self.body.len() + ENVELOPE
    }

    /// Bytes that the event takes.
    pub(crate) const fn size(&self) -> usize {
        self.body.len()
    }

    /// Appends the record to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, seq: u64, time: Timestamp, mono: i64) {
        // Writing to a `Vec` cannot fail.
        let _ = write!(
            bytes,
            "{{\"v\":{VERSION},\"seq\":{seq},\"time\":{},\"mono\":{mono},\"salt\":\"",
            time.0
        );
        bytes.extend_from_slice(&self.salt);
        if let Some(cut) = &self.cut {
            let _ = write!(
                bytes,
                "\",\"cut\":{{\"bytes\":{},\"hash\":\"{}\"}},\"event\":",
                cut.bytes, cut.hash
            );
        } else {
            bytes.extend_from_slice(b"\",\"event\":");
        }
        bytes.extend_from_slice(&self.body);
        bytes.push(b'}');
    }
}

thread_local! {
    /// Where events are serialised, before it is known how long they are.
    static SHEET: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn body(event: &Event) -> (Vec<u8>, Option<Cut>) {
    let mut whole = SHEET.take();
    whole.clear();
    // Every type of `record.rs` has text keys only, which is all that could fail here.
    if serde_json::to_writer(&mut whole, event).is_err() {
        whole.clear();
    }
    if whole.len() <= LONGEST_EVENT {
        let body = whole.as_slice().into();
        SHEET.set(whole);
        return (body, None);
    }
    let cut = Cut {
        bytes: whole.len() as u64,
        hash: Hash::of(&whole),
    };
    let value = serde_json::from_slice(&whole).unwrap_or_default();
    // `before` and `after` of a change are free JSON at depth 3; nothing else in a record goes as deep as 6.
    let free = if matches!(event, Event::Change(_)) { 3 } else { 6 };
    (shortened(value, free), Some(cut))
}

/// `value` with its strings, lists and maps cut until it fits.
fn shortened(value: Value, free: usize) -> Vec<u8> {
    let mut text = 8192;
    loop {
        let last = text <= MIN_TEXT;
        let mut cut = value.clone();
        let limits = Limits {
            text,
            items: (text / 32).max(2),
            free: if last { free } else { free + 3 },
        };
        shorten(&mut cut, &limits, 0);
        let bytes = serde_json::to_vec(&cut).unwrap_or_default();
        if bytes.len() <= LONGEST_EVENT || last {
            return bytes;
        }
        text /= 2;
    }
}

/// Hashes (64), ids (36) and times are never cut.
const MIN_TEXT: usize = 128;
/// No type of `record.rs` has more fields; only maps with free keys do.
const MAX_FIELDS: usize = 24;

struct Limits {
    /// Longest string as it stands in JSON, in bytes.
    text: usize,
    /// Longest list; at least 2, so that a pair stays one.
    items: usize,
    /// Depth from which objects are left out; only free JSON lies so deep.
    free: usize,
}

fn shorten(value: &mut Value, limits: &Limits, depth: usize) {
    match value {
        Value::String(string) => {
            if let Some(end) = end_within(string, limits.text) {
                string.truncate(end);
                string.push('…');
            }
        }
        Value::Array(list) => {
            list.truncate(limits.items);
            list.iter_mut().for_each(|item| shorten(item, limits, depth + 1));
        }
        Value::Object(_) if depth >= limits.free => *value = Value::Null,
        Value::Object(map) => {
            let fields = MAX_FIELDS.max(limits.items);
            let mut seen = 0;
            map.retain(|key, _| {
                seen += 1;
                seen <= fields && end_within(key, MIN_TEXT).is_none()
            });
            map.values_mut()
                .for_each(|value| shorten(value, limits, depth + 1));
        }
        _ => {}
    }
}

/// Where to cut `text` so that it takes at most `limit` bytes of JSON; `None` when it fits.
fn end_within(text: &str, limit: usize) -> Option<usize> {
    let mut length = 0;
    for (at, c) in text.char_indices() {
        length += match c {
            '"' | '\\' => 2,
            '\0'..'\x20' => 6,
            _ => c.len_utf8(),
        };
        if length > limit {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{entry, ids, outcome};
    use crate::record::{Change, ChangeEvent, CreatedEntry, Record};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn written(event: &Event) -> Record {
        let draft = Draft::new(event.clone(), &**ids().random()).unwrap();
        let mut bytes = Vec::new();
        draft.write(&mut bytes, u64::MAX, Timestamp(i64::MIN), i64::MIN);
        assert!(
            bytes.len() <= LONGEST && bytes.len() <= draft.bound(),
            "{} bytes",
            bytes.len()
        );
        assert_eq!(super::super::segment::position(&bytes), Some(u64::MAX));
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
    }

    #[test]
    fn a_record_is_the_one_that_serde_would_write() {
        let event = Event::Intent(Box::new(entry(&ids())));
        let record = written(&event);
        assert_eq!(
            (record.v, record.seq, &record.event, &record.cut),
            (VERSION, u64::MAX, &event, &None)
        );
        assert_eq!(record.salt.len(), 32);
        let draft = Draft::new(event, &**ids().random()).unwrap();
        let mut bytes = Vec::new();
        draft.write(&mut bytes, 5, Timestamp(6), 7);
        let record: Record = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_vec(&record).unwrap(), bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn an_event_of_any_length_becomes_a_record_that_can_be_read(
            text in "\\PC{0,4}[\\x00-\\x1f\"a]{1,3}", times in 1..20_000_usize, entries in 0..3000_usize,
        ) {
            let ids = ids();
            let long = text.repeat(times);
            let many: BTreeMap<String, String> = (0..entries).map(|n| (format!("{n}{text}"), text.repeat(20))).collect();
            let mut intent = entry(&ids);
            intent.place.path = Some(long.clone());
            intent.parameters = many.clone();
            intent.parameters.insert(long.clone(), long.clone());
            let mut ended = outcome(intent.request);
            let made = CreatedEntry {
                vo: ids.next().unwrap(), tool: long.clone(), kind: "job".into(), id: long.clone(), owner: None,
                parent: Some(("study".into(), long.clone())), attributes: many.clone(),
            };
            ended.created = vec![made; 3];
            let free = serde_json::json!({ "a": many, "b": { "c": { "d": [many, many] } }, "e": [long, long] });
            let change = Change {
                action: "role.create".into(), kind: "role".into(), target: long, vo: ids.next().unwrap(), person: None,
                before: Some(free.clone()), after: Some(free),
            };
            for event in [
                Event::Intent(Box::new(intent)), Event::Outcome(Box::new(ended)),
                Event::Change(Box::new(ChangeEvent::of(ids.next().unwrap(), change))),
            ] {
                let whole = serde_json::to_vec(&event).unwrap();
                let record = written(&event);
                prop_assert_eq!(record.event.request(), event.request());
                match record.cut {
                    None => prop_assert_eq!(record.event, event),
                    Some(cut) => prop_assert_eq!(cut, Cut { bytes: whole.len() as u64, hash: Hash::of(&whole) }),
                }
            }
        }
    }
}
