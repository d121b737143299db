//! Requests: kept connections, new ones, and large bodies. Everybody takes turns, round by round.

use std::fs::{File, OpenOptions};
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
    let disk = Disk::at(lab.site.folder());
    let mut alone_at = Vec::new();
    for round in 0..=scale.rounds {
        for (case, figures) in cases.iter().zip(&mut rounds) {
            for (proxy, figures) in lab.proxies.iter().zip(figures.iter_mut()) {
                let who = proxy.which.name();
                eprintln!("round {round} of {}: {}, {who}", scale.rounds, case.name);
                let alone = case.name == "h1 1" && proxy.which == Which::Countersign;
                let before = if alone {
                    Some((disk.sync_us(clock), intent(lab).await))
                } else {
                    None
                };
                let measured = one(case, proxy, scale, round == 0).run(clock).await;
                if round == 0 {
                    continue;
                }
                figures.push(measured);
                if let Some((sync, waited)) = before {
                    // The disk is as fast as it was right before and right after.
                    let sync = f64::midpoint(sync, disk.sync_us(clock));
                    let now = intent(lab).await;
                    alone_at.push((sync, (now.0 - waited.0) * 1e6 / (now.1 - waited.1)));
                }
            }
        }
    }
    for (case, figures) in cases.iter().zip(&rounds) {
        for (proxy, rounds) in lab.proxies.iter().zip(figures) {
            report.row(&case.name, proxy.which.name(), median(rounds));
        }
    }
    if let Some(first) = rounds.first().filter(|_| !alone_at.is_empty()) {
        // The first case is one client of HTTP/1.1; what a bare proxy takes is not the audit's.
        let [own, bare] = [&first[0], &first[1]];
        let added = own.iter().zip(bare).zip(&alone_at);
        let added = added.map(|((own, bare), (sync, _))| (own.p50_us - bare.p50_us) / sync);
        let name = Which::Countersign.name();
        report.fact(ADDED, name, middle(added.collect()), "x");
        let waited = alone_at.iter().map(|(sync, waited)| waited / sync).collect();
        report.fact(
            "waiting for the intent's record, mean, in fdatasync p50",
            name,
            middle(waited),
            "x",
        );
        let syncs = alone_at.into_iter().map(|(sync, _)| sync).collect();
        report.fact("fdatasync of 400 bytes, p50", "the disk", middle(syncs), "us");
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
    let word = scale.case.as_deref().unwrap_or_default();
    cases.retain(|case| case.name.contains(word));
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

/// A file of zeros on the disk that the audit log is on.
struct Disk(File);

impl Disk {
    const TIMES: u64 = 200;
    const BYTES: u64 = 400;

    fn at(folder: &Path) -> Self {
        let path = folder.join("zeros");
        let zeros = vec![0; (Self::TIMES * Self::BYTES) as usize];
        std::fs::write(&path, zeros).expect("a file");
        let file = OpenOptions::new().write(true).open(path).expect("a file");
        file.sync_all().expect("a disk");
        let kind = rustix::fs::fstatfs(&file).expect("a file system").f_type;
        assert_ne!(
            kind, 0x0102_1994,
            "the build's folder lies in memory (tmpfs), not on a disk"
        );
        Self(file)
    }

    /// Median time of a write of 400 bytes and its `fdatasync`, in microseconds.
    fn sync_us(&self, clock: &Arc<dyn Clock>) -> f64 {
        let once = |turn: u64| {
            let start = clock.monotonic();
            let bytes = [b'x'; Self::BYTES as usize];
            self.0.write_all_at(&bytes, turn * Self::BYTES).expect("a write");
            self.0.sync_data().expect("a disk");
            (clock.monotonic() - start).as_secs_f64() * 1e6
        };
        middle((0..Self::TIMES).map(once).collect())
    }
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
