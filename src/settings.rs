//! Reads settings (configuration, manifests, role files) from TOML and reports **every** problem at once, each with its
//! line, key path and accepted form; unknown keys are problems too.
//!
//! ```
//! use countersign::settings::Document;
//! let document = Document::parse("demo.toml", "port = \"x\"\nprot = 1\n").unwrap();
//! let mut root = document.root();
//! let port = root.integer("port", 1..=65535, Some(8443));
//! root.end();
//! assert_eq!(port, 8443);
//! let problems = document.problems();
//! assert_eq!(problems.len(), 2);
//! assert_eq!(problems[0].to_string(), "demo.toml:1: `port` must be an integer from 1 to 65535");
//! assert_eq!(problems[1].to_string(), "demo.toml:2: unknown key `prot` (accepted here: port)");
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, where, and what is accepted.
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Everything that is wrong with a settings file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Flaws(pub Vec<Flaw>);

/// A parsed file, which collects the flaws that its readers find.
pub struct Document<'a> {
    file: String,
    text: &'a str,
    table: Spanned<DeTable<'a>>,
    flaws: RefCell<Vec<Flaw>>,
}

impl<'a> Document<'a> {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`Flaws`] with the one syntax error when it is not TOML.
    pub fn parse(file: &str, text: &'a str) -> Result<Self, Flaws> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self {
                file: file.to_owned(),
                text,
                table,
                flaws: RefCell::new(Vec::new()),
            }),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                Err(Flaws(vec![Flaw {
                    file: file.to_owned(),
                    line: line_of(text, at),
                    message: error.message().replace('\n', "; "),
                }]))
            }
        }
    }

    /// The reader of the top-level table.
    #[must_use]
    pub fn root(&self) -> Table<'_> {
        Table {
            document: self,
            table: self.table.get_ref(),
            at: 0,
            path: String::new(),
            asked: BTreeSet::new(),
        }
    }

    /// Notes a flaw at a byte offset. After the first thousand nothing more is noted: nobody reads on, and a hostile file
    /// must not cost more than it is worth.
    pub fn flaw(&self, at: usize, message: impl Into<String>) {
        if self.flaws.borrow().len() >= 1_000 {
            return;
        }
        self.flaws.borrow_mut().push(Flaw {
            file: self.file.clone(),
            line: line_of(self.text, at),
            message: message.into(),
        });
    }

    /// Line (from 1) of a byte offset.
    #[must_use]
    pub fn line(&self, at: usize) -> usize {
        line_of(self.text, at)
    }

    /// What was found so far, in the order of lines.
    #[must_use]
    pub fn problems(&self) -> Vec<Flaw> {
        let mut flaws = self.flaws.borrow().clone();
        flaws.sort_by_key(|flaw| flaw.line);
        flaws
    }

    /// `value` if nothing was wrong.
    ///
    /// # Errors
    /// All [`Flaws`] that were found.
    pub fn finish<T>(&self, value: T) -> Result<T, Flaws> {
        let flaws = self.problems();
        if flaws.is_empty() {
            Ok(value)
        } else {
            Err(Flaws(flaws))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Reads one table. Every key that is asked for is known; [`Table::end`] reports the others.
pub struct Table<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    at: usize,
    path: String,
    asked: BTreeSet<String>,
}

impl<'d> Table<'d> {
    fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn take(&mut self, name: &str) -> Option<(usize, &'d DeValue<'d>)> {
        self.asked.insert(name.to_owned());
        let table = self.table;
        table
            .iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)
            .map(|(_, value)| (value.span().start, value.get_ref()))
    }

    /// Where this table stands, as a byte offset.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Line of this table, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.document.line(self.at)
    }

    /// The document that this table is part of.
    #[must_use]
    pub const fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// The names of all keys that the table has.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    /// Whether the key is there (and marks it as known).
    pub fn has(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// Notes a flaw of the key `name` (or of the table when the key is not there).
    pub fn flaw(&mut self, name: &str, message: impl fmt::Display) {
        let at = self.take(name).map_or(self.at, |(at, _)| at);
        self.document.flaw(at, format!("`{}` {message}", self.key(name)));
    }

    /// A string. `None` when the key is absent or flawed.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name) {
            None => None,
            Some((_, DeValue::String(text))) => Some(text.to_string()),
            Some(_) => {
                self.flaw(name, "must be a string");
                None
            }
        }
    }

    /// A string that must be there; empty when it is not (and a flaw is noted).
    pub fn required_text(&mut self, name: &str) -> String {
        if !self.has(name) {
            let key = self.key(name);
            self.document
                .flaw(self.at, format!("`{key}` is missing: a string is needed"));
        }
        self.text(name).unwrap_or_default()
    }

    /// A string that `parse` turns into a value; `accepted` says what is accepted.
    pub fn parsed<T>(&mut self, name: &str, accepted: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.flaw(name, format!("has the value `{text}`; accepted: {accepted}"));
        }
        value
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.take(name) {
            None => default,
            Some((_, DeValue::Boolean(value))) => *value,
            Some(_) => {
                self.flaw(name, "must be true or false");
                default
            }
        }
    }

    /// An integer within `range`. Without a default the key must be there; the range's start stands in for it.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>, default: Option<i64>) -> i64 {
        let accepted = format!("must be an integer from {} to {}", range.start(), range.end());
        match self.take(name) {
            None => default.unwrap_or_else(|| {
                self.flaw(name, format!("is missing: it {accepted}"));
                *range.start()
            }),
            Some((_, DeValue::Integer(number))) => match i64::from_str_radix(number.as_str(), number.radix())
            {
                Ok(value) if range.contains(&value) => value,
                _ => {
                    self.flaw(name, accepted);
                    default.unwrap_or(*range.start())
                }
            },
            Some(_) => {
                self.flaw(name, accepted);
                default.unwrap_or(*range.start())
            }
        }
    }

    /// A duration in whole seconds, written as an integer (`30`) or with a unit (`"30s"`, `"5m"`, `"1h"`, `"2d"`, `"250ms"`).
    pub fn duration(&mut self, name: &str, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        let Some((_, value)) = self.take(name) else {
            return default;
        };
        let read = match value {
            DeValue::Integer(number) => number.as_str().parse().ok().map(Duration::from_secs),
            DeValue::String(text) => duration_of(text),
            _ => None,
        };
        match read {
            Some(duration) if range.contains(&duration) => duration,
            _ => {
                let accepted = format!(
                    "must be a time from {:?} to {:?}: seconds, or a number with ms, s, m, h or d",
                    range.start(),
                    range.end()
                );
                self.flaw(name, accepted);
                default
            }
        }
    }

    /// A list of strings; empty when absent.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        match self.take(name) {
            None => Vec::new(),
            Some((_, DeValue::Array(items))) => {
                let mut texts = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::String(text) => texts.push(text.to_string()),
                        _ => self.document.flaw(
                            item.span().start,
                            format!("`{}` must be a list of strings", self.key(name)),
                        ),
                    }
                }
                texts
            }
            Some(_) => {
                self.flaw(name, "must be a list of strings");
                Vec::new()
            }
        }
    }

    /// A list of integers; empty when absent.
    pub fn integers(&mut self, name: &str, range: RangeInclusive<i64>) -> Vec<i64> {
        match self.take(name) {
            None => Vec::new(),
            Some((_, DeValue::Array(items))) => {
                let mut numbers = Vec::new();
                for item in items.iter() {
                    let number = match item.get_ref() {
                        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
                        _ => None,
                    };
                    match number.filter(|number| range.contains(number)) {
                        Some(number) => numbers.push(number),
                        None => self.document.flaw(
                            item.span().start,
                            format!(
                                "`{}` must be a list of integers from {} to {}",
                                self.key(name),
                                range.start(),
                                range.end()
                            ),
                        ),
                    }
                }
                numbers
            }
            Some(_) => {
                self.flaw(name, "must be a list of integers");
                Vec::new()
            }
        }
    }

    /// The table below `name`; an empty one when it is absent, so that defaults apply.
    pub fn table(&mut self, name: &str) -> Option<Table<'d>> {
        match self.take(name) {
            None => None,
            Some((at, DeValue::Table(table))) => Some(self.below(name, at, table)),
            Some(_) => {
                self.flaw(name, "must be a table");
                None
            }
        }
    }

    /// The tables below `name`: an array of tables, or one table standing for a list of one.
    pub fn tables(&mut self, name: &str) -> Vec<Table<'d>> {
        match self.take(name) {
            None => Vec::new(),
            Some((at, DeValue::Table(table))) => vec![self.below(name, at, table)],
            Some((_, DeValue::Array(items))) => {
                let mut tables = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            tables.push(self.below(&format!("{name}[{index}]"), item.span().start, table));
                        }
                        _ => self.document.flaw(
                            item.span().start,
                            format!("`{}` must be a list of tables", self.key(name)),
                        ),
                    }
                }
                tables
            }
            Some(_) => {
                self.flaw(name, "must be a table or a list of tables");
                Vec::new()
            }
        }
    }

    fn below(&self, name: &str, at: usize, table: &'d DeTable<'d>) -> Table<'d> {
        Table {
            document: self.document,
            table,
            at,
            path: self.key(name),
            asked: BTreeSet::new(),
        }
    }

    /// Whether `name` holds a string (and not a table or a list); marks it as known.
    pub fn is_text(&mut self, name: &str) -> bool {
        matches!(self.take(name), Some((_, DeValue::String(_))))
    }

    /// Reports every key that nobody asked for.
    pub fn end(self) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(name) {
                let known = self.asked.iter().cloned().collect::<Vec<_>>().join(", ");
                self.document.flaw(
                    key.span().start,
                    format!("unknown key `{}` (accepted here: {known})", self.key(name)),
                );
            }
        }
    }
}

/// Reads `250ms`, `30s`, `5m`, `1h` or `2d`.
#[must_use]
pub fn duration_of(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

/// For tests of sections.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Document, Table};

    /// What a section's reader makes of a text, and every flaw that is told.
    pub(crate) fn read<T>(text: &str, section: impl FnOnce(&mut Table<'_>) -> T) -> (T, Vec<String>) {
        let document = Document::parse("countersign.toml", text).unwrap();
        let mut root = document.root();
        let config = section(&mut root);
        root.end();
        let flaws = document.problems().iter().map(ToString::to_string).collect();
        (config, flaws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flaw_is_reported_at_once_with_its_line() {
        let text = "a = 1\n[b]\nc = \"x\"\nd = \"90 parsecs\"\n[[e]]\nf = 2\n";
        let document = Document::parse("t.toml", text).unwrap();
        let mut root = document.root();
        assert_eq!(root.text("a"), None);
        let mut b = root.table("b").unwrap();
        assert!(b.boolean("c", true));
        b.duration("d", Duration::ZERO..=Duration::from_secs(9), Duration::ZERO);
        b.end();
        for e in root.tables("e") {
            e.end();
        }
        root.end();
        let lines: Vec<usize> = document.problems().iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [1, 3, 4, 6]);
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let Err(flaws) = Document::parse("t.toml", "a = 1\nb = = 2\n") else {
            panic!("parsed")
        };
        assert_eq!(flaws.0[0].line, 2);
    }
}
