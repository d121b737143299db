//! `countersign audit report`: who used what, and whether every request is accounted for.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::access::{self, AccessOf};
use super::progress::Progress;
use super::source::{Filter, Source, failure};
use super::{load_key, log_folder, own_key};
use crate::audit::export::{Files, row};
use crate::audit::read::kept_from;
use crate::audit::report::{self, By, Completeness, Day, Usage, Used};
use crate::audit::{LogKey, VerifyingKey};
use crate::cli::failure::Failure;
use crate::cli::input::{moment, text_file};
use crate::cli::output::Output;
use crate::clock::Timestamp;

/// Reports over the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    Usage(UsageOf),
    Completeness(CompletenessOf),
    Access(AccessOf),
    Check(Check),
}

/// Of which records a report is made.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Name of the virtual organisation.
    #[arg(long)]
    vo: Option<String>,
    /// From this moment on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// The data folder, or the folder of a log: reads the files, up to the newest checkpoint. Without it the gateway is
    /// asked for the records.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// As a table for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Counts who used what: per tool, person or dataset. Requests, refusals, logins, downloads, updates and deletions,
/// transfers, bytes; every number but the bytes is a count of records, and the last line is all of them together.
///
/// Logins belong to no virtual organisation: they are counted where the whole log or the gateway's own level is.
///
/// Examples:
///   countersign audit report usage --by tool --vo imaging --since 2030-01-01T00:00:00Z --until 2030-02-01T00:00:00Z
///   countersign audit report usage --by person --data /srv/countersign --csv
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct UsageOf {
    /// What a line is.
    #[arg(long)]
    by: Each,
    #[command(flatten)]
    of: Of,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Each {
    /// A tool of a virtual organisation.
    Tool,
    /// A person, by her id.
    Person,
    /// What was acted on: type and id of a tool's resource.
    Dataset,
}

/// Shows per day (UTC) that the log accounts for every request; exit code 1 when not. Every request that was let through
/// has its intent, every intent its ending, and no record is missing.
///
/// With a data folder all records of the log are counted, missing positions show, and the report is signed with the log's
/// key, over the newest checkpoint. Whoever needs to know that the records are those that were written runs `audit verify`.
/// Without a data folder the gateway is asked: then only what one's role shows is counted, and nothing is signed.
///
/// Examples:
///   countersign audit report completeness --data /srv/countersign > report.txt
///   countersign audit report completeness --vo imaging --since 2030-01-01T00:00:00Z
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletenessOf {
    #[command(flatten)]
    of: Of,
}

/// Checks the signature of a completeness report, and shows it.
///
/// Examples:
///   countersign audit report check report.txt --key noted.pub
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Check {
    /// The signed report.
    file: PathBuf,
    /// The log's public key as you noted it: a file, or the key itself.
    #[arg(long, value_name = "PUB")]
    key: String,
}

/// Runs the command.
pub(super) async fn run(command: Report, out: Output) -> Result<(), Failure> {
    match command {
        Report::Usage(args) => usage(&args, out).await,
        Report::Access(args) => access::run(&args, out).await,
        Report::Completeness(args) => completeness(&args.of, out).await,
        Report::Check(args) => check(&args, out),
    }
}

async fn usage(args: &UsageOf, out: Output) -> Result<(), Failure> {
    let by = match args.by {
        Each::Tool => By::Tool,
        Each::Person => By::Person,
        Each::Dataset => By::Dataset,
    };
    let mut usage = Usage::new(by);
    let filter = Filter {
        vo: args.of.vo.clone(),
        since: args.of.since,
        until: args.of.until,
        ..Filter::default()
    };
    each(&filter, args.of.data.as_deref(), |record| usage.add(record)).await?;
    let name = match args.by {
        Each::Tool => "tool",
        Each::Person => "person",
        Each::Dataset => "dataset",
    };
    let rows: Vec<Value> = usage
        .rows()
        .iter()
        .map(|(key, used)| named(name, key, used))
        .collect();
    let total = named(name, "total", &usage.total());
    if out.is_json() {
        return Ok(out.json(&json!({ "by": name, "rows": rows, "total": usage.total() }))?);
    }
    let all: Vec<Value> = rows.into_iter().chain([total]).collect();
    table(out, args.of.csv, &all)
}

fn named(name: &str, key: &str, used: &Used) -> Value {
    let mut row = json!({ name: key });
    if let (Some(row), Ok(Value::Object(used))) = (row.as_object_mut(), serde_json::to_value(used)) {
        row.extend(used);
    }
    row
}

/// What `--json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    complete: bool,
    days: &'a [Day],
    /// The report as a signed note.
    note: Option<String>,
}

async fn completeness(of: &Of, out: Output) -> Result<(), Failure> {
    let whole = of.data.is_some() && of.vo.is_none();
    let kept = match &of.data {
        Some(data) if whole => kept_from(&log_folder(data)).map_err(failure)?,
        _ => None,
    };
    let mut report = Completeness::new(whole);
    if let Some(first) = kept {
        report = report.beginning(first);
    }
    // Times choose the days that are shown: an ending may come later than its day.
    let filter = Filter {
        vo: of.vo.clone(),
        ..Filter::default()
    };
    let source = each(&filter, of.data.as_deref(), |record| report.add(record)).await?;
    let within = |day: &Day| {
        let begins = Timestamp::parse(&format!("{}T00:00:00Z", day.day)).unwrap_or_default();
        of.since.is_none_or(|since| begins >= since) && of.until.is_none_or(|until| begins < until)
    };
    let days: Vec<Day> = report.days().into_iter().filter(within).collect();
    let complete = days.iter().all(Day::is_complete);
    let note = match (&of.data, source.files()) {
        (Some(data), Some(files)) if whole => signed(data, files, (kept, &days), out)?,
        _ => None,
    };
    let rows = days
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()?;
    if out.is_json() {
        let days = days.as_slice();
        out.json(&Shown { complete, days, note })?;
    } else if let Some(note) = note.filter(|_| !of.csv) {
        out.lines(&note)?;
    } else {
        table(out, of.csv, &rows)?;
    }
    if complete {
        return Ok(());
    }
    Err(Failure::failed("the log does not account for every request")
        .hint("countersign audit verify says what is missing or was changed"))
}

/// The report as a note, where the key can be read.
fn signed(
    data: &Path,
    files: &Files,
    (kept, days): (Option<u64>, &[Day]),
    out: Output,
) -> Result<Option<String>, Failure> {
    let folder = log_folder(data);
    let keys = [data.to_owned(), folder.parent().unwrap_or(data).to_owned()];
    let Some(public) = keys.iter().map(|data| own_key(data)).find(|path| path.is_file()) else {
        out.note("not signed: there is no key beside this log");
        return Ok(None);
    };
    let name = load_key(&public)?.name().to_owned();
    let Ok(key) = LogKey::load(&public.with_extension("key")) else {
        out.note("not signed: the log's key cannot be read");
        return Ok(None);
    };
    // SECURITY: the key that signs is the one that checks: a public key that was put beside it checks nothing.
    let checked = files.checked(&key.public(&name)).map_err(|error| {
        Failure::failed(format!("not signed: {error}")).hint("countersign audit verify says what is wrong")
    })?;
    let Some(checkpoint) = checked else {
        out.note("not signed: there is no checkpoint yet");
        return Ok(None);
    };
    let mut text = String::new();
    if let Some(first) = kept {
        // SECURITY: what is not there is not vouched for.
        text.push_str(&format!(
            "counted from record {first} of the oldest epoch on: older ones were dropped\n"
        ));
    }
    for day in days {
        let complete = if day.is_complete() {
            "complete"
        } else {
            "INCOMPLETE"
        };
        text.push_str(&format!(
            "{} {complete} accepted={} intents={} outcomes={} unknown={} assets={} open={} gaps={} damage={} refused={} unwritten={}\n",
            day.day, day.accepted, day.intents, day.outcomes, day.unknown, day.assets, day.open, day.gaps, day.damage,
            day.refused, day.unwritten,
        ));
    }
    Ok(Some(report::sign(&key, &name, checkpoint, &text)?))
}

fn check(args: &Check, out: Output) -> Result<(), Failure> {
    let key: VerifyingKey = match args.key.parse() {
        Ok(key) => key,
        Err(_) => load_key(Path::new(&args.key))?,
    };
    let note = text_file(&args.file)?;
    let text = report::check(&note, &key).map_err(|_| {
        Failure::failed(format!(
            "`{}` is not a report that this key signed",
            args.file.display()
        ))
    })?;
    Ok(out.show(&json!({ "signed": true, "report": text }), |out, _| {
        out.line(text)?;
        out.line("Signed by the log's key.")
    })?)
}

/// Every record that the filter leaves, oldest first. Gives back where they came from.
pub(super) async fn each(
    filter: &Filter,
    data: Option<&Path>,
    mut count: impl FnMut(&crate::record::Record),
) -> Result<Source, Failure> {
    let mut source = Source::of(filter, data).await?;
    let mut bar = Progress::new(source.total(), false);
    let result = loop {
        match source.next().await {
            Ok(Some((items, looked))) => {
                for item in items {
                    let Some(record) = &item.read else {
                        return Err(Failure::failed("a newer gateway wrote one of these records"));
                    };
                    count(record);
                }
                bar.add(looked);
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    bar.end();
    result.map(|()| source)
}

/// Objects of one form as a table.
fn table(out: Output, csv: bool, rows: &[Value]) -> Result<(), Failure> {
    let Some(first) = rows.first().and_then(Value::as_object) else {
        out.note("no records");
        return Ok(());
    };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let cell = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let cells = |row: &Value| -> Vec<String> { names.iter().map(|name| cell(row.get(*name))).collect() };
    if csv {
        out.line(row(names.iter().map(|name| (*name).to_owned())))?;
        return rows
            .iter()
            .try_for_each(|one| Ok(out.line(row(cells(one).into_iter()))?));
    }
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let headings: Vec<String> = names
        .iter()
        .map(|name| name.replace('_', " ").to_uppercase())
        .collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    Ok(out.table(&headings, &rows)?)
}
