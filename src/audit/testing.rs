//! What the tests of this module share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::read::Reader;
use super::{Audit, Config, LogKey, Opened, VerifyingKey};
use crate::clock::SystemClock;
use crate::id::{Ids, RequestId, SystemSource};
use crate::record::{
    DecisionEntry, DelegationEntry, Ending, Entry, Outcome, PlaceEntry, Record, ResourceEntry, SubjectEntry,
};

/// Name of the log in tests.
pub(super) const ORIGIN: &str = "gw.example.org/log";

pub(super) fn ids() -> Ids {
    Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()))
}

pub(super) fn entry(ids: &Ids) -> Entry {
    Entry {
        request: ids.next().unwrap(),
        trace: None,
        subject: SubjectEntry {
            kind: "person".into(),
            person: Some(ids.next().unwrap()),
            session: Some(ids.next().unwrap()),
            result: "ok".into(),
            methods: vec!["pwd".into()],
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "path".into(),
            vo: Some("imaging".into()),
            vo_id: Some(ids.next().unwrap()),
            tool: Some("segmentation".into()),
            task: Some("submit job".into()),
            kind: Some("create".into()),
            method: "POST".into(),
            path: Some("/jobs".into()),
        },
        parameters: BTreeMap::new(),
        resource: Some(ResourceEntry {
            kind: "job".into(),
            id: "42".into(),
            generation: None,
            owner: None,
            parents: Vec::new(),
        }),
        decision: Some(std::sync::Arc::new(DecisionEntry {
            permit: true,
            reason: "granted".into(),
            ..DecisionEntry::default()
        })),
        delegation: Some(DelegationEntry {
            way: "none".into(),
            serial: None,
            minted: false,
        }),
        source: "192.0.2.0/24".into(),
        no_outcome: false,
    }
}

pub(super) fn outcome(request: RequestId) -> Outcome {
    Outcome {
        status: Some(200),
        ..crate::record::Outcome::ended(request, Ending::Answered)
    }
}

pub(super) fn config(data: &Path) -> Config {
    Config {
        folder: data.join("log"),
        segment_bytes: 256 * 1024,
        stop_free_bytes: 0,
        min_free_bytes: 0,
        allow_any_fs: true,
        // A busy machine is no failure.
        deadline: std::time::Duration::from_secs(10),
        ..Config::default()
    }
}

/// The log key of a test's data folder, made at the first use.
pub(super) fn key(data: &Path) -> LogKey {
    let path = data.join("log.key");
    if !path.exists() {
        LogKey::generate(&SystemSource::new())
            .unwrap()
            .save(&path, ORIGIN)
            .unwrap();
    }
    LogKey::load(&path).unwrap()
}

pub(super) fn public(data: &Path) -> VerifyingKey {
    VerifyingKey::load(&data.join("log.pub")).unwrap()
}

pub(super) fn open(data: &Path) -> Opened {
    Audit::open(config(data), key(data), ORIGIN, ids()).unwrap()
}

/// Every record under the newest checkpoint.
pub(super) fn records(data: &Path) -> Vec<Record> {
    let mut reader = Reader::open(&data.join("log"), 0).unwrap();
    std::iter::from_fn(|| reader.read().unwrap())
        .map(|found| found.record)
        .collect()
}
