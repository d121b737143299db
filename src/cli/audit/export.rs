//! `countersign audit export`: records for other programs.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::progress::Progress;
use super::source::{Filter, Item, Source};
use crate::audit::export::Export as Rendered;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Writes records to standard output for other programs, oldest first, one a line. As they stand in the log (`json`), as a
/// table that opens in a spreadsheet (`csv`), or as events of the Open Cybersecurity Schema Framework 1.8.0 (`ocsf`).
///
/// With a data folder it reads the files, also while no gateway runs, up to the newest checkpoint. Without one it asks the
/// gateway, page by page, for the records of a virtual organisation, or of the gateway's own level; each page is a recorded
/// search. Either way it takes the same memory however long the log is.
///
/// Examples:
///   countersign audit export --vo imaging --format csv --since 2030-01-01T00:00:00Z > january.csv
///   countersign audit export --data /srv/countersign --format ocsf > log.ocsf.jsonl
///   countersign audit export --data /srv/countersign --event login
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// What is written.
    #[arg(long, default_value = "json")]
    format: Format,
    /// The data folder, or the folder of a log.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Records as they stand in the log, one a line.
    Json,
    /// A table with a head.
    Csv,
    /// OCSF events, one a line.
    Ocsf,
}

/// Runs the command.
pub(super) async fn run(args: Export, out: Output) -> Result<(), Failure> {
    let mut source = Source::of(&args.filter, args.data.as_deref()).await?;
    let mut rendered = Rendered::default();
    let mut bar = Progress::new(source.total(), io::stdout().is_terminal());
    if args.format == Format::Csv {
        out.line(Rendered::head())?;
    }
    let mut newer = 0;
    let result = loop {
        let (items, looked) = match source.next().await {
            Ok(Some(found)) => found,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        };
        let mut text = String::new();
        for item in &items {
            match line(&mut rendered, item, args.format)? {
                Some(line) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                None => newer += 1,
            }
        }
        out.lines(&text)?;
        bar.add(looked);
    };
    bar.end();
    if newer > 0 {
        return Err(Failure::failed(format!(
            "{newer} records were written by a newer gateway, and are left out"
        ))
        .hint("export with the gateway's own version, or with --format json"));
    }
    result
}

/// An item as a line; `None` when a newer gateway wrote it.
fn line(rendered: &mut Rendered, item: &Item, format: Format) -> Result<Option<String>, Failure> {
    let read = item.read.as_ref();
    Ok(match format {
        Format::Json => Some(item.json()?),
        Format::Csv => read.map(|record| rendered.row(record, item.user.as_deref())),
        Format::Ocsf => read.map(|record| rendered.ocsf(record)),
    })
}
