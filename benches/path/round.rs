//! One round of load on one program, and what it gave.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Clock;

use super::load::{self, Ask, Client, Protocol};
use super::measure::{Spent, settled};

/// What a round gave.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Processor time of the program for each request.
    pub(crate) cpu_us: f64,
    /// Requests in a second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// How connections are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// Opened before the round, kept until its end.
    Kept,
    /// One for each request.
    New,
}

/// A round: who is asked by how many, and by what connections.
pub(crate) struct Round<'a> {
    pub(crate) pid: u32,
    pub(crate) client: &'a Client,
    pub(crate) protocol: Protocol,
    pub(crate) clients: usize,
    pub(crate) connections: Connections,
    pub(crate) ask: &'a Arc<Ask>,
}

impl Round<'_> {
    /// Asks so many times. Work that the program puts off until after the round is in its processor time.
    pub(crate) async fn run(&self, requests: usize, clock: &Arc<dyn Clock>) -> Figures {
        let requests = requests.max(self.clients);
        let mut connections = match self.connections {
            Connections::Kept => self.client.connect(self.protocol, self.clients).await,
            Connections::New => Vec::new(),
        };
        load::run(&mut connections, self.ask, self.clients, clock).await; // one each: the connections are open
        settled(self.pid).await;
        let (before, start) = (Spent::of(self.pid), clock.monotonic());
        let times = match self.connections {
            Connections::Kept => load::run(&mut connections, self.ask, requests, clock).await,
            Connections::New => {
                let how = (self.protocol, self.clients);
                load::run_anew(self.client, how, self.ask, requests, clock).await
            }
        };
        let wall = clock.monotonic() - start;
        settled(self.pid).await;
        figures(times, wall, Spent::of(self.pid).since(&before))
    }
}

fn figures(mut times: Vec<Duration>, wall: Duration, cpu: Duration) -> Figures {
    times.sort_unstable();
    let done = times.len() as f64;
    Figures {
        cpu_us: cpu.as_secs_f64() * 1e6 / done,
        rate: done / wall.as_secs_f64(),
        p50_us: part(&times, 50),
        p99_us: part(&times, 99),
    }
}

/// A percentile of sorted times, in microseconds.
pub(crate) fn part(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e6
}

/// The medians of several rounds.
pub(crate) fn median(rounds: &[Figures]) -> Figures {
    let middle = |figure: fn(&Figures) -> f64| middle(rounds.iter().map(figure).collect());
    Figures {
        cpu_us: middle(|figures| figures.cpu_us),
        rate: middle(|figures| figures.rate),
        p50_us: middle(|figures| figures.p50_us),
        p99_us: middle(|figures| figures.p99_us),
    }
}

/// The median.
pub(crate) fn middle(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
