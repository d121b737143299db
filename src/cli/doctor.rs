//! `countersign doctor`: finds the usual troubles of a gateway.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use super::serve::become_owner;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::server::{Finding, State, examine};

/// Looks for the usual troubles of a gateway: settings, files that others may read, room for the log, the clock,
/// certificates that end soon, the mail server, tools that cannot be reached, or can be reached past the gateway.
///
/// It is run on the gateway's machine, while the gateway runs or not, and changes nothing. Tools are connected to and get no
/// request. Started as root, it becomes the account that owns the data folder.
///
/// Exit code 1 when there is a flaw; warnings are none, unless --strict asks for it.
///
/// Examples:
///   countersign doctor --data /srv/countersign
///   countersign doctor --data /srv/countersign --strict --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Doctor {
    /// The data folder, as `countersign init` made it.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// A warning fails as a flaw does.
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
    flaws: usize,
    warnings: usize,
}

/// Runs the command.
pub(super) async fn run(args: Doctor, out: Output) -> Result<(), Failure> {
    let data = std::path::absolute(&args.data)?;
    become_owner(&data)?;
    let config = Config::load(&data).map_err(|flaws| Failure::failed(flaws.to_string()))?;
    out.note(format!("looking at the gateway of `{}`", data.display()));
    let findings = examine(&config, SystemClock::shared().now()).await;
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let report = Report {
        findings: &findings,
        flaws: count(State::Flaw),
        warnings: count(State::Warning),
    };
    out.show(&report, |out, report| {
        for finding in report.findings {
            tell(out, finding)?;
        }
        out.line("")
    })?;
    let summary = format!("{} flaws, {} warnings", report.flaws, report.warnings);
    if report.flaws > 0 || (args.strict && report.warnings > 0) {
        return Err(Failure::failed(summary));
    }
    out.note(summary);
    Ok(())
}

fn tell(out: Output, finding: &Finding) -> std::io::Result<()> {
    let Finding {
        about,
        state,
        said,
        next,
    } = finding;
    out.line(super::output::plain(&format!(
        "{:<8} {about}: {said}",
        state.as_str()
    )))?;
    match next.as_ref().filter(|_| *state != State::Ok) {
        Some(next) => out.line(super::output::plain(&format!("{:<8} next: {next}", ""))),
        None => Ok(()),
    }
}
