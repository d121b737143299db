//! Processor time of a request on its whole path, beside a bare TLS proxy: `cargo bench --bench path`.
//!
//! Three programs run beside this one, which makes the load: an upstream that answers 1 KiB, a bare hyper proxy (TLS,
//! HTTP/1.1 and HTTP/2, a pool to the upstream, nothing else), and the built gateway, set up through its own command
//! line. Cases take turns in short rounds. The main figure is the processor time of the proxy's process per request,
//! from `/proc`, work that it puts off until after the round included; the machine's load changes it little.
//!
//! Options after `--`: `--rounds N`, `--requests N` (of one round), `--only WORD` (cases in whose label it stands).

#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::self_named_module_files,
    reason = "a bench reports to the terminal and stops at the first failure; parts are shared with another one"
)]

#[path = "path/mod.rs"]
mod path;

use std::sync::Arc;

use countersign::clock::SystemClock;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use path::bare;
use path::load::{Ask, Protocol};
use path::options::Options;
use path::process::Peer;
use path::round::{Connections, Figures, Round, median};
use path::world::{Site, Tool};

/// Most that a read may cost, in times of the bare proxy (HTTP/1.1, 32 clients).
const BOUND: f64 = 2.2;

/// A proxy, a request, and how it is asked.
struct Case {
    name: &'static str,
    proxy: Proxy,
    ask: Arc<Ask>,
    protocol: Protocol,
    clients: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Proxy {
    Bare,
    Gateway,
}

impl Case {
    fn label(&self) -> String {
        format!("{} {} {}", self.protocol.name(), self.clients, self.name)
    }
}

fn main() {
    let options = match Options::read() {
        Ok(options) => options,
        Err(child) => return bare::child(&child),
    };
    let measured = options.measured();
    let rounds = options.number("--rounds").unwrap_or(if measured { 5 } else { 1 });
    let requests = options
        .number("--requests")
        .unwrap_or(if measured { 4_000 } else { 64 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let upstream = Peer::of_self(&["upstream", "0"]);
    let site = Site::start(&[Tool::bench(upstream.port)], None, |_| {});
    let bare = site.bare(&upstream);
    let cases = wanted(cases(&site.token), options.value("--only").unwrap_or_default());
    let clock = SystemClock::shared();
    let mut figures: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (case, figures) in cases.iter().zip(&mut figures) {
            let peer = match case.proxy {
                Proxy::Bare => &bare,
                Proxy::Gateway => &site.gateway,
            };
            let asked = Round {
                pid: peer.pid,
                client: &site.client(peer.port),
                protocol: case.protocol,
                clients: case.clients,
                connections: Connections::Kept,
                ask: &case.ask,
            };
            // The first round warms caches, pools and processors up, and counts for nothing.
            let requests = if round == 0 { requests / 8 } else { requests };
            let requests = if case.clients == 1 { requests / 4 } else { requests };
            let measured = runtime.block_on(asked.run(requests, &clock));
            if round > 0 {
                figures.push(measured);
            }
        }
    }
    let medians: Vec<Figures> = figures.iter().map(|rounds| median(rounds)).collect();
    report(&cases, &medians, rounds, requests, measured);
}

/// Cases in whose label the word stands, and the bare ones that they are compared with.
fn wanted(cases: Vec<Case>, word: &str) -> Vec<Case> {
    let found: Vec<_> = cases
        .iter()
        .filter(|case| case.label().contains(word))
        .map(|case| (case.protocol, case.clients))
        .collect();
    let is_base = |case: &Case| case.proxy == Proxy::Bare && found.contains(&(case.protocol, case.clients));
    cases
        .into_iter()
        .filter(|case| case.label().contains(word) || is_base(case))
        .collect()
}

fn cases(token: &str) -> Vec<Case> {
    let ask = |method: Method, path: &str, token: Option<&str>, status: StatusCode| {
        let bearer = token.map(|token| (AUTHORIZATION, format!("Bearer {token}")));
        Arc::new(Ask::new(method, path, bearer.into_iter().collect(), status))
    };
    // The bare proxy is sent the same request; it looks at nothing.
    let token = Some(token);
    let read = ask(Method::GET, "/lab/bench/page", token, StatusCode::OK);
    let job = ask(Method::GET, "/lab/bench/jobs/7", token, StatusCode::OK);
    let update = ask(Method::PUT, "/lab/bench/page", token, StatusCode::OK);
    let stranger = ask(Method::GET, "/lab/bench/page", None, StatusCode::UNAUTHORIZED);
    let denied = ask(Method::GET, "/lab/bench/closed", token, StatusCode::FORBIDDEN);
    let own = ask(Method::GET, "/.countersign/me", token, StatusCode::OK);
    let mut cases = Vec::new();
    for (protocol, clients) in [(Protocol::Http1, 32), (Protocol::Http1, 1), (Protocol::Http2, 32)] {
        let mut case = |name, proxy, ask: &Arc<Ask>| {
            let ask = ask.clone();
            cases.push(Case {
                name,
                proxy,
                ask,
                protocol,
                clients,
            });
        };
        case("bare", Proxy::Bare, &read);
        case("read", Proxy::Gateway, &read);
        case("update", Proxy::Gateway, &update);
        if (protocol, clients) == (Protocol::Http1, 32) {
            case("view of a resource", Proxy::Gateway, &job);
            case("stranger, 401", Proxy::Gateway, &stranger);
            case("denial, 403", Proxy::Gateway, &denied);
            case("own operation", Proxy::Gateway, &own);
        }
    }
    cases
}

fn report(cases: &[Case], medians: &[Figures], rounds: usize, requests: usize, measured: bool) {
    println!("medians of {rounds} rounds of {requests} requests (a quarter with one client)");
    println!(
        "{:<24}{:>12}{:>8}{:>12}{:>8}{:>10}",
        "", "CPU us/req", "x bare", "requests/s", "x bare", "p50 us"
    );
    let mut bare = None;
    let mut beyond = None;
    for (case, figures) in cases.iter().zip(medians) {
        if case.proxy == Proxy::Bare {
            bare = Some(*figures);
        }
        let base = bare.unwrap_or(*figures);
        let (cpu, rate) = (figures.cpu_us / base.cpu_us, figures.rate / base.rate);
        println!(
            "{:<24}{:>12.1}{cpu:>8.2}{:>12.0}{rate:>8.2}{:>10.0}",
            case.label(),
            figures.cpu_us,
            figures.rate,
            figures.p50_us
        );
        if (case.name, case.clients, case.protocol) == ("read", 32, Protocol::Http1) {
            let met = if cpu <= BOUND { "met" } else { "missed" };
            beyond = Some(format!(
                "target, h1 32 read: at most {BOUND:.1} x bare; {cpu:.2}: {met}"
            ));
        }
    }
    if measured && let Some(line) = beyond {
        println!("{line}");
    }
}
