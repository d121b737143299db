//! `countersign audit report access`: from request to access, in one report.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::report::each;
use super::search::gone;
use super::source::Filter;
use crate::api::user::UserView;
use crate::audit::access::{Access, COLUMNS, Line, Scope};
use crate::audit::export::row;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::input::moment;
use crate::cli::output::Output;
use crate::clock::Timestamp;
use crate::id::PersonId;

/// One report from request to access: who was granted what by whom, when and why; then what was decided (by which policy
/// version, grant and membership), what came of it, and which proxies were minted and traced. In the order of the log.
///
/// It is about a resource, a person, a tool, or about all of the virtual organisation. What was granted before --since
/// stands there too, as far as it concerns the people and tools of the accesses: it is why they were allowed. What
/// administrators do with the gateway itself stands there as changes; with --tool countersign, as requests.
///
/// Examples:
///   countersign audit report access --vo imaging --resource job/7
///   countersign audit report access --vo imaging --person john --tool segmentation --since 2030-01-01T00:00:00Z
///   countersign audit report access --vo imaging --data /srv/countersign --csv
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AccessOf {
    /// Name of the virtual organisation.
    #[arg(long)]
    vo: String,
    /// To this resource, or to what has it as a parent.
    #[arg(long, value_name = "TYPE/ID")]
    resource: Option<String>,
    /// By this person: user name (of a member) or id; with --data the id.
    #[arg(long, value_name = "USER|ID")]
    person: Option<String>,
    /// With this tool.
    #[arg(long)]
    tool: Option<String>,
    /// Accesses from this moment on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// What happened before this moment (RFC 3339).
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

#[derive(Serialize)]
struct Shown<'a> {
    vo: &'a str,
    lines: &'a [Line],
}

pub(super) async fn run(args: &AccessOf, out: Output) -> Result<(), Failure> {
    let names = match args.data {
        Some(_) => BTreeMap::new(),
        None => names(&args.vo).await?,
    };
    let mut report = Access::new(Scope {
        resource: args.resource.clone(),
        person: args
            .person
            .as_ref()
            .map(|person| id(person, &names))
            .transpose()?,
        tool: args.tool.clone(),
        since: args.since,
    });
    let filter = Filter {
        vo: Some(args.vo.clone()),
        until: args.until,
        ..Filter::default()
    };
    let source = each(&filter, args.data.as_deref(), |record| report.add(record)).await?;
    gone(out, source.dropped());
    let mut lines = report.lines();
    for line in &mut lines {
        line.user = names.get(&line.person).cloned().unwrap_or_default();
        line.by_user = names.get(&line.by).cloned().unwrap_or_default();
    }
    if out.is_json() {
        return Ok(out.json(&Shown {
            vo: &args.vo,
            lines: &lines,
        })?);
    }
    if args.csv {
        out.line(row(COLUMNS.iter().map(|name| (*name).to_owned())))?;
        return lines
            .iter()
            .try_for_each(|line| Ok(out.line(row(line.cells().into_iter()))?));
    }
    if lines.is_empty() {
        out.note("no records");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
    Ok(out.table(
        &[
            "TIME", "WHAT", "WHO", "BY", "TOOL", "TASK", "ON", "DECIDED", "WHY",
        ],
        &rows,
    )?)
}

/// What a person reads of a line; the rest is in `--json` and `--csv`.
fn cells(line: &Line) -> Vec<String> {
    let or = |name: &str, id: &str| {
        if name.is_empty() {
            id.to_owned()
        } else {
            name.to_owned()
        }
    };
    let decided = match line.what.as_str() {
        "ended" => format!("{} {}", line.ending, line.status),
        "minted" | "traced" => format!("serial {}", line.serial),
        _ if line.decision.is_empty() => String::new(),
        _ => format!(
            "{} (version {}) {}",
            line.decision, line.policy_version, line.policies
        ),
    };
    vec![
        line.time.clone(),
        line.what.clone(),
        or(&line.user, &line.person),
        or(&line.by_user, &line.by),
        line.tool.clone(),
        line.task.clone(),
        line.on.clone(),
        decided.trim().to_owned(),
        line.because.clone(),
    ]
}

/// User names of the members, by id.
async fn names(vo: &str) -> Result<BTreeMap<String, String>, Failure> {
    let client = Client::saved()?;
    let users: Vec<UserView> = client.task("user.list").at("vo", vo).list("users").await?;
    Ok(users.into_iter().map(|user| (user.id, user.username)).collect())
}

fn id(person: &str, names: &BTreeMap<String, String>) -> Result<PersonId, Failure> {
    let known = names.iter().find(|(_, name)| *name == person);
    let text = known.map_or(person, |(id, _)| id);
    text.parse().map_err(|_| {
        Failure::not_found(format!("`{person}` is neither a member nor an id"))
            .hint("with --data give the id: user names are not in the files")
    })
}
