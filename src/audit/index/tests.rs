//! The index over real logs: what is in memory, what is in the file, what is read from the segments.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::block::ROWS;
use super::{Level, Matching, Query};
use crate::audit::testing::{ORIGIN, config, entry, ids, key, open, outcome};
use crate::audit::{Audit, segment};
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, PersonId, RequestId, SystemSource, VoId};
use crate::problem::{AsProblem, Kind};
use crate::record::{Event, Lease, Login, Record, TraceId};

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
        certificate: None,
        federated: None,
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
async fn a_lease_belongs_to_the_vo_of_its_request() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let gateway: VoId = uuid::Uuid::nil().into();
    let mut asked = entry(&ids);
    let vo: VoId = ids.next().unwrap();
    asked.place.vo_id = Some(vo);
    let receipt = audit.intent(asked.clone(), Vec::new()).await.unwrap();
    let lease = Lease {
        request: asked.request,
        decision: Arc::default(),
        bytes_in: 0,
        bytes_out: 0,
    };
    audit.write(Event::Lease(Box::new(lease))).await.unwrap();
    receipt.outcome(outcome(asked.request)).await.unwrap();
    let leases = |level| Query {
        event: Some("lease".into()),
        level: Some(level),
        ..Query::default()
    };
    let check = async |audit: &Audit| {
        assert_eq!(found(audit, leases(Level::Vo(vo))).await.len(), 1);
        assert!(found(audit, leases(Level::Gateway(gateway))).await.is_empty());
        let records = audit.search().request(asked.request).await.unwrap();
        let mut matching = Matching::new(leases(Level::Vo(vo)));
        let taken = records.iter().filter(|record| matching.takes(record)).count();
        assert_eq!(taken, 1);
    };
    check(&audit).await;
    fill(&audit, &ids, ROWS).await;
    check(&audit).await;
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_ended_is_searched_with_the_one_that_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let before = fill(&audit, &ids, 30).await;
    audit.close("test").await;
    let restored = crate::audit::Restored {
        epoch: 1_000,
        reason: "restored: test".into(),
        key: None,
    };
    restored
        .mark(&data.path().join("log"), &key(data.path()), ORIGIN)
        .unwrap();
    for anew in [false, true, false] {
        if anew {
            without_index(data.path());
        }
        let audit = open(data.path()).audit;
        assert_eq!(audit.checkpoint().map_or(1_000, |newest| newest.epoch), 1_000);
        let after = fill(&audit, &ids, 3).await;
        for (request, person) in [before[0], before[29], after[2]] {
            let query = Query {
                person: Some(person),
                ..Query::default()
            };
            assert_eq!(found(&audit, query).await.len(), 1);
            assert_eq!(of(&audit, request).await, ["login"]);
        }
        // Page by page over the edge, either way.
        for onward in [None, Some(super::Position { epoch: 0, seq: 0 })] {
            let mut query = Query {
                event: Some("login".into()),
                limit: 7,
                onward,
                ..Query::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = audit.search().search(&query).await.unwrap();
                seen.extend(page.records.iter().filter_map(|record| record.event.request()));
                let Some(next) = page.next else { break };
                query.go_on(next);
            }
            if onward.is_none() {
                seen.reverse();
            }
            assert_eq!(seen[..30], before.iter().map(|made| made.0).collect::<Vec<_>>());
            assert_eq!(seen.last(), after.last().map(|made| &made.0));
        }
        audit.close("test").await;
    }
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

/// The only segment of a log, to be changed by hand.
fn last_segment(data: &Path) -> std::path::PathBuf {
    let log = data.join("log");
    segment::path(&log, segment::list(&log).unwrap().into_iter().max().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_file_of_an_epoch_that_ended_stays_though_the_log_can_no_longer_be_read_whole() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let open_large = || {
        let config = crate::audit::Config {
            segment_bytes: 8 << 20,
            ..config(data.path())
        };
        Audit::open(config, key(data.path()), ORIGIN, self::ids()).unwrap()
    };
    let audit = open_large().audit;
    let made = fill(&audit, &ids, 3 * ROWS).await;
    audit.search().catch_up().await.unwrap();
    audit.close("test").await;
    let path = last_segment(data.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let spot = |bytes: &[u8], request: RequestId| {
        let needle = request.to_string();
        let mut windows = bytes.windows(needle.len());
        windows.position(|window| window == needle.as_bytes()).unwrap()
    };
    // One record in the middle is damaged, and the end is cut off.
    let (hurt, cut) = (spot(&bytes, made[100].0), spot(&bytes, made[3 * ROWS - 50].0));
    bytes[hurt] = b'X';
    bytes[cut..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let opened = open_large();
    assert_eq!(opened.recovery.epoch, 2, "{:?}", opened.recovery.damage);
    let audit = opened.audit;
    audit.search().catch_up().await.unwrap();
    for (request, _) in [made[10], made[200], made[2 * ROWS]] {
        assert_eq!(of(&audit, request).await, ["login"]);
    }
    assert_eq!(of(&audit, made[100].0).await, Vec::<&str>::new());
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_starts_again_does_not_answer_fresh_before_it_has_caught_up() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    fill(&audit, &ids, 10).await;
    audit.search().catch_up().await.unwrap();
    let index = audit.search().clone();
    assert_eq!(index.lag(), 0);
    // As after an error: the task that follows the log begins anew.
    let mut head = index.0.head.clone();
    let again = index.clone();
    let mut run = Box::pin(async move { again.run(&mut head).await });
    let mut context = Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll(&mut context).is_pending());
    assert!(index.lag() >= 10, "{}", index.lag());
    let mut fresh = Box::pin(index.catch_up());
    assert!(fresh.as_mut().poll(&mut context).is_pending());
    drop(fresh);
    let running = tokio::spawn(run);
    index.catch_up().await.unwrap();
    assert_eq!(index.lag(), 0);
    audit.close("test").await;
    running.abort();
}

async fn pages(audit: &Audit, mut query: Query) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let page = audit.search().search(&query).await.unwrap();
        all.extend(page.records);
        match page.next {
            Some(next) => query.go_on(next),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_first_gives_the_same_records_in_the_other_order_whatever_the_page() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    fill(&audit, &ids, 2 * ROWS + 30).await;
    let start = Some(super::Position { epoch: 0, seq: 0 });
    for (event, limit) in [(None, 1_000), (Some("login"), 7), (Some("start"), 3)] {
        let query = Query {
            event: event.map(str::to_owned),
            limit,
            fresh: true,
            ..Query::default()
        };
        let newest_first = pages(&audit, query.clone()).await;
        let mut oldest_first = pages(
            &audit,
            Query {
                onward: start,
                ..query
            },
        )
        .await;
        oldest_first.reverse();
        assert_eq!(newest_first, oldest_first);
    }
    // From where a page ended on come exactly those that are written later.
    let head = audit.search().search(&Query::default()).await.unwrap().head;
    let later = fill(&audit, &ids, 3).await;
    let query = Query {
        onward: Some(head),
        fresh: true,
        ..Query::default()
    };
    let found = pages(&audit, query).await;
    let found: Vec<_> = found.iter().filter_map(|record| record.event.request()).collect();
    assert_eq!(
        found,
        later.iter().map(|(request, _)| *request).collect::<Vec<_>>()
    );
    // And up to there come exactly the others.
    let query = Query {
        before: Some(head),
        onward: start,
        limit: 1_000,
        fresh: true,
        ..Query::default()
    };
    let bounded = pages(&audit, query.clone()).await;
    let whole = Query {
        before: None,
        ..query
    };
    let whole = pages(&audit, whole).await;
    assert_eq!(bounded, whole[..whole.len() - later.len()]);
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_found_in_values_in_either_order_and_a_page_reads_only_so_many_records() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let mut wanted = Vec::new();
    for path in ["/Studies/Seven", "/studies/eight"] {
        let mut entry = entry(&ids);
        entry.place.path = Some(path.into());
        wanted.push(entry.request);
        let receipt = audit.intent(entry, Vec::new()).await.unwrap();
        receipt.outcome(outcome(*wanted.last().unwrap())).await.unwrap();
        fill(&audit, &ids, 700).await;
    }
    let with = |text: &str, onward| Query {
        text: Some(text.into()),
        onward,
        fresh: true,
        limit: 1,
        ..Query::default()
    };
    let start = Some(super::Position { epoch: 0, seq: 0 });
    let requests = |records: Vec<Record>| -> Vec<_> {
        records
            .iter()
            .filter_map(|record| record.event.request())
            .collect()
    };
    assert_eq!(requests(pages(&audit, with("STUDIES/", start)).await), wanted);
    let newest_first = requests(pages(&audit, with("studies/", None)).await);
    assert_eq!(newest_first, [wanted[1], wanted[0]]);
    assert_eq!(requests(pages(&audit, with("seven", None)).await), [wanted[0]]);
    // Names of members are no values.
    assert_eq!(requests(pages(&audit, with("duration_us", None)).await), []);
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_rebuilt_offline_is_taken_up_and_finds_the_same() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let made = fill(&audit, &ids, 2 * ROWS + 30).await;
    audit.close("test").await;
    let index = data.path().join("index.db");
    std::fs::write(&index, b"of no use any more").unwrap();
    let mut told = Vec::new();
    let records = super::rebuild(&data.path().join("log"), &index, |done| told.push(done))
        .await
        .unwrap();
    assert!(records >= made.len() as u64, "{records}");
    assert_eq!(told.last(), Some(&records));
    let file = super::File::open(&index).await.unwrap();
    let (last, _, count) = file.last(1).await.unwrap().unwrap();
    assert_eq!((last.end(), count), (2 * ROWS as u64, 2 * ROWS as u64));
    file.close().await;
    let audit = open(data.path()).audit;
    for (request, _) in made.iter().step_by(101) {
        assert_eq!(of(&audit, *request).await, ["login"]);
    }
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filters_over_files_take_what_the_index_finds() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    let mut entries = Vec::new();
    for at in 0..40_u64 {
        let mut entry = entry(&ids);
        entry.trace = (at % 3 == 0).then_some(TraceId([3; 16]));
        entry.place.tool = Some(format!("tool{}", at % 4));
        if let Some(resource) = &mut entry.resource {
            resource.id = (at % 5).to_string();
        }
        entries.push(entry.clone());
        let receipt = audit.intent(entry.clone(), Vec::new()).await.unwrap();
        receipt.outcome(outcome(entry.request)).await.unwrap();
    }
    fill(&audit, &ids, 20).await;
    let all = pages(
        &audit,
        Query {
            fresh: true,
            ..Query::default()
        },
    )
    .await;
    let one = &entries[7];
    let vo = one.place.vo_id.unwrap().to_string();
    let of = |change: &dyn Fn(&mut Query)| {
        let mut query = Query {
            fresh: true,
            ..Query::default()
        };
        change(&mut query);
        query
    };
    let queries = [
        of(&|_| {}),
        of(&|query| query.person = one.subject.person),
        of(&|query| query.vo = Some(vo.clone())),
        of(&|query| query.vo = Some("imaging".into())),
        of(&|query| query.tool = Some("tool2".into())),
        of(&|query| query.task = Some("submit job".into())),
        of(&|query| query.resource = Some("job/3".into())),
        of(&|query| query.event = Some("outcome".into())),
        of(&|query| query.permit = Some(true)),
        of(&|query| query.request = Some(one.request)),
        of(&|query| query.trace = Some(TraceId([3; 16]))),
        of(&|query| query.text = Some("TOOL1".into())),
        of(&|query| query.from = Some(all[30].time)),
        of(&|query| query.to = Some(all[30].time)),
    ];
    for query in queries {
        let mut expected = pages(&audit, query.clone()).await;
        expected.reverse();
        assert!(!expected.is_empty(), "{query:?}");
        let mut matching = super::Matching::new(query.clone());
        let mut taken: Vec<_> = all
            .iter()
            .rev()
            .filter(|record| matching.takes(record))
            .cloned()
            .collect();
        if query.permit.is_some() || query.text.is_some() {
            expected.retain(|record| record.event.name() == "intent");
            taken.retain(|record| record.event.name() == "intent");
        }
        assert_eq!(taken, expected, "{query:?}");
    }
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_searches_for_a_text_read_at_once_and_others_do_not_wait_for_them() {
    let data = tempfile::tempdir().unwrap();
    let ids = ids();
    let audit = open(data.path()).audit;
    fill(&audit, &ids, 10).await;
    let text = Query {
        text: Some("nowhere".into()),
        fresh: true,
        ..Query::default()
    };
    let count = u32::try_from(super::READING).unwrap();
    let others = audit.search().0.reading.acquire_many(count).await.unwrap();
    let refused = audit.search().search(&text).await.unwrap_err();
    assert!(matches!(refused, super::IndexError::Full), "{refused}");
    assert_eq!(refused.as_problem().kind, Kind::Busy);
    assert!(found(&audit, Query::default()).await.len() >= 10);
    drop(others);
    assert_eq!(found(&audit, text.clone()).await, []);
    // And it ends when nobody waits for it any more.
    let gone = tokio_util::sync::CancellationToken::new();
    assert_eq!(audit.search().search_for(&text, &gone).await.unwrap().records, []);
    gone.cancel();
    let left = audit.search().search_for(&text, &gone).await.unwrap_err();
    assert!(matches!(left, super::IndexError::Left), "{left}");
    assert_eq!(
        audit.search().0.reading.available_permits(),
        super::READING,
        "each turn is given back"
    );
    audit.close("test").await;
}

/// Names in the folder of the data and in that of the log.
fn names(data: &Path) -> BTreeSet<String> {
    let folders = [data.to_owned(), data.join("log")];
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_closed_while_its_index_was_being_opened_is_left_alone() {
    for round in 0..40_u32 {
        let data = tempfile::tempdir().unwrap();
        let audit = open(data.path()).audit;
        for _ in 0..round * 50 {
            tokio::task::yield_now().await;
        }
        audit.close("done").await;
        let closed = names(data.path());
        let passing = |name: &String| name.starts_with("index.db-");
        assert!(!closed.iter().any(passing), "round {round}: {closed:?}");
        // Time for a thread that would still be at it.
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(names(data.path()), closed, "round {round}");
    }
}
