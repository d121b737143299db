//! Very many records: a million with `COUNTERSIGN_LONG=1`, 20,000 in an ordinary run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use countersign::audit::index::{IndexError, Query};
use countersign::audit::{Audit, Config, LogKey};
use countersign::clock::SystemClock;
use countersign::id::{Ids, RequestId, SystemSource};
use countersign::record::{Event, Login};
use serde_json::Value;

use crate::world::COUNTERSIGN;

const ORIGIN: &str = "gw.example.org/log";
/// How many are written at a time.
const AT_ONCE: usize = 1_000;
/// What the verifier may use, in bytes, however long the log is; a million records are five times that.
const MEMORY: u64 = 100 << 20;

fn open(data: &Path, ids: &Ids) -> Audit {
    let config = Config {
        folder: data.join("log"),
        index: Some(data.join("index.db")),
        allow_any_fs: true,
        stop_free_bytes: 0,
        deadline: Duration::from_secs(60),
        ..Config::default()
    };
    let key = LogKey::load(&data.join("log.key")).unwrap();
    Audit::open(config, key, ORIGIN, ids.clone()).unwrap().audit
}

fn login(request: RequestId) -> Event {
    Event::Login(Login {
        request,
        person: None,
        card: None,
        session: None,
        methods: vec!["pwd".into()],
        result: format!("wrong, {}", "and this is written down at some length, ".repeat(6)),
        count: 0,
        source: "192.0.2.0/24".into(),
        certificate: None,
        federated: None,
    })
}

/// Verifies with the program, which may use so much memory and no more.
fn verify(data: &Path) -> Value {
    let output = Command::new("prlimit")
        .arg(format!("--data={MEMORY}"))
        .arg(COUNTERSIGN)
        .args(["audit", "verify", "--json", "--key"])
        .arg(data.join("log.pub"))
        .arg(data.join("log"))
        .output()
        .expect("prlimit runs (apt-get install util-linux)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["report"].clone()
}

async fn caught_up(audit: &Audit) {
    let mut last = u64::MAX;
    while let Err(error) = audit.search().catch_up().await {
        let IndexError::Behind(lag) = error else {
            panic!("{error}")
        };
        assert!(lag < last, "the index stands still, {lag} records behind");
        last = lag;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_verified_in_constant_memory_and_its_index_is_made_anew() {
    let count = if std::env::var_os("COUNTERSIGN_LONG").is_some() {
        1_000_000
    } else {
        20_000
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    LogKey::generate(&SystemSource::new())
        .unwrap()
        .save(&data.join("log.key"), ORIGIN)
        .unwrap();
    let audit = open(data, &ids);
    let mut known = Vec::new();
    for round in 0..count / AT_ONCE {
        let requests: Vec<RequestId> = (0..AT_ONCE).map(|_| ids.next().unwrap()).collect();
        known.extend((round % 7 == 0).then(|| requests[round % AT_ONCE]));
        let written = audit
            .write_all(requests.into_iter().map(login).collect())
            .await
            .unwrap();
        assert_eq!(written.len(), AT_ONCE);
    }
    audit.close("written").await;
    drop(audit);
    let report = verify(data);
    assert!(report["records"].as_u64() >= Some(count as u64), "{report}");
    assert_eq!(report["records"], report["signed"]);

    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let audit = open(data, &ids);
    caught_up(&audit).await;
    for request in known {
        let query = Query {
            request: Some(request),
            ..Query::default()
        };
        let found = audit.search().search(&query).await.unwrap().records;
        let names: Vec<&str> = found.iter().map(|record| record.event.name()).collect();
        assert_eq!(names, ["login"]);
        assert_eq!(found[0].event, login(request));
    }
    audit.close("looked up").await;
}
