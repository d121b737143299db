//! Mints per CPU-second: `cargo bench --bench mint`.
//!
//! One thread chooses and signs proxies, as a request does after its receipt; writing the `mint` record and the row of
//! the map are left out (they are measured with the log and the store). Time is the thread's own processor time, so a
//! busy machine does not change the result much. The bound of 5,000 P-256 mints is checked.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench reports to the terminal and stops at the first failure"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use countersign::audit::{Audit, Config, LogKey, Receipt};
use countersign::clock::SystemClock;
use countersign::delegate::mint::{Durable, Issuer, KeyPair, choose};
use countersign::id::{Ids, SystemSource};
use countersign::record::{Entry, PlaceEntry, SubjectEntry};
use countersign::tool::{ProxyKey, ProxyPolicy, ProxySettings};
use countersign::trust::certificate::{Source, check};

/// Fewest P-256 mints per CPU-second.
const TARGET: f64 = 5_000.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receipt = receipt(&ids, folder.path()).await;
    let ec = (
        include_str!("../certs/vo-ec.pem"),
        include_str!("../certs/vo-ec.key"),
    );
    let rsa = (
        include_str!("../certs/vo-rsa.pem"),
        include_str!("../certs/vo-rsa.key"),
    );
    // `cargo test --benches` runs this too: then once, for its form only.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        20_000
    } else {
        20
    };
    let p256 = mints(
        "VO key P-256, proxy key P-256",
        &issuer(ec, &ids),
        &ids,
        &receipt,
        rounds,
    );
    mints(
        "VO key RSA 2048, proxy key P-256",
        &issuer(rsa, &ids),
        &ids,
        &receipt,
        rounds / 5,
    );
    assert!(
        rounds < 100 || p256 >= TARGET,
        "{p256:.0} P-256 mints per CPU-second are fewer than {TARGET:.0}"
    );
}

fn mints(name: &str, issuer: &Arc<Issuer>, ids: &Ids, receipt: &Receipt, rounds: u32) -> f64 {
    let settings = ProxySettings {
        lifetime: Duration::from_secs(3_600),
        policy: ProxyPolicy::InheritAll,
        path_length: None,
        key: ProxyKey::P256,
    };
    let begun = processor_time();
    for _ in 0..rounds {
        let chosen = choose(
            issuer,
            &settings,
            KeyPair::p256,
            ids.clock().now(),
            &**ids.random(),
        )
        .expect("chosen");
        black_box(chosen.sign(&Durable::by(receipt)).expect("signed"));
    }
    let seconds = processor_time().saturating_sub(begun).as_secs_f64();
    let rate = f64::from(rounds) / seconds.max(1e-9);
    println!(
        "{name}: {rate:.0} mints per CPU-second ({rounds} mints, {:.1} us each)",
        1e6 / rate
    );
    rate
}

fn issuer(pair: (&str, &str), ids: &Ids) -> Arc<Issuer> {
    let (certificate, key) = (
        Source {
            name: "vo.pem",
            text: pair.0,
        },
        Source {
            name: "vo.key",
            text: pair.1,
        },
    );
    let checked = check(certificate, key, &**ids.clock()).expect("a good certificate");
    let signer = checked.signer().expect("a good key");
    Arc::new(Issuer::new(
        checked.facts().clone(),
        checked.chain().to_vec(),
        signer,
    ))
}

/// A real receipt: nothing is signed without one, not even here.
async fn receipt(ids: &Ids, folder: &std::path::Path) -> Receipt {
    let config = Config {
        folder: folder.join("log"),
        allow_any_fs: true,
        min_free_bytes: 0,
        stop_free_bytes: 0,
        segment_bytes: 1 << 20,
        ..Config::default()
    };
    let key = LogKey::generate(&**ids.random()).expect("a log key");
    let opened = Audit::open(config, key, "bench/log", ids.clone()).expect("a log");
    let entry = Entry {
        request: ids.next().expect("an id"),
        trace: None,
        subject: SubjectEntry::default(),
        place: PlaceEntry::default(),
        parameters: BTreeMap::new(),
        resource: None,
        decision: None,
        delegation: None,
        source: "local".to_owned(),
        no_outcome: false,
    };
    opened.audit.intent(entry, Vec::new()).await.expect("a receipt")
}

/// Processor time of this thread (the first field of its schedule statistics, in nanoseconds).
fn processor_time() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedule statistics");
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}
