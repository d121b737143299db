//! The log as a whole: crashes, failing writes, tampering, recovery, search.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::index::Query;
use super::read::Reader;
use super::segment::{self, FRAME, HEADER, TAGGED};
use super::testing::{ORIGIN, config, entry, ids, key, open, outcome, public, records};
use super::verify::{Report, VerifyError, verify};
use super::{Audit, AuditError, Checkpoint, Opened};
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Ending, Event, Mint, Record};

fn checked(data: &Path, outside: Option<&Checkpoint>) -> Result<Report, VerifyError> {
    verify(&data.join("log"), &public(data), outside, |_| {})
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if fs::copy(entry.path(), &target).is_err() {
            // A spare got its final name meanwhile.
            assert!(!entry.path().exists(), "{}", entry.path().display());
        }
    }
}

/// A copy of the data folder as it is now: what a crash at this moment would leave in the page cache.
fn crashed(data: &Path) -> tempfile::TempDir {
    let now = tempfile::tempdir().unwrap();
    copy(data, now.path());
    now
}

fn endings(records: &[Record], request: RequestId) -> Vec<Ending> {
    let ending = |record: &Record| match &record.event {
        Event::Outcome(outcome) if outcome.request == request => Some(outcome.ending),
        _ => None,
    };
    records.iter().filter_map(ending).collect()
}

pub(super) fn mint(request: RequestId) -> Event {
    let ids = ids();
    Event::Mint(Box::new(Mint {
        request,
        issuer: crate::record::Hash::of(b"issuer"),
        serial: "1234567890".into(),
        spki: crate::record::Hash::of(b"spki"),
        not_before: Timestamp(0),
        not_after: Timestamp(1),
        vo: ids.next().unwrap(),
        person: ids.next().unwrap(),
        card: crate::record::Hash::of(b"card"),
        session: ids.next().unwrap(),
        tool: "segmentation".into(),
        way: "pem".into(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn intent_and_outcome_are_in_the_log_in_order_and_it_verifies() {
    let data = tempfile::tempdir().unwrap();
    let Opened { audit, recovery } = open(data.path());
    assert!(recovery.fresh && recovery.open.is_empty() && recovery.damage.is_empty() && recovery.epoch == 1);
    let first = entry(&ids());
    let request = first.request;
    let receipt = audit.intent(first.clone(), vec![mint(request)]).await.unwrap();
    assert_eq!(audit.open_requests(), [request]);
    assert_eq!((receipt.request(), receipt.seq()), (request, 1));
    receipt.outcome(outcome(request)).await.unwrap();
    assert!(audit.open_requests().is_empty() && audit.accepting());
    audit.close("test").await;
    assert_eq!(
        audit
            .write(Event::Stop {
                reason: String::new()
            })
            .await,
        Err(AuditError::Stopped)
    );

    let names: Vec<_> = records(data.path())
        .iter()
        .map(|record| record.event.name())
        .collect();
    assert_eq!(names, ["log_open", "intent", "mint", "outcome", "stop"]);
    let report = checked(data.path(), None).unwrap();
    assert_eq!(
        (report.records, report.signed, report.segments, report.epoch),
        (5, 5, 1, 1)
    );
    assert!(!report.outside);
    assert!(checked(data.path(), audit.checkpoint().as_ref()).unwrap().outside);

    let again = open(data.path());
    assert!(!again.recovery.fresh && again.recovery.open.is_empty());
    assert_eq!(again.recovery.recent.len(), 1, "the mint record");
    again.audit.close("test").await;
    let names: Vec<_> = records(data.path())
        .iter()
        .map(|record| record.event.name())
        .collect();
    assert_eq!(
        names[5..],
        ["log_open", "stop"],
        "after a clean stop there is nothing to recover"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_is_dropped_writes_abandoned() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let entry = entry(&ids());
    let request = entry.request;
    drop(audit.intent(entry, Vec::new()).await.unwrap());
    audit.close("test").await;
    assert_eq!(endings(&records(data.path()), request), [Ending::Abandoned]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_whose_waiter_went_away_is_never_left_open() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    for n in 0..300 {
        let mut intent = Box::pin(audit.intent(entry(&ids), Vec::new()));
        // Polled so often that some are gone before, some while and some after they become durable.
        for _ in 0..n % 4 {
            tokio::select! { biased; _ = &mut intent => break, () = tokio::task::yield_now() => {} }
        }
    }
    audit.close("test").await;
    let records = records(data.path());
    let intents: Vec<_> = records
        .iter()
        .filter(|record| record.event.name() == "intent")
        .filter_map(|r| r.event.request())
        .collect();
    for request in intents {
        assert_eq!(endings(&records, request).len(), 1);
    }
    assert!(audit.open_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_finds_open_intents_even_from_segments_ago() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    let long = entry(&ids);
    let _receipt = audit.intent(long.clone(), Vec::new()).await.unwrap();
    let mut writes = Vec::new();
    for _ in 0..900 {
        let other = entry(&ids);
        let receipt = audit.intent(other.clone(), Vec::new()).await.unwrap();
        writes.push(receipt.outcome(outcome(other.request)));
    }
    for write in futures_util::future::join_all(writes).await {
        write.unwrap();
    }
    let last = entry(&ids);
    let _also = audit.intent(last.clone(), Vec::new()).await.unwrap();
    assert!(segment::list(&data.path().join("log")).unwrap().len() > 2);

    let left = crashed(data.path());
    let Opened {
        audit: again,
        recovery,
    } = open(left.path());
    assert_eq!(recovery.open, [long.clone(), last.clone()]);
    assert!(recovery.damage.is_empty());
    assert_eq!(again.open_requests(), [long.request, last.request]);
    for open in &recovery.open {
        let unknown = crate::record::Outcome::ended(open.request, Ending::Unknown);
        again.settle(unknown).await.unwrap();
    }
    assert!(again.open_requests().is_empty());
    again.close("test").await;
    assert_eq!(endings(&records(left.path()), long.request), [Ending::Unknown]);
    checked(left.path(), audit.checkpoint().as_ref()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_writer_and_one_key() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let second = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids());
    assert_eq!(second.unwrap_err(), AuditError::Locked(data.path().join("log")));
    audit.close("test").await;
    let other = tempfile::tempdir().unwrap();
    let second = Audit::open(config(data.path()), key(other.path()), ORIGIN, ids());
    assert!(matches!(second, Err(AuditError::Checkpoint { .. })));
    assert_eq!(checked(data.path(), None).unwrap().records, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_full_queue_refused_is_summed_in_one_record() {
    let data = tempfile::tempdir().unwrap();
    let config = super::Config {
        queue: 16,
        ..config(data.path())
    };
    let audit = Audit::open(config, key(data.path()), ORIGIN, ids())
        .unwrap()
        .audit;
    let ids = ids();
    let intents = (0..400).map(|_| audit.intent(entry(&ids), Vec::new()));
    let results = futures_util::future::join_all(intents).await;
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(AuditError::Full(16))))
        .count() as u64;
    assert!(refused > 0);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(_) | Err(AuditError::Full(16))))
    );
    drop(results);
    audit.close("test").await;
    let written = records(data.path()).into_iter().map(|record| match record.event {
        Event::Unwritten { count, .. } => count,
        _ => 0,
    });
    assert_eq!(written.sum::<u64>(), refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_counted_exactly_through_to_the_log() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    for n in 0..5_000 {
        audit.stranger(
            "no_credential",
            &format!("10.0.{}.0/24", n % 7),
            ids.next().unwrap(),
        );
    }
    audit.close("test").await;
    let records = records(data.path());
    let sums: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Strangers(strangers) => Some(strangers.count),
            _ => None,
        })
        .collect();
    assert_eq!(sums.iter().sum::<u64>(), 5_000);
    assert!(sums.len() <= 14, "at most two minutes of seven sources");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_finds_what_is_in_the_log_and_can_be_dropped() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    let mut entries = Vec::new();
    for _ in 0..50 {
        let entry = entry(&ids);
        let receipt = audit
            .intent(entry.clone(), vec![mint(entry.request)])
            .await
            .unwrap();
        receipt.outcome_soon(outcome(entry.request));
        entries.push(entry);
    }
    let check = async |audit: &Audit| {
        let entry = &entries[17];
        let found = audit.search().request(entry.request).await.unwrap();
        let names: Vec<_> = found.iter().map(|record| record.event.name()).collect();
        assert_eq!(names, ["intent", "mint", "outcome"]);
        assert_eq!(found[0].event, Event::Intent(Box::new(entry.clone())));
        let by_person = Query {
            person: entry.subject.person,
            fresh: true,
            ..Query::default()
        };
        let page = audit.search().search(&by_person).await.unwrap();
        assert_eq!(page.records, [found[2].clone(), found[0].clone()]);
        let mut all = Query {
            event: Some("intent".into()),
            vo: Some("imaging".into()),
            limit: 20,
            ..Query::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = audit.search().search(&all).await.unwrap();
            seen.extend(page.records.iter().filter_map(|record| record.event.request()));
            all.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        seen.reverse();
        assert_eq!(
            seen,
            entries.iter().map(|entry| entry.request).collect::<Vec<_>>()
        );
    };
    audit
        .write(Event::Stop {
            reason: "all outcomes are before this".into(),
        })
        .await
        .unwrap();
    check(&audit).await;
    audit.close("test").await;
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(data.path().join(name));
    }
    let audit = open(data.path()).audit;
    check(&audit).await;
    audit.close("test").await;
    fs::write(
        data.path().join("index.db"),
        b"this is no database, and longer than a header of one would be .........",
    )
    .unwrap();
    let audit = open(data.path()).audit;
    check(&audit).await;
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_found_by_who_asked_and_where() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    let (ended, open_at_crash) = (entry(&ids), entry(&ids));
    let receipt = audit.intent(ended.clone(), Vec::new()).await.unwrap();
    receipt.outcome(outcome(ended.request)).await.unwrap();
    let receipt = audit.intent(open_at_crash.clone(), Vec::new()).await.unwrap();
    audit.search().catch_up().await.unwrap();
    let crashed = crashed(data.path());
    // Its intent is in the index already, its outcome is written by recovery: nothing in memory knows the request.
    let again = open(crashed.path()).audit;
    let unknown = crate::record::Outcome::ended(open_at_crash.request, Ending::Unknown);
    again.settle(unknown).await.unwrap();
    for (audit, entry, ending) in [
        (&audit, &ended, Ending::Answered),
        (&again, &open_at_crash, Ending::Unknown),
    ] {
        let vo = entry.place.vo_id.unwrap().to_string();
        let of = |query: Query| Query {
            event: Some("outcome".into()),
            fresh: true,
            ..query
        };
        for query in [
            Query {
                vo: Some(vo.clone()),
                ..Query::default()
            },
            Query {
                person: entry.subject.person,
                tool: Some("segmentation".into()),
                task: Some("submit job".into()),
                resource: Some("job/42".into()),
                ..Query::default()
            },
        ] {
            let page = audit.search().search(&of(query)).await.unwrap();
            assert_eq!(endings(&page.records, entry.request), [ending]);
            assert_eq!(page.records.len(), 1);
        }
        let intents = audit.search().intents(&[entry.request]).await.unwrap();
        assert_eq!(
            intents[&entry.request].event,
            Event::Intent(Box::new(entry.clone()))
        );
    }
    drop(receipt);
    again.close("test").await;
    audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_segment_is_noticed_while_it_is_written() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let first = segment::path(&data.path().join("log"), 0);
    fs::remove_file(&first).unwrap();
    let ids = ids();
    let second = segment::path(&data.path().join("log"), 1);
    while !second.exists() {
        audit
            .intent(entry(&ids), Vec::new())
            .await
            .unwrap()
            .outcome_soon(outcome(ids.next().unwrap()));
    }
    audit.close("test").await;
    assert!(matches!(
        checked(data.path(), None),
        Err(VerifyError::SegmentMissing(0))
    ));
    let again = open(data.path());
    assert_eq!(
        (again.recovery.epoch, again.recovery.damage.len()),
        (2, 2),
        "{:?}",
        again.recovery.damage
    );
    again.audit.close("test").await;
}

/// A log whose writer never comes: what a disk that hangs looks like.
fn hanging(data: &Path) -> Audit {
    let config = super::Config {
        deadline: Duration::from_millis(50),
        ..config(data)
    };
    fs::create_dir_all(&config.folder).unwrap();
    let shared = std::sync::Arc::new(super::queue::Shared::new(config, ids(), 1, None));
    let index = super::Index::start(&tokio::runtime::Handle::current(), &shared);
    let (_, done) = tokio::sync::watch::channel(true);
    Audit(std::sync::Arc::new(super::Inner {
        shared,
        key: key(data).public(ORIGIN),
        old_segments: tokio::sync::Mutex::default(),
        newest_found: Timestamp::default(),
        index,
        done,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_hangs_refuses_in_time_and_the_intent_is_void() {
    let data = tempfile::tempdir().unwrap();
    let audit = hanging(data.path());
    let refused = audit.intent(entry(&ids()), Vec::new()).await;
    assert_eq!(
        refused.unwrap_err(),
        AuditError::Deadline(Duration::from_millis(50))
    );
    assert!(!audit.accepting());
    let taken = audit.0.shared.take_now();
    assert!(
        taken.items[0].reply.is_void(),
        "a writer that wakes leaves it out"
    );
    assert_eq!(audit.0.shared.take_unwritten().unwrap().count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_lands_after_its_refusal_is_not_sent() {
    let data = tempfile::tempdir().unwrap();
    let audit = hanging(data.path());
    let entry = entry(&ids());
    let request = entry.request;
    audit.intent(entry, Vec::new()).await.unwrap_err();
    // The writer had taken it already, and its write succeeds after all.
    let answers = audit.0.shared.take_now().items.into_iter();
    let answers = answers
        .map(|item| super::answers::Answer {
            lane: item.lane,
            reply: item.reply,
            result: Ok(vec![7]),
        })
        .collect();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    sender.send(answers).unwrap();
    drop(sender);
    super::answers::give_out(std::sync::Arc::downgrade(&audit.0), receiver).await;
    let outcomes = audit.0.shared.take_now().items;
    let mut bytes = Vec::new();
    outcomes[0].drafts[0].write(&mut bytes, 8, Timestamp(0), 0);
    let record: Record = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(endings(&[record], request), [Ending::NotSent]);
    assert_eq!(outcomes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_and_strangers_are_written_down_by_the_minute() {
    let data = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(crate::clock::HandClock::new(Timestamp::from_secs(1_700_000_050)));
    let hand = crate::id::Ids::new(clock.clone(), std::sync::Arc::new(crate::id::SystemSource::new()));
    let audit = Audit::open(config(data.path()), key(data.path()), ORIGIN, hand.clone())
        .unwrap()
        .audit;
    let receipt = audit.intent(entry(&hand), Vec::new()).await.unwrap();
    audit.stranger("malformed", "192.0.2.0/24", hand.next().unwrap());
    clock.advance(Duration::from_secs(61));
    let more = Event::Stop {
        reason: "a record, so that the writer looks around".into(),
    };
    audit.write(more).await.unwrap();
    audit.close("test").await;
    let records = records(data.path());
    let names: BTreeMap<_, _> = records
        .iter()
        .map(|record| (record.event.name(), record.seq))
        .collect();
    assert_eq!(
        names.keys().copied().collect::<Vec<_>>(),
        ["intent", "log_open", "stop", "strangers"]
    );
    assert!(names["log_open"] > 2 && records.len() == 6, "{names:?}");
    let open = Event::LogOpen {
        open: vec![receipt.request()],
    };
    assert!(records.iter().any(|record| record.event == open));
    assert_eq!(records[2].time, Timestamp::from_secs(1_700_000_111));
    assert_eq!(records[2].mono - records[1].mono, 61_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_open_requests_than_a_segment_holds_are_still_listed() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    let mut receipts = Vec::new();
    for _ in 0..30 {
        let intents = (0..250).map(|_| audit.intent(entry(&ids), Vec::new()));
        receipts.extend(
            futures_util::future::join_all(intents)
                .await
                .into_iter()
                .map(Result::unwrap),
        );
    }
    let left = crashed(data.path());
    let Opened {
        audit: again,
        recovery,
    } = open(left.path());
    assert_eq!(recovery.open.len(), receipts.len());
    again
        .write(Event::Stop {
            reason: "it goes on".into(),
        })
        .await
        .unwrap();
    again
        .write(Event::Stop {
            reason: "and on".into(),
        })
        .await
        .unwrap();
    let twice = crashed(left.path());
    let third = open(twice.path());
    assert_eq!(third.recovery.open.len(), receipts.len());
    third.audit.close("test").await;
    again.close("test").await;
    checked(left.path(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_acknowledged_before_a_new_segment_is_void() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    audit.close("test").await;
    let path = segment::path(&data.path().join("log"), 0);
    let all = frames(&path);
    // A batch that reached the disk although its sync failed, and a second segment that continues before it.
    let record = framed(&all[1].1).replace("\"seq\":1,", "\"seq\":3,");
    let mut batch = segment::Batch::default();
    batch.begin(&[]);
    batch.add(9, |bytes| bytes.extend_from_slice(record.as_bytes()));
    let audit = open(data.path()).audit;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let (at, last) = all.last().unwrap();
    file.write_all_at(batch.end(9, &[9; 32]), (at + last.len()) as u64)
        .unwrap();
    audit.close("test").await;
    let report = checked(data.path(), None).unwrap();
    assert_eq!(
        report.void,
        [super::verify::Void {
            segment: 0,
            from: 3,
            records: 1
        }]
    );
    let names: Vec<_> = records(data.path())
        .iter()
        .map(|record| record.event.name())
        .collect();
    assert_eq!(
        names,
        ["log_open", "intent", "stop", "log_open", "recovery", "stop"],
        "no reader shows it"
    );
    let again = open(data.path());
    assert!(again.recovery.damage.is_empty(), "{:?}", again.recovery.damage);
    again.audit.close("test").await;
}

// ---- A child process that writes -----------------------------------------------------------------------------------

const CHILD: &str = "AUDIT_TEST_CHILD";

/// Not a test of its own: the tests below run it in a process that they kill or starve.
///
/// It writes intents from several tasks and prints `ok REQUEST`, `outcome REQUEST` or `refused READY MILLIS` per line.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    let data = PathBuf::from(std::env::var_os(CHILD).expect("set by the parent"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // SIGXFSZ would end the process; the gateway ignores it too.
        let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).unwrap();
        let audit = open(&data).audit;
        // The test harness has begun a line of its own.
        say(format_args!("\nready"));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            stop.send_replace(true);
        });
        let writers = (0..8).map(|_| tokio::spawn(child_writer(audit.clone(), stopped.clone())));
        futures_util::future::join_all(writers).await;
        audit.close("told to").await;
        say(format_args!("closed"));
    });
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

async fn child_writer(audit: Audit, stopped: tokio::sync::watch::Receiver<bool>) {
    let ids = ids();
    while !*stopped.borrow() {
        let entry = entry(&ids);
        let request = entry.request;
        let start = ids.clock().monotonic();
        match audit.intent(entry, Vec::new()).await {
            Ok(receipt) => {
                say(format_args!("ok {request}"));
                if receipt.outcome(outcome(request)).await.is_ok() {
                    say(format_args!("outcome {request}"));
                }
            }
            Err(_) => {
                say(format_args!(
                    "refused {} {}",
                    audit.accepting(),
                    (ids.clock().monotonic() - start).as_millis()
                ));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn start_child(data: &Path) -> (Child, impl Iterator<Item = String>) {
    key(data);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "audit::tests::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // A line that was cut by the kill tells nothing.
    (child, lines.map_while(Result::ok))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let (mut acked, mut done) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..4_usize {
        let (mut child, lines) = start_child(data.path());
        let until = [40, 333, 777, 1500][round];
        for (n, line) in lines.enumerate() {
            // Killed at some line; what it printed before the kill arrived is read to the end.
            if n == until {
                child.kill().unwrap();
            }
            let read = |text: &str| text.parse::<RequestId>().ok();
            if let Some(request) = line.strip_prefix("ok ").and_then(read) {
                acked.insert(request);
            } else if let Some(request) = line.strip_prefix("outcome ").and_then(read) {
                done.insert(request);
            }
        }
        child.wait().unwrap();
        let outside = super::read::newest_checkpoint(&data.path().join("log"));
        let Opened { audit, recovery } = open(data.path());
        assert_eq!(recovery.damage, [""; 0]);
        for open in &recovery.open {
            assert!(!done.contains(&open.request), "an acknowledged outcome is gone");
            audit
                .settle(crate::record::Outcome::ended(open.request, Ending::Unknown))
                .await
                .unwrap();
        }
        audit.close("test").await;
        let report = checked(data.path(), outside.as_ref()).unwrap();
        assert_eq!(report.outside, outside.is_some());
    }
    assert!(acked.len() > 1000);
    let records = records(data.path());
    let mut outcomes: BTreeMap<RequestId, u32> = BTreeMap::new();
    let mut intents = BTreeSet::new();
    for record in &records {
        match &record.event {
            Event::Intent(entry) => drop(intents.insert(entry.request)),
            Event::Outcome(outcome) => *outcomes.entry(outcome.request).or_default() += 1,
            _ => {}
        }
    }
    assert!(acked.is_subset(&intents), "an acknowledged intent is gone");
    assert_eq!(
        outcomes.keys().copied().collect::<BTreeSet<_>>(),
        intents,
        "every intent has an outcome"
    );
    assert!(outcomes.values().all(|count| *count == 1));
}

#[test]
fn failing_writes_are_refused_in_time_and_the_log_recovers_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = start_child(data.path());
    let pid = Pid::from_child(&child);
    let limit = |bytes: Option<u64>| {
        prlimit(
            Some(pid),
            Resource::Fsize,
            Rlimit {
                current: bytes,
                maximum: None,
            },
        )
        .unwrap();
    };
    let (mut acked, mut refused) = (BTreeSet::new(), 0_u64);
    let mut wait_for = |what: &str, count: usize| {
        let mut seen = 0;
        while seen < count {
            let line = lines.next().expect("the child goes on");
            if let Some(request) = line.strip_prefix("ok ") {
                acked.insert(request.parse::<RequestId>().unwrap());
            }
            if let Some(refusal) = line.strip_prefix("refused ") {
                refused += 1;
                let (accepting, millis) = refusal.split_once(' ').unwrap();
                assert!(
                    accepting == "false" && millis.parse::<u64>().unwrap() < 10_000,
                    "{line}"
                );
            }
            seen += usize::from(line.starts_with(what));
        }
    };
    wait_for("ok", 300);
    for _ in 0..2 {
        limit(Some(0));
        wait_for("refused", 60);
        limit(None);
        wait_for("outcome", 300);
    }
    drop(child.stdin.take());
    wait_for("closed", 1);
    assert!(child.wait().unwrap().success());

    let report = checked(data.path(), None).unwrap();
    assert_eq!(report.signed, report.records);
    let records = records(data.path());
    let mut sum = 0;
    let mut intents = BTreeSet::new();
    for record in &records {
        match &record.event {
            Event::Intent(entry) => {
                intents.insert(entry.request);
                assert_eq!(endings(&records, entry.request).len(), 1);
            }
            Event::Unwritten { count, .. } => sum += count,
            _ => {}
        }
    }
    assert!(
        intents == acked,
        "nothing that was refused stands in the log, everything acknowledged does"
    );
    assert_eq!(sum, refused, "every refusal is counted");
}

// ---- By hand --------------------------------------------------------------------------------------------------------

/// A closed log of several segments, with the checkpoint that was kept elsewhere.
async fn finished(data: &Path, outside_at: usize) -> Checkpoint {
    let audit = open(data).audit;
    let ids = ids();
    let mut kept = None;
    for n in 0..1_000 {
        if n == outside_at {
            // The checkpoint is signed by another thread once a second has passed.
            while audit.checkpoint().is_none_or(|checkpoint| checkpoint.size < 2) {
                audit
                    .write(Event::Stop {
                        reason: "not really".into(),
                    })
                    .await
                    .unwrap();
            }
            kept = audit.checkpoint();
        }
        audit.write(Event::Intent(Box::new(entry(&ids)))).await.unwrap();
    }
    audit.close("test").await;
    kept.or_else(|| audit.checkpoint()).unwrap()
}

/// (offset, whole frame) of each record of a segment, with the tag of its batch where it is the last one.
fn frames(path: &Path) -> Vec<(usize, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let mut at = HEADER;
    let mut frames: Vec<(usize, Vec<u8>)> = Vec::new();
    while let Some((frame, _)) = segment::decode(&bytes[at..]) {
        let whole = &bytes[at..at + FRAME + frame.length];
        match frames.last_mut().filter(|_| frame.tag) {
            Some((_, before)) => before.extend_from_slice(whole),
            None => frames.push((at, whole.to_vec())),
        }
        at += FRAME + frame.length;
    }
    frames
}

/// The record in such a frame.
fn framed(frame: &[u8]) -> String {
    String::from_utf8(segment::decode(frame).unwrap().1.to_vec()).unwrap()
}

/// The same frame with another record, checksum and all.
fn reframed(frame: &[u8], record: &[u8]) -> Vec<u8> {
    let (old, _) = segment::decode(frame).unwrap();
    let mut batch = segment::Batch::default();
    batch.begin(&[]);
    batch.add(old.batch, |bytes| bytes.extend_from_slice(record));
    let made = &batch.end(old.batch, &[9; 32])[..FRAME + record.len()];
    [made, &frame[FRAME + old.length..]].concat()
}

fn rewrite(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len();
    bytes.truncate(HEADER);
    bytes.extend(frames.iter().flatten());
    bytes.resize(bytes.len().max(length), 0);
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_tampering_is_found_with_a_checkpoint_kept_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let outside = finished(data.path(), usize::MAX).await;
    assert!(checked(data.path(), Some(&outside)).unwrap().outside);
    let second = segment::path(Path::new("log"), 1);
    let tampered = |what: &str, tamper: &dyn Fn(&Path)| {
        let copy = crashed(data.path());
        tamper(copy.path());
        match checked(copy.path(), Some(&outside)) {
            Err(error) => error,
            Ok(report) => panic!("{what}: {report:?}"),
        }
    };
    let frames_of = |folder: &Path| frames(&folder.join(&second));
    let first = segment::Header::read(&data.path().join(&second))
        .unwrap()
        .unwrap()
        .first();

    let error = tampered("one byte changed", &|folder| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.join(&second))
            .unwrap();
        file.write_all_at(b"!", frames_of(folder)[10].0 as u64 + 200)
            .unwrap();
    });
    assert!(
        matches!(error, VerifyError::Record { seq, segment: 1 } if seq == first + 10),
        "{error}"
    );

    let changed = |folder: &Path| {
        let mut all: Vec<_> = frames_of(folder).into_iter().map(|(_, frame)| frame).collect();
        let record = framed(&all[10]).replace("submit job", "delete all");
        all[10] = reframed(&all[10], record.as_bytes());
        rewrite(&folder.join(&second), &all);
    };
    let error = tampered("a record changed with its checksum", &changed);
    assert!(
        matches!(
            error,
            VerifyError::Root { .. } | VerifyError::Continuation { segment: 2, .. }
        ),
        "{error}"
    );

    let error = tampered("a record deleted", &|folder| {
        let mut all: Vec<_> = frames_of(folder).into_iter().map(|(_, frame)| frame).collect();
        all.remove(10);
        rewrite(&folder.join(&second), &all);
    });
    assert!(
        matches!(error, VerifyError::Order { seq, segment: 1 } if seq == first + 10),
        "{error}"
    );

    let error = tampered("two records swapped", &|folder| {
        let mut all: Vec<_> = frames_of(folder).into_iter().map(|(_, frame)| frame).collect();
        all.swap(10, 11);
        rewrite(&folder.join(&second), &all);
    });
    assert!(
        matches!(error, VerifyError::Order { seq, segment: 1 } if seq == first + 10),
        "{error}"
    );

    let error = tampered("a record repeated", &|folder| {
        let mut all: Vec<_> = frames_of(folder).into_iter().map(|(_, frame)| frame).collect();
        all.insert(10, all[9].clone());
        rewrite(&folder.join(&second), &all);
    });
    assert!(
        matches!(error, VerifyError::Order { seq, segment: 1 } if seq == first + 10),
        "{error}"
    );

    let error = tampered("a segment deleted", &|folder| {
        fs::remove_file(folder.join(&second)).unwrap()
    });
    assert!(matches!(error, VerifyError::SegmentMissing(1)), "{error}");

    let error = tampered("a header changed", &|folder| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.join(&second))
            .unwrap();
        file.write_all_at(&[1], 100).unwrap();
    });
    assert!(matches!(error, VerifyError::Header(1)), "{error}");

    let cut = |folder: &Path| {
        let all: Vec<_> = frames_of(folder)
            .into_iter()
            .map(|(_, frame)| frame)
            .take(10)
            .collect();
        rewrite(&folder.join(&second), &all);
        let log = folder.join("log");
        for index in segment::list(&log)
            .unwrap()
            .into_iter()
            .filter(|index| *index > 1)
        {
            fs::remove_file(segment::path(&log, index)).unwrap();
        }
        // Whoever cuts the log removes its own checkpoints too.
        fs::remove_file(log.join("checkpoint")).unwrap();
        fs::remove_file(log.join("checkpoints")).unwrap();
    };
    let error = tampered("the end cut off", &cut);
    assert!(
        matches!(error, VerifyError::Record { .. } | VerifyError::Cut { .. }),
        "{error}"
    );

    let error = tampered("checkpoints of another key", &|folder| {
        let log = folder.join("log");
        let forged = Checkpoint::sign(
            &super::LogKey::generate(&**ids().random()).unwrap(),
            ORIGIN,
            1,
            5,
            outside.root,
        );
        fs::write(log.join("checkpoints"), format!("{}\n", forged.unwrap().note)).unwrap();
    });
    assert!(matches!(error, VerifyError::Checkpoint(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_log_is_never_called_damaged_while_batches_are_written() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    for _ in 0..40 {
        let writes = (0..50).map(|_| audit.write(Event::Intent(Box::new(entry(&ids)))));
        let writes = futures_util::future::join_all(writes);
        let folder = data.path().to_owned();
        let look = tokio::task::spawn_blocking(move || checked(&folder, None).unwrap());
        let (_, report) = tokio::join!(writes, look);
        let report = report.unwrap();
        assert_eq!((report.live, report.torn_bytes), (true, 0));
    }
    audit.close("test").await;
    let report = checked(data.path(), None).unwrap();
    assert_eq!((report.live, report.torn_bytes), (false, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_checkpoint_that_cannot_be_read_is_reported() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    audit.close("test").await;
    let file = data.path().join("log/checkpoint");
    let whole = fs::read(&file).unwrap();
    for broken in [&b""[..], b"nonsense", b"\xff\xfe", &whole[..whole.len() / 3]] {
        fs::write(&file, broken).unwrap();
        let error = checked(data.path(), None).unwrap_err();
        assert!(matches!(error, VerifyError::Newest { .. }), "{error}");
    }
    fs::write(&file, whole).unwrap();
    assert!(checked(data.path(), None).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_and_a_rebuilt_log_are_found_with_a_checkpoint_kept_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    audit.close("test").await;
    let older = crashed(data.path());
    let audit = open(data.path()).audit;
    audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    audit.close("test").await;
    let outside = audit.checkpoint().unwrap();
    assert!(
        checked(older.path(), None).is_ok(),
        "by itself the older copy is in order"
    );
    let error = checked(older.path(), Some(&outside)).unwrap_err();
    assert!(
        matches!(error, VerifyError::Cut { size, records } if size == outside.size && records == 3),
        "{error}"
    );

    let rebuilt = tempfile::tempdir().unwrap();
    for file in ["log.key", "log.pub"] {
        fs::copy(data.path().join(file), rebuilt.path().join(file)).unwrap();
    }
    let audit = open(rebuilt.path()).audit;
    for _ in 0..20 {
        audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    }
    audit.close("test").await;
    assert!(
        checked(rebuilt.path(), None).is_ok(),
        "whoever has the key can write another log"
    );
    let error = checked(rebuilt.path(), Some(&outside)).unwrap_err();
    assert!(
        matches!(error, VerifyError::Root { size, .. } if size == outside.size),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_dropped_and_is_no_damage_and_on_a_live_log_it_is_being_written() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let ids = ids();
    for _ in 0..20 {
        audit.write(Event::Intent(Box::new(entry(&ids)))).await.unwrap();
    }
    let left = crashed(data.path());
    let path = segment::path(&left.path().join("log"), 0);
    let all = frames(&path);
    let (at, last) = all.last().unwrap();
    let (frame, _) = segment::decode(last).unwrap();
    // The next batch: its first frame never reached the disk, its second did.
    let mut batch = segment::Batch::default();
    batch.begin(&[]);
    batch.add(frame.batch + 1, |bytes| bytes.extend_from_slice(&[b'x'; 500]));
    batch.add(frame.batch + 1, |bytes| bytes.extend_from_slice(&[b'y'; 500]));
    let bytes = batch.end(frame.batch + 1, &[9; 32])[FRAME + 500..].to_vec();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let beyond = (at + last.len() + FRAME + 500) as u64;
    file.write_all_at(&bytes, beyond).unwrap();

    // The same bytes while a gateway holds the log are a batch that it is just writing.
    let lock = fs::File::open(left.path().join("log/lock")).unwrap();
    lock.lock().unwrap();
    let report = checked(left.path(), None).unwrap();
    assert_eq!((report.records, report.torn_bytes, report.live), (21, 0, true));
    drop(lock);
    let report = checked(left.path(), None).unwrap();
    assert_eq!(
        (report.records, report.torn_bytes, report.live),
        (21, 2 * (FRAME as u64 + 500) + TAGGED as u64, false)
    );
    let Opened {
        audit: again,
        recovery,
    } = open(left.path());
    assert_eq!(
        (recovery.records, recovery.torn_bytes),
        (21, 2 * (FRAME as u64 + 500) + TAGGED as u64)
    );
    assert!(recovery.damage.is_empty() && recovery.epoch == 1);
    again.close("test").await;
    checked(left.path(), None).unwrap();
    let noted = records(left.path())
        .into_iter()
        .find_map(|record| match record.event {
            Event::Recovery(recovery) => Some(recovery.torn_bytes),
            _ => None,
        });
    assert_eq!(noted, Some(recovery.torn_bytes));

    // Were it a later batch, the lost one would have been acknowledged.
    let damaged = crashed(data.path());
    let path = segment::path(&damaged.path().join("log"), 0);
    batch.begin(&[]);
    batch.add(frame.batch + 2, |bytes| bytes.extend_from_slice(&[b'y'; 500]));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(batch.end(frame.batch + 2, &[9; 32]), beyond)
        .unwrap();
    assert!(matches!(
        checked(damaged.path(), None),
        Err(VerifyError::Record { seq: 21, segment: 0 })
    ));
    let Opened {
        audit: again,
        recovery,
    } = open(damaged.path());
    assert_eq!(
        (recovery.epoch, recovery.damage.len()),
        (2, 1),
        "{:?}",
        recovery.damage
    );
    again.close("test").await;
    assert!(
        segment::epoch_folder(&damaged.path().join("log"), 1)
            .join("0000000000.log")
            .exists()
    );
    let report = checked(damaged.path(), None).unwrap();
    assert_eq!((report.epoch, report.earlier.len()), (2, 1));
    assert!(report.earlier[0].damage.is_some());
    let named = records(damaged.path())
        .into_iter()
        .any(|record| match record.event {
            Event::Recovery(noted) => noted.damage == recovery.damage,
            _ => false,
        });
    assert!(named, "the new epoch names the loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_shorter_than_the_checkpoint_elsewhere_begins_a_new_epoch() {
    let data = tempfile::tempdir().unwrap();
    let outside = data.path().join("outside");
    let config = super::Config {
        outside: Some(outside.clone()),
        ..config(data.path())
    };
    let audit = Audit::open(config.clone(), key(data.path()), ORIGIN, ids())
        .unwrap()
        .audit;
    audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
    audit.close("test").await;
    let kept = Checkpoint::parse(&fs::read_to_string(&outside).unwrap()).unwrap();
    assert_eq!(Some(&kept), audit.checkpoint().as_ref());
    fs::remove_dir_all(data.path().join("log")).unwrap();
    let Opened { audit, recovery } = Audit::open(config, key(data.path()), ORIGIN, ids()).unwrap();
    assert_eq!((recovery.epoch, recovery.damage.len()), (2, 1));
    audit.close("test").await;
    assert!(checked(data.path(), Some(&kept)).is_err());
    assert!(checked(data.path(), None).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_has_outgrown_the_checkpoint_elsewhere_begins_a_new_epoch() {
    let data = tempfile::tempdir().unwrap();
    let write = async |data: &Path, count: usize| {
        let audit = open(data).audit;
        for _ in 0..count {
            audit.write(Event::Intent(Box::new(entry(&ids())))).await.unwrap();
        }
        audit.close("test").await;
        audit.checkpoint().unwrap()
    };
    write(data.path(), 1).await;
    let fork = crashed(data.path());
    let kept = write(data.path(), 3).await;
    let forked = write(fork.path(), 30).await;
    assert!(forked.size > kept.size);
    let outside = data.path().join("outside");
    fs::write(&outside, &kept.note).unwrap();
    for (data, damaged) in [(data.path(), false), (fork.path(), true)] {
        let config = super::Config {
            outside: Some(outside.clone()),
            ..config(data)
        };
        let Opened { audit, recovery } = Audit::open(config, key(data), ORIGIN, ids()).unwrap();
        audit.close("test").await;
        // Closing wrote a newer one there.
        fs::write(&outside, &kept.note).unwrap();
        assert_eq!(!recovery.damage.is_empty(), damaged, "{:?}", recovery.damage);
        assert_eq!(recovery.epoch, if damaged { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_stops_at_the_checkpoint_and_goes_on_when_there_is_a_newer_one() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    audit.close("test").await;
    let mut reader = Reader::last(&data.path().join("log"), 1).unwrap();
    assert_eq!(
        reader.read().unwrap().map(|found| found.record.event.name()),
        Some("stop")
    );
    assert_eq!(reader.read().unwrap(), None);
    let audit = open(data.path()).audit;
    audit
        .write(Event::Stop {
            reason: "one\nmore".into(),
        })
        .await
        .unwrap();
    audit.close("test").await;
    assert_eq!(reader.refresh().unwrap(), 5);
    let lines: Vec<_> = std::iter::from_fn(|| reader.read().unwrap())
        .map(|found| super::render::line(&found.record))
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].ends_with("3 stop one\u{fffd}more"), "{}", lines[1]);
}

/// A log in its second epoch, whose first was damaged, with its newest checkpoint.
async fn second_epoch(data: &Path) -> Checkpoint {
    finished(data, usize::MAX).await;
    let log = data.join("log");
    let last = segment::list(&log).unwrap().into_iter().max().unwrap();
    fs::remove_file(segment::path(&log, last)).unwrap();
    let again = open(data);
    assert_eq!(again.recovery.epoch, 2);
    again.audit.close("test").await;
    again.audit.checkpoint().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_epoch_that_was_altered_or_is_gone_does_not_verify() {
    let data = tempfile::tempdir().unwrap();
    let outside = second_epoch(data.path()).await;
    let report = checked(data.path(), Some(&outside)).unwrap();
    assert!(report.outside && report.earlier[0].damage.is_some());
    let altered = |what: &str, alter: &dyn Fn(&Path)| {
        let copy = crashed(data.path());
        alter(&copy.path().join("log/epoch-000001"));
        for outside in [None, Some(&outside)] {
            match checked(copy.path(), outside) {
                Err(VerifyError::Ended { epoch: 2, file, .. }) => assert!(file.starts_with("epoch-000001/")),
                other => panic!("{what}: {other:?}"),
            }
        }
        copy
    };
    altered("a record changed", &|old| {
        let path = segment::path(old, 0);
        let mut all: Vec<_> = frames(&path).into_iter().map(|(_, frame)| frame).collect();
        let record = framed(&all[10]);
        all[10] = reframed(&all[10], record.replace("submit job", "delete all").as_bytes());
        rewrite(&path, &all);
    });
    altered("a segment deleted", &|old| {
        fs::remove_file(segment::path(old, 0)).unwrap()
    });
    altered("a file added", &|old| {
        fs::write(old.join("0000000099.log"), b"x").unwrap()
    });
    let gone = altered("the folder gone", &|old| fs::remove_dir_all(old).unwrap());

    // A third epoch does not make it good.
    let log = gone.path().join("log");
    fs::remove_file(segment::path(&log, 0)).unwrap();
    let third = open(gone.path());
    assert_eq!(third.recovery.epoch, 3);
    third.audit.close("test").await;
    assert!(
        checked(gone.path(), None).is_ok(),
        "the second epoch's list is gone with its first file"
    );
    assert!(
        checked(gone.path(), Some(&outside)).is_err(),
        "the kept checkpoint tells"
    );
    let later = crashed(data.path());
    let log = later.path().join("log");
    fs::remove_dir_all(log.join("epoch-000001")).unwrap();
    fs::remove_file(log.join("checkpoint")).unwrap();
    fs::remove_file(log.join("checkpoints")).unwrap();
    let third = open(later.path());
    assert_eq!(third.recovery.epoch, 3, "{:?}", third.recovery.damage);
    third.audit.close("test").await;
    assert!(matches!(
        checked(later.path(), None),
        Err(VerifyError::Ended { epoch: 2, .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_their_checkpoints_are_damage_and_are_never_signed() {
    let data = tempfile::tempdir().unwrap();
    finished(data.path(), usize::MAX).await;
    let log = data.path().join("log");
    fs::remove_file(log.join("checkpoint")).unwrap();
    fs::remove_file(log.join("checkpoints")).unwrap();
    let last = segment::path(&log, segment::list(&log).unwrap().into_iter().max().unwrap());
    let mut all: Vec<_> = frames(&last).into_iter().map(|(_, frame)| frame).collect();
    let at = all.len() - 2;
    let record = framed(&all[at]);
    all[at] = reframed(&all[at], record.replace("submit job", "delete all").as_bytes());
    rewrite(&last, &all);
    assert!(matches!(
        checked(data.path(), None),
        Err(VerifyError::Unsigned(records)) if records > 1_000
    ));

    let again = open(data.path());
    let damage = &again.recovery.damage;
    assert_eq!((again.recovery.epoch, damage.len()), (2, 2), "{damage:?}");
    assert!(
        damage[0].contains("was changed") && damage[1].contains("no checkpoint"),
        "{damage:?}"
    );
    again.audit.close("test").await;
    let report = checked(data.path(), None).unwrap();
    assert_eq!(report.signed, report.records, "only the new epoch is signed");
    assert!(report.earlier[0].damage.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_checkpoint_is_there_before_anything_can_be_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let left = crashed(data.path());
    assert!(audit.checkpoint().is_some_and(|first| first.size >= 1));
    assert!(checked(left.path(), None).unwrap().signed >= 1);
    // The crash between the first file and its checkpoint is no damage: nothing but the list of open requests is there.
    let log = left.path().join("log");
    fs::remove_file(log.join("checkpoint")).unwrap();
    fs::remove_file(log.join("checkpoints")).unwrap();
    let again = open(left.path());
    assert!(again.recovery.damage.is_empty() && again.recovery.epoch == 1);
    again.audit.close("test").await;
    audit.close("test").await;
    checked(left.path(), None).unwrap();

    // So is the crash between an epoch's end and the first file of the next.
    for entry in fs::read_dir(&log).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".log") || name.starts_with("checkpoint") {
            fs::create_dir_all(log.join("epoch-000001")).unwrap();
            fs::rename(log.join(&name), log.join("epoch-000001").join(&name)).unwrap();
        }
    }
    let again = open(left.path());
    assert_eq!((again.recovery.epoch, again.recovery.damage.len()), (2, 1));
    again.audit.close("test").await;
    checked(left.path(), None).unwrap();
}
