//! `countersign seal`: the key under which the gateway's other keys rest.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::Output;
use super::serve::become_owner;
use crate::clock::SystemClock;
use crate::id::{Ids, SystemSource};
use crate::server::change_sealing_key;

/// The key under which VO keys, credentials of tools and the assertion key rest.
#[derive(Debug, Subcommand)]
pub(crate) enum Seal {
    Rotate(Rotate),
}

/// Gives a stopped gateway another sealing key. Everything is sealed anew with it, in one step and on record. For whoever
/// operates the machine: the account that owns the data folder, or root.
///
/// The key until now stays beside the new one as `FILE.old-ID`: backups that were made with it need it, and so does any other
/// gateway that shares the key file, which finds it there by itself. When the command was cut short, the next start, or the
/// same command, ends what was begun. No key is ever deleted; of gateways that share a file, one changes it at a time.
///
/// Examples:
///   countersign seal rotate --data /srv/countersign --reason 'yearly'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Rotate {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// The sealing key, where it does not lie where the settings say (a service manager that hands it over).
    #[arg(long, value_name = "FILE")]
    sealing_key: Option<PathBuf>,
    /// Why; it stands in the log.
    #[arg(long, env = "COUNTERSIGN_REASON", value_name = "TEXT")]
    reason: String,
}

/// Runs the command.
pub(crate) async fn run(command: Seal, out: Output) -> Result<(), Failure> {
    let Seal::Rotate(args) = command;
    become_owner(&args.data)?;
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let changed = change_sealing_key(&args.data, args.sealing_key.as_deref(), &args.reason, ids).await;
    let changed = changed.map_err(|error| Failure::failed(format!("{error:#}")))?;
    out.show(&changed, |out, changed| {
        out.line(format!(
            "{} keys and credentials are sealed with the new key in `{}`.",
            changed.sealed,
            changed.key_file.display()
        ))?;
        out.line(format!(
            "Backups made until now need `{}`, and so does any other gateway that shares the key file: keep it.",
            changed.old_key_file.display()
        ))
    })?;
    if changed.left > 0 {
        out.note(format!(
            "warning: {} did not open with the key until now, and stay as they are",
            changed.left
        ));
    }
    Ok(())
}
