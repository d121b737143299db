//! `countersign completions`: what a shell needs to complete the command line.

use clap::Args;
use clap_complete::Shell;

use super::failure::Failure;
use super::output::Output;

/// Prints the completions of a shell.
///
/// Examples:
///   countersign completions bash > ~/.local/share/bash-completion/completions/countersign
///   countersign completions zsh
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(args: &Completions, out: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "countersign", &mut script);
    out.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}

/// Prints the description of the API (OpenAPI 3.1).
///
/// Examples:
///   countersign openapi > openapi.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Openapi {}

/// Runs `openapi`; its answer is JSON in any case.
pub(crate) fn openapi(out: Output) -> Result<(), Failure> {
    out.json(&crate::api::document())?;
    Ok(())
}
