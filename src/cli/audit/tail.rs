//! `countersign audit tail`: the newest records, and on as they are written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::source::failure;
use super::{log_folder, search};
use crate::audit::read::Reader;
use crate::audit::render;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::record::Record;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Shows the newest records of the log, oldest first. With a data folder it reads the files, also while no gateway runs;
/// records that are not under a checkpoint yet (the newest second) are left out. Without one it asks the gateway for the
/// records of a virtual organisation, or of the gateway's own level.
///
/// Examples:
///   countersign audit tail --vo imaging
///   countersign audit tail --data /srv/countersign
///   countersign audit tail --data /srv/countersign --follow
///   countersign audit tail --data /srv/countersign --all --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Tail {
    /// The data folder, or the folder of a log.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many records.
    #[arg(
        long,
        short = 'n',
        value_name = "COUNT",
        default_value_t = 20,
        conflicts_with = "all"
    )]
    lines: u64,
    /// All records.
    #[arg(long, requires = "data")]
    all: bool,
    /// Goes on with new records as they are written, until Ctrl-C. With a data folder only: over the API every look
    /// would leave a record of its own.
    #[arg(long, short, requires = "data")]
    follow: bool,
    /// Asks the gateway for the records of this virtual organisation.
    #[arg(long, conflicts_with = "data")]
    vo: Option<String>,
}

/// Runs the command.
pub(super) async fn run(args: Tail, out: Output) -> Result<(), Failure> {
    match &args.data {
        Some(data) => offline(&log_folder(data), &args, out).await,
        None => online(args, out).await,
    }
}

async fn online(args: Tail, out: Output) -> Result<(), Failure> {
    let found = search::newest(args.vo, args.lines).await?;
    for record in found.records.iter().rev() {
        out.line(if out.is_json() {
            record.to_string()
        } else {
            search::line(record, &found.people)
        })?;
    }
    Ok(())
}

async fn offline(folder: &Path, args: &Tail, out: Output) -> Result<(), Failure> {
    let reader = if args.all {
        Reader::open(folder, 0)
    } else {
        Reader::last(folder, args.lines)
    };
    let mut reader = reader.map_err(failure)?;
    loop {
        while let Some(found) = reader.read().map_err(failure)? {
            print(out, &found.record)?;
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        reader.refresh().map_err(failure)?;
    }
}

/// One line a record, whichever the form: a stream is read line by line.
fn print(out: Output, record: &Record) -> Result<(), Failure> {
    let line = if out.is_json() {
        serde_json::to_string(record)?
    } else {
        render::line(record)
    };
    Ok(out.line(line)?)
}
