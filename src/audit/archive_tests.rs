//! Compressed and moved segments are the same log to everybody who reads it, at every moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::Tidy;
use super::copy;
use super::export::Files;
use super::packed;
use super::prove::{Place, prove};
use super::retain_tests::{LATER, checked, copied, fill, filled, log};
use super::segment;
use super::testing::{config, entry, ids, key, open, public, records};
use super::verify::{VerifyError, verify};
use super::{Audit, Config, testing};
use crate::record::Event;

fn go_on() -> io::Result<()> {
    Ok(())
}

/// Compresses what is old, and moves it where there is an archive. Gives how many steps that took.
fn tidied(data: &Path, archive: Option<&Path>) -> usize {
    let tidy = Tidy {
        folder: &log(data),
        compress: true,
        archive,
        go_on: &go_on,
    };
    (0..).take_while(|_| tidy.one().unwrap()).count()
}

fn small(data: &Path, index: u64) -> PathBuf {
    packed::packed(&segment::path(&log(data), index))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_log_is_the_same_to_every_reader() {
    let data = filled().await;
    let (before, all) = (checked(data.path()).unwrap(), records(data.path()));
    let bytes: u64 = sizes(data.path());
    assert!(tidied(data.path(), None) > 0);
    assert_eq!(tidied(data.path(), None), 0, "once is enough");
    assert!(small(data.path(), 0).is_file() && !segment::path(&log(data.path()), 0).exists());
    assert!(sizes(data.path()) < bytes);
    assert_eq!(checked(data.path()).unwrap(), before);
    assert_eq!(records(data.path()), all);
    for seq in [0, 1, 500, all.len() as u64 - 1] {
        let proof = prove(&log(data.path()), Place { epoch: 1, seq }).unwrap();
        proof.checkpoint().check(&public(data.path())).unwrap();
    }
    let mut files = Files::open(&log(data.path())).unwrap();
    let exported = std::iter::from_fn(|| files.read().unwrap()).count();
    assert_eq!(exported, all.len());
    assert!(files.checked(&public(data.path())).unwrap().is_some());

    // An index made anew, searches, more records, a copy, and what is dropped.
    fs::remove_file(data.path().join("index.db")).unwrap();
    let opened = open(data.path());
    assert_eq!(opened.recovery.damage, [""; 0]);
    let audit = opened.audit;
    let wanted = &all[3];
    let request = wanted.event.request().unwrap();
    let found = audit.search().request(request).await.unwrap();
    assert!(found.contains(wanted), "{found:?}");
    fill(&audit).await;
    while audit.tidy_one().await.unwrap() {}
    checked(data.path()).unwrap();
    let plan = copy::plan(&log(data.path()), true).unwrap();
    let to = tempfile::tempdir().unwrap();
    for part in &plan.files {
        let mut content = part
            .content
            .clone()
            .unwrap_or_else(|| fs::read(&part.path).unwrap());
        content.truncate(usize::try_from(part.bytes).unwrap());
        fs::write(to.path().join(&part.name), content).unwrap();
    }
    verify(to.path(), &public(data.path()), None, |_| {}).unwrap();
    drop(plan);
    let dropped = audit.drop_older(LATER).await.unwrap().unwrap();
    assert_eq!(dropped.files[0].name, "0000000000.log.zst");
    assert!(!small(data.path(), 0).exists());
    audit.close("test").await;
    checked(data.path()).unwrap();
}

fn sizes(data: &Path) -> u64 {
    let files = fs::read_dir(log(data)).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| segment::is_segment(path.file_name().unwrap().to_str().unwrap()))
        .map(|path| fs::metadata(path).unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_compressing_leaves_a_log_that_reads_the_same() {
    let data = filled().await;
    let whole = checked(data.path()).unwrap();
    let done = copied(data.path());
    assert!(tidied(done.path(), None) > 0);
    let compressed = fs::read(small(done.path(), 0)).unwrap();
    let unfinished = log(data.path()).join("0000000000.log.zst.new");
    let both = |content: &[u8]| {
        let left = copied(data.path());
        fs::write(small(left.path(), 0), content).unwrap();
        left
    };
    let half = copied(data.path());
    fs::write(
        log(half.path()).join(unfinished.file_name().unwrap()),
        &compressed[..compressed.len() / 2],
    )
    .unwrap();
    // Nothing but an unfinished file; both, whole; both, and the small one is another or half.
    let other = fs::read(small(done.path(), 1)).unwrap();
    for left in [half, both(&compressed), both(&other), both(&compressed[..99])] {
        assert_eq!(checked(left.path()).unwrap(), whole);
        let opened = open(left.path());
        assert_eq!(opened.recovery.damage, [""; 0]);
        opened.audit.close("test").await;
        tidied(left.path(), None);
        assert_eq!(fs::read(small(left.path(), 0)).unwrap(), compressed);
        assert!(!log(left.path()).join("0000000000.log.zst.new").exists());
        assert!(!segment::path(&log(left.path()), 0).exists());
        checked(left.path()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_in_a_compressed_segment_is_found() {
    let data = filled().await;
    tidied(data.path(), None);
    let bytes = fs::read(small(data.path(), 1)).unwrap();
    for at in [10, bytes.len() / 2, bytes.len() - 20] {
        let copy = copied(data.path());
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(small(copy.path(), 1), changed).unwrap();
        let error = checked(copy.path()).unwrap_err();
        assert!(
            error.to_string().contains("0000000001.log") || error.to_string().contains("segment"),
            "{error}"
        );
    }
    // The first one in place of the second.
    let copy = copied(data.path());
    fs::copy(small(copy.path(), 0), small(copy.path(), 1)).unwrap();
    assert!(matches!(
        checked(copy.path()),
        Err(VerifyError::Continuation { .. })
    ));
    fs::remove_file(small(copy.path(), 1)).unwrap();
    assert!(matches!(
        checked(copy.path()),
        Err(VerifyError::SegmentMissing(1))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_segments_are_read_where_they_are_and_missed_only_by_who_needs_them() {
    let data = filled().await;
    let whole = checked(data.path()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("archive");
    fs::create_dir(&archive).unwrap();
    assert!(tidied(data.path(), Some(&archive)) > 1);
    assert!(small(data.path(), 0).is_symlink());
    assert_eq!(checked(data.path()).unwrap(), whole);
    prove(&log(data.path()), Place { epoch: 1, seq: 1 }).unwrap();

    // Another log's segments go beside them, and never over one that is another.
    let other = filled().await;
    fs::copy(
        fs::read_link(small(data.path(), 1)).unwrap(),
        fs::read_link(small(data.path(), 0)).unwrap(),
    )
    .unwrap();
    tidied(other.path(), None);
    let tidy = Tidy {
        folder: &log(other.path()),
        compress: true,
        archive: Some(&archive),
        go_on: &go_on,
    };
    let error = tidy.one().unwrap_err().to_string();
    assert!(error.contains("is another"), "{error}");
    assert!(checked(data.path()).is_err());
    checked(other.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_archive_a_log_goes_on_and_says_what_it_cannot_reach() {
    let data = filled().await;
    let place = tempfile::tempdir().unwrap();
    let (archive, away) = (place.path().join("archive"), place.path().join("away"));
    fs::create_dir(&archive).unwrap();
    tidied(data.path(), Some(&archive));
    fs::rename(&archive, &away).unwrap();
    let error = checked(data.path()).unwrap_err().to_string();
    assert!(
        error.contains("was moved to") && error.contains("archive"),
        "{error}"
    );
    let error = prove(&log(data.path()), Place { epoch: 1, seq: 1 })
        .unwrap_err()
        .to_string();
    assert!(error.contains("was moved to"), "{error}");
    let last = records_from_the_end(data.path());
    prove(&log(data.path()), Place { epoch: 1, seq: last }).unwrap();

    let config = Config {
        archive: Some(archive.clone()),
        ..config(data.path())
    };
    let opened = Audit::open(config, key(data.path()), testing::ORIGIN, ids()).unwrap();
    assert_eq!((opened.recovery.damage.len(), opened.recovery.epoch), (0, 1));
    opened
        .audit
        .write(Event::Intent(Box::new(entry(&ids()))))
        .await
        .unwrap();
    opened.audit.close("test").await;
    fs::rename(&away, &archive).unwrap();
    checked(data.path()).unwrap();

    // Dropping reaches into the archive.
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let dropped = audit.drop_older(LATER).await.unwrap().unwrap();
    audit.close("test").await;
    assert!(dropped.segments > 0 && fs::read_dir(&archive).unwrap().count() == 0);
    checked(data.path()).unwrap();
}

/// The newest record under a checkpoint.
fn records_from_the_end(data: &Path) -> u64 {
    let mut reader = super::read::Reader::last(&log(data), 1).unwrap();
    reader.read().unwrap().unwrap().record.seq
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_segment_that_is_short_or_missing_or_changed_stops_no_start() {
    let data = filled().await;
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("archive");
    fs::create_dir(&archive).unwrap();
    tidied(data.path(), Some(&archive));
    let whole: Vec<_> = [0, 1]
        .iter()
        .map(|index| fs::read_link(small(data.path(), *index)).unwrap())
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    for (bytes, path) in &whole {
        for left in [None, Some(&bytes[..0]), Some(&bytes[..bytes.len() / 2])] {
            match left {
                Some(left) => fs::write(path, left).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            checked(data.path()).expect_err("verify names it");
            let opened = open(data.path());
            assert_eq!((opened.recovery.damage, opened.recovery.epoch), (Vec::new(), 1));
            opened.audit.close("test").await;
            fs::write(path, bytes).unwrap();
        }
    }
    checked(data.path()).unwrap();
    // So young that it is read at the start, one that was changed is damage like any other.
    let (bytes, path) = &whole[1];
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    fs::write(path, changed).unwrap();
    let opened = open(data.path());
    let damage = &opened.recovery.damage;
    let named = |told: &String| told.contains("in segment 1 is missing or was changed");
    assert!(damage.first().is_some_and(named), "{damage:?}");
    assert_eq!(opened.recovery.epoch, 2);
    opened.audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_tidied_does_not_keep_the_others_from_it() {
    let data = filled().await;
    tidied(data.path(), None);
    let place = tempfile::tempdir().unwrap();
    let other = fs::read(small(data.path(), 1)).unwrap();
    tidied(data.path(), Some(place.path()));
    let first = fs::read_link(small(data.path(), 0)).unwrap();
    let again = copied(data.path());
    fs::write(&first, other).unwrap();
    let tidy = Tidy {
        folder: &log(again.path()),
        compress: true,
        archive: Some(place.path()),
        go_on: &go_on,
    };
    assert!(tidy.one().unwrap_err().to_string().contains("is another"));
    assert!(small(again.path(), 0).is_file() && !small(again.path(), 0).is_symlink());
    assert!(small(again.path(), 1).is_symlink(), "the next one was moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_segments_of_a_dropped_epoch_go_and_nothing_goes_while_they_are_out_of_reach() {
    let data = filled().await;
    let place = tempfile::tempdir().unwrap();
    let (archive, away) = (place.path().join("archive"), place.path().join("away"));
    fs::create_dir(&archive).unwrap();
    tidied(data.path(), Some(&archive));
    let mark = super::Restored {
        epoch: 77,
        reason: "restored: a test".into(),
        key: None,
    };
    mark.mark(&log(data.path()), &key(data.path()), testing::ORIGIN)
        .unwrap();
    let audit = open(data.path()).audit;
    audit.search().catch_up().await.unwrap();
    let ended = segment::epoch_folder(&log(data.path()), 1);
    fs::rename(&archive, &away).unwrap();
    audit.drop_older(LATER).await.unwrap_err();
    assert!(ended.exists());
    let gone = super::dropped::Dropped {
        epoch: 77,
        segments: 0,
        edge: super::tree::Edge::default(),
        epochs: 1,
        record: 0,
        before: LATER,
    };
    let error = gone.remove(&log(data.path())).unwrap_err().to_string();
    assert!(error.contains("mount the archive") && ended.exists(), "{error}");
    // A mount point without its file system.
    fs::create_dir(&archive).unwrap();
    gone.remove(&log(data.path())).unwrap_err();
    fs::remove_dir(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    assert!(fs::read_dir(&archive).unwrap().count() > 0);
    let said = audit.drop_older(LATER).await.unwrap().unwrap();
    assert_eq!((said.epochs, fs::read_dir(&archive).unwrap().count()), (1, 0));
    assert!(!ended.exists());
    audit.close("test").await;
    checked(data.path()).unwrap();
}
