//! What a start reads of the log, what of it the store is given, and what of it is believed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::segment::{FRAME, HEADER};
use super::testing::{ORIGIN, config, ids, key, open, public};
use super::tests::mint;
use super::{Audit, Config, Restored, packed, restored, segment};
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, RequestId, SystemSource, VoId};
use crate::record::{
    Change, ChangeEvent, Ending, Event, Hash, Outcome, Record, Start, StateDigests, StateStep,
};

/// A quarter of a segment.
fn filling() -> Vec<Event> {
    let start = Event::Start(Start {
        version: "x".repeat(1_000),
        config: Hash::of(b""),
        epoch: 1,
    });
    vec![start; 50]
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_checkpoint_of_long_ago_on_all_is_compared_and_only_what_is_new_is_held() {
    let data = tempfile::tempdir().unwrap();
    let outside = data.path().join("outside");
    let config = Config {
        outside: Some(outside.clone()),
        ..config(data.path())
    };
    let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
    let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
    let open = || Audit::open(config.clone(), key(data.path()), ORIGIN, ids.clone()).unwrap();
    let audit = open().audit;
    audit.write_all(filling()).await.unwrap();
    audit.close("test").await;
    let kept = fs::read_to_string(&outside).unwrap();

    let audit = open().audit;
    let mut minted = Vec::new();
    for _ in 0..20 {
        clock.advance(Duration::from_secs(600));
        minted.push(ids.next().unwrap());
        audit.write(mint(minted[minted.len() - 1])).await.unwrap();
        audit.write_all(filling()).await.unwrap();
    }
    audit.close("test").await;
    fs::write(&outside, &kept).unwrap();
    let again = open();
    let recalled = again.recovery.recent.iter().map(|record| record.event.request());
    let recalled: Vec<_> = recalled.map(Option::unwrap).collect();
    assert_eq!(recalled.last(), minted.last());
    assert!((2..16).contains(&recalled.len()), "{}", recalled.len());
    assert!(minted.ends_with(&recalled), "none is missing between");
    assert!(again.recovery.damage.is_empty());
    again.audit.close("test").await;

    // What is before them is compared all the same.
    let first = super::segment::path(&data.path().join("log"), 0);
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(20).position(|window| window == [b'x'; 20]).unwrap();
    bytes[at] = b'y';
    fs::write(&first, bytes).unwrap();
    fs::write(&outside, &kept).unwrap();
    let again = open();
    assert!(!again.recovery.damage.is_empty());
    again.audit.close("test").await;
}

fn steps(vo: VoId, text: &[u8]) -> Vec<StateStep> {
    vec![StateStep {
        vo,
        before: None,
        after: Some(Hash::of(text)),
    }]
}

fn list(vo: VoId, text: &[u8]) -> Event {
    Event::State(StateDigests {
        scheme: 2,
        parts: 1,
        levels: steps(vo, text),
        ..StateDigests::default()
    })
}

fn change(request: RequestId, vo: VoId, text: &[u8]) -> Event {
    let change = Change {
        action: "role.create".into(),
        kind: "role".into(),
        target: "reader".into(),
        vo,
        person: None,
        before: None,
        after: None,
    };
    Event::Change(Box::new(ChangeEvent {
        state: steps(vo, text),
        ..ChangeEvent::of(request, change)
    }))
}

fn copied(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("log")).unwrap();
    for folder in ["", "log"] {
        for entry in fs::read_dir(data.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                // A spare may have got its final name meanwhile.
                let _ = fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name()));
            }
        }
    }
    copy
}

/// Writes `event` behind the last record, as whoever can write the file does.
fn forge(data: &Path, event: Event) {
    let log = data.join("log");
    let path = segment::path(&log, *segment::list(&log).unwrap().last().unwrap());
    let bytes = fs::read(&path).unwrap();
    let mut at = HEADER;
    let mut last = None;
    while let Some((frame, _)) = bytes.get(at..).and_then(segment::decode) {
        let record = &bytes[at + FRAME..at + FRAME + frame.length];
        if !frame.tag {
            last = Some((frame.batch, serde_json::from_slice::<Record>(record).unwrap()));
        }
        at += FRAME + frame.length;
    }
    let (number, mut record) = last.unwrap();
    record.seq += 1;
    record.event = event;
    let record = serde_json::to_vec(&record).unwrap();
    let mut batch = segment::Batch::default();
    batch.begin(&[]);
    batch.add(number + 1, |bytes| bytes.extend_from_slice(&record));
    let frame = batch.end(number + 1, &[9; 32]).to_vec();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&frame, at as u64).unwrap();
}

/// A copy of a log whose record `seq` is there and not signed: the newest checkpoints are taken away again.
fn unsigned_copy(data: &Path, seq: u64) -> tempfile::TempDir {
    let copy = copied(data);
    let log = copy.path().join("log");
    let text = std::fs::read_to_string(log.join("checkpoints")).unwrap();
    let parts: Vec<&str> = text.split("\n\n").collect();
    let mut kept = String::new();
    for note in parts.chunks_exact(2) {
        let note = format!("{}\n\n{}\n", note[0], note[1]);
        if crate::audit::Checkpoint::parse(&note).unwrap().size <= seq {
            kept.push_str(&format!("{note}\n"));
            std::fs::write(log.join("checkpoint"), &note).unwrap();
        }
    }
    std::fs::write(log.join("checkpoints"), kept).unwrap();
    copy
}

/// Where the tags of a segment's batches begin.
fn tags_of(path: &Path) -> Vec<usize> {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut tags) = (HEADER, Vec::new());
    while let Some((frame, _)) = bytes.get(at..).and_then(segment::decode) {
        tags.extend(frame.tag.then_some(at));
        at += FRAME + frame.length;
    }
    tags
}

/// Gives the last batch of a segment another tag, checksum and all.
fn retagged(path: &Path, tag: &[u8; 32]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = tags_of(path).pop().unwrap();
    let number = segment::decode(&bytes[at..]).unwrap().0.batch;
    let mut batch = segment::Batch::default();
    batch.begin(&[]);
    bytes[at..at + segment::TAGGED].copy_from_slice(batch.end(number, tag));
    std::fs::write(path, bytes).unwrap();
}

/// Until everything up to record `seq` is under a checkpoint.
async fn signed(audit: &Audit, seq: u64) {
    let signed = async {
        while audit.checkpoint().is_none_or(|newest| newest.size <= seq) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), signed)
        .await
        .expect("a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_behind_a_clean_end_is_damage_and_says_nothing_of_the_state() {
    let data = tempfile::tempdir().unwrap();
    let (vo, audit) = (ids().next().unwrap(), open(data.path()).audit);
    let honest = list(vo, b"honest");
    audit.write(honest.clone()).await.unwrap();
    audit.close("test").await;
    let forged = [list(vo, b"forged"), change(ids().next().unwrap(), vo, b"forged")];
    for forged in forged {
        let copy = copied(data.path());
        forge(copy.path(), forged);
        let opened = open(copy.path());
        assert_eq!(opened.recovery.states, std::slice::from_ref(&honest));
        assert!(!opened.recovery.damage.is_empty());
        opened.audit.close("test").await;
    }
    let again = open(data.path());
    assert_eq!(again.recovery.states, [honest]);
    assert!(again.recovery.damage.is_empty(), "{:?}", again.recovery.damage);
    again.audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_checkpoint_signs_says_nothing_of_the_state() {
    let data = tempfile::tempdir().unwrap();
    let (vo, audit) = (ids().next().unwrap(), open(data.path()).audit);
    let (ended, open_yet): (RequestId, RequestId) = (ids().next().unwrap(), ids().next().unwrap());
    let applied = |request| Event::Outcome(Box::new(Outcome::ended(request, Ending::Applied)));
    let honest = [list(vo, b"1"), change(ended, vo, b"2"), applied(ended)];
    let mut last = 0;
    for event in &honest {
        last = audit.write(event.clone()).await.unwrap();
    }
    signed(&audit, last).await;
    let copy = copied(data.path());
    audit.close("test").await;
    forge(copy.path(), list(vo, b"forged"));
    let unsigned = change(open_yet, vo, b"3");
    forge(copy.path(), unsigned);
    forge(copy.path(), applied(open_yet));
    let opened = open(copy.path());
    assert!(!opened.recovery.damage.is_empty());
    assert_eq!(opened.recovery.states, honest);
    opened.audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_in_the_last_second_is_believed_with_the_batchs_tag_and_not_without() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let request = ids().next().unwrap();
    let written = audit.write(mint(request)).await.unwrap();
    let copy = unsigned_copy(data.path(), written);
    audit.close("test").await;
    let forged = copied(copy.path());

    let opened = open(copy.path());
    assert!(opened.recovery.damage.is_empty(), "{:?}", opened.recovery.damage);
    let minted: Vec<_> = opened.recovery.recent.iter().map(|record| record.seq).collect();
    assert_eq!(minted, [written]);
    opened.audit.close("test").await;

    // Whoever writes the folder, and has no key, makes a proxy of somebody else's, or changes whose that one is.
    let ours = copied(forged.path());
    forge(forged.path(), mint(ids().next().unwrap()));
    let log = ours.path().join("log");
    let path = segment::path(&log, *segment::list(&log).unwrap().last().unwrap());
    retagged(&path, &[9; 32]);
    for (what, data, kept) in [("another", &forged, true), ("changed", &ours, false)] {
        let opened = open(data.path());
        assert_eq!(
            opened.recovery.damage.len(),
            1,
            "{what}: {:?}",
            opened.recovery.damage
        );
        assert_eq!(opened.recovery.epoch, 2);
        let minted: Vec<_> = opened.recovery.recent.iter().map(|record| record.seq).collect();
        assert_eq!(minted.contains(&written), kept, "{what}: {minted:?}");
        assert!(minted.len() <= 1, "{what}: {minted:?}");
        opened.audit.close("test").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_its_end_was_never_written_for_anybody() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    let written = audit.write(mint(ids().next().unwrap())).await.unwrap();
    let copy = unsigned_copy(data.path(), written);
    audit.close("test").await;
    let log = copy.path().join("log");
    let path = segment::path(&log, *segment::list(&log).unwrap().last().unwrap());
    let cut = tags_of(&path).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[cut..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let public = public(copy.path());
    let verified = crate::audit::verify::verify(&log, &public, None, |_| {}).unwrap();
    let opened = open(copy.path());
    assert!(opened.recovery.damage.is_empty(), "{:?}", opened.recovery.damage);
    assert_eq!((opened.recovery.records, verified.records), (written, written));
    assert!(opened.recovery.torn_bytes > 0 && opened.recovery.recent.is_empty());
    opened.audit.close("test").await;
    crate::audit::verify::verify(&log, &public, None, |_| {}).unwrap();
}

/// Puts a segment behind the last one, as whoever can write the folder does: begun as the gateway would begin it, with `event`
/// in it, and without the checkpoint of that.
async fn forge_segment(data: &Path, event: Event) {
    let forger = copied(data);
    let forged = forger.path().join("log");
    let audit = open(forger.path()).audit;
    audit.write(event).await.unwrap();
    let last = *segment::list(&forged).unwrap().last().unwrap();
    fs::copy(
        segment::path(&forged, last),
        segment::path(&data.join("log"), last),
    )
    .unwrap();
    audit.close("forged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_segment_behind_a_clean_end_is_damage() {
    let data = tempfile::tempdir().unwrap();
    open(data.path()).audit.close("test").await;
    let applied = Outcome::ended(ids().next().unwrap(), Ending::Applied);
    for forged in [Event::Outcome(Box::new(applied)), mint(ids().next().unwrap())] {
        let copy = copied(data.path());
        forge_segment(copy.path(), forged).await;
        let opened = open(copy.path());
        assert!(!opened.recovery.damage.is_empty());
        assert!(opened.recovery.recent.is_empty());
        opened.audit.close("test").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_front_and_end_are_another_than_what_was_signed_is_damage() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    audit.write_all(filling()).await.unwrap();
    audit.close("test").await;
    // Another log, longer, by the same key: it stands for what a forger computes.
    let other = tempfile::tempdir().unwrap();
    fs::copy(data.path().join("log.key"), other.path().join("log.key")).unwrap();
    fs::copy(data.path().join("log.pub"), other.path().join("log.pub")).unwrap();
    let audit = open(other.path()).audit;
    for _ in 0..8 {
        audit.write_all(filling()).await.unwrap();
    }
    audit.close("test").await;
    let (log, other) = (data.path().join("log"), other.path().join("log"));
    for index in segment::list(&log).unwrap() {
        fs::remove_file(segment::path(&log, index)).unwrap();
    }
    // All but the last segment look as if they had been compressed.
    let indexes = segment::list(&other).unwrap();
    let (last, before) = indexes.split_last().unwrap();
    for index in before {
        fs::write(packed::packed(&segment::path(&log, *index)), [0]).unwrap();
    }
    fs::copy(segment::path(&other, *last), segment::path(&log, *last)).unwrap();
    let opened = open(data.path());
    let damage = opened.recovery.damage.join("; ");
    assert!(
        damage.contains("those that are there begin with record"),
        "{damage}"
    );
    assert_eq!(opened.recovery.epoch, 2);
    opened.audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_front_of_a_log_cannot_be_read_its_silence_says_nothing() {
    let data = tempfile::tempdir().unwrap();
    let audit = open(data.path()).audit;
    for _ in 0..6 {
        audit.write_all(filling()).await.unwrap();
    }
    audit.close("test").await;
    let again = open(data.path());
    assert!(again.recovery.whole && again.recovery.damage.is_empty());
    again.audit.close("test").await;
    let first = segment::path(&data.path().join("log"), 0);
    fs::remove_file(&first).unwrap();
    std::os::unix::fs::symlink("/nowhere/0000000000.log.zst", packed::packed(&first)).unwrap();
    let again = open(data.path());
    assert_eq!(again.recovery.damage, Vec::<String>::new());
    assert!(
        !again.recovery.whole,
        "no list of digests was found, and not all was read"
    );
    again.audit.close("test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_good_for_one_epoch_only() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    open(data.path()).audit.close("test").await;
    let mark = Restored {
        epoch: 7,
        reason: "restored: a test".into(),
        key: None,
    };
    mark.mark(&log, &key(data.path()), ORIGIN).unwrap();
    assert!(restored::path(&log).exists() && !restored::path(&log).starts_with(&log));
    let opened = open(data.path());
    assert_eq!((opened.recovery.epoch, opened.recovery.restored), (7, true));
    opened.audit.close("test").await;
    assert!(!restored::path(&log).exists());
    // Whoever takes the epoch away gets no second one under its number, and no silence.
    for entry in fs::read_dir(&log).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    let opened = open(data.path());
    assert!(!opened.recovery.damage.is_empty() && !opened.recovery.restored);
    opened.audit.close("test").await;
}
