//! `countersign vo ceiling`: what a virtual organisation may grant at all.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::{Output, words};
use crate::api::ceiling::set::CeilingSet;
use crate::api::ceiling::{CeilingList, CeilingTaskView, CeilingView, CutGrant};

/// What a virtual organisation may grant at all.
#[derive(Debug, Subcommand)]
pub(crate) enum Ceiling {
    Show(Show),
    Set(Set),
}

/// Shows the ceilings over what a virtual organisation may grant, and the grants that do not hold under them.
///
/// Examples:
///   countersign vo ceiling show imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
    /// Name of the virtual organisation.
    vo: String,
}

/// Sets a ceiling over what a virtual organisation may grant of an upstream, a tool, or all its tools. For system
/// administrators.
///
/// A task is within the ceiling by its kind or by its name; everything else cannot be granted, and what was granted before does
/// not hold from the next request on. Kinds are held against methods: one that only reads has none but GET and HEAD, and DELETE
/// belongs to `delete` alone. A task that is named is the one that the manifest has now; when the manifest changes it, the
/// ceiling has to be set anew. An upstream is what the virtual organisation was given: a ceiling over a tool says nothing of
/// another tool on the same upstream.
///
/// Examples:
///   countersign vo ceiling set imaging --upstream archive --kind read --kind download --reason 'agreement of 3 May'
///   countersign vo ceiling set imaging --upstream archive --kind read --task 'archive/find studies' --check
///   countersign vo ceiling set imaging --tool archive --nothing --reason 'incident 12'
///   countersign vo ceiling set imaging --upstream archive --lift --reason 'new agreement'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[command(group = clap::ArgGroup::new("allowance").required(true).multiple(true).args(["kinds", "tasks", "nothing", "lift"]))]
pub(crate) struct Set {
    /// Name of the virtual organisation.
    vo: String,
    /// Over the tools on this upstream.
    #[arg(long, value_name = "UPSTREAM", conflicts_with = "tool")]
    upstream: Option<String>,
    /// Over this tool; with neither, over all tools.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// A kind of task that may be granted: read, download, create, update, delete, execute, transfer, asset.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// A task that may be granted whatever its kind.
    #[arg(long = "task", value_name = "TOOL/TASK", value_parser = task)]
    tasks: Vec<CeilingTaskView>,
    /// Nothing may be granted.
    #[arg(long, conflicts_with_all = ["kinds", "tasks", "lift"])]
    nothing: bool,
    /// Take the ceiling away.
    #[arg(long, conflicts_with_all = ["kinds", "tasks"])]
    lift: bool,
    /// Change nothing: only show which grants would not hold.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    reason: Reason,
}

fn task(text: &str) -> Result<CeilingTaskView, String> {
    let (tool, task) = text.split_once('/').ok_or("write TOOL/TASK")?;
    Ok(CeilingTaskView {
        tool: tool.to_owned(),
        task: task.to_owned(),
        changed: false,
    })
}

/// Runs the command.
pub(crate) async fn run(client: &Client, command: Ceiling, out: Output) -> Result<(), Failure> {
    let found: CeilingList = match command {
        Ceiling::Show(Show { vo }) => client.task("ceiling.show").at("vo", vo).fetch().await?,
        Ceiling::Set(args) => {
            let body = CeilingSet {
                upstream: args.upstream,
                tool: args.tool,
                kinds: args.kinds,
                tasks: args.tasks,
                lift: args.lift,
                check: args.check,
            };
            let set = client.task("ceiling.set").at("vo", args.vo).because(&args.reason);
            set.send(&body).await?
        }
    };
    out.show(&found, shown)?;
    Ok(())
}

fn shown(out: Output, found: &CeilingList) -> std::io::Result<()> {
    if found.ceilings.is_empty() {
        out.line("there is no ceiling: everything may be granted")?;
    } else {
        let rows: Vec<Vec<String>> = found.ceilings.iter().map(ceiling).collect();
        out.table(&["OVER", "KINDS", "TASKS"], &rows)?;
    }
    if !found.cut.is_empty() {
        out.line("these grants do not hold:")?;
        let rows: Vec<Vec<String>> = found.cut.iter().map(cut).collect();
        out.table(&["ROLE", "HOLDERS", "TOOL", "TASK", "ID"], &rows)?;
    }
    Ok(())
}

fn ceiling(view: &CeilingView) -> Vec<String> {
    let over = match (&view.upstream, &view.tool) {
        (Some(name), _) => format!("upstream {name}"),
        (None, Some(name)) => format!("tool {name}"),
        (None, None) => "all tools".into(),
    };
    let name = |task: &CeilingTaskView| {
        let changed = if task.changed { " (changed since)" } else { "" };
        format!("{}/{}{changed}", task.tool, task.task)
    };
    let tasks: Vec<String> = view.tasks.iter().map(name).collect();
    let nothing = view.kinds.is_empty() && tasks.is_empty();
    let kinds = if nothing {
        "(nothing)".into()
    } else {
        words(&view.kinds)
    };
    vec![over, kinds, tasks.join(", ")]
}

fn cut(grant: &CutGrant) -> Vec<String> {
    vec![
        grant.role.clone(),
        grant.holders.to_string(),
        grant.tool.clone(),
        grant.task.clone(),
        grant.id.clone(),
    ]
}
