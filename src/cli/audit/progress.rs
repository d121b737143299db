//! How far a long command is, on standard error where that is a terminal.

use std::io::{self, IsTerminal, Write};

/// A line that is written over.
pub(super) struct Progress {
    total: u64,
    done: u64,
    shown: bool,
}

impl Progress {
    /// Of so many records; 0 when nobody knows. `quiet` when standard output is a terminal too, and shows the records.
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        Self {
            total,
            done: 0,
            shown: io::stderr().is_terminal() && !quiet,
        }
    }

    /// So many more are done.
    pub(super) fn add(&mut self, more: u64) {
        self.set(self.done + more);
    }

    /// So many are done.
    pub(super) fn set(&mut self, done: u64) {
        self.done = done;
        if self.shown {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{}", said(self.done, self.total));
            let _ = err.flush();
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn said(done: u64, total: u64) -> String {
    match done.min(total).saturating_mul(100).checked_div(total) {
        Some(percent) => format!("{done} records, {percent} %"),
        None => format!("{done} records"),
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn percents_are_shown_where_the_total_is_known_and_never_exceed_100() {
        assert_eq!(said(5, 0), "5 records");
        assert_eq!(said(5, 10), "5 records, 50 %");
        assert_eq!(said(20, 10), "20 records, 100 %");
    }
}
