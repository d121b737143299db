//! Records per second and CPU per record through group commit, beside a bare fdatasync loop on the same disk in the
//! same run: by writers that wait for each intent, and with so many records a second offered whatever the log does.
//! `cargo bench --bench audit [-- FOLDER]`; the folder must lie on a real disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::audit::{Audit, Config, LogKey, verify};
use countersign::clock::{Clock, SystemClock};
use countersign::id::{Ids, SystemSource};
use countersign::record::{DecisionEntry, Ending, Entry, Outcome, PlaceEntry, SubjectEntry};
use tokio::task::JoinSet;

const ROUND: Duration = Duration::from_secs(3);
/// Records a second that are offered; half of them are awaited.
const OFFERED: [usize; 3] = [10_000, 40_000, 60_000];
const ORIGIN: &str = "bench.example.org/log";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let data = tempfile::tempdir_in(folder.unwrap_or_else(|| ".".to_owned()))?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<28}{:>12}{:>14}{:>12}{:>12}{:>18}",
        "", "records/s", "CPU us/record", "p50 us", "p99 us", "p99 x fdatasync"
    )?;
    let mut one = 1.0;
    for bytes in [700 * 32, 700] {
        let (rate, p50, p99) = bare(data.path(), bytes)?;
        one = p50.max(1) as f64;
        writeln!(
            out,
            "{:<28}{rate:>12.0}{:>14}{p50:>12}{p99:>12}",
            format!("bare fdatasync of {bytes} B"),
            "-"
        )?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let loads = [1, 32, 256].map(Load::Writers).into_iter();
    for load in loads.chain(OFFERED.map(Load::Offered)) {
        let folder = data.path().join(load.name());
        let line = runtime.block_on(group_commit(&folder, &load, one))?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Who asks for records.
enum Load {
    /// So many tasks, each with one request at a time: intent awaited, outcome on the next batch.
    Writers(usize),
    /// So many records a second, half of them intents that are awaited.
    Offered(usize),
}

impl Load {
    fn name(&self) -> String {
        match self {
            Self::Writers(count) => format!("group commit, {count} writers"),
            Self::Offered(count) => format!("group commit, {count}/s offered"),
        }
    }
}

/// One thread that writes and syncs `bytes` at a time into a file of zeros.
fn bare(folder: &Path, bytes: usize) -> std::io::Result<(f64, u128, u128)> {
    const SIZE: usize = 64 * 1024 * 1024;
    let path = folder.join("bare");
    File::create(&path)?.write_all(&vec![0; SIZE])?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.sync_all()?;
    let clock = SystemClock::new();
    let block = vec![b'x'; bytes];
    let (mut offset, mut times) = (0, Vec::new());
    while clock.monotonic() < ROUND && offset + bytes < SIZE {
        let start = clock.monotonic();
        file.write_all_at(&block, offset as u64)?;
        file.sync_data()?;
        times.push((clock.monotonic() - start).as_micros());
        offset += bytes;
    }
    let rate = times.len() as f64 / clock.monotonic().as_secs_f64();
    let (p50, p99) = percentiles(times);
    Ok((rate, p50, p99))
}

/// `one` is the median of a bare write and sync, in microseconds.
async fn group_commit(folder: &Path, load: &Load, one: f64) -> Result<String, Box<dyn std::error::Error>> {
    let clock = SystemClock::shared();
    let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
    let key = LogKey::generate(&SystemSource::new())?;
    let public = key.public(ORIGIN);
    let config = Config {
        folder: folder.join("log"),
        allow_any_fs: true,
        stop_free_bytes: 0,
        ..Config::default()
    };
    let log = config.folder.clone();
    let audit = Audit::open(config, key, ORIGIN, ids.clone())?.audit;
    let stop = Arc::new(AtomicBool::new(false));
    let (before, cpu, start) = (audit.size(), cpu_micros(), clock.monotonic());
    let mut tasks = JoinSet::new();
    match load {
        Load::Writers(writers) => {
            for _ in 0..*writers {
                tasks.spawn(writer(audit.clone(), ids.clone(), stop.clone()));
            }
            tokio::time::sleep(ROUND).await;
        }
        Load::Offered(records) => {
            // However late a beat is, what it was to bring is brought.
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            for _ in 0..ROUND.as_millis() {
                beat.tick().await;
                for _ in 0..records / 2_000 {
                    let (audit, ids) = (audit.clone(), ids.clone());
                    tasks.spawn(async move { Vec::from_iter(request(&audit, &ids).await) });
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    while let Some(taken) = tasks.join_next().await {
        times.extend(taken?);
    }
    let records = (audit.size() - before) as f64;
    let (cpu, wall) = (cpu_micros() - cpu, clock.monotonic() - start);
    let (p50, p99) = percentiles(times);
    audit.search().catch_up().await.ok();
    audit.close("bench").await;
    let start = clock.monotonic();
    let report = verify::verify(&log, &public, audit.checkpoint().as_ref(), |_| {})?;
    let verified = report.records as f64 / (clock.monotonic() - start).as_secs_f64();
    Ok(format!(
        "{:<28}{:>12.0}{:>14.1}{p50:>12}{p99:>12}{:>18.1}   ({} segments, verify {verified:.0} records/s)",
        load.name(),
        records / wall.as_secs_f64(),
        cpu as f64 / records,
        p99 as f64 / one,
        report.segments,
    ))
}

async fn writer(audit: Audit, ids: Ids, stop: Arc<AtomicBool>) -> Vec<u128> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        times.extend(request(&audit, &ids).await);
    }
    times
}

/// One request; gives how long its intent took, in microseconds.
async fn request(audit: &Audit, ids: &Ids) -> Option<u128> {
    let clock = ids.clock();
    let (entry, start) = (entry(ids).ok()?, clock.monotonic());
    let receipt = audit.intent(entry, Vec::new()).await.ok()?;
    let took = (clock.monotonic() - start).as_micros();
    let request = receipt.request();
    receipt.outcome_soon(Outcome {
        status: Some(200),
        bytes_out: 1024,
        duration_us: 250,
        ..Outcome::ended(request, Ending::Answered)
    });
    Some(took)
}

fn entry(ids: &Ids) -> Result<Entry, countersign::id::RandomError> {
    Ok(Entry {
        request: ids.next()?,
        trace: None,
        subject: SubjectEntry {
            kind: "person".into(),
            person: Some(ids.next()?),
            session: Some(ids.next()?),
            result: "ok".into(),
            methods: vec!["pwd".into()],
            ..SubjectEntry::default()
        },
        place: PlaceEntry {
            via: "path".into(),
            vo: Some("imaging".into()),
            tool: Some("segmentation".into()),
            task: Some("list jobs".into()),
            kind: Some("read".into()),
            method: "GET".into(),
            path: Some("/jobs".into()),
            ..PlaceEntry::default()
        },
        parameters: std::collections::BTreeMap::new(),
        resource: None,
        decision: Some(std::sync::Arc::new(DecisionEntry {
            permit: true,
            reason: "granted".into(),
            policies: vec!["grant-0190".into()],
            path: vec!["role/scientist".into(), "grant/list jobs".into()],
            ..DecisionEntry::default()
        })),
        delegation: None,
        source: "192.0.2.0/24".into(),
        no_outcome: false,
    })
}

fn percentiles(mut times: Vec<u128>) -> (u128, u128) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

/// CPU time of this process, user and system, in microseconds (`/proc/self/stat`, 100 ticks a second).
fn cpu_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let tick = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or_default()
    };
    (tick(11) + tick(12)) * 10_000
}
