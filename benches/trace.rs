//! Traces in a map of a million proxies: `cargo bench --bench trace`.
//!
//! The map is an SQLite file below the build's output, filled with `mint` and outcome records as a rebuild does it. Each
//! trace is one query as a provider or an administrator makes it, on one thread; the record of the trace, which is one
//! durable write, and the requests that the proxy was used for are measured with the log. The bound of 50 ms for 99 of 100
//! is checked.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench reports to the terminal, stops at the first failure, and measures real time"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::clock::{SystemClock, Timestamp};
use countersign::delegate::{Config, Delegate, TraceQuery};
use countersign::id::{Ids, PersonId, SystemSource};
use countersign::record::{Ending, Event, Hash, Mint, Outcome, SignedEntry};
use countersign::store::Db;

/// Longest time of 99 traces in 100.
const TARGET: Duration = Duration::from_millis(50);
/// Records that are entered at once.
const BATCH: usize = 10_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    // `cargo test --benches` runs this too: then with a few, for its form only.
    let (rows, rounds) = match std::env::args().any(|argument| argument == "--bench") {
        true => (1_000_000, 5_000),
        false => (1_000, 20),
    };
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let folder = tempfile::tempdir_in(build()).expect("a temporary folder");
    let db = Db::sqlite(&folder.path().join("store.db"))
        .await
        .expect("a store");
    let delegate = Delegate::new(Config::default(), db, None, ids.clone(), String::new());
    let begun = Instant::now();
    for from in (0..rows).step_by(BATCH) {
        let events: Vec<Event> = (from..rows.min(from + BATCH))
            .flat_map(|at| minted(&ids, at))
            .collect();
        delegate.index(&events).await.expect("the map takes them");
    }
    println!("{rows} proxies entered in {:.1} s", begun.elapsed().as_secs_f64());
    println!("| by | median | 99 of 100 | longest |");
    println!("| --- | --- | --- | --- |");
    let mut worst = Duration::ZERO;
    for (by, query) in [
        ("certificate's SHA-256", certificate as fn(usize) -> String),
        ("public key's SHA-256", spki),
        ("serial", |at| serial(at).to_string()),
        ("name", |at| {
            format!("/O=Grid/CN=VO imense/CN={}/CN=7", serial(at))
        }),
        ("nothing that is there", |at| Hash::of(&[0, at as u8]).to_string()),
    ] {
        let mut times = Vec::with_capacity(rounds);
        for round in 0..rounds {
            // Spread over the whole map, so that pages of the file are not at hand.
            let at = round * 7_919 % rows;
            let begun = Instant::now();
            let query = TraceQuery::parse(query(at).as_bytes()).expect("a query");
            let found = delegate.trace(&query).await.expect("an answer");
            times.push(begun.elapsed());
            assert_eq!(found.proxies.is_empty(), by.starts_with("nothing"), "{by}");
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        println!("| {by} | {:?} | {:?} | {:?} |", at(50), at(99), at(100));
        worst = worst.max(at(99));
    }
    assert!(
        worst < TARGET,
        "99 of 100 took up to {worst:?}, which is more than {TARGET:?}"
    );
}

/// Below the build's output, which lies on a disk.
fn build() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.parent().expect("its folder").to_owned()
}

fn serial(at: usize) -> u64 {
    u64::from_be_bytes(
        Hash::of(&[b"serial", &at.to_be_bytes()[..]].concat()).0[..8]
            .try_into()
            .unwrap(),
    ) >> 1
}

fn hash(kind: &str, at: usize) -> Hash {
    Hash::of(&[kind.as_bytes(), &at.to_be_bytes()].concat())
}

fn certificate(at: usize) -> String {
    hash("certificate", at).to_string()
}

fn spki(at: usize) -> String {
    hash("spki", at).to_string()
}

/// The records of one proxy: a thousand people, an issuer for every hundred thousand proxies.
fn minted(ids: &Ids, at: usize) -> [Event; 2] {
    let issuer = hash("issuer", at / 100_000);
    let person = PersonId::from(uuid::Uuid::from_u128(at as u128 % 1_000 + 1));
    let begin = Timestamp::from_secs(1_800_000_000 + i64::try_from(at).unwrap());
    let request = ids.next().expect("an id");
    let mint = Mint {
        request,
        issuer,
        serial: serial(at).to_string(),
        spki: hash("spki", at),
        not_before: begin,
        not_after: begin.plus(Duration::from_secs(3_600)),
        vo: uuid::Uuid::from_u128(1).into(),
        person,
        card: hash("card", at % 1_000),
        session: ids.next().expect("an id"),
        tool: "arc".to_owned(),
        way: "client-certificate".to_owned(),
    };
    let signed = SignedEntry {
        issuer,
        serial: mint.serial.clone(),
        certificate: hash("certificate", at),
    };
    let outcome = Outcome {
        signed: Some(signed),
        ..Outcome::ended(request, Ending::Answered)
    };
    [Event::Mint(Box::new(mint)), Event::Outcome(Box::new(outcome))]
}
