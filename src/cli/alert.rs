//! `countersign alert`: repeated denials that became alerts.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::output::{Output, or_dash};
use crate::api::alert::list::AlertView;

/// Repeated denials that became alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum Alert {
    List(List),
}

/// Lists the alerts of a virtual organisation, newest first: who was refused which task, how often, in which requests.
///
/// Examples:
///   countersign alert list imaging
///   countersign alert list imaging --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
}

/// Runs the command.
pub(crate) async fn run(command: Alert, out: Output) -> Result<(), Failure> {
    let Alert::List(List { vo }) = command;
    let client = Client::saved()?;
    let alerts: Vec<AlertView> = client.task("alert.list").at("vo", vo).list("alerts").await?;
    let headings = ["TIME", "USER", "TOOL", "TASK", "REFUSED", "LAST REQUEST"];
    out.list("alerts", &alerts, &headings, |alert| {
        vec![
            alert.time.clone(),
            alert.username.clone().unwrap_or_else(|| alert.person.clone()),
            or_dash(alert.tool.as_deref()),
            alert.task.clone(),
            alert.count.to_string(),
            or_dash(alert.requests.last().map(String::as_str)),
        ]
    })?;
    Ok(())
}
