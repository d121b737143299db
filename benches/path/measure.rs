//! Processor time and memory of a process and of everything below it, from `/proc`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

/// Processor time of every thread so far, in nanoseconds.
///
/// From `schedstat`, which counts what `utime + stime` of `stat` counts, without their grain of 10 ms.
pub(crate) struct Spent(HashMap<u32, u64>);

impl Spent {
    /// What the process and everything below it has used so far.
    pub(crate) fn of(pid: u32) -> Self {
        let mut threads = HashMap::new();
        for process in tree(pid) {
            for thread in numbers(&format!("/proc/{process}/task")) {
                // A thread that ends meanwhile is left out: those that end were idle before.
                let file = format!("/proc/{process}/task/{thread}/schedstat");
                let time = fs::read_to_string(file).ok();
                let time = time.and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok()));
                threads.extend(time.map(|time| (thread, time)));
            }
        }
        assert!(!threads.is_empty(), "process {pid} has ended");
        Self(threads)
    }

    /// What was used since `before`; threads that began meanwhile count whole.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let more = self.0.iter().map(|(thread, time)| {
            let before = before.0.get(thread).copied().unwrap_or_default();
            time.saturating_sub(before)
        });
        Duration::from_nanos(more.sum())
    }
}

/// Waits until the process has nothing more to do: at most 10 ms of processor time in 300 ms, for at most 10 seconds.
pub(crate) async fn settled(pid: u32) {
    let mut last = Spent::of(pid);
    for _ in 0..33 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = Spent::of(pid);
        if now.since(&last) <= Duration::from_millis(10) {
            return;
        }
        last = now;
    }
}

/// Resident memory, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    tree(pid).into_iter().map(|pid| status(pid, "VmRSS:")).sum()
}

/// Forgets the most memory that was ever resident; what is resident now is the most from here on (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: u32) {
    for process in tree(pid) {
        fs::write(format!("/proc/{process}/clear_refs"), "5").expect("a process of this user");
    }
}

/// The most that was resident since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: u32) -> u64 {
    tree(pid).into_iter().map(|pid| status(pid, "VmHWM:")).sum()
}

/// A line of a process's `status` that is in KiB, in bytes.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// A process and everything below it.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in numbers("/proc") {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        found.extend(children.get(&process).into_iter().flatten());
        next += 1;
    }
    found
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
