//! A log with little room, or none.

use std::fs;
use std::path::Path;

use super::testing::{ORIGIN, config, entry, ids, key, outcome, public, records};
use super::verify::verify;
use super::{Audit, AuditError, Config, Space};
use crate::id::Ids;
use crate::record::{Entry, Event, OPERATOR, Record};

fn open(config: Config, data: &Path) -> Audit {
    Audit::open(config, key(data), ORIGIN, ids()).unwrap().audit
}

fn of_the_operator(ids: &Ids) -> Entry {
    let mut entry = entry(ids);
    entry.subject.kind = OPERATOR.into();
    entry
}

fn rooms(records: &[Record]) -> Vec<(u64, String)> {
    let room = |record: &Record| match &record.event {
        Event::LogDegraded(degraded) => Some((record.seq, degraded.room.clone())),
        _ => None,
    };
    records.iter().filter_map(room).collect()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waited)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_space_has_run_out_everybody_is_refused_but_the_operator() {
    let data = tempfile::tempdir().unwrap();
    let short = Config {
        min_free_bytes: u64::MAX,
        stop_free_bytes: u64::MAX,
        ..config(data.path())
    };
    let audit = open(short, data.path());
    assert_eq!((audit.space(), audit.accepting()), (Space::Stopped, false));
    let ids = ids();
    let refused = audit.intent(entry(&ids), Vec::new()).await.unwrap_err();
    assert_eq!(refused, AuditError::NoSpace);
    let allowed = of_the_operator(&ids);
    let request = allowed.request;
    let receipt = audit.intent(allowed, Vec::new()).await.unwrap();
    receipt.outcome(outcome(request)).await.unwrap();
    audit.close("test").await;
    let records = records(data.path());
    assert_eq!(rooms(&records).first().unwrap().1, "stopped");
    let sum = |record: &Record| match record.event {
        Event::Unwritten { count, .. } => count,
        _ => 0,
    };
    assert_eq!(records.iter().map(sum).sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn little_space_is_told_and_refuses_no_record() {
    let data = tempfile::tempdir().unwrap();
    let low = Config {
        min_free_bytes: u64::MAX,
        ..config(data.path())
    };
    let audit = open(low, data.path());
    assert_eq!((audit.space(), audit.accepting()), (Space::Low, true));
    let entry = entry(&ids());
    let request = entry.request;
    let receipt = audit.intent(entry, Vec::new()).await.unwrap();
    receipt.outcome(outcome(request)).await.unwrap();
    audit.close("test").await;
    assert_eq!(rooms(&records(data.path()))[0].1, "low");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserved_segment_is_for_the_operator_and_outcomes_come_after_it() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(config(data.path()), data.path());
    let folder = data.path().join("log");
    let reserved = folder.join("spare-reserved");
    until("a reserved segment", || reserved.exists()).await;
    // From here on no segment can be made.
    let in_the_way: Vec<_> = (1..100).map(|n| folder.join(format!("spare-{n}.tmp"))).collect();
    in_the_way.iter().for_each(|path| fs::create_dir(path).unwrap());
    let ids = ids();
    let kept = entry(&ids);
    let kept_request = kept.request;
    let receipt = audit.intent(kept, Vec::new()).await.unwrap();
    let mut written = 0;
    let refused = loop {
        let entry = entry(&ids);
        let request = entry.request;
        match audit.intent(entry, Vec::new()).await {
            Ok(receipt) => receipt.outcome_soon(outcome(request)),
            Err(error) => break error,
        }
        written += 1;
        assert!(written < 10_000);
    };
    assert_eq!(refused, AuditError::NoSpace);
    assert_eq!((audit.space(), audit.accepting()), (Space::Reserved, false));
    receipt.outcome_soon(outcome(kept_request));
    let operator = of_the_operator(&ids);
    let operators = operator.request;
    let operators_receipt = audit.intent(operator, Vec::new()).await.unwrap();
    in_the_way.iter().for_each(|path| fs::remove_dir(path).unwrap());
    until("room again", || audit.space() == Space::Ok).await;
    operators_receipt.outcome(outcome(operators)).await.unwrap();
    let after = entry(&ids);
    let request = after.request;
    let receipt = audit.intent(after, Vec::new()).await.unwrap();
    receipt.outcome(outcome(request)).await.unwrap();
    until("another reserved segment", || reserved.exists()).await;
    audit.close("test").await;

    let records = records(data.path());
    let rooms = rooms(&records);
    let [(from, reserved), (to, ok)] = rooms.as_slice() else {
        panic!("{rooms:?}")
    };
    assert_eq!((reserved.as_str(), ok.as_str()), ("reserved", "ok"));
    let seq = |name: &str, request| {
        let found = records
            .iter()
            .find(|record| record.event.name() == name && record.event.request() == Some(request));
        found.unwrap().seq
    };
    assert!((*from..*to).contains(&seq("intent", operators)));
    assert!(seq("outcome", kept_request) > *to, "kept until there was room");
    let inside = records.iter().filter(|record| (*from..*to).contains(&record.seq));
    assert!(inside.clone().all(|record| record.event.is_vital()));
    let report = verify(&folder, &public(data.path()), None, |_| {}).unwrap();
    assert_eq!(report.records, records.len() as u64);
}
