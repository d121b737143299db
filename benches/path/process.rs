//! Processes that are measured or asked, and that go with this one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::measure::tree;

/// A running program, stopped when it is dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) port: u16,
    /// Own programs end when this does.
    _input: Option<ChildStdin>,
}

impl Peer {
    /// Starts this program again, as one of its children.
    pub(crate) fn of_self(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command
            .arg("--child")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a port");
        let port = line.trim().parse().expect("a port");
        Self {
            pid: child.id(),
            port,
            _input: child.stdin.take(),
            child,
        }
    }

    /// Starts a program that ends when this one does, however that is; what it says goes to `log`.
    pub(crate) fn of(program: &str, arguments: &[&str], port: u16, log: fs::File) -> Self {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--", program])
            .args(arguments);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().expect("setpriv (apt-get install util-linux)");
        Self {
            pid: child.id(),
            port,
            _input: None,
            child,
        }
    }

    /// Whether it has not ended.
    pub(crate) fn is_up(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Ends it in order: with what is below it.
    pub(crate) fn stop(&mut self) {
        let below = tree(self.pid);
        if self.is_up() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        for _ in 0..250 {
            if !self.is_up() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for process in below
            .into_iter()
            .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Whether it has ended, and well.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.child
            .try_wait()
            .ok()
            .flatten()
            .is_some_and(|status| status.success())
    }

    /// Ends it at once.
    pub(crate) fn end_at_once(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it at once, for good.
    pub(crate) fn kill(mut self) {
        self.end_at_once();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}
