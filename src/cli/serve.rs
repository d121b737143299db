//! `countersign serve`: runs a gateway until it is told to stop.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use super::output::Output;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::id::{Ids, SystemSource};
use crate::server::{Server, check};
use crate::telemetry;

/// Runs the gateway of a data folder.
///
/// It stops in order on SIGTERM or Ctrl-C: no new connections, requests under way end, the audit log is closed with a
/// signed checkpoint. A second signal ends it at once. On SIGHUP it reads its settings anew (`countersign reload`).
///
/// Started as root, it becomes the account that owns the data folder.
///
/// Examples:
///   countersign serve --data /srv/countersign
///   countersign serve --data /srv/countersign --check-config
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Serve {
    /// The data folder, as `countersign init` made it.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Only check the settings, and the files and places they name, as a start would: every flaw at once. What runs may go on.
    #[arg(long)]
    check_config: bool,
}

/// Runs the command.
pub(super) async fn run(args: Serve, out: Output) -> Result<(), Failure> {
    let data = std::path::absolute(&args.data)?;
    become_owner(&data)?;
    let config = Config::load(&data).map_err(|flaws| Failure::failed(flaws.to_string()))?;
    if args.check_config {
        return check_config(&config, out);
    }
    telemetry::start(&config.telemetry)?;
    if rustix::process::geteuid().is_root() {
        tracing::info!(
            "this gateway runs as root: give the data folder to an account of its own, and it becomes that"
        );
    }
    harden();
    // A write past a file-size limit must come back as an error that refuses the request, not end the process.
    let _file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let server = Server::start(config, ids)
        .await
        .map_err(|error| Failure::failed(format!("{error:#}")))?;
    out.line(format!("serving {}", server.listening().base))?;
    let reason = loop {
        tokio::select! {
            _ = hang_up.recv() => server.reload(),
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
        }
    };
    // Outside of the `select!`, which would drop it before it answers.
    let mut stop = std::pin::pin!(server.stop(reason));
    tokio::select! {
        () = stop.as_mut() => Ok(()),
        _ = terminate.recv() => end_at_once(out),
        _ = interrupt.recv() => end_at_once(out),
    }
}

/// Says what a start would say.
fn check_config(config: &Config, out: Output) -> Result<(), Failure> {
    let found = check(config, SystemClock::shared().now());
    if !found.flaws.is_empty() {
        return Err(Failure::failed(found.flaws.join("\n")));
    }
    let warnings = found.warnings.iter().map(|warning| format!("warning: {warning}"));
    let report: Vec<String> = config.report().into_iter().chain(warnings).collect();
    Ok(out.show(&report, |out, report| {
        report.iter().try_for_each(|line| out.line(line))?;
        out.line(format!(
            "{} is in order",
            config.data.join(crate::config::FILE).display()
        ))
    })?)
}

/// Started as root for a data folder of another account, starts anew as that account, with its group alone.
///
/// # Errors
/// When it cannot: it never goes on as root by mistake.
pub(super) fn become_owner(data: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // Where there is nothing, reading the settings says so.
    let Some(owner) = std::fs::metadata(data).ok().filter(|owner| owner.uid() != 0) else {
        return Ok(());
    };
    // SECURITY: the program itself and its arguments, again; the system's `exec` also drops root's further groups.
    let error = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .uid(owner.uid())
        .gid(owner.gid())
        .exec();
    Err(Failure::failed(format!(
        "cannot become the owner of `{}` (account {}): {error}",
        data.display(),
        owner.uid()
    )))
}

/// Ends the process where it stands, as `kill -9` would: nothing is dropped, so nothing half-done writes a last word, and the
/// next start settles everything that was open in the same way.
fn end_at_once(out: Output) -> ! {
    let failure =
        Failure::failed("ended at once by a second signal: what was open is settled at the next start");
    super::tell(&failure, out.is_json());
    std::process::exit(i32::from(failure.code))
}

/// Leaves no copy of this process's memory anywhere: keys, passwords and sessions are in it.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // SECURITY: no core file, and no debugger or profiler of the same account (root still may).
    let done =
        setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!("core dumps could not be switched off: {error}");
    }
}
