//! The gateway beside other proxies, and the targets: `cargo bench --bench peers`. `benches/README.md` says what is
//! measured and how.
//!
//! Needs nginx, Apache with mod_auth_openidc, and Caddy; when one is missing it says what to run, and fails.
//!
//! Options after `--`: `--rounds N`, `--requests N` (of one round), `--only STAGE,STAGE` (`memory`, `latency`, `kept`, `new`, `large`,
//! `growth`, `restart`), `--case WORD` (cases of `kept`, `new` and `large` in whose name it stands), `--json FILE`, `--long`
//! (growth with a million records).

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

#[path = "peers/growth.rs"]
mod growth;
#[path = "peers/lab.rs"]
mod lab;
#[path = "peers/latency.rs"]
mod latency;
#[path = "peers/memory.rs"]
mod memory;
#[path = "peers/oidc.rs"]
mod oidc;
#[path = "peers/report.rs"]
mod report;
#[path = "peers/requests.rs"]
mod requests;
#[path = "peers/restart.rs"]
mod restart;

use std::process::ExitCode;
use std::time::Duration;

use countersign::clock::SystemClock;
use lab::Lab;
use path::bare;
use path::options::Options;
use report::Report;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much of everything.
struct Scale {
    rounds: usize,
    requests: usize,
    /// Bytes of a large body.
    large: u64,
    /// Bytes of each of the bodies during which memory is looked at.
    stream: u64,
    idle: usize,
    members: usize,
    records: usize,
    /// How long a tool is up, and down.
    phase: Duration,
    only: Option<Vec<String>>,
    /// What stands in the names of the cases that are wanted.
    case: Option<String>,
}

impl Scale {
    fn of(options: &Options) -> Self {
        let only = options
            .value("--only")
            .map(|words| words.split(',').map(str::to_owned).collect());
        // `cargo test --benches` runs this for its form only.
        let least = Self {
            rounds: 1,
            requests: 64,
            large: 1 << 20,
            stream: 1 << 20,
            idle: 64,
            members: 20,
            records: 200,
            phase: Duration::from_millis(200),
            only,
            case: options.value("--case").map(str::to_owned),
        };
        let full = |least: Self| Self {
            rounds: 5,
            requests: 4_000,
            large: 64 << 20,
            stream: 1 << 30,
            idle: 5_000,
            members: 10_000,
            records: if options.has("--long") { 1_000_000 } else { 100_000 },
            phase: Duration::from_secs(4),
            ..least
        };
        let scale = if options.measured() { full(least) } else { least };
        Self {
            rounds: options.number("--rounds").unwrap_or(scale.rounds).max(1),
            requests: options.number("--requests").unwrap_or(scale.requests),
            ..scale
        }
    }

    /// Whether a stage is wanted.
    fn wants(&self, stage: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.iter().any(|word| word == stage))
    }

    /// Tasks of each of the tools that growth brings.
    fn tasks(&self) -> usize {
        (self.members / 10).clamp(1, 50)
    }
}

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(child) => {
            bare::child(&child);
            return ExitCode::SUCCESS;
        }
    };
    let scale = Scale::of(&options);
    let missing = lab::missing();
    if !missing.is_empty() {
        let packages = missing.join(" ");
        eprintln!("peers are missing; run: apt-get install -y --no-install-recommends {packages}");
        return ExitCode::FAILURE;
    }
    open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let clock = SystemClock::shared();
    let mut report = Report::default();
    if scale.wants("memory") {
        // Programs of their own, in whose memory nothing has been yet.
        let lab = runtime.block_on(Lab::start());
        runtime.block_on(memory::run(&lab, &scale, &mut report, &clock));
    }
    if ["latency", "kept", "new", "large"]
        .iter()
        .any(|stage| scale.wants(stage))
    {
        let lab = runtime.block_on(Lab::start());
        if scale.wants("latency") {
            runtime.block_on(latency::run(&lab, &scale, &mut report, &clock));
        }
        runtime.block_on(requests::run(&lab, &scale, &mut report, &clock));
    }
    if scale.wants("growth") {
        growth::run(&runtime, &scale, &mut report, &clock);
    }
    if scale.wants("restart") {
        runtime.block_on(restart::run(&scale, &mut report, &clock));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (rounds, requests) = (scale.rounds, scale.requests);
    let head = format!(
        "Medians of {rounds} rounds of {requests} requests (a quarter with one client, an eighth on new connections), {cores} cores."
    );
    println!("{}", report.text(&head));
    if let Some(file) = options.value("--json") {
        let run = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "cores": cores, "rounds": rounds, "requests": requests,
            "records": scale.records, "release": !cfg!(debug_assertions),
        });
        let text = serde_json::to_string_pretty(&report.json(&run)).expect("JSON");
        std::fs::write(file, text + "\n").expect("a file");
    }
    ExitCode::SUCCESS
}

/// This process and those that it starts hold thousands of connections.
fn open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("a limit of open files");
}
