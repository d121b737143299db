//! `countersign grant`: which tasks a role may do.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::Output;
use crate::api::grant::add::GrantAdd;
use crate::api::grant::list::{GrantList, GrantView};
use crate::id::GrantId;

/// Which tasks a role may do, and under which condition.
#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Lets a role do tasks of a tool; the next request is decided with it.
///
/// Examples:
///   countersign grant add imaging scientist segmentation 'submit job' 'view page'
///   countersign grant add imaging scientist segmentation 'monitor job' --when own
///   countersign grant add imaging helpdesk countersign user.list user.show
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Add {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the role.
    role: String,
    /// Name of the tool; `countersign` for the gateway's own tasks.
    tool: String,
    /// Names of the tasks.
    #[arg(required = true, value_name = "TASK")]
    tasks: Vec<String>,
    /// `always`, `own` (on one's own things only), or a Cedar expression over principal, resource and context.
    #[arg(long, value_name = "CONDITION")]
    when: Option<String>,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the grants of a virtual organisation.
///
/// Examples:
///   countersign grant list imaging
///   countersign grant list imaging --role scientist --tool segmentation
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
    /// Of this role only.
    #[arg(long)]
    role: Option<String>,
    /// On this tool only.
    #[arg(long)]
    tool: Option<String>,
    /// Of this task only.
    #[arg(long)]
    task: Option<String>,
}

/// Ends a grant; the next request is decided without it.
///
/// Examples:
///   countersign grant remove imaging 0199a1b2-0000-7000-8000-000000000001 --reason 'the study has ended'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Remove {
    /// Name of the virtual organisation.
    vo: String,
    /// Id of the grant (`grant list` shows it).
    id: GrantId,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Grant, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Grant::Add(Add {
            vo,
            role,
            tool,
            tasks,
            when,
            reason,
        }) => {
            let body = GrantAdd {
                role,
                tool,
                tasks,
                when,
            };
            let made: GrantList = client
                .task("grant.add")
                .at("vo", vo)
                .because(&reason)
                .send(&body)
                .await?;
            show(out, &made.grants)?;
            if let Some(warning) = made.warning {
                out.note(format!("warning: {warning}"));
            }
        }
        Grant::List(List { vo, role, tool, task }) => {
            let asked = client.task("grant.list").at("vo", vo);
            let asked = asked.maybe("role", role).maybe("tool", tool).maybe("task", task);
            show(out, &asked.list::<GrantView>("grants").await?)?;
        }
        Grant::Remove(Remove { vo, id, reason }) => {
            client
                .task("grant.remove")
                .at("vo", &vo)
                .at("grant", id.to_string())
                .because(&reason)
                .act()
                .await?;
            out.done("grant.remove", format!("ended grant {id} of {vo}"))?;
        }
    }
    Ok(())
}

fn show(out: Output, grants: &[GrantView]) -> std::io::Result<()> {
    out.list(
        "grants",
        grants,
        &["ROLE", "TOOL", "TASK", "WHEN", "ID"],
        |grant| {
            vec![
                grant.role.clone(),
                grant.tool.clone(),
                grant.task.clone(),
                grant.condition.clone(),
                grant.id.clone(),
            ]
        },
    )
}
