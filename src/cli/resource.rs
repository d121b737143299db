//! `countersign resource`: what a tool's tasks act on.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::{Reason, text_file};
use super::output::Output;
use crate::api::tool::import::{ResourceImport, ResourceImported};

/// What a tool's tasks act on, and whose it is.
#[derive(Debug, Subcommand)]
pub(crate) enum Resource {
    Import(Import),
}

/// Says whose the things are that a tool had before it was wrapped. All rows are taken, or none.
///
/// Examples:
///   countersign resource import imaging segmentation jobs.csv
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the tool.
    tool: String,
    /// CSV with the columns type,id,owner,parent_type,parent_id (- for standard input). The owner is a user name or id; the
    /// last three columns may be left out or empty.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Resource, out: Output) -> Result<(), Failure> {
    let Resource::Import(Import {
        vo,
        tool,
        file,
        reason,
    }) = command;
    let body = ResourceImport {
        csv: text_file(&file)?,
    };
    let client = Client::saved()?;
    let done: ResourceImported = client
        .task("resource.import")
        .because(&reason)
        .at("vo", vo)
        .at("tool", &tool)
        .send(&body)
        .await?;
    out.show(&done, |out, done| {
        out.line(format!("took {} rows of {tool}", done.rows))
    })?;
    Ok(())
}
