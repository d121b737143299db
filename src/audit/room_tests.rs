//! A log with little room, or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keeper::Keeper;
use super::queue::Shared;
use super::testing::{ORIGIN, config, entry, ids, key, outcome, public, records};
use super::verify::verify;
use super::{Audit, AuditError, Checkpoint, Config, Space};
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

/// From here on no segment can be made; gives what is in the way.
async fn no_more_segments(folder: &Path) -> Vec<PathBuf> {
    let reserved = folder.join("spare-reserved");
    until("a reserved segment", || reserved.exists()).await;
    let in_the_way: Vec<_> = (1..100).map(|n| folder.join(format!("spare-{n}.tmp"))).collect();
    in_the_way.iter().for_each(|path| fs::create_dir(path).unwrap());
    in_the_way
}

/// Writes until there is no room.
async fn fill(audit: &Audit, ids: &Ids) {
    for _ in 0..10_000 {
        let entry = entry(ids);
        let request = entry.request;
        match audit.intent(entry, Vec::new()).await {
            Ok(receipt) => receipt.outcome_soon(outcome(request)),
            Err(error) => return assert_eq!(error, AuditError::NoSpace),
        }
    }
    panic!("there is room for everything");
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
    let in_the_way = no_more_segments(&folder).await;
    let ids = ids();
    let kept = entry(&ids);
    let kept_request = kept.request;
    let receipt = audit.intent(kept, Vec::new()).await.unwrap();
    fill(&audit, &ids).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_waits_for_room_is_written_into_the_reserve_when_the_gateway_stops() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(config(data.path()), data.path());
    no_more_segments(&data.path().join("log")).await;
    let ids = ids();
    let kept = entry(&ids);
    let request = kept.request;
    let receipt = audit.intent(kept, Vec::new()).await.unwrap();
    fill(&audit, &ids).await;
    receipt.outcome_soon(outcome(request));
    audit.close("test").await;
    let records = records(data.path());
    let ended =
        |record: &&Record| record.event.name() == "outcome" && record.event.request() == Some(request);
    assert!(records.iter().any(|record| ended(&record)));
}

#[tokio::test]
async fn where_the_reserve_is_in_use_a_smaller_one_is_made_of_the_room_that_is_left() {
    let data = tempfile::tempdir().unwrap();
    let config = config(data.path());
    let (folder, whole) = (config.folder.clone(), config.segment_bytes);
    fs::create_dir(&folder).unwrap();
    let shared = Arc::new(Shared::new(config, ids(), 1, None));
    let keeper = Keeper::new(shared, key(data.path()), ORIGIN.into());
    // One that the keeper's own thread is making at this moment is left alone.
    let in_the_making = folder.join("spare-reserved.tmp");
    fs::write(&in_the_making, "zeros").unwrap();
    let made = keeper.reserved().unwrap();
    assert_eq!(fs::metadata(&made).unwrap().len(), whole / 2);
    assert_ne!(made, folder.join("spare-reserved"));
    assert_eq!(fs::read_to_string(in_the_making).unwrap(), "zeros");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_leave_the_machine_though_they_cannot_be_stored_here() {
    let data = tempfile::tempdir().unwrap();
    let outside = data.path().join("outside");
    let config = Config {
        outside: Some(outside.clone()),
        ..config(data.path())
    };
    let audit = open(config, data.path());
    // What the newest one is written to before it gets its name.
    fs::create_dir(data.path().join("log/checkpoint.new")).unwrap();
    let entry = entry(&ids());
    let request = entry.request;
    let receipt = audit.intent(entry, Vec::new()).await.unwrap();
    receipt.outcome(outcome(request)).await.unwrap();
    let size = audit.size();
    let left = || {
        let note = fs::read_to_string(&outside).unwrap_or_default();
        Checkpoint::parse(&note).map_or(0, |left| left.size)
    };
    until("a checkpoint outside", || left() >= size).await;
    let all = fs::read_to_string(data.path().join("log/checkpoints")).unwrap();
    let mut notes: Vec<&str> = all.lines().filter(|line| line.starts_with('\u{2014}')).collect();
    let count = notes.len();
    notes.dedup();
    assert_eq!(notes.len(), count, "none is appended twice");
}

/// Found by putting back an older state and leaving the file of cosigned checkpoints where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_shorter_than_what_a_witness_cosigned_is_not_continued() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    open(config(data.path()), data.path()).close("first").await;
    let old: Vec<_> = fs::read_dir(&log)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    open(config(data.path()), data.path()).close("second").await;
    let newer = fs::read_to_string(log.join("checkpoint")).unwrap();
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir(&log).unwrap();
    for (path, bytes) in old {
        fs::write(path, bytes).unwrap();
    }
    fs::write(log.join("cosignatures"), format!("{newer}\n")).unwrap();
    let opened = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids()).unwrap();
    assert_eq!((opened.recovery.damage.len(), opened.recovery.epoch), (1, 2));
    opened.audit.close("test").await;

    // One that was not signed by this log is no reason to go on in silence either.
    fs::write(log.join("cosignatures"), "nothing of the kind\n\n").unwrap();
    let refused = Audit::open(config(data.path()), key(data.path()), ORIGIN, ids()).unwrap_err();
    assert!(matches!(refused, AuditError::Checkpoint { .. }), "{refused}");
}
