//! `countersign audit verify`: is the log what was written?

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{given_key, load_key, log_folder, own_key, witness_keys};
use crate::audit::read::newest_checkpoint;
use crate::audit::verify::{Against, Report, VerifyError, verify_against};
use crate::audit::{Checkpoint, VerifyingKey};
use crate::cli::failure::Failure;
use crate::cli::input::text_file;
use crate::cli::output::{Output, words};

/// Verifies the log offline: every record, every segment, every checkpoint. Exit code 1, with the first bad record, when
/// something was changed, deleted, reordered or cut off.
///
/// Records newer than the newest checkpoint are not signed. Without a checkpoint that was kept elsewhere, whoever holds
/// the folder could have put an older state back, and with the log key have rebuilt all of it; the report says whether
/// one was given. A witness's cosignatures, kept beside the log, count for those whose keys are given: each of them must have
/// cosigned, and the report says what and when. While a gateway writes to the log, the batch that it is just writing is not
/// judged.
///
/// Examples:
///   countersign audit verify --data /srv/countersign
///   countersign audit verify --data /srv/countersign --key noted.pub --checkpoint from-the-mail.txt
///   countersign audit verify --data /srv/countersign --key noted.pub --witness-key witness.pub
///   countersign audit verify --data /srv/countersign --key noted.pub --since yesterday.txt
///   countersign audit verify /backup/log --key noted.pub --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// The data folder, or the folder of a log.
    #[arg(value_name = "DIR", required_unless_present = "data")]
    folder: Option<PathBuf>,
    /// The data folder, as elsewhere.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The log's public key as you noted it (a file, or the key itself); the data folder's own when not given.
    #[arg(long, value_name = "PUB")]
    key: Option<String>,
    /// A checkpoint that was kept elsewhere (from an alert mail, a trace, an outside file).
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// A checkpoint that was verified before and kept elsewhere: only records after it are read, and those of its own segment
    /// before it. That the log continues it is proved; that older records are still there is not looked at.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Public key of a witness that must have cosigned: a file, or the key itself. May be given more than once.
    #[arg(long, value_name = "PUB")]
    witness_key: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// First record that is missing or was changed, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad_record: Option<u64>,
    /// Where only checkpoints tell: the first bad record is from the one number on and before the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad_between: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Shown>,
    key: String,
    key_from_folder: bool,
    outside: Option<Outside<'a>>,
    since: Option<Outside<'a>>,
    /// Whether nothing but the folder itself speaks for it, or for one of its epochs.
    alone: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    records: u64,
    segments: u64,
    checkpoints: u64,
    signed: u64,
    root: String,
    epoch: u64,
    earlier: Vec<Earlier>,
    torn_bytes: u64,
    void_records: u64,
    cosigned: Vec<Cosigned>,
    /// Witnesses whose cosignatures were not checked.
    unchecked: Vec<String>,
    /// Epochs for which no checkpoint that was given or cosigned speaks.
    alone: Vec<u64>,
    /// Changes of the log's key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    key_changes: Vec<KeyChange>,
    /// What was dropped, as a signed record of the log says.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<Dropped>,
    /// First record that was read, of which epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_from: Option<String>,
    /// Whether a gateway was writing to the log meanwhile.
    live: bool,
}

#[derive(Debug, Serialize)]
struct Earlier {
    epoch: u64,
    records: u64,
    damage: Option<String>,
}

/// Another key signs from an epoch on, as both keys say.
#[derive(Debug, Serialize)]
struct KeyChange {
    epoch: u64,
    old: String,
    new: String,
}

/// Records that had been kept for long enough.
#[derive(Debug, Serialize)]
struct Dropped {
    /// Those of the present epoch, from the first one on.
    records: u64,
    /// All epochs up to this one; 0 when none.
    epochs: u64,
    /// Which record says so.
    record: String,
    /// When it was written.
    time: String,
    /// Everything that is gone was older than this.
    before: String,
}

#[derive(Debug, Serialize)]
struct Cosigned {
    witness: String,
    time: String,
    epoch: u64,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Outside<'a> {
    file: &'a Path,
    size: u64,
    epoch: u64,
    /// Whether it lies elsewhere; one out of the same folder shows nothing that the folder does not.
    elsewhere: bool,
}

/// Runs the command.
pub(super) fn run(args: &Verify, out: Output) -> Result<(), Failure> {
    let given = args.folder.as_ref().or(args.data.as_ref());
    let given =
        given.ok_or_else(|| Failure::usage("which log?").hint("give the data folder with --data DIR"))?;
    if !given.is_dir() {
        return Err(Failure::not_found(format!(
            "there is no folder `{}`",
            given.display()
        )));
    }
    let folder = log_folder(given);
    let key = key(args, given, &folder)?;
    let witnesses = witness_keys(&args.witness_key)?;
    let outside = checkpoint(args.checkpoint.as_ref())?;
    let since = checkpoint(args.since.as_ref())?;
    let against = Against {
        outside: outside.as_ref().map(|(_, checkpoint)| checkpoint),
        since: since.as_ref().map(|(_, checkpoint)| checkpoint),
        witnesses: &witnesses,
    };
    let bar = Progress::new(newest_checkpoint(&folder).map_or(0, |newest| newest.size));
    let result = verify_against(&folder, &key, against, |done| bar.show(done));
    bar.end();
    let mut verdict = Verdict {
        ok: result.is_ok(),
        error: None,
        first_bad_record: None,
        first_bad_between: None,
        report: None,
        key: key.to_string(),
        key_from_folder: args.key.is_none(),
        outside: outside.as_ref().map(|given| Outside::of(given, &folder)),
        since: since.as_ref().map(|given| Outside::of(given, &folder)),
        alone: true,
    };
    let given = [&verdict.outside, &verdict.since];
    verdict.alone = !given.into_iter().flatten().any(|given| given.elsewhere)
        && result.as_ref().map_or(true, |report| report.cosigned.is_empty());
    // SECURITY: a witness takes a new epoch as it comes, so its word for one says nothing of the ones before.
    verdict.alone |= result.as_ref().is_ok_and(|report| !report.alone.is_empty());
    match result {
        Ok(report) => {
            verdict.report = Some(shown(&report));
            Ok(out.show(&verdict, |out, verdict| print(out, &report, verdict))?)
        }
        Err(error) => {
            let failure = failure(&error);
            verdict.error = Some(error.to_string());
            verdict.first_bad_record = first_bad(&error);
            if let VerifyError::Root { size, after } = error {
                verdict.first_bad_between = Some((after, size));
            }
            out.show(&verdict, |out, _| match failure.code {
                1 => out.line("The log does NOT verify."),
                _ => Ok(()),
            })?;
            Err(failure)
        }
    }
}

/// A checkpoint that was given, with its file.
fn checkpoint(file: Option<&PathBuf>) -> Result<Option<(PathBuf, Checkpoint)>, Failure> {
    let read = |file: &PathBuf| Ok((file.clone(), Checkpoint::parse(&text_file(file)?)?));
    file.map(read).transpose()
}

impl<'a> Outside<'a> {
    fn of((file, checkpoint): &'a (PathBuf, Checkpoint), folder: &Path) -> Self {
        Self {
            file,
            size: checkpoint.size,
            epoch: checkpoint.epoch,
            elsewhere: is_elsewhere(file, folder),
        }
    }
}

/// SECURITY: what lies beside the log was in the same hands.
fn is_elsewhere(file: &Path, folder: &Path) -> bool {
    match (file.canonicalize(), folder.canonicalize()) {
        (Ok(file), Ok(folder)) => !file.starts_with(folder),
        _ => true,
    }
}

/// The key that was given, or else the one that lies beside the log.
fn key(args: &Verify, given: &Path, folder: &Path) -> Result<VerifyingKey, Failure> {
    match &args.key {
        Some(key) => given_key(key),
        None => {
            let beside = folder.parent().map(own_key);
            let own = Some(own_key(given))
                .filter(|path| path.is_file())
                .or(beside.filter(|path| path.is_file()));
            let path = own.ok_or_else(|| {
                Failure::usage(format!("there is no public key beside `{}`", folder.display()))
                    .hint("give the one that `init` printed with --key PUB")
            })?;
            load_key(&path)
        }
    }
}

fn shown(report: &Report) -> Shown {
    Shown {
        records: report.records,
        segments: report.segments,
        checkpoints: report.checkpoints,
        signed: report.signed,
        root: report.root.to_string(),
        epoch: report.epoch,
        earlier: report
            .earlier
            .iter()
            .map(|earlier| Earlier {
                epoch: earlier.epoch,
                records: earlier.records,
                damage: earlier.damage.clone(),
            })
            .collect(),
        torn_bytes: report.torn_bytes,
        void_records: report.void.iter().map(|void| void.records).sum(),
        cosigned: report
            .cosigned
            .iter()
            .map(|seen| Cosigned {
                witness: seen.by.witness.clone(),
                time: seen.by.time.to_string(),
                epoch: seen.epoch,
                size: seen.size,
            })
            .collect(),
        unchecked: report.unchecked.clone(),
        alone: report.alone.clone(),
        key_changes: key_changes(report),
        dropped: report.dropped.map(|dropped| Dropped {
            records: dropped.records,
            epochs: dropped.epochs,
            record: format!("{}.{}", report.epoch, dropped.record),
            time: dropped.time.to_string(),
            before: dropped.before.to_string(),
        }),
        read_from: report.since.map(|(epoch, from)| format!("{epoch}.{from}")),
        live: report.live,
    }
}

fn key_changes(report: &Report) -> Vec<KeyChange> {
    let changes = report.key_changes.iter().cloned();
    changes
        .map(|(epoch, old, new)| KeyChange { epoch, old, new })
        .collect()
}

fn print(out: Output, report: &Report, verdict: &Verdict<'_>) -> io::Result<()> {
    out.line("The log verifies.")?;
    let unsigned = match report.records.saturating_sub(report.signed) {
        0 => String::new(),
        rest => format!(", the last {rest} of them newer than the newest checkpoint and NOT signed"),
    };
    out.pairs(&[
        ("Records", format!("{}{unsigned}", report.records)),
        ("Root", report.root.to_string()),
        ("Segments", report.segments.to_string()),
        ("Checkpoints", report.checkpoints.to_string()),
        ("Epoch", report.epoch.to_string()),
    ])?;
    for earlier in &report.earlier {
        let found = match &earlier.damage {
            Some(damage) => format!("damaged, as it was when it ended: {damage}"),
            None => format!("{} records, verified", earlier.records),
        };
        out.pairs(&[("Earlier epoch", format!("{}: {found}", earlier.epoch))])?;
    }
    for (epoch, old, new) in &report.key_changes {
        out.pairs(&[(
            "Key changed",
            format!("from epoch {epoch} on {new} signs, before {old}: both signed the change"),
        )])?;
    }
    if let Some(dropped) = &report.dropped {
        let epochs = match dropped.epochs {
            0 => String::new(),
            epochs => format!("all of the epochs up to {epochs}, and "),
        };
        out.pairs(&[(
            "Dropped",
            format!(
                "{epochs}the first {} records of epoch {} on {}, as record {}.{} says: they were older than {}. What follows was verified.",
                dropped.records, report.epoch, dropped.time, report.epoch, dropped.record, dropped.before
            ),
        )])?;
    }
    if report.live {
        out.line("Being written to    by a running gateway: what came after the last of these records is not judged.")?;
    }
    if report.torn_bytes > 0 {
        out.pairs(&[(
            "Broken off",
            format!("{} bytes that were never acknowledged", report.torn_bytes),
        )])?;
    }
    for void in &report.void {
        let what = format!(
            "{} records from {} in segment {}, never acknowledged",
            void.records, void.from, void.segment
        );
        out.pairs(&[("Void", what)])?;
    }
    if let (Some(since), Some((epoch, from))) = (&verdict.since, report.since) {
        out.line(format!(
            "Since               `{}`: the log continues its first {} records of epoch {epoch}. What is before record {epoch}.{from} was not read: whether it is still there was not looked at.",
            since.file.display(),
            since.size
        ))?;
    }
    print_witnesses(out, report)?;
    print_outside(out, report, verdict)?;
    if verdict.key_from_folder {
        out.line("Key                 taken from the folder that was verified; give the one you noted with --key PUB.")?;
    }
    Ok(())
}

/// Who saw the log, and what that is worth.
fn print_witnesses(out: Output, report: &Report) -> io::Result<()> {
    for seen in &report.cosigned {
        out.line(format!(
            "Witness             {} saw the first {} records of epoch {} on {}: they were not changed since.",
            seen.by.witness, seen.size, seen.epoch, seen.by.time
        ))?;
    }
    if !report.unchecked.is_empty() {
        out.line(format!(
            "Witness             cosignatures of {} are there and were NOT checked: give their keys with --witness-key PUB.",
            words(&report.unchecked)
        ))?;
    }
    Ok(())
}

/// Which checkpoint that lay elsewhere speaks for the log, and plainly when none does.
fn print_outside(out: Output, report: &Report, verdict: &Verdict<'_>) -> io::Result<()> {
    if verdict.outside.is_some() || verdict.since.is_some() || !report.cosigned.is_empty() {
        for epoch in &report.alone {
            out.line(format!(
                "Epoch {epoch:<13} nothing that was given or cosigned is of it: an older state of it could have been put back before the next epoch began."
            ))?;
        }
    }
    // SECURITY: one that was compared with nothing speaks for nothing.
    let held = |outside: &&Outside<'_>| report.held.contains(&(outside.epoch, outside.size));
    let given = [&verdict.outside, &verdict.since].into_iter().flatten();
    for outside in given.filter(held) {
        let file = outside.file.display();
        if !outside.elsewhere {
            out.line(format!(
                "Outside checkpoint  none: `{file}` lies in the folder itself, and whoever holds it could have put an older state of both back."
            ))?;
            continue;
        }
        let earlier = if outside.epoch > 1 && report.since.is_none() {
            ", and the files of earlier epochs as it found them,"
        } else {
            ""
        };
        out.line(format!(
            "Outside checkpoint  `{file}`: the first {} records of epoch {}{earlier} were not changed since.",
            outside.size, outside.epoch
        ))?;
    }
    if verdict.outside.is_some() || verdict.since.is_some() {
        return Ok(());
    }
    if !report.cosigned.is_empty() {
        return out.line(
            "Outside checkpoint  none was given: an older state of this folder that was put back shows by the time of the witness's word alone.",
        );
    }
    out.line(
        "Outside checkpoint  none was given: whoever holds this folder could have put an older state of it back, and with the log key have rebuilt all of it.",
    )
}

/// The first record that is bad, where the error knows it.
fn first_bad(error: &VerifyError) -> Option<u64> {
    match error {
        VerifyError::Record { seq, .. }
        | VerifyError::Order { seq, .. }
        | VerifyError::Continuation { seq, .. } => Some(*seq),
        VerifyError::Cut { records, .. } => Some(*records),
        _ => None,
    }
}

fn failure(error: &VerifyError) -> Failure {
    match error {
        VerifyError::NoLog(_) => Failure::not_found(error.to_string()),
        VerifyError::File { .. } => Failure::failed(error.to_string()),
        _ => Failure::failed(error.to_string()).hint(
            "keep the folder as it is, and compare it with a backup from before; later records stay readable",
        ),
    }
}

/// A bar on standard error, where that is a terminal.
struct Progress {
    total: u64,
    shown: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self {
            total,
            shown: io::stderr().is_terminal(),
        }
    }

    fn show(&self, done: u64) {
        if self.shown {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r{}", bar(done, self.total));
            let _ = err.flush();
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let full = usize::try_from(done.min(total).saturating_mul(30) / total.max(1))
        .unwrap_or(0)
        .min(30);
    format!("[{}{}] {done} records", "#".repeat(full), " ".repeat(30 - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_and_never_longer() {
        assert_eq!(bar(0, 0), format!("[{}] 0 records", " ".repeat(30)));
        assert_eq!(bar(10, 10), format!("[{}] 10 records", "#".repeat(30)));
        assert_eq!(bar(20, 10), format!("[{}] 20 records", "#".repeat(30)));
        assert_eq!(bar(5, 10).matches('#').count(), 15);
    }
}
