//! `countersign serve`: runs a gateway until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use super::output::Output;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::id::{Ids, SystemSource};
use crate::server::Server;
use crate::telemetry;

/// Runs the gateway of a data folder.
///
/// It stops in order on SIGTERM or Ctrl-C: no new connections, requests under way end, the audit log is closed with a
/// signed checkpoint.
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
    /// Only check the settings: every flaw with its line, key and accepted form.
    #[arg(long)]
    check_config: bool,
}

/// Runs the command.
pub(super) async fn run(args: Serve, out: Output) -> Result<(), Failure> {
    let data = std::path::absolute(&args.data)?;
    let config = Config::load(&data).map_err(|flaws| Failure::failed(flaws.to_string()))?;
    if args.check_config {
        let report = config.report();
        return Ok(out.show(&report, |out, report| {
            report.iter().try_for_each(|line| out.line(line))?;
            out.line(format!(
                "{} is in order",
                data.join(crate::config::FILE).display()
            ))
        })?);
    }
    telemetry::start(&config.telemetry)?;
    // A write past a file-size limit must come back as an error that refuses the request, not end the process.
    let _file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let server = Server::start(config, ids)
        .await
        .map_err(|error| Failure::failed(format!("{error:#}")))?;
    out.line(format!("serving {}", server.listening().base))?;
    tokio::select! {
        _ = terminate.recv() => server.stop("SIGTERM").await,
        _ = tokio::signal::ctrl_c() => server.stop("SIGINT").await,
    }
    Ok(())
}
