//! What the commands print: data on standard output, everything else on standard error.
//!
//! One [`Output`] a command. `--json` prints the data as one JSON document; tables fit a terminal and have no colours
//! unless standard output is a terminal and `NO_COLOR` is unset.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use crate::tool::is_unseen;

/// Prints a command's results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
    /// Columns of the terminal; `None` when standard output is none.
    width: Option<usize>,
}

/// Standard output was closed by whoever reads it (`| head`): the end of the command, not a failure.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

fn closed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Closed),
        _ => error,
    }
}

impl Output {
    /// `json` as the command line asked for.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let width = terminal.then(columns).flatten();
        Self {
            json,
            colour: colour && !json,
            width,
        }
    }

    /// Whether `--json` was asked for.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A line of data.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out
            .write_all(text.as_ref().as_bytes())
            .and_then(|()| out.write_all(b"\n"));
        written.and_then(|()| out.flush()).map_err(closed)
    }

    /// Many lines of data, written together.
    pub(crate) fn lines(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(closed)
    }

    /// Something to know beside the data (standard error; silent with `--json`).
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            let mut err = io::stderr().lock();
            let _ = err.write_all(text.as_ref().as_bytes());
            let _ = err.write_all(b"\n");
        }
    }

    /// `value` as one JSON document.
    pub(crate) fn json(self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.line(text)
    }

    /// `value` with `--json`, else what `plain` prints.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        plain: impl FnOnce(Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.json {
            self.json(value)
        } else {
            plain(self, value)
        }
    }

    /// That something was done which has no data of its own.
    pub(crate) fn done(self, task: &str, text: impl AsRef<str>) -> io::Result<()> {
        if self.json {
            self.json(&json!({ "task": task, "done": true }))
        } else {
            self.line(text)
        }
    }

    /// A list of items: `{"NAME": [...]}` with `--json`, else a table; an empty one says so on standard error.
    pub(crate) fn list<T: Serialize>(
        self,
        name: &str,
        items: &[T],
        headings: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> io::Result<()> {
        if self.json {
            return self.json(&json!({ name: items }));
        }
        if items.is_empty() {
            self.note(format!("no {}", name.replace('_', " ")));
            return Ok(());
        }
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        self.table(headings, &rows)
    }

    /// A heading, where colours are on in bold.
    pub(crate) fn heading(self, text: &str) -> io::Result<()> {
        if self.colour {
            self.line(format!("\x1b[1m{text}\x1b[0m"))
        } else {
            self.line(text)
        }
    }

    /// A table: headings, then rows; columns as wide as their widest cell. Where that is wider than the terminal, each row
    /// becomes a block of lines, so that nothing is cut.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| plain(cell)).collect())
            .collect();
        let widths = widths(headings, &rows);
        let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if self.width.is_some_and(|width| total > width) {
            return self.blocks(headings, &rows);
        }
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        self.heading(&layout(&headings, &widths))?;
        for row in &rows {
            self.line(layout(row, &widths))?;
        }
        Ok(())
    }

    fn blocks(self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                self.line("")?;
            }
            let pairs: Vec<(&str, String)> = headings.iter().copied().zip(row.iter().cloned()).collect();
            self.pairs(&pairs)?;
        }
        Ok(())
    }

    /// Pairs of a name and a value, one a line.
    pub(crate) fn pairs(self, pairs: &[(&str, String)]) -> io::Result<()> {
        let width = pairs
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, value) in pairs {
            self.line(format!("{name:width$}  {}", plain(value)).trim_end())?;
        }
        Ok(())
    }
}

/// `text` on one line.
///
/// SECURITY: names, messages and paths come from others; a control character among them could rewrite the terminal, and one
/// that turns the direction of writing could make them read as something else.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if is_unseen(c) { '\u{fffd}' } else { c })
        .collect()
}

/// `text`, or a dash where there is none.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// Words with commas between them, or a dash where there are none.
pub(crate) fn words<T: AsRef<str>>(words: &[T]) -> String {
    let joined = words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    or_dash(Some(&joined))
}

fn widths(headings: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn layout(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{cell:width$}  "));
    }
    line.trim_end().to_owned()
}

fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(layout(&cells(&["a", "bb"]), &[3, 2]), "a    bb");
        assert_eq!(layout(&cells(&["abc", ""]), &[3, 2]), "abc");
        assert_eq!(
            widths(&["id", "name"], &[cells(&["müller", "x"]), cells(&["1"])]),
            [6, 4]
        );
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(plain("Zoë 日本"), "Zoë 日本");
    }

    #[test]
    fn nothing_is_shown_as_a_dash() {
        assert_eq!(or_dash(None), "-");
        assert_eq!(words::<&str>(&[]), "-");
        assert_eq!(words(&["a", "b"]), "a, b");
    }
}
