//! Memory: of idle connections, and while large bodies stream. On programs that have only just been warmed up.

use std::sync::Arc;

use countersign::clock::Clock;
use futures_util::StreamExt;
use http::Method;

use super::Scale;
use super::lab::{Lab, Proxy, Which};
use super::report::{IDLE, Report, STREAM};
use crate::path::load::{self, Connection, Protocol};
use crate::path::measure::{forget_peak, peak, resident, settled};

/// Connections that are being opened at a time.
const AT_ONCE: usize = 32;

/// Measures all of it.
pub(crate) async fn run(lab: &Lab, scale: &Scale, report: &mut Report, clock: &Arc<dyn Clock>) {
    for proxy in &lab.proxies {
        eprintln!("memory: {}", proxy.which.name());
        let mut connections = proxy.client.connect(Protocol::Http1, 32.min(scale.idle)).await;
        load::run(&mut connections, &proxy.read(), scale.idle, clock).await;
        settled(proxy.pid).await;
        if matches!(proxy.which, Which::Countersign | Which::Nginx) {
            let more = streaming(proxy, scale.stream).await;
            report.fact(STREAM, proxy.which.name(), more / MIB, "MiB");
        }
        drop(connections);
        settled(proxy.pid).await;
        let before = resident(proxy.pid);
        let mut held = idle(proxy, scale.idle).await;
        let of_each = |held: &Vec<Connection>| {
            let more = resident(proxy.pid).saturating_sub(before);
            more as f64 / held.len() as f64 / 1024.0
        };
        report.fact(IDLE, proxy.which.name(), of_each(&held), "KiB");
        if proxy.which == Which::Countersign {
            held.extend(idle(proxy, scale.idle).await);
            report.fact(
                "the same, twice as many",
                proxy.which.name(),
                of_each(&held),
                "KiB",
            );
            for connection in &mut held {
                connection.ask(&proxy.read(), 0).await; // all of them are still there
            }
        }
    }
    report.fact("idle connections", "each", scale.idle as f64, "");
}

const MIB: f64 = 1024.0 * 1024.0;

/// So many connections that have each asked once.
async fn idle(proxy: &Proxy, count: usize) -> Vec<Connection> {
    let ask = &proxy.read();
    let open = async |_| {
        let mut connection = proxy.client.open(Protocol::Http1).await.expect("a connection");
        connection.ask(ask, 0).await;
        connection
    };
    let held = futures_util::stream::iter(0..count)
        .map(open)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    settled(proxy.pid).await;
    held
}

/// The most memory above what was there before, while one connection downloads and another one uploads.
async fn streaming(proxy: &Proxy, bytes: u64) -> f64 {
    let mut down = proxy.ask(Method::GET, &format!("/lab/bench/large/{bytes}"));
    down.gets = Some(bytes);
    let mut up = proxy.ask(Method::PUT, "/lab/bench/page");
    up.sends = bytes;
    let mut connections = proxy.client.connect(Protocol::Http1, 2).await;
    for connection in &mut connections {
        connection.ask(&proxy.read(), 0).await;
    }
    settled(proxy.pid).await;
    let before = resident(proxy.pid);
    forget_peak(proxy.pid);
    let (one, two) = connections.split_at_mut(1);
    tokio::join!(one[0].ask(&down, 0), two[0].ask(&up, 0));
    peak(proxy.pid).saturating_sub(before) as f64
}
