//! What the commands print: data on standard output, everything else on standard error.
//!
//! One [`Output`] a command. `--json` prints the data as one JSON document; tables fit a terminal and have no colours
//! unless standard output is a terminal and `NO_COLOR` is unset.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Prints a command's results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// `json` as the command line asked for.
    pub(crate) fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: colour && !json }
    }

    /// Whether `--json` was asked for.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A line of data.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
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
    pub(crate) fn show<T: Serialize>(self, value: &T, plain: impl FnOnce(Self, &T) -> io::Result<()>) -> io::Result<()> {
        if self.json { self.json(value) } else { plain(self, value) }
    }

    /// A heading, where colours are on in bold.
    pub(crate) fn heading(self, text: &str) -> io::Result<()> {
        if self.colour { self.line(format!("\x1b[1m{text}\x1b[0m")) } else { self.line(text) }
    }

    /// A table: headings, then rows; columns as wide as their widest cell.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        self.heading(&layout(&headings, &widths))?;
        for row in rows {
            self.line(layout(row, &widths))?;
        }
        Ok(())
    }

    /// Pairs of a name and a value, one a line.
    pub(crate) fn pairs(self, pairs: &[(&str, String)]) -> io::Result<()> {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.line(format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }
}

fn layout(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{cell:width$}  "));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let cells = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(layout(&cells("a", "bb"), &[3, 2]), "a    bb");
        assert_eq!(layout(&cells("abc", ""), &[3, 2]), "abc");
    }
}
