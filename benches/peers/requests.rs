//! Requests: kept connections, new ones, and large bodies. Everybody takes turns, round by round.

use std::sync::Arc;

use countersign::clock::Clock;
use http::Method;

use super::Scale;
use super::lab::{Lab, Proxy};
use super::report::Report;
use crate::path::load::{Ask, Protocol};
use crate::path::round::{Connections, Figures, Round, median};

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
    for round in 0..=scale.rounds {
        for (case, figures) in cases.iter().zip(&mut rounds) {
            for (proxy, figures) in lab.proxies.iter().zip(figures.iter_mut()) {
                let who = proxy.which.name();
                eprintln!("round {round} of {}: {}, {who}", scale.rounds, case.name);
                let measured = one(case, proxy, scale, round == 0).run(clock).await;
                if round > 0 {
                    figures.push(measured);
                }
            }
        }
    }
    for (case, figures) in cases.iter().zip(&rounds) {
        for (proxy, rounds) in lab.proxies.iter().zip(figures) {
            report.row(&case.name, proxy.which.name(), median(rounds));
        }
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
