//! The `[audit]` section of the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use super::{syslog, witness};
use crate::settings::Table;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// How the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the log's files; set by the program, not by the configuration file.
    pub folder: PathBuf,
    /// The index's own database file; beside `folder` as `index.db` when absent.
    pub index: Option<PathBuf>,
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// How long a request waits for the writer's acknowledgement before it is refused.
    pub deadline: Duration,
    /// How many records may wait for the writer before requests are refused.
    pub queue: usize,
    /// Free space, in bytes, below which [`super::Space::Low`] is reported.
    pub min_free_bytes: u64,
    /// Free space, in bytes, below which requests are refused.
    pub stop_free_bytes: u64,
    /// How long records are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Whether old segments are compressed.
    pub compress: bool,
    /// Folder to which compressed segments are moved; they stay beside the others when absent.
    pub archive: Option<PathBuf>,
    /// A file elsewhere that gets the newest checkpoint, at most once a second.
    pub outside: Option<PathBuf>,
    /// Who cosigns the checkpoints; `None` when nobody does.
    pub witness: Option<witness::Config>,
    /// Who gets the log as it grows.
    pub syslog: Vec<syslog::Config>,
    /// Whether an edit of who may do what needs a reason.
    pub reasons: Reasons,
    /// Accept a folder on a file system that does not keep what was written (tests, quickstart).
    pub allow_any_fs: bool,
}

/// Whether whoever edits by hand who may do what has to say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasons {
    /// Without a reason nothing is changed.
    Required,
    /// A reason is taken down where one is given.
    Optional,
}

impl Reasons {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "required" => Some(Self::Required),
            "optional" => Some(Self::Optional),
            _ => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            index: None,
            segment_bytes: 64 * MIB,
            deadline: Duration::from_secs(2),
            queue: 8192,
            min_free_bytes: GIB,
            stop_free_bytes: 256 * MIB,
            keep: None,
            compress: true,
            archive: None,
            outside: None,
            witness: None,
            syslog: Vec::new(),
            reasons: Reasons::Required,
            allow_any_fs: false,
        }
    }
}

impl Config {
    /// Reads the section. `folder` is left empty.
    pub fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let mut bytes = |name, least, most, default: u64| {
            let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
            let read = table.integer(name, number(least)..=number(most), Some(number(default)));
            u64::try_from(read).unwrap_or(default)
        };
        let segment_bytes = bytes("segment_bytes", 256 * KIB, 4 * GIB, default.segment_bytes);
        let queue = bytes("queue", 16, 1_000_000, default.queue as u64);
        let min_free_bytes = bytes("min_free_bytes", 0, u64::MAX, default.min_free_bytes);
        let stop_free_bytes = bytes("stop_free_bytes", 0, u64::MAX, default.stop_free_bytes);
        if stop_free_bytes > min_free_bytes {
            table.flaw("stop_free_bytes", "must not be larger than `min_free_bytes`");
        }
        Self {
            segment_bytes,
            queue: usize::try_from(queue).unwrap_or(default.queue),
            min_free_bytes,
            stop_free_bytes,
            deadline: table.duration(
                "deadline",
                Duration::from_millis(100)..=Duration::from_secs(60),
                default.deadline,
            ),
            keep: keep(table),
            compress: table.boolean("compress", default.compress),
            archive: archive(table),
            outside: table.text("outside").map(PathBuf::from),
            witness: table.table("witness").and_then(witness::Config::read),
            syslog: receivers(table),
            reasons: table
                .parsed("reasons", "`required` or `optional`", Reasons::parse)
                .unwrap_or(default.reasons),
            allow_any_fs: table.boolean("allow_any_fs", false),
            ..default
        }
    }
}

/// How long records are kept. Nobody forgets that by writing nothing: then it is for ever.
fn keep(table: &mut Table<'_>) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(86_400);
    // Zero is what no setting can be, so it tells that there is none.
    let kept = table.duration("keep", Duration::from_secs(1)..=DAY * 36_500, Duration::ZERO);
    (!kept.is_zero()).then_some(kept)
}

/// Where old segments are moved to. Links lead there, so it has one name only.
fn archive(table: &mut Table<'_>) -> Option<PathBuf> {
    let archive = table.text("archive").map(PathBuf::from)?;
    if !archive.is_absolute() {
        table.flaw("archive", "must be an absolute path, of a folder that is there");
    }
    Some(archive)
}

/// The receivers; each has a name of its own.
fn receivers(table: &mut Table<'_>) -> Vec<syslog::Config> {
    let mut receivers: Vec<syslog::Config> = Vec::new();
    for one in table.tables("syslog") {
        let Some(receiver) = syslog::Config::read(one) else {
            continue;
        };
        if receivers.iter().any(|other| other.name == receiver.name) {
            let message = format!(
                "has two receivers with the name `{}`: give each a `name`",
                receiver.name
            );
            table.flaw("syslog", message);
        }
        receivers.push(receiver);
    }
    receivers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Document;

    #[test]
    fn the_section_has_defaults_and_refuses_what_cannot_work() {
        let document = Document::parse("c.toml", "").unwrap();
        assert_eq!(Config::read(&mut document.root()), Config::default());
        let document = Document::parse(
            "c.toml",
            "segment_bytes = 10\ndeadline = \"0ms\"\nstop_free_bytes = 2000000000\n",
        )
        .unwrap();
        Config::read(&mut document.root());
        assert_eq!(
            document
                .problems()
                .iter()
                .map(|flaw| flaw.line)
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }
}
