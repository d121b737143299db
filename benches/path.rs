//! Processor time of a request on its whole path, beside a bare TLS proxy: `cargo bench --bench path`.
//!
//! Three programs run beside this one, which makes the load: an upstream that answers 1 KiB, a bare hyper proxy (TLS,
//! HTTP/1.1 and HTTP/2, a pool to the upstream, nothing else), and the built gateway, set up through its own command
//! line. Cases take turns in short rounds. The main figure is the processor time of the proxy's process per request,
//! from `/proc/PID/stat`, work that it puts off until after the round included; the machine's load changes it little.
//!
//! Options after `--`: `--rounds N`, `--requests N` (of one round), `--only WORD` (cases in whose label it stands).

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench reports to the terminal and stops at the first failure"
)]

#[path = "path/bare.rs"]
mod bare;
#[path = "path/load.rs"]
mod load;
#[path = "path/world.rs"]
mod world;

use std::sync::Arc;

use countersign::clock::{Clock, SystemClock};
use http::{Method, StatusCode};
use load::{Ask, Client, Protocol};
use world::{Peer, World};

/// Most that a read may cost, in times of the bare proxy (HTTP/1.1, 32 clients).
const BOUND: f64 = 3.0;

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

/// What one round gave.
#[derive(Clone, Copy)]
struct Figures {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--child") {
        return bare::child(&arguments[1..]);
    }
    let number = |name: &str| value(&arguments, name).map(|text| text.parse().expect("a number"));
    // `cargo test --benches` runs this too: then once, for its form only.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let rounds = number("--rounds").unwrap_or(if measured { 5 } else { 1 });
    let requests = number("--requests").unwrap_or(if measured { 4_000 } else { 64 });
    let only = value(&arguments, "--only").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let world = World::start();
    let mut cases = cases(&world);
    let wanted: Vec<_> = cases
        .iter()
        .filter(|case| case.label().contains(&only))
        .map(|case| (case.protocol, case.clients))
        .collect();
    let is_base = |case: &Case| case.proxy == Proxy::Bare && wanted.contains(&(case.protocol, case.clients));
    cases.retain(|case| case.label().contains(&only) || is_base(case));
    let clock = SystemClock::shared();
    let mut figures: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (case, figures) in cases.iter().zip(&mut figures) {
            // The first round warms caches, pools and processors up, and counts for nothing.
            let requests = if round == 0 { requests / 8 } else { requests };
            let requests = if case.clients == 1 { requests / 4 } else { requests };
            let measured = runtime.block_on(measure(case, &world, requests.max(case.clients), &clock));
            if round > 0 {
                figures.push(measured);
            }
        }
    }
    let medians: Vec<Figures> = figures.into_iter().map(median).collect();
    report(&cases, &medians, rounds, requests, measured);
}

fn value(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).cloned()
}

fn cases(world: &World) -> Vec<Case> {
    let ask = |method: Method, path: &str, token: bool, status: StatusCode| {
        Arc::new(Ask {
            method,
            path: path.to_owned(),
            bearer: token.then(|| world.token.clone()),
            status,
        })
    };
    // The bare proxy is sent the same request; it looks at nothing.
    let read = ask(Method::GET, "/lab/bench/page", true, StatusCode::OK);
    let job = ask(Method::GET, "/lab/bench/jobs/7", true, StatusCode::OK);
    let update = ask(Method::PUT, "/lab/bench/page", true, StatusCode::OK);
    let stranger = ask(Method::GET, "/lab/bench/page", false, StatusCode::UNAUTHORIZED);
    let denied = ask(Method::GET, "/lab/bench/closed", true, StatusCode::FORBIDDEN);
    let own = ask(Method::GET, "/.countersign/me", true, StatusCode::OK);
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
            case("read of a resource", Proxy::Gateway, &job);
            case("stranger, 401", Proxy::Gateway, &stranger);
            case("denial, 403", Proxy::Gateway, &denied);
            case("own operation", Proxy::Gateway, &own);
        }
    }
    cases
}

async fn measure(case: &Case, world: &World, requests: usize, clock: &Arc<dyn Clock>) -> Figures {
    let peer: &Peer = match case.proxy {
        Proxy::Bare => &world.bare,
        Proxy::Gateway => &world.gateway,
    };
    let client = Client {
        port: peer.port,
        host: world.host.clone(),
        tls: world.tls.clone(),
    };
    let mut connections = client.connect(case.protocol, case.clients).await;
    load::run(&mut connections, &case.ask, case.clients, clock).await; // one each: the connections are open
    world::settled(peer.pid).await;
    let (before, start) = (world::processor_time(peer.pid), clock.monotonic());
    let mut times = load::run(&mut connections, &case.ask, requests, clock).await;
    let wall = clock.monotonic() - start;
    world::settled(peer.pid).await; // what was put off belongs to the requests
    let cpu = world::processor_time(peer.pid) - before;
    times.sort_unstable();
    let done = times.len() as f64;
    Figures {
        cpu_us: cpu.as_secs_f64() * 1e6 / done,
        rate: done / wall.as_secs_f64(),
        p50_us: times[times.len() / 2].as_secs_f64() * 1e6,
    }
}

fn median(of: Vec<Figures>) -> Figures {
    let middle = |figure: fn(&Figures) -> f64| {
        let mut sorted: Vec<f64> = of.iter().map(figure).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Figures {
        cpu_us: middle(|figures| figures.cpu_us),
        rate: middle(|figures| figures.rate),
        p50_us: middle(|figures| figures.p50_us),
    }
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
