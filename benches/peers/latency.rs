//! What audit adds to the latency of one client, in times of what the disk needs for one durable write.
//!
//! Disks are not equally fast from one second to the next: each round goes in short slices, some writes, some requests to the
//! gateway and as many to the bare proxy, so that all three meet the same disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Scale;
use super::lab::{Lab, Which};
use super::report::{ADDED, Report};
use crate::path::load::{self, Protocol};
use crate::path::measure::settled;
use crate::path::round::{middle, part};

const SLICES: usize = 50;

/// Measures it.
pub(crate) async fn run(lab: &Lab, scale: &Scale, report: &mut Report, clock: &Arc<dyn Clock>) {
    let disk = Disk::at(lab.site.folder());
    let (own, bare) = (lab.proxy(Which::Countersign), lab.proxy(Which::Bare));
    let mut connections = [
        own.client.connect(Protocol::Http1, 1).await,
        bare.client.connect(Protocol::Http1, 1).await,
    ];
    let requests = (scale.requests / SLICES / 4).max(4);
    settled(own.pid).await; // files that the log makes in advance are there
    let (mut syncs, mut added, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        eprintln!("round {round} of {}: latency", scale.rounds);
        let before = intent(lab).await;
        let mut times: [Vec<Duration>; 3] = Default::default();
        for _ in 0..SLICES {
            times[0].extend(disk.sync(clock));
            times[1].extend(load::run(&mut connections[0], &own.read(), requests, clock).await);
            times[2].extend(load::run(&mut connections[1], &bare.read(), requests, clock).await);
        }
        let after = intent(lab).await;
        let [sync, own, bare] = times.map(|mut times| {
            times.sort_unstable();
            part(&times, 50)
        });
        // The first round warms up.
        if round > 0 {
            syncs.push(sync);
            added.push((own - bare) / sync);
            waits.push((after.0 - before.0) * 1e6 / (after.1 - before.1));
        }
    }
    let name = Which::Countersign.name();
    let (sync, wait) = (middle(syncs), middle(waits));
    report.fact("fdatasync of 400 bytes, p50", "the disk", sync, "us");
    report.fact("waiting for the intent's record, mean", name, wait, "us");
    // The record's own fdatasync is part of that: where it is faster than the disk, the disk was busy with something else.
    if wait >= sync {
        report.fact(ADDED, name, middle(added), "x");
    } else {
        eprintln!("the disk was busy with something else: P7 is left out");
    }
}

/// A file of zeros on the disk that the audit log is on.
struct Disk(File);

impl Disk {
    /// In one slice.
    const TIMES: u64 = 20;
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

    /// Times of writes of 400 bytes with their `fdatasync`.
    fn sync(&self, clock: &Arc<dyn Clock>) -> Vec<Duration> {
        let once = |turn: u64| {
            let start = clock.monotonic();
            let bytes = [b'x'; Self::BYTES as usize];
            self.0.write_all_at(&bytes, turn * Self::BYTES).expect("a write");
            self.0.sync_data().expect("a disk");
            clock.monotonic() - start
        };
        (0..Self::TIMES).map(once).collect()
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
