//! `countersign audit key`: the log's public key, and another one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{load_key, log_folder, own_key};
use crate::audit::key_change::change as change_key;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::id::SystemSource;
use crate::server::FolderLock;

/// Prints the public key of the log, to be noted elsewhere: `audit verify --key` takes it. `audit key change` gives the log
/// another key.
///
/// Examples:
///   countersign audit key --data /srv/countersign
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Key {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Change(Change),
}

/// Gives the log another key, while the gateway is stopped. At the next start the log goes on in a new epoch, whose first record
/// names both keys and is signed by both; the private key until now is gone, the public one stays in `keys/log-until-EPOCH.pub`.
///
/// `audit verify` follows the change with the old key and with the new one. Note the new key elsewhere, and give it to the
/// witness beside the old one. When it was cut short, the same command ends it.
///
/// Examples:
///   countersign audit key change --data /srv/countersign
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Change {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Changed {
    old: String,
    new: String,
    epoch: u64,
    old_key_file: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: Key, out: Output) -> Result<(), Failure> {
    match (args.command, args.data) {
        (Some(Command::Change(args)), _) => change(&args.data, out),
        (None, Some(data)) => {
            let key = load_key(&own_key(&data))?;
            let shown = serde_json::json!({ "key": key.to_string() });
            Ok(out.show(&shown, |out, _| out.line(key.to_string()))?)
        }
        (None, None) => Err(Failure::usage("which log?").hint("give the data folder with --data DIR")),
    }
}

fn change(data: &Path, out: Output) -> Result<(), Failure> {
    // INVARIANT: nobody signs with the old key while it goes.
    let _lock = FolderLock::take(data).map_err(|error| {
        Failure::failed(error.to_string()).hint("stop the gateway: it takes the new key up when it starts")
    })?;
    let changed = change_key(&log_folder(data), &data.join("keys"), &SystemSource::new());
    let changed = changed.map_err(|error| Failure::failed(error.to_string()))?;
    let shown = Changed {
        old: changed.old.to_string(),
        new: changed.new.to_string(),
        epoch: changed.epoch,
        old_key_file: changed.kept,
    };
    out.show(&shown, |out, shown| {
        out.line(
            "The log has another key. Note it elsewhere, and give it to the witness beside the old one:",
        )?;
        out.line(format!("  {}", shown.new))?;
        out.line(format!(
            "Epoch {} begins with it at the next start. The old public key stays in `{}`.",
            shown.epoch,
            shown.old_key_file.display()
        ))
    })?;
    Ok(())
}
