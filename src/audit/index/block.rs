//! A block of the index: the facts of neighbouring records in little space, as they lie in memory and in the file.
//!
//! Words stand once in a block, and rows name them by number. What a block can be found by from outside are its *keys*:
//! hashes of the words, persons and VOs in it. A key may lie, a row never does.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use uuid::Uuid;

use super::facts::{Facts, Origin};
use super::{Level, Query};
use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId};
use crate::record::{Hash, TraceId};

/// Records in a block.
pub(super) const ROWS: usize = 1_024;
/// Records of a request that come within this time of its beginning are found by the time that its id tells (UUID
/// version 7, RFC 9562 section 5.7); later ones by a key of their own.
const NEAR: Duration = Duration::from_secs(2);

/// Bytes of a row in the file.
const ROW: usize = 8 * 3 + 17 * 4 + 2 * WORDS + 1;
/// Words of a row.
const WORDS: usize = 6;

/// What a word or a key is. The first [`WORDS`] of them are the words of a row, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Event,
    Vo,
    Tool,
    Task,
    Resource,
    Serial,
    Person,
    VoId,
    Trace,
    Request,
}

/// The words of a row. Nearly every record has a resource of its own, so resources are no keys.
const FIELDS: [Field; WORDS] = [
    Field::Event,
    Field::Vo,
    Field::Tool,
    Field::Task,
    Field::Resource,
    Field::Serial,
];

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    time: Timestamp,
    segment: u64,
    offset: u64,
    request: Option<RequestId>,
    trace: Option<TraceId>,
    person: Option<PersonId>,
    vo_id: Option<VoId>,
    permit: Option<bool>,
    /// Numbers of its words, from 1; 0 where it has none.
    words: [u16; WORDS],
}

impl Row {
    /// Whether it is a record of `level`; `outcome` is the number of that word.
    ///
    /// SECURITY: what belongs to others is left out before anything is counted: where a page ends tells nothing of it.
    fn is_of(&self, level: Level, outcome: Option<u16>) -> bool {
        let word = |field: Field| self.words.get(field as usize).copied();
        // Every request that is let through has a task. An outcome without one is of a request that nobody knows: it may
        // be anybody's, and is nobody's.
        let strays = outcome.is_some() && word(Field::Event) == outcome && word(Field::Task) == Some(0);
        !strays && level.holds(self.vo_id)
    }

    /// Its ids, in the order in which they are written.
    fn ids(&self) -> [Option<[u8; 16]>; 4] {
        [
            self.request.map(|id| id.uuid().into_bytes()),
            self.trace.map(|trace| trace.0),
            self.person.map(|id| id.uuid().into_bytes()),
            self.vo_id.map(|id| id.uuid().into_bytes()),
        ]
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) time: Timestamp,
}

/// Neighbouring records of one epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub(super) epoch: u64,
    /// Position of its first record.
    pub(super) first: u64,
    rows: Vec<Row>,
    words: Vec<Box<str>>,
    /// Numbers of the words, while records are added.
    numbers: HashMap<Box<str>, u16>,
}

impl Block {
    /// An empty block.
    pub(super) fn new(epoch: u64, first: u64) -> Self {
        Self {
            epoch,
            first,
            rows: Vec::with_capacity(ROWS),
            ..Self::default()
        }
    }

    /// How many records it holds.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Position of the first record behind it.
    pub(super) fn end(&self) -> u64 {
        self.first + self.len()
    }

    /// Whether it takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS
    }

    /// Adds the record behind the last one.
    pub(super) fn push(&mut self, (segment, offset, time): (u64, u64, Timestamp), facts: &Facts) {
        let origin = &facts.origin;
        let words = [
            Some(facts.event),
            origin.vo.as_deref(),
            origin.tool.as_deref(),
            origin.task.as_deref(),
            origin.resource.as_deref(),
            facts.serial.as_deref(),
        ];
        let words = words.map(|word| word.map_or(0, |word| self.number(word)));
        self.rows.push(Row {
            time,
            segment,
            offset,
            request: facts.request,
            trace: facts.trace,
            person: origin.person,
            vo_id: origin.vo_id,
            permit: facts.permit,
            words,
        });
    }

    fn number(&mut self, word: &str) -> u16 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        self.words.push(word.into());
        // INVARIANT: `ROWS` times `WORDS` fits.
        let number = u16::try_from(self.words.len()).unwrap_or(u16::MAX);
        self.numbers.insert(word.into(), number);
        number
    }

    /// The oldest and the newest time in it.
    pub(super) fn times(&self) -> (Timestamp, Timestamp) {
        let times = || self.rows.iter().map(|row| row.time);
        let (oldest, newest) = (times().min(), times().max());
        (oldest.unwrap_or_default(), newest.unwrap_or_default())
    }

    /// Where its last record stands.
    pub(super) fn last(&self) -> Option<Place> {
        let at = self.rows.len().checked_sub(1)?;
        self.place(at)
    }

    fn place(&self, at: usize) -> Option<Place> {
        let row = self.rows.get(at)?;
        Some(Place {
            epoch: self.epoch,
            seq: self.first + at as u64,
            segment: row.segment,
            offset: row.offset,
            time: row.time,
        })
    }

    /// Where the records stand that `wanted` asks for, newest first.
    pub(super) fn find<'a>(&'a self, wanted: &'a Wanted<'a>) -> impl Iterator<Item = Place> + 'a {
        let texts = wanted.texts();
        let mut numbers = [None; WORDS];
        let mut possible = true;
        for (number, text) in numbers.iter_mut().zip(texts) {
            let Some(text) = text else { continue };
            *number = self.known(text);
            possible &= number.is_some();
        }
        let vo = wanted.query.vo.as_deref();
        let vo = vo.map(|vo| (self.known(vo), vo.parse::<VoId>().ok()));
        let outcome = self.known("outcome");
        let fits = move |at: usize, row: &Row| {
            let of_vo = |(name, id): &(Option<u16>, Option<VoId>)| {
                row.words
                    .get(Field::Vo as usize)
                    .is_some_and(|word| name.is_some_and(|name| name == *word))
                    || (id.is_some() && row.vo_id == *id)
            };
            possible
                && numbers
                    .iter()
                    .zip(&row.words)
                    .all(|(wanted, word)| wanted.is_none_or(|wanted| wanted == *word))
                && vo.as_ref().is_none_or(of_vo)
                && wanted.query.level.is_none_or(|level| row.is_of(level, outcome))
                && wanted.fits((self.epoch, self.first + at as u64), row)
        };
        let newest_first = self.rows.iter().enumerate().rev();
        newest_first.filter_map(move |(at, row)| fits(at, row).then(|| self.place(at)).flatten())
    }

    /// Adds the places of records that are wanted until there are `most`, in the order that the search asks for.
    pub(super) fn find_some(&self, wanted: &Wanted<'_>, most: usize, places: &mut Vec<Place>) {
        let room = most.saturating_sub(places.len());
        if wanted.query.onward.is_none() {
            places.extend(self.find(wanted).take(room));
            return;
        }
        let all: Vec<Place> = self.find(wanted).collect();
        places.extend(all.into_iter().rev().take(room));
    }

    fn known(&self, word: &str) -> Option<u16> {
        let at = self.words.iter().position(|known| &**known == word)?;
        u16::try_from(at + 1).ok()
    }

    /// The requests that belong to `trace`.
    pub(super) fn traced(&self, trace: TraceId) -> impl Iterator<Item = RequestId> + '_ {
        let rows = self.rows.iter().filter(move |row| row.trace == Some(trace));
        rows.filter_map(|row| row.request)
    }

    /// What the intent of `request` says of it.
    pub(super) fn origin(&self, request: RequestId) -> Option<Origin> {
        let intent = self.known("intent");
        let row = self.rows.iter().rev().find(|row| {
            row.request == Some(request) && row.words.first().copied() == intent && intent.is_some()
        })?;
        let word = |field: Field| {
            let number = usize::from(*row.words.get(field as usize)?);
            self.words.get(number.checked_sub(1)?).map(ToString::to_string)
        };
        Some(Origin {
            person: row.person,
            vo: word(Field::Vo),
            vo_id: row.vo_id,
            tool: word(Field::Tool),
            task: word(Field::Task),
            resource: word(Field::Resource),
        })
    }

    /// What it can be found by.
    pub(super) fn keys(&self) -> BTreeSet<i64> {
        let (oldest, newest) = self.times();
        let mut words = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for row in &self.rows {
            let fields = FIELDS.iter().zip(&row.words);
            words.extend(fields.filter(|(field, word)| **field != Field::Resource && **word > 0));
            ids.extend(row.person.map(|id| (Field::Person, *id.uuid().as_bytes())));
            ids.extend(row.vo_id.map(|id| (Field::VoId, *id.uuid().as_bytes())));
            ids.extend(row.trace.map(|trace| (Field::Trace, trace.0)));
            let far = row.request.filter(|request| !near(*request, oldest, newest));
            ids.extend(far.map(|id| (Field::Request, *id.uuid().as_bytes())));
        }
        let word = |(field, number): (&Field, &u16)| {
            let word = self.words.get(usize::from(*number).checked_sub(1)?)?;
            Some(key(*field, word.as_bytes()))
        };
        let words = words.into_iter().filter_map(word);
        words
            .chain(ids.into_iter().map(|(field, id)| key(field, &id)))
            .collect()
    }

    /// The bytes for the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let text: usize = self.words.iter().map(|word| word.len() + 4).sum();
        let mut bytes = Vec::with_capacity(4 + self.rows.len() * ROW + text);
        let count = |bytes: &mut Vec<u8>, count: usize| {
            bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        };
        count(&mut bytes, self.rows.len());
        for row in &self.rows {
            bytes.extend_from_slice(&row.time.0.to_le_bytes());
            bytes.extend_from_slice(&row.segment.to_le_bytes());
            bytes.extend_from_slice(&row.offset.to_le_bytes());
            for id in row.ids() {
                bytes.push(u8::from(id.is_some()));
                bytes.extend_from_slice(&id.unwrap_or_default());
            }
            for word in row.words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.push(row.permit.map_or(0, |permit| 1 + u8::from(permit)));
        }
        for word in &self.words {
            count(&mut bytes, word.len());
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes
    }

    /// Reads the bytes of a file; `None` when they are no block.
    pub(super) fn decode(epoch: u64, first: u64, bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let count = bytes.count()?;
        if count > ROWS {
            return None;
        }
        let rows = (0..count).map(|_| bytes.row()).collect::<Option<Vec<_>>>()?;
        let mut words = Vec::new();
        while !bytes.0.is_empty() {
            let length = bytes.count()?;
            let (word, rest) = bytes.0.split_at_checked(length)?;
            words.push(std::str::from_utf8(word).ok()?.into());
            bytes.0 = rest;
        }
        let known = |row: &Row| row.words.iter().all(|word| usize::from(*word) <= words.len());
        rows.iter().all(known).then(|| Self {
            epoch,
            first,
            rows,
            words,
            numbers: HashMap::new(),
        })
    }
}

/// What is left of a block's bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take()?)).ok()
    }

    fn id(&mut self) -> Option<Option<[u8; 16]>> {
        match (self.take()?, self.take::<16>()?) {
            ([1], id) => Some(Some(id)),
            ([0], id) if id == [0; 16] => Some(None),
            _ => None,
        }
    }

    fn row(&mut self) -> Option<Row> {
        Some(Row {
            time: Timestamp(i64::from_le_bytes(self.take()?)),
            segment: u64::from_le_bytes(self.take()?),
            offset: u64::from_le_bytes(self.take()?),
            request: self.id()?.map(|id| Uuid::from_bytes(id).into()),
            trace: self.id()?.map(TraceId),
            person: self.id()?.map(|id| Uuid::from_bytes(id).into()),
            vo_id: self.id()?.map(|id| Uuid::from_bytes(id).into()),
            words: {
                let mut words = [0; WORDS];
                for word in &mut words {
                    *word = u16::from_le_bytes(self.take()?);
                }
                words
            },
            permit: match self.take()? {
                [0] => None,
                [1] => Some(false),
                [2] => Some(true),
                _ => return None,
            },
        })
    }
}

/// A search, with the requests that it is narrowed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) query: &'a Query,
    pub(super) requests: Option<&'a BTreeSet<RequestId>>,
}

impl Wanted<'_> {
    /// The words that a row must have, in the order of its fields; the VO may be named in two ways.
    fn texts(&self) -> [Option<&str>; WORDS] {
        let query = self.query;
        [
            query.event.as_deref(),
            None,
            query.tool.as_deref(),
            query.task.as_deref(),
            query.resource.as_deref(),
            query.serial.as_deref(),
        ]
    }

    fn fits(&self, place: (u64, u64), row: &Row) -> bool {
        let query = self.query;
        let before = |before: super::Position| place < (before.epoch, before.seq);
        let onward = |onward: super::Position| place >= (onward.epoch, onward.seq);
        let one_of = |requests: &BTreeSet<RequestId>| row.request.is_some_and(|id| requests.contains(&id));
        query.person.is_none_or(|person| row.person == Some(person))
            && query.permit.is_none_or(|permit| row.permit == Some(permit))
            && query.from.is_none_or(|from| row.time >= from)
            && query.to.is_none_or(|to| row.time < to)
            && query.before.is_none_or(before)
            && query.onward.is_none_or(onward)
            && self.requests.is_none_or(one_of)
    }

    /// Keys of which a block must have one each.
    pub(super) fn keys(&self) -> Vec<Vec<i64>> {
        let query = self.query;
        let words = FIELDS.iter().zip(self.texts());
        let words = words.filter(|(field, _)| **field != Field::Resource);
        let words = words.filter_map(|(field, text)| Some(vec![key(*field, text?.as_bytes())]));
        let person = query
            .person
            .map(|id| vec![key(Field::Person, id.uuid().as_bytes())]);
        let vo = query.vo.as_ref().map(|vo| {
            let id = vo.parse::<VoId>().ok();
            let id = id.map(|id| key(Field::VoId, id.uuid().as_bytes()));
            id.into_iter().chain([key(Field::Vo, vo.as_bytes())]).collect()
        });
        words.chain(person).chain(vo).collect()
    }
}

/// The key of a block that holds records of `trace`.
pub(super) fn key_of_trace(trace: TraceId) -> i64 {
    key(Field::Trace, &trace.0)
}

/// The key of a block that holds records of `request` long after it began.
pub(super) fn key_of_request(request: RequestId) -> i64 {
    key(Field::Request, request.uuid().as_bytes())
}

/// Between which times the records of `request` lie that have no key of their own.
pub(super) fn span(request: RequestId) -> Option<(Timestamp, Timestamp)> {
    let (seconds, nanos) = request.uuid().get_timestamp()?.to_unix();
    let micros = seconds
        .checked_mul(1_000_000)?
        .checked_add(u64::from(nanos / 1_000))?;
    let began = Timestamp(i64::try_from(micros).ok()?);
    Some((began.minus(NEAR), began.plus(NEAR)))
}

/// Whether a block of these times is looked at for `request` without a key.
fn near(request: RequestId, oldest: Timestamp, newest: Timestamp) -> bool {
    span(request).is_some_and(|(from, to)| newest >= from && oldest <= to)
}

fn key(field: Field, text: &[u8]) -> i64 {
    let mut bytes = vec![field as u8];
    bytes.extend_from_slice(text);
    let [a, b, c, d, e, f, g, h, ..] = Hash::of(&bytes).0;
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A block's bytes are read in one way, and everything in it can be asked for.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(block) = Block::decode(1, 7, bytes) else {
        return;
    };
    assert!(block.encode() == bytes, "two spellings of one block");
    let all = Query::default();
    let wanted = Wanted {
        query: &all,
        requests: None,
    };
    assert!(block.find(&wanted).count() as u64 == block.len());
    let keys = block.keys();
    for row in &block.rows {
        let mine: Vec<_> = row
            .request
            .into_iter()
            .chain(row.trace.map(|trace| Uuid::from_bytes(trace.0).into()))
            .collect();
        for request in mine {
            let _ = (block.origin(request), span(request));
        }
        let person = Query {
            person: row.person,
            permit: row.permit,
            ..Query::default()
        };
        let wanted = Wanted {
            query: &person,
            requests: None,
        };
        assert!(block.find(&wanted).next().is_some());
        assert!(
            wanted
                .keys()
                .iter()
                .all(|one_of| one_of.iter().any(|key| keys.contains(key)))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id<T: From<Uuid>>(number: u8) -> Option<T> {
        (number > 0).then(|| Uuid::from_u128(u128::from(number)).into())
    }

    fn text(number: u8) -> Option<String> {
        (number > 0).then(|| format!("word {number}"))
    }

    prop_compose! {
        fn facts()(
            numbers in proptest::array::uniform9(0..4_u8), permit in any::<Option<bool>>(), intent in any::<bool>(),
        ) -> Facts {
            let [request, trace, person, vo, vo_id, tool, task, resource, serial] = numbers;
            Facts {
                event: if intent { "intent" } else { "login" },
                request: id(request),
                trace: (trace > 0).then_some(TraceId([trace; 16])),
                permit,
                serial: text(serial),
                origin: Origin {
                    person: id(person), vo: text(vo), vo_id: id(vo_id), tool: text(tool), task: text(task),
                    resource: text(resource),
                },
            }
        }
    }

    fn block(records: &[Facts]) -> Block {
        let mut block = Block::new(3, 100);
        for (at, facts) in records.iter().enumerate() {
            let at = at as u64;
            block.push((7, at * 10, Timestamp(at as i64 * 1_000_000)), facts);
        }
        block
    }

    fn is(facts: &Facts, query: &Query, requests: Option<&BTreeSet<RequestId>>) -> bool {
        let origin = &facts.origin;
        let same = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        same(&query.event, &Some(facts.event.to_owned()))
            && same(&query.tool, &origin.tool)
            && same(&query.task, &origin.task)
            && same(&query.resource, &origin.resource)
            && same(&query.serial, &facts.serial)
            && (query.person.is_none() || query.person == origin.person)
            && (query.permit.is_none() || query.permit == facts.permit)
            && query.vo.as_ref().is_none_or(|vo| {
                Some(vo) == origin.vo.as_ref() || origin.vo_id.is_some_and(|id| id.to_string() == *vo)
            })
            && requests.is_none_or(|requests| facts.request.is_some_and(|id| requests.contains(&id)))
    }

    proptest! {
        #[test]
        fn a_block_is_read_as_it_was_written_and_finds_exactly_what_is_asked_for(
            records in proptest::collection::vec(facts(), 0..40), asked in facts(), by_id in any::<bool>(),
            of_requests in any::<bool>(),
        ) {
            let written = block(&records);
            let read = Block::decode(3, 100, &written.encode()).unwrap();
            prop_assert_eq!(&read.rows, &written.rows);
            prop_assert_eq!(&read.words, &written.words);
            let query = Query {
                person: asked.origin.person,
                vo: if by_id { asked.origin.vo_id.map(|id| id.to_string()) } else { asked.origin.vo.clone() },
                tool: asked.origin.tool.clone(), task: asked.origin.task.clone(),
                resource: asked.origin.resource.clone(), serial: asked.serial.clone(), permit: asked.permit,
                ..Query::default()
            };
            let requests: BTreeSet<RequestId> = asked.request.into_iter().collect();
            let wanted = Wanted { query: &query, requests: of_requests.then_some(&requests) };
            let mut expected: Vec<u64> = (100..).zip(&records)
                .filter(|(_, facts)| is(facts, &query, wanted.requests)).map(|(seq, _)| seq).collect();
            expected.reverse();
            let found: Vec<u64> = read.find(&wanted).map(|place| place.seq).collect();
            prop_assert_eq!(&found, &expected);
            if !expected.is_empty() {
                let keys = written.keys();
                for one_of in wanted.keys() {
                    prop_assert!(one_of.iter().any(|key| keys.contains(key)));
                }
                // No id of these tells a time, so each request is far.
                prop_assert!(requests.iter().all(|id| !of_requests || keys.contains(&key_of_request(*id))));
            }
        }

        #[test]
        fn bytes_that_are_no_block_are_not_read_as_one(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(block) = Block::decode(0, 0, &bytes) {
                prop_assert_eq!(block.encode(), bytes);
            }
        }

        #[test]
        fn a_block_that_was_cut_or_changed_is_no_panic(
            records in proptest::collection::vec(facts(), 1..10), cut in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let mut bytes = block(&records).encode();
            let at = cut.index(bytes.len());
            prop_assert!(Block::decode(0, 0, bytes.get(..at).unwrap()).is_none_or(|block| block.encode() == bytes[..at]));
            bytes[at] ^= 1 << bit;
            let _ = Block::decode(0, 0, &bytes);
        }
    }

    #[test]
    fn a_request_is_near_its_beginning_and_has_a_key_later() {
        let clock = std::sync::Arc::new(crate::clock::HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = crate::id::Ids::new(clock, std::sync::Arc::new(crate::id::SystemSource::new()));
        let request: RequestId = ids.next().unwrap();
        let facts = Facts {
            event: "outcome",
            request: Some(request),
            ..Facts::default()
        };
        let keys = |second: i64| {
            let mut block = Block::new(0, 0);
            block.push((0, 0, Timestamp::from_secs(second)), &facts);
            block.keys().contains(&key_of_request(request))
        };
        assert!(!keys(1_700_000_000) && !keys(1_700_000_001) && !keys(1_699_999_999));
        assert!(keys(1_700_000_003) && keys(1_699_999_990));
    }
}
