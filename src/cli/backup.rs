//! `countersign backup` and `countersign restore`.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::audit::load_key;
use super::failure::Failure;
use super::output::Output;
use super::serve::become_owner;
use crate::audit::VerifyingKey;
use crate::clock::SystemClock;
use crate::id::{Ids, SystemSource};
use crate::server;

/// Backs a gateway up into a new folder, while it runs or not: the store, the log up to a signed checkpoint, settings and
/// keys. Never in it: the sealing key, which locks the other keys in the backup. Keep a copy of it in another place.
///
/// The backup is for its owner only; the store in it names people and has the hashes of their passwords. Where PostgreSQL
/// keeps the store, back it up with `pg_dump` right before: this command copies all but the store then.
///
/// Examples:
///   countersign backup --data /srv/countersign /backup/2030-01-31
///   countersign backup --data /srv/countersign /backup/2030-01-31 --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Backup {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// The folder to make; it must not exist.
    #[arg(value_name = "BACKUP")]
    target: PathBuf,
    /// The sealing key, where it does not lie where the settings say (a service manager that hands it over).
    #[arg(long, value_name = "FILE")]
    sealing_key: Option<PathBuf>,
}

/// Makes a data folder out of a backup. Everything in it is checked and its log verified before anything is made.
///
/// The restored gateway begins a new epoch of the log, on record. All sessions and one-time passwords of the backup have
/// ended. Where PostgreSQL keeps the store, restore the database first. What was changed after the backup was made (roles,
/// accounts, grants) is listed as far as the log tells, and has to be made again: somebody who was suspended since is not.
///
/// Examples:
///   countersign restore /backup/2030-01-31 --data /srv/countersign --sealing-key /safe/sealing.key
///   countersign restore /backup/2030-01-31 --data /srv/new --sealing-key /safe/sealing.key --log /srv/old/log
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Restore {
    /// The backup's folder.
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// The gateway's sealing key.
    #[arg(long, value_name = "FILE")]
    sealing_key: PathBuf,
    /// The log's public key as you noted it (a file, or the key itself); the backup's own when not given.
    #[arg(long, value_name = "PUB")]
    key: Option<String>,
    /// The log folder of the old gateway, if it survived: its newer records are taken over.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Runs `countersign backup`.
pub(super) async fn backup(args: Backup, out: Output) -> Result<(), Failure> {
    let data = std::path::absolute(&args.data)?;
    if !data.join(crate::config::FILE).is_file() {
        return Err(
            Failure::not_found(format!("`{}` is no data folder", data.display()))
                .hint("give the folder that `countersign init` made, with --data DIR"),
        );
    }
    let target = std::path::absolute(&args.target)?;
    become_owner(&data)?;
    let bar = Bar::new();
    let made = server::backup(
        &data,
        &target,
        args.sealing_key.as_deref(),
        ids(),
        &|what, done, total| bar.show(what, done, total),
    )
    .await;
    bar.end();
    let made = made?;
    out.show(&made, |out, made| {
        let log = &made.manifest.log;
        let unsigned = log.records.saturating_sub(log.signed);
        let store = match made.manifest.store.as_str() {
            "sqlite" => size(made.store_bytes),
            _ => "NOT in it: PostgreSQL keeps it, back it up with pg_dump".to_owned(),
        };
        out.pairs(&[
            ("Backup", made.backup.display().to_string()),
            ("Files", format!("{}, {}", made.manifest.files.len(), size(made.bytes))),
            ("Store", store),
            (
                "Log",
                format!(
                    "{}, {} records of epoch {}{}",
                    size(made.log_bytes),
                    log.records,
                    log.epoch,
                    match unsigned {
                        0 => String::new(),
                        unsigned => format!(" ({unsigned} of them not signed)"),
                    }
                ),
            ),
            (
                "On record",
                made.request.clone().unwrap_or_else(|| match made.running {
                    true => "no: the log did not take it".to_owned(),
                    false => "no: no gateway was running".to_owned(),
                }),
            ),
        ])?;
        for name in &made.left_out {
            out.line(format!("Left out: {name} (too large for a part of a gateway, or no file)"))?;
        }
        out.line(format!(
            "\nNOT in it: the sealing key, {}. Nothing opens this backup without it: keep a copy in another place.",
            made.sealing_key.display()
        ))
    })?;
    Ok(())
}

/// Runs `countersign restore`.
pub(super) async fn restore(args: Restore, out: Output) -> Result<(), Failure> {
    let backup = std::path::absolute(&args.backup)?;
    if !backup.is_dir() {
        return Err(Failure::not_found(format!(
            "there is no folder `{}`",
            backup.display()
        )));
    }
    let asked = server::Restore {
        backup,
        data: std::path::absolute(&args.data)?,
        sealing_key: args.sealing_key,
        key: args.key.as_deref().map(key).transpose()?,
        log: args.log,
    };
    let bar = Bar::new();
    let made = server::restore(&asked, ids(), &|what, done, total| bar.show(what, done, total)).await;
    bar.end();
    let made = made?;
    out.show(&made, |out, made| {
        out.pairs(&[
            ("Data folder", made.data.display().to_string()),
            ("Backup of", made.made.clone()),
            (
                "Log",
                format!(
                    "{} records, {} of them newer than the backup",
                    made.records, made.newer_records
                ),
            ),
            (
                "Epoch",
                format!("{} ended; the next start begins {}", made.ended_epoch, made.epoch),
            ),
            (
                "Ended",
                format!(
                    "{} sessions, {} one-time passwords, {} recovery codes",
                    made.ended.sessions, made.ended.one_time_passwords, made.ended.recovery_codes
                ),
            ),
        ])?;
        if !made.lost.is_empty() {
            out.line(format!(
                "\n{} changes are in the log and NOT in the store; make them again where they still apply:",
                made.lost.len()
            ))?;
            for lost in &made.lost {
                out.line(format!(
                    "  {}  {}  {}  (request {})",
                    lost.time, lost.action, lost.target, lost.request
                ))?;
            }
        }
        if !made.sealing_key_there {
            out.line(format!(
                "\nThe gateway looks for the sealing key at {}, and it is not there: put it there first.",
                made.sealing_key.display()
            ))?;
        }
        out.line(format!(
            "\nNext:\n  countersign serve --data {}\n  countersign audit verify --data {}",
            made.data.display(),
            made.data.display()
        ))
    })?;
    Ok(())
}

fn ids() -> Ids {
    Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()))
}

fn key(given: &str) -> Result<VerifyingKey, Failure> {
    match given.parse() {
        Ok(key) => Ok(key),
        Err(_) => load_key(Path::new(given)),
    }
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..1_048_576 => format!("{} KiB", bytes.div_ceil(KIB)),
        1_048_576..1_073_741_824 => tenths(bytes, 1_048_576, "MiB"),
        _ => tenths(bytes, 1_073_741_824, "GiB"),
    }
}

fn tenths(bytes: u64, unit: u64, name: &str) -> String {
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// A line on a terminal, rewritten at most once for each percent.
struct Bar {
    shown: bool,
    last: Cell<u64>,
}

impl Bar {
    fn new() -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            last: Cell::new(u64::MAX),
        }
    }

    fn show(&self, what: &str, done: u64, total: u64) {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
        if self.shown && self.last.replace(percent) != percent {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{what}: {percent} %");
            let _ = err.flush();
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_nothing_for_something() {
        let shown = [0, 1023, 1024, 1025, 1_572_864, 5_368_709_120].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "2 KiB", "1.5 MiB", "5.0 GiB"]);
    }
}
