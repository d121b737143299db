//! The index over real logs: what is in memory, what is in the file, what is read from the segments.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Query;
use super::block::ROWS;
use crate::audit::testing::{ORIGIN, config, entry, ids, key, open, outcome};
use crate::audit::{Audit, segment};
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, PersonId, RequestId, SystemSource};
use crate::record::{Event, Login, Record, TraceId};

fn login(request: RequestId, person: PersonId) -> Event {
    Event::Login(Login {
        request,
        person: Some(person),
        card: None,
        session: None,
        methods: vec!["pwd".into()],
        result: "ok".into(),
        count: 0,
        source: "192.0.2.0/24".into(),
    })
}

async fn fill(audit: &Audit, ids: &Ids, count: usize) -> Vec<(RequestId, PersonId)> {
    let made: Vec<_> = (0..count)
        .map(|_| (ids.next().unwrap(), ids.next().unwrap()))
        .collect();
    for made in made.chunks(200) {
        let events = made
            .iter()
            .map(|(request, person)| login(*request, *person))
            .collect();
        audit.write_all(events).await.unwrap();
    }
    made
}

async fn found(audit: &Audit, query: Query) -> Vec<Record> {
    let query = Query { fresh: true, ..query };
    audit.search().search(&query).await.unwrap().records
}

async fn of(audit: &Audit, request: RequestId) -> Vec<&'static str> {
    let records = audit.search().request(request).await.unwrap();
    records.iter().map(|record| record.event.name()).collect()
}

fn without_index(data: &Path) {
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_found_in_memory_in_the_file_and_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let made = fill(&audit, &ids, 2 * ROWS + 100).await;
    let check = async |audit: &Audit| {
        for (request, person) in made.iter().step_by(97).chain(made.last()) {
            let by_person = Query {
                person: Some(*person),
                ..Query::default()
            };
            let records = found(audit, by_person).await;
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].event, login(*request, *person));
            assert_eq!(of(audit, *request).await, ["login"]);
        }
        let mut query = Query {
            event: Some("login".into()),
            limit: 1_000,
            fresh: true,
            ..Query::default()
        };
        let mut all = Vec::new();
        loop {
            let page = audit.search().search(&query).await.unwrap();
            all.extend(page.records.iter().filter_map(|record| record.event.request()));
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        all.reverse();
        assert_eq!(all, made.iter().map(|(request, _)| *request).collect::<Vec<_>>());
    };
    check(&audit).await;
    audit.close("test").await;
    let audit = open(data.path()).audit;
    check(&audit).await;
    audit.close("test").await;
    without_index(data.path());
    let audit = open(data.path()).audit;
    check(&audit).await;
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_long_after_a_request_began_is_found_with_it() {
    let data = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
    let hand = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
    let start = || Audit::open(config(data.path()), key(data.path()), ORIGIN, hand.clone()).unwrap();
    let audit = start().audit;
    let asked = entry(&hand);
    let receipt = audit.intent(asked.clone(), Vec::new()).await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    fill(&audit, &hand, 2 * ROWS).await;
    receipt.outcome(outcome(asked.request)).await.unwrap();
    let check = async |audit: &Audit| {
        assert_eq!(of(audit, asked.request).await, ["intent", "outcome"]);
        let by_person = Query {
            person: asked.subject.person,
            event: Some("outcome".into()),
            ..Query::default()
        };
        assert_eq!(found(audit, by_person).await.len(), 1);
        let intents = audit.search().intents(&[asked.request]).await.unwrap();
        assert_eq!(intents.len(), 1);
    };
    check(&audit).await;
    fill(&audit, &hand, ROWS).await;
    check(&audit).await;
    audit.close("test").await;
    let audit = start().audit;
    check(&audit).await;
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_records_of_a_trace_are_found_wherever_they_stand() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let trace = TraceId([7; 16]);
    let mut requests = Vec::new();
    for _ in 0..3 {
        let mut entry = entry(&ids);
        entry.trace = Some(trace);
        requests.push(entry.request);
        let receipt = audit.intent(entry, Vec::new()).await.unwrap();
        receipt.outcome(outcome(*requests.last().unwrap())).await.unwrap();
        fill(&audit, &ids, ROWS).await;
    }
    let of_trace = |request| Query {
        trace: Some(trace),
        request,
        ..Query::default()
    };
    let names = |records: Vec<Record>| -> Vec<_> {
        let named = |record: &Record| (record.event.name(), record.event.request());
        records.iter().rev().map(named).collect()
    };
    let expected: Vec<_> = requests
        .iter()
        .flat_map(|request| [("intent", Some(*request)), ("outcome", Some(*request))])
        .collect();
    assert_eq!(names(found(&audit, of_trace(None)).await), expected);
    assert_eq!(
        names(found(&audit, of_trace(Some(requests[1]))).await),
        expected[2..4]
    );
    let stranger = ids.next().unwrap();
    assert_eq!(names(found(&audit, of_trace(Some(stranger))).await), []);
    // More than go into one statement.
    for _ in 0..super::LOOK_UP {
        let mut entry = entry(&ids);
        entry.trace = Some(trace);
        requests.push(entry.request);
        let receipt = audit.intent(entry, Vec::new()).await.unwrap();
        receipt.outcome_soon(outcome(*requests.last().unwrap()));
    }
    let intents = Query {
        event: Some("intent".into()),
        limit: 1_000,
        ..of_trace(None)
    };
    let intents: Vec<_> = names(found(&audit, intents).await);
    assert_eq!(
        intents,
        requests
            .iter()
            .map(|request| ("intent", Some(*request)))
            .collect::<Vec<_>>()
    );
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_cut_is_found_between_others() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let before = fill(&audit, &ids, 3).await;
    let mut long = entry(&ids);
    long.place.path = Some("/long".repeat(30_000));
    let receipt = audit.intent(long.clone(), Vec::new()).await.unwrap();
    let after = fill(&audit, &ids, 3).await;
    assert_eq!(of(&audit, long.request).await, ["intent"]);
    assert_eq!(of(&audit, before[2].0).await, ["login"]);
    assert_eq!(of(&audit, after[2].0).await, ["login"]);
    receipt.outcome(outcome(long.request)).await.unwrap();
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_records_of_an_epoch_that_ended_are_found_in_the_next() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let made = fill(&audit, &ids, ROWS + 10).await;
    audit.search().catch_up().await.unwrap();
    audit.close("test").await;
    // Its end is cut off: the newest checkpoint knows of more, so a new epoch begins.
    let log = data.path().join("log");
    let last = segment::list(&log).unwrap().into_iter().max().unwrap();
    let path = segment::path(&log, last);
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut cut = bytes;
    cut[end - 40..].fill(0);
    std::fs::write(&path, cut).unwrap();
    let opened = open(data.path());
    assert_eq!(opened.recovery.epoch, 2, "{:?}", opened.recovery.damage);
    let audit = opened.audit;
    for (request, _) in [made[0], made[ROWS - 1], made[ROWS + 5]] {
        assert_eq!(of(&audit, request).await, ["login"]);
    }
    audit.close("test").await;
}
