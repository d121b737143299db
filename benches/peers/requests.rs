//! Requests: kept connections, new ones, and large bodies. Everybody takes turns, round by round.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use countersign::clock::Clock;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Scale;
use super::lab::{Lab, Proxy, Which};
use super::report::{ADDED, Report};
use crate::path::load::{Ask, Protocol};
use crate::path::round::{Connections, Figures, Round, median, middle};

/// Something that is asked of every proxy.
struct Case {
    name: String,
    protocol: Protocol,
    clients: usize,
    connections: Connections,
    requests: usize,
    ask: fn(&Proxy, &Scale) -> Arc<Ask>,
}

/// Runs the cases of these stages.
pub(crate) async fn run(lab: &Lab, scale: &Scale, report: &mut Report, clock: &Arc<dyn Clock>) {
    let cases = cases(scale);
    let mut rounds: Vec<Vec<Vec<Figures>>> = cases
        .iter()
        .map(|_| lab.proxies.iter().map(|_| Vec::new()).collect())
        .collect();
    let (mut syncs, mut added, mut intents) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        for (case, figures) in cases.iter().zip(&mut rounds) {
            eprintln!("round {round} of {}: {}", scale.rounds, case.name);
            let alone = case.name == "h1 1";
            let sync = if alone {
                sync_us(lab.site.folder(), clock)
            } else {
                0.0
            };
            let before = if alone { intent(lab).await } else { (0.0, 0.0) };
            for (proxy, figures) in lab.proxies.iter().zip(figures.iter_mut()) {
                let measured = one(case, proxy, scale, round == 0).run(clock).await;
                if round > 0 {
                    figures.push(measured);
                }
            }
            if alone && round > 0 {
                let p50 = |which: Which| {
                    let at = Which::ALL
                        .iter()
                        .position(|one| *one == which)
                        .unwrap_or_default();
                    figures[at][round - 1].p50_us
                };
                let after = intent(lab).await;
                syncs.push(sync);
                added.push((p50(Which::Countersign) - p50(Which::Bare)) / sync);
                intents.push((after.0 - before.0) * 1e6 / (after.1 - before.1) / sync);
            }
        }
    }
    for (case, figures) in cases.iter().zip(&rounds) {
        for (proxy, rounds) in lab.proxies.iter().zip(figures) {
            report.row(&case.name, proxy.which.name(), median(rounds));
        }
    }
    if !syncs.is_empty() {
        let own = Which::Countersign.name();
        report.fact("fdatasync of 400 bytes, p50", "the disk", middle(syncs), "us");
        report.fact(ADDED, own, middle(added), "x");
        report.fact(
            "waiting for the intent's record, mean, in fdatasync p50",
            own,
            middle(intents),
            "x",
        );
    }
}

fn cases(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name: String, protocol, clients, connections, requests, ask| {
        cases.push(Case {
            name,
            protocol,
            clients,
            connections,
            requests,
            ask,
        });
    };
    let both = [Protocol::Http1, Protocol::Http2];
    let read = |proxy: &Proxy, _: &Scale| proxy.read();
    for protocol in scale.wants("kept").then_some(both).into_iter().flatten() {
        for clients in [1, 32, 256] {
            let requests = if clients == 1 {
                scale.requests / 4
            } else {
                scale.requests
            };
            let name = format!("{} {clients}", protocol.name());
            case(name, protocol, clients, Connections::Kept, requests, read);
        }
    }
    if scale.wants("new") {
        case(
            "h1 new".into(),
            Protocol::Http1,
            8,
            Connections::New,
            scale.requests / 8,
            read,
        );
    }
    for protocol in scale.wants("large").then_some(both).into_iter().flatten() {
        let name = |way| format!("{} {way}", protocol.name());
        case(name("down"), protocol, 1, Connections::Kept, 4, down);
        case(name("up"), protocol, 1, Connections::Kept, 4, up);
    }
    cases
}

fn down(proxy: &Proxy, scale: &Scale) -> Arc<Ask> {
    let mut ask = proxy.ask(Method::GET, &format!("/lab/bench/large/{}", scale.large));
    ask.gets = Some(scale.large);
    Arc::new(ask)
}

fn up(proxy: &Proxy, scale: &Scale) -> Arc<Ask> {
    let mut ask = proxy.ask(Method::PUT, "/lab/bench/page");
    ask.sends = scale.large;
    Arc::new(ask)
}

/// One proxy's turn.
struct Turn<'a>(&'a Case, &'a Proxy, Arc<Ask>, usize);

/// The first round warms caches, pools and processors up, and counts for nothing.
fn one<'a>(case: &'a Case, proxy: &'a Proxy, scale: &Scale, warming: bool) -> Turn<'a> {
    let requests = if warming { case.requests / 8 } else { case.requests };
    Turn(case, proxy, (case.ask)(proxy, scale), requests)
}

impl Turn<'_> {
    async fn run(&self, clock: &Arc<dyn Clock>) -> Figures {
        let Self(case, proxy, ask, requests) = self;
        let round = Round {
            pid: proxy.pid,
            client: &proxy.client,
            protocol: case.protocol,
            clients: case.clients,
            connections: case.connections,
            ask,
        };
        round.run(*requests, clock).await
    }
}

/// Median time of a write of 400 bytes and its `fdatasync`, in microseconds, into zeros that are there already.
fn sync_us(folder: &Path, clock: &Arc<dyn Clock>) -> f64 {
    const TIMES: u64 = 200;
    let file = folder.join("zeros");
    File::create(&file)
        .and_then(|mut file| {
            file.write_all(&vec![0; 400 * TIMES as usize])
                .and_then(|()| file.sync_all())
        })
        .expect("a file");
    let file = OpenOptions::new().write(true).open(file).expect("a file");
    let once = |turn: u64| {
        let start = clock.monotonic();
        file.write_all_at(&[b'x'; 400], turn * 400).expect("a write");
        file.sync_data().expect("a disk");
        (clock.monotonic() - start).as_secs_f64() * 1e6
    };
    middle((0..TIMES).map(once).collect())
}

/// Seconds that requests have waited for their intent's record so far, and how many did.
async fn intent(lab: &Lab) -> (f64, f64) {
    let mut stream = tokio::net::TcpStream::connect(&lab.site.operations)
        .await
        .expect("a connection");
    let ask = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        lab.site.operations
    );
    stream.write_all(ask.as_bytes()).await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("metrics");
    let value = |name: &str| {
        let line = format!("countersign_stage_seconds_{name}{{stage=\"intent\"}} ");
        let value = text.lines().find_map(|shown| shown.strip_prefix(&line));
        value.and_then(|value| value.parse().ok()).expect("a histogram")
    };
    (value("sum"), value("count"))
}
