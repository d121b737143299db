//! Dropping old segments: what goes, what stays, what a crash leaves, and what an attacker cannot make of it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::dropped::{self, Dropped};
use super::index::Query;
use super::prove::{Place, ProveError, prove};
use super::retain::{Bounds, Plan, plan};
use super::segment::{self, Batch, FRAME, HEADER, Header};
use super::testing::{ORIGIN, entry, ids, key, open, outcome, public, records};
use super::tree::{self, Edge};
use super::verify::{Report, VerifyError, verify};
use super::{Audit, Checkpoint, Restored};
use crate::clock::Timestamp;
use crate::record::{Event, Hash};

/// Later than anything that is written here.
pub(super) const LATER: Timestamp = Timestamp::from_secs(40_000_000_000);

pub(super) fn log(data: &Path) -> PathBuf {
    data.join("log")
}

pub(super) fn checked(data: &Path) -> Result<Report, VerifyError> {
    verify(&log(data), &public(data), None, |_| {})
}

/// Requests that have ended, over several segments.
pub(super) async fn fill(audit: &Audit) {
    let ids = ids();
    for _ in 0..40 {
        let mut events = Vec::new();
        for _ in 0..50 {
            let entry = entry(&ids);
            let outcome = outcome(entry.request);
            events.extend([Event::Intent(Box::new(entry)), Event::Outcome(Box::new(outcome))]);
        }
        audit.write_all(events).await.unwrap();
    }
    audit.search().catch_up().await.unwrap();
    let size = audit.size();
    while audit.checkpoint().is_none_or(|newest| newest.size < size) {
        tokio::task::yield_now().await;
    }
}

/// A log of several segments of which nothing was dropped, closed.
pub(super) async fn filled() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    fill(&audit).await;
    audit.close("test").await;
    assert!(segment::list(&log(data.path())).unwrap().len() > 4);
    data
}

/// Whatever a crash at this moment leaves.
pub(super) fn copied(data: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(data, to.path());
    to
}

fn planned(data: &Path) -> std::io::Result<Option<Plan>> {
    let key = public(data);
    let bounds = Bounds {
        records: u64::MAX,
        before: LATER,
        open: HashSet::new(),
        key: &key,
    };
    plan(&log(data), &bounds)
}

/// A log from which segments were dropped, closed.
async fn shortened() -> (tempfile::TempDir, Dropped) {
    let data = filled().await;
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let said = audit.drop_older(LATER).await.unwrap().expect("something to drop");
    assert!(
        said.segments > 0 && said.records > 0 && said.total == said.segments,
        "{said:?}"
    );
    audit.close("test").await;
    let dropped = dropped::read(&log(data.path())).unwrap().unwrap();
    assert!(dropped.is_said_by(&said));
    (data, dropped)
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_segments_are_gone_and_the_rest_verifies_is_proved_and_goes_on() {
    let (data, dropped) = shortened().await;
    let there = segment::list(&log(data.path())).unwrap();
    assert_eq!(there.first(), Some(&dropped.segments));
    let report = checked(data.path()).unwrap();
    let said = report.dropped.expect("it is told");
    assert_eq!(
        (said.records, said.record, said.epochs),
        (dropped.records(), dropped.record, 0)
    );
    assert_eq!(records(data.path())[0].seq, dropped.records());

    // What is left is proved; what is gone is said to be.
    let public = public(data.path());
    for seq in [dropped.records(), dropped.record] {
        let proof = prove(&log(data.path()), Place { epoch: 1, seq }).unwrap();
        proof.checkpoint().check(&public).unwrap();
    }
    let gone = prove(
        &log(data.path()),
        Place {
            epoch: 1,
            seq: dropped.records() - 1,
        },
    );
    assert!(
        matches!(gone, Err(ProveError::Dropped { first, said, .. }) if (first, said) == (dropped.records(), dropped.record)),
        "{gone:?}"
    );

    // It goes on, is dropped from again (and with that the record of the first time), and is found whole at each start.
    let opened = open(data.path());
    assert_eq!(opened.recovery.damage, [""; 0]);
    fill(&opened.audit).await;
    let again = opened.audit.drop_older(LATER).await.unwrap().unwrap();
    assert!(again.records > dropped.record, "{again:?}");
    let query = Query {
        limit: 1_000,
        fresh: true,
        ..Query::default()
    };
    let page = opened.audit.search().search(&query).await.unwrap();
    assert!(page.records.iter().all(|record| record.seq >= again.records) && !page.records.is_empty());
    opened.audit.close("test").await;
    let report = checked(data.path()).unwrap();
    assert_eq!(report.dropped.unwrap().records, again.records);
    assert_eq!(open(data.path()).recovery.damage, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_made_anew_begins_behind_what_was_dropped() {
    let (data, dropped) = shortened().await;
    let _ = fs::remove_file(data.path().join("index.db"));
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let onward = super::index::Position { epoch: 1, seq: 0 };
    let query = Query {
        onward: Some(onward),
        limit: 1,
        fresh: true,
        ..Query::default()
    };
    let page = audit.search().search(&query).await.unwrap();
    assert_eq!(page.records[0].seq, dropped.records());
    audit.close("test").await;
    super::index::rebuild(&log(data.path()), &data.path().join("index.db"), |_| {})
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_or_open_or_not_seen_by_the_witness_stays() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    fill(&audit).await;
    assert_eq!(
        audit.drop_older(Timestamp::from_secs(1_000)).await.unwrap(),
        None,
        "young"
    );

    // A cosigned checkpoint of the second segment: the witness asks how the log goes on from there.
    let second = Header::read(&segment::path(&log(data.path()), 1))
        .unwrap()
        .unwrap()
        .first();
    let notes = fs::read_to_string(log(data.path()).join("checkpoints")).unwrap();
    let mut reader = notes.as_bytes();
    let mut seen = None;
    while let Some(note) = super::checkpoint::next_note(&mut reader).unwrap() {
        let one = Checkpoint::parse(&note).unwrap();
        seen = seen.or(Some(one.clone()).filter(|one| one.size >= second));
    }
    let seen = seen.unwrap();
    let cosignatures = log(data.path()).join("cosignatures");
    fs::write(&cosignatures, format!("{}\n", seen.note)).unwrap();
    let said = audit
        .drop_older(LATER)
        .await
        .unwrap()
        .expect("the first segment at least");
    assert!(said.records <= seen.size, "{said:?}");
    fs::remove_file(&cosignatures).unwrap();

    // A request that began long ago and goes on: its segment stays, and so does what follows.
    let long = audit.intent(entry(&ids()), Vec::new()).await.unwrap();
    let began = audit.size();
    fill(&audit).await;
    while audit.drop_older(LATER).await.unwrap().is_some() {}
    let first = dropped::first(&log(data.path())).unwrap();
    assert!(first < began, "{first} {began}");
    let ended = outcome(long.request());
    long.outcome(ended).await.unwrap();
    fill(&audit).await;
    while audit.drop_older(LATER).await.unwrap().is_some() {}
    assert!(dropped::first(&log(data.path())).unwrap() > began);
    audit.close("test").await;
    checked(data.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_any_two_steps_is_harmless_or_finished_at_the_next_start() {
    let data = filled().await;
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let mut plan = planned(data.path()).unwrap().unwrap();
    let said = plan.events();
    let seqs = audit
        .write_all(said.into_iter().map(Event::LogDropped).collect())
        .await
        .unwrap();
    plan.dropped.record = seqs[0];
    audit.close("test").await;
    let finished = |left: &Path, what: &str| {
        let report = checked(left).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.records > seqs[0], "{what}");
        let opened = open(left);
        assert_eq!(opened.recovery.damage, [""; 0], "{what}");
        opened.audit
    };

    // The record stands, nothing else.
    let left = copied(data.path());
    let audit = finished(left.path(), "record");
    audit.search().catch_up().await.unwrap();
    audit.drop_older(LATER).await.unwrap().expect("it is done then");
    audit.close("test").await;
    assert!(checked(left.path()).unwrap().dropped.is_some());

    // The edge file, and of the files none, or some, are gone.
    plan.dropped.store(&log(data.path())).unwrap();
    for gone in 0..=plan.dropped.segments {
        if let Some(last) = gone.checked_sub(1) {
            fs::remove_file(segment::path(&log(data.path()), last)).unwrap();
        }
        let left = copied(data.path());
        let audit = finished(left.path(), &format!("{gone} files"));
        assert_eq!(checked(left.path()).unwrap().dropped.unwrap().record, seqs[0]);
        audit.drop_older(Timestamp::from_secs(0)).await.unwrap();
        audit.close("test").await;
        let there = segment::list(&log(left.path())).unwrap();
        assert_eq!(there[0], plan.dropped.segments, "the rest of them is gone");
        checked(left.path()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_deletes_segments_is_found_whatever_she_writes_beside_them() {
    let whole = filled().await;
    let (data, dropped) = shortened().await;
    let tampered = |from: &Path, tamper: &dyn Fn(&Path)| {
        let copy = copied(from);
        tamper(&log(copy.path()));
        checked(copy.path()).expect_err("it is found")
    };
    let remove = |log: &Path, index| fs::remove_file(segment::path(log, index)).unwrap();
    /// The edge at the head of a segment, as whoever holds the folder can make it.
    fn edge_at(log: &Path, segments: u64, record: u64) -> Dropped {
        let edge = Header::read(&segment::path(log, segments)).unwrap().unwrap().edge;
        Dropped {
            epoch: 1,
            segments,
            edge,
            epochs: 0,
            record,
            before: LATER,
        }
    }

    let error = tampered(whole.path(), &|log| remove(log, 0));
    assert!(matches!(error, VerifyError::SegmentMissing(0)), "{error}");
    let error = tampered(whole.path(), &|log| {
        let edge = edge_at(log, 1, 600);
        edge.store(log).unwrap();
        remove(log, 0);
    });
    assert!(
        matches!(error, VerifyError::NotDropped { record: 600, .. }),
        "{error}"
    );

    // One more than the log says.
    let (next, said) = (dropped.segments, dropped.record);
    let error = tampered(data.path(), &|log| remove(log, next));
    assert!(
        matches!(error, VerifyError::SegmentMissing(index) if index == next),
        "{error}"
    );
    let error = tampered(data.path(), &|log| {
        edge_at(log, next + 1, said).store(log).unwrap();
        remove(log, next);
    });
    assert!(matches!(error, VerifyError::NotDropped { .. }), "{error}");

    // Another edge, alone, and with the segment's head made to fit, and without the file.
    let forged = |size: u64| {
        let peaks = (0..size.count_ones())
            .map(|n| Hash::of(&n.to_le_bytes()))
            .collect();
        Edge::new(size, peaks).unwrap()
    };
    let false_edge = Dropped {
        edge: forged(dropped.records()),
        ..dropped.clone()
    };
    let error = tampered(data.path(), &|log| false_edge.store(log).unwrap());
    assert!(matches!(error, VerifyError::Continuation { .. }), "{error}");
    let error = tampered(data.path(), &|log| {
        false_edge.store(log).unwrap();
        let path = segment::path(log, next);
        let header = Header::read(&path).unwrap().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let forged = Header {
            edge: forged(dropped.records()),
            ..header
        }
        .encode();
        bytes[..HEADER].copy_from_slice(&forged);
        fs::write(path, bytes).unwrap();
    });
    assert!(
        matches!(error, VerifyError::Continuation { .. } | VerifyError::Root { .. }),
        "{error}"
    );
    let error = tampered(data.path(), &|log| {
        fs::remove_file(log.join(dropped::NAME)).unwrap()
    });
    assert!(matches!(error, VerifyError::SegmentMissing(0)), "{error}");
    let error = tampered(data.path(), &|log| {
        fs::write(log.join(dropped::NAME), "{}").unwrap()
    });
    assert!(matches!(error, VerifyError::Edge(_)), "{error}");

    // A start sees it too, and does not sign on.
    let copy = copied(data.path());
    false_edge.store(&log(copy.path())).unwrap();
    let opened = open(copy.path());
    assert!(!opened.recovery.damage.is_empty() && opened.recovery.epoch == 2);
    opened.audit.close("test").await;
}

/// Rewrites a closed log with one record changed, every checksum and every edge made to fit.
fn rebuilt(log: &Path) {
    let (mut edge, mut first) = (Edge::default(), true);
    for index in segment::list(log).unwrap() {
        let path = segment::path(log, index);
        let (header, bytes) = (Header::read(&path).unwrap().unwrap(), fs::read(&path).unwrap());
        let mut made = Header {
            edge: edge.clone(),
            ..header
        }
        .encode();
        let mut at = HEADER;
        while let Some((frame, record)) = segment::decode(&bytes[at..]) {
            at += FRAME + frame.length;
            if frame.tag {
                continue;
            }
            let mut record = record.to_vec();
            if std::mem::take(&mut first) {
                let salt = record.windows(8).position(|part| part == b"\"salt\":\"").unwrap() + 8;
                record[salt] = if record[salt] == b'0' { b'1' } else { b'0' };
            }
            let mut batch = Batch::default();
            batch.begin(&[]);
            batch.add(frame.batch, |to| to.extend_from_slice(&record));
            made.extend_from_slice(batch.end(frame.batch, &[9; 32]));
            edge.push(tree::leaf(&record));
        }
        made.resize(bytes.len(), 0);
        fs::write(path, made).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_signed_is_evidence_and_stays() {
    let data = filled().await;
    let changed = copied(data.path());
    let path = segment::path(&log(changed.path()), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER + 200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = planned(changed.path()).unwrap_err().to_string();
    assert!(error.contains("not those that were signed"), "{error}");
    let changed = copied(data.path());
    rebuilt(&log(changed.path()));
    let error = planned(changed.path()).unwrap_err().to_string();
    assert!(error.contains("not those that were signed"), "{error}");
    assert!(planned(data.path()).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_that_ended_go_whole_and_before_the_beginning_of_the_one_after_them() {
    let data = filled().await;
    let mark = Restored {
        epoch: 77,
        reason: "restored: a test".into(),
        key: None,
    };
    mark.mark(&log(data.path()), &key(data.path()), ORIGIN).unwrap();
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let said = audit.drop_older(LATER).await.unwrap().unwrap();
    assert_eq!(
        (said.epoch, said.epochs, said.segments, said.records),
        (77, 1, 0, 0)
    );
    assert!(
        said.files
            .iter()
            .any(|file| file.name == "epoch-000001/checkpoints"),
        "{said:?}"
    );
    assert!(segment::epochs(&log(data.path())).unwrap().is_empty());
    let gone = prove(&log(data.path()), Place { epoch: 1, seq: 1 });
    assert!(
        matches!(gone, Err(ProveError::EpochDropped { epoch: 1, .. })),
        "{gone:?}"
    );
    audit.close("test").await;
    let report = checked(data.path()).unwrap();
    assert_eq!((report.dropped.unwrap().epochs, report.earlier.len()), (1, 0));

    let audit = open(data.path()).audit;
    fill(&audit).await;
    let said = audit.drop_older(LATER).await.unwrap().unwrap();
    assert_eq!((said.epochs, said.segments > 0), (1, true));
    audit.close("test").await;
    assert_eq!(checked(data.path()).unwrap().dropped.unwrap().epochs, 1);
    assert_eq!(open(data.path()).recovery.damage, [""; 0]);

    // An epoch that somebody deletes is missed.
    let data = filled().await;
    mark.mark(&log(data.path()), &key(data.path()), ORIGIN).unwrap();
    open(data.path()).audit.close("test").await;
    fs::remove_dir_all(log(data.path()).join("epoch-000001")).unwrap();
    let error = checked(data.path()).unwrap_err();
    assert!(matches!(error, VerifyError::Ended { epoch: 77, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_an_epoch_ends_never_leads_to_a_second_tree_under_its_name() {
    let (data, _) = shortened().await;
    let aside = |data: &Path, moves: &dyn Fn(&str) -> bool| {
        let aside = segment::epoch_folder(&log(data), 1);
        fs::create_dir(&aside).unwrap();
        for entry in fs::read_dir(log(data)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if moves(&name) {
                fs::rename(log(data).join(&name), aside.join(&name)).unwrap();
            }
        }
    };
    let checkpoint = |name: &str| name.starts_with("checkpoint");
    type Moves<'a> = &'a dyn Fn(&str) -> bool;
    let cut: [(&str, Moves<'_>); 4] = [
        ("all but the edge file", &|name| {
            segment::is_segment(name) || checkpoint(name)
        }),
        ("the edge file alone", &|name| name == dropped::NAME),
        ("all but the checkpoints", &|name| {
            segment::is_segment(name) || name == dropped::NAME
        }),
        ("everything", &|name| {
            segment::is_segment(name) || checkpoint(name) || name == dropped::NAME
        }),
    ];
    for (what, moves) in cut {
        let left = copied(data.path());
        aside(left.path(), moves);
        let again = open(left.path());
        assert_eq!(again.recovery.epoch, 2, "{what}");
        assert!(!again.recovery.damage.is_empty(), "{what}");
        again.audit.close("test").await;
        assert!(!log(left.path()).join(dropped::NAME).exists(), "{what}");
        let report = checked(left.path()).unwrap();
        assert_eq!((report.epoch, report.earlier.len()), (2, 1), "{what}");
        assert_eq!(report.earlier[0].damage, None, "{what}: it is all there");
        let again = open(left.path());
        assert_eq!(
            (again.recovery.epoch, again.recovery.damage.len()),
            (2, 0),
            "{what}"
        );
        again.audit.close("test").await;
    }
    // The edge file alone is no log that was never there, nor one that goes on.
    let left = copied(data.path());
    for entry in fs::read_dir(log(left.path())).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if segment::is_segment(&name) || checkpoint(&name) {
            fs::remove_file(path).unwrap();
        }
    }
    let again = open(left.path());
    assert_eq!((again.recovery.epoch, again.recovery.damage.len()), (2, 1));
    again.audit.close("test").await;
}

/// A log of compressed segments whose next start begins epoch 9.
async fn about_to_end() -> tempfile::TempDir {
    let data = filled().await;
    let audit = open(data.path()).audit;
    while audit.tidy_one().await.unwrap() {}
    audit.close("test").await;
    let mark = Restored {
        epoch: 9,
        reason: "restored: a test".into(),
        key: None,
    };
    mark.mark(&log(data.path()), &key(data.path()), ORIGIN).unwrap();
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_an_epoch_that_ended_does_not_keep_the_log_from_starting() {
    let data = about_to_end().await;
    open(data.path()).audit.close("test").await;
    let packed = segment::epoch_folder(&log(data.path()), 1).join("0000000000.log.zst");
    let bytes = fs::read(&packed).unwrap();
    for length in [bytes.len() / 2, 60] {
        let mut bytes = bytes.clone();
        bytes[40..length].fill(7);
        fs::write(&packed, &bytes).unwrap();
        let again = open(data.path());
        assert_eq!((again.recovery.epoch, again.recovery.damage.len()), (9, 0));
        again.audit.close("test").await;
    }
    let error = checked(data.path()).unwrap_err();
    assert!(matches!(error, VerifyError::Ended { epoch: 9, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_does_not_end_by_half_while_the_archive_is_away() {
    let data = about_to_end().await;
    let packed = log(data.path()).join("0000000000.log.zst");
    let archive = tempfile::tempdir().unwrap();
    let (there, away) = (archive.path().join("there"), archive.path().join("away"));
    fs::create_dir(&there).unwrap();
    fs::copy(&packed, there.join("0000000000.log.zst")).unwrap();
    fs::remove_file(&packed).unwrap();
    std::os::unix::fs::symlink(there.join("0000000000.log.zst"), &packed).unwrap();
    fs::rename(&there, &away).unwrap();
    for _ in 0..2 {
        let opened = Audit::open(
            super::testing::config(data.path()),
            key(data.path()),
            ORIGIN,
            ids(),
        );
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("mount the archive"), "{error}");
        assert!(segment::epochs(&log(data.path())).unwrap().is_empty());
    }
    fs::rename(&away, &there).unwrap();
    let again = open(data.path());
    assert_eq!((again.recovery.epoch, again.recovery.damage.len()), (9, 0));
    again.audit.close("test").await;
    checked(data.path()).unwrap();
}

/// A log whose first epoch ended, closed.
async fn ended() -> tempfile::TempDir {
    let data = filled().await;
    let mark = Restored {
        epoch: 77,
        reason: "restored: a test".into(),
        key: None,
    };
    mark.mark(&log(data.path()), &key(data.path()), ORIGIN).unwrap();
    let audit = open(data.path()).audit;
    fill(&audit).await;
    audit.close("test").await;
    data
}

/// Gives the segments in `folder` heads that say that they are very old.
fn made_old(folder: &Path) {
    for index in segment::list(folder).unwrap() {
        let path = segment::path(folder, index);
        let time = Timestamp::from_secs(1);
        let head = Header {
            time,
            ..Header::read(&path).unwrap().unwrap()
        };
        let mut bytes = fs::read(&path).unwrap();
        bytes[..HEADER].copy_from_slice(&head.encode());
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_file_that_no_signed_record_says_drops_nothing_and_is_damage() {
    let data = filled().await;
    let folder = log(data.path());
    let head = Header::read(&segment::path(&folder, 3)).unwrap().unwrap();
    let there = segment::list(&folder).unwrap();
    let last = records(data.path()).last().unwrap().seq;
    for record in [head.first(), last, last + 1_000_000] {
        let forged = Dropped {
            epoch: 1,
            segments: 3,
            edge: head.edge.clone(),
            epochs: 0,
            record,
            before: LATER,
        };
        forged.store(&folder).unwrap();
        let error = planned(data.path()).unwrap_err().to_string();
        assert!(error.contains("not what a signed record says"), "{error}");
        assert_eq!(segment::list(&folder).unwrap(), there, "nothing is gone");
        // Nor with the segments taken away is a hole signed.
        let copy = copied(data.path());
        for index in 0..3 {
            fs::remove_file(segment::path(&log(copy.path()), index)).unwrap();
        }
        let opened = open(copy.path());
        assert_eq!(opened.recovery.epoch, 2, "{:?}", opened.recovery.damage);
        opened.audit.close("test").await;
    }
    let opened = open(data.path());
    assert_eq!(opened.recovery.epoch, 2, "{:?}", opened.recovery.damage);
    opened.audit.close("test").await;
    let kept = segment::epoch_folder(&folder, 1);
    assert_eq!(segment::list(&kept).unwrap(), there, "they are put aside whole");

    // One that is true, but says more than the record.
    let (data, dropped) = shortened().await;
    let more = Dropped {
        epochs: dropped.epoch - 1,
        segments: dropped.segments + 1,
        ..dropped
    };
    more.store(&log(data.path())).unwrap();
    planned(data.path()).unwrap_err();
    assert!(segment::path(&log(data.path()), dropped.segments).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_heads_were_made_old_stays_with_its_young_records() {
    let data = ended().await;
    let folder = log(data.path());
    let old = segment::epoch_folder(&folder, 1);
    made_old(&folder);
    let key = public(data.path());
    let bounds = Bounds {
        records: u64::MAX,
        before: Timestamp::from_secs(1_000),
        open: HashSet::new(),
        key: &key,
    };
    assert!(plan(&folder, &bounds).unwrap().is_none());
    assert!(
        planned(data.path()).unwrap().is_some(),
        "old, and what was signed"
    );
    made_old(&old);
    assert!(plan(&folder, &bounds).unwrap().is_none());
    let error = planned(data.path()).unwrap_err().to_string();
    assert!(error.contains("not those that were signed"), "{error}");
    let bounds = Bounds {
        records: 0,
        before: LATER,
        open: HashSet::new(),
        key: &key,
    };
    assert!(plan(&folder, &bounds).unwrap().is_none(), "not indexed");
}
