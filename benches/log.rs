//! A long log: how soon it is verified, exported and searched, and how soon a gateway is ready again after a crash.
//! `cargo bench --bench log`.
//!
//! Options after `--`: `--records N` (default 1,000,000).

#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::self_named_module_files,
    reason = "a bench reports to the terminal and stops at the first failure; parts are shared with another one"
)]

#[path = "path/mod.rs"]
mod path;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use countersign::config::Config;
use countersign::id::{Ids, PersonId, SystemSource};
use countersign::vo::{DirectoryHandle, Vos};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use path::load::{Ask, Protocol};
use path::measure;
use path::options::Options;
use path::process::Peer;
use path::records;
use path::round::{Connections, Figures, Round, median};
use path::world::{COUNTERSIGN, Site};
use tokio::runtime::Runtime;

/// People whom the records are about.
const PEOPLE: usize = 1_000;
const ROUNDS: usize = 5;
/// First pages asked for in a round.
const PAGES: usize = 40;

fn main() {
    let Ok(options) = Options::read() else { return };
    let count = options.number("--records").unwrap_or(match options.measured() {
        true => 1_000_000,
        false => 2_000,
    });
    let clock = SystemClock::shared();
    let runtime = Runtime::new().expect("a runtime");
    let mut people = Vec::new();
    let begun = clock.monotonic();
    let mut site = Site::start(&[], None, |data| {
        people = runtime.block_on(fill(data, count, &clock));
    });
    eprintln!(
        "{count} records: made in {:.0} s",
        (clock.monotonic() - begun).as_secs_f64()
    );
    println!(
        "{:<44}{:>12}{:>12}",
        format!("{count} records"),
        "measured",
        "at most"
    );

    let page = first_page(&runtime, &site, &people, &clock);
    tell(
        "search by person, first page, p50",
        page.p50_us / 1_000.0,
        "ms",
        50.0,
    );
    tell(
        "search by person, first page, p99",
        page.p99_us / 1_000.0,
        "ms",
        50.0,
    );

    let most = if count <= 100_000 { 2.0 } else { 5.0 };
    let ready = (0..3).map(|_| crash(&mut site, &clock)).max().unwrap_or_default();
    tell(
        "ready again after kill -9, worst of three",
        ready.as_secs_f64(),
        "s",
        most,
    );

    let data = site.data();
    site.gateway.stop();
    read(&data, count, "", &clock);
    site.start_again();
    let begun = clock.monotonic();
    let plain = packed(&data.join("log"));
    let took = (clock.monotonic() - begun).as_secs_f64();
    println!("old segments compressed, {plain} left as they are: after {took:.0} s");
    site.gateway.stop();
    read(&data, count, ", compressed", &clock);
}

/// What reading the whole log takes.
fn read(data: &Path, count: usize, how: &str, clock: &Arc<dyn Clock>) {
    let (key, log) = (data.join("keys/log.pub"), data.join("log"));
    let share = count as f64 / 1e6;
    let verify = ["audit", "verify", "--json", "--key", text(&key), text(&log)];
    let verified = ran(&verify, clock);
    let most = (5.0 * share).max(1.0);
    tell(&format!("verify on one core{how}"), verified.wall, "s", most);
    tell(&format!("verify, most memory{how}"), verified.mib, "MiB", 64.0);
    let export = ["audit", "export", "--format", "json", "--data", text(data)];
    let exported = ran(&export, clock);
    let most = (15.0 * share).max(1.0);
    tell(&format!("export as JSON lines{how}"), exported.wall, "s", most);
    tell(&format!("export, most memory{how}"), exported.mib, "MiB", 64.0);
}

/// Waits until the gateway has compressed what it compresses; gives how many segments are left as they are.
fn packed(log: &Path) -> usize {
    let named = |end: &str| {
        let files = fs::read_dir(log).expect("a folder").flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        names.filter(|name| name.ends_with(end)).count()
    };
    let mut before = (usize::MAX, 0);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_secs(5));
        let now = (named(".log"), named(".log.zst"));
        if now.0 <= 4 || (now == before && now.1 > 0) {
            break;
        }
        before = now;
    }
    named(".log")
}

fn tell(what: &str, measured: f64, unit: &str, most: f64) {
    let missed = if measured > most { "  missed" } else { "" };
    println!(
        "{what:<44}{:>12}{:>12}{missed}",
        format!("{measured:.2} {unit}"),
        format!("{most} {unit}")
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Fills the log of a data folder whose gateway is not up; gives the people whom the records are about.
async fn fill(data: &Path, count: usize, clock: &Arc<dyn Clock>) -> Vec<PersonId> {
    let config = Config::load(data).expect("settings");
    let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
    let db = config.store.open(data).await.expect("the store");
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    vos.load().await.expect("the directory");
    let vo = vos.handle().load().vo_named("lab").expect("the VO").id;
    db.close().await;
    let people: Vec<PersonId> = (0..PEOPLE).map(|_| ids.next().expect("an id")).collect();
    records::write(config, ids, (vo, people.clone().into()), count).await;
    people
}

/// What the VO's administrator waits for, for one person after the other.
fn first_page(runtime: &Runtime, site: &Site, people: &[PersonId], clock: &Arc<dyn Clock>) -> Figures {
    let bearer = vec![(AUTHORIZATION, format!("Bearer {}", site.token_of("admin")))];
    let mut ask = Ask::new(Method::GET, "/", bearer, StatusCode::OK);
    let page = |person: &PersonId| format!("/api/v1/vos/lab/audit?limit=50&person={person}");
    ask.paths = people.iter().map(page).collect();
    let round = Round {
        pid: site.gateway.pid,
        client: &site.client(site.gateway.port),
        protocol: Protocol::Http1,
        clients: 1,
        connections: Connections::Kept,
        ask: &Arc::new(ask),
    };
    let rounds: Vec<Figures> = (0..ROUNDS)
        .map(|_| runtime.block_on(round.run(PAGES, clock)))
        .collect();
    median(&rounds)
}

/// Kills the gateway, and starts it again; gives how long that takes until it says that it is ready.
fn crash(site: &mut Site, clock: &Arc<dyn Clock>) -> Duration {
    site.gateway.end_at_once();
    let begun = clock.monotonic();
    site.start_again();
    let asked = format!("http://{}/readyz", site.operations);
    loop {
        let said = Command::new("curl")
            .args(["-fsS", "-o", "/dev/null", "--max-time", "5", &asked])
            .output()
            .expect("curl (apt-get install curl)");
        if said.status.success() {
            return clock.monotonic() - begun;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a run of the program took.
struct Ran {
    /// Seconds.
    wall: f64,
    mib: f64,
}

/// Runs the program on one core.
fn ran(arguments: &[&str], clock: &Arc<dyn Clock>) -> Ran {
    let nowhere = fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .expect("a device");
    let begun = clock.monotonic();
    let mut pinned = vec!["-c", "0", COUNTERSIGN];
    pinned.extend(arguments);
    let mut peer = Peer::of("taskset", &pinned, 0, nowhere);
    let mut most = 0;
    while peer.is_up() {
        most = measure::peak(peer.pid).max(most);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(peer.succeeded(), "{arguments:?} failed");
    Ran {
        wall: (clock.monotonic() - begun).as_secs_f64(),
        mib: most as f64 / f64::from(1 << 20),
    }
}
