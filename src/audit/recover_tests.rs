//! What a start reads of the log, and what of it the store is given.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{ORIGIN, config, key};
use super::tests::mint;
use super::{Audit, Config};
use crate::clock::{HandClock, Timestamp};
use crate::id::{Ids, SystemSource};
use crate::record::{Event, Hash, Start};

/// Half a segment.
fn filling() -> Vec<Event> {
    let start = Event::Start(Start {
        version: "x".repeat(1_000),
        config: Hash::of(b""),
        epoch: 1,
    });
    vec![start; 100]
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
        clock.advance(Duration::from_secs(1_800));
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
    assert!((2..10).contains(&recalled.len()), "{}", recalled.len());
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
