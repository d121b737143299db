//! `countersign audit`: reading and proving the audit log.

mod access;
mod check_proof;
mod export;
mod key;
mod progress;
mod prove;
mod reindex;
mod report;
pub(super) mod search;
mod source;
mod tail;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::failure::Failure;
use super::input::text_file;
use super::output::Output;
use crate::audit::VerifyingKey;
use crate::audit::witness::WitnessKey;

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Tail(tail::Tail),
    Verify(verify::Verify),
    Search(search::Search),
    Prove(prove::Prove),
    CheckProof(check_proof::CheckProof),
    Key(key::Key),
    Export(export::Export),
    #[command(alias = "rebuild-index")]
    Reindex(reindex::Reindex),
    #[command(subcommand)]
    Report(report::Report),
}

/// Runs the command.
pub(crate) async fn run(command: Audit, out: Output) -> Result<(), Failure> {
    match command {
        Audit::Tail(args) => tail::run(args, out).await,
        Audit::Verify(args) => verify::run(&args, out),
        Audit::Search(args) => search::run(args, out).await,
        Audit::Prove(args) => prove::run(args, out).await,
        Audit::CheckProof(args) => check_proof::run(&args, out),
        Audit::Export(args) => export::run(args, out).await,
        Audit::Report(command) => report::run(command, out).await,
        Audit::Reindex(args) => reindex::run(args, out).await,
        Audit::Key(args) => key::run(args, out),
    }
}

/// Reads a public key from a file; what else the file holds is not shown.
pub(super) fn load_key(path: &Path) -> Result<VerifyingKey, Failure> {
    let text = text_file(path)?;
    text.trim().parse().map_err(|_| {
        Failure::failed(format!("`{}` does not hold a log's public key", path.display()))
            .hint("accepted: one line NAME+HASH+BASE64, as `init` and `audit key` print it")
    })
}

/// The log's key as it was given: the key itself, or a file with it.
pub(super) fn given_key(key: &str) -> Result<VerifyingKey, Failure> {
    match key.parse() {
        Ok(key) => Ok(key),
        Err(_) => load_key(Path::new(key)),
    }
}

/// The keys of witnesses, given in the same way.
fn witness_keys(keys: &[String]) -> Result<Vec<WitnessKey>, Failure> {
    let read = |key: &String| match key.parse() {
        Ok(key) => Ok(key),
        Err(_) => text_file(Path::new(key))?.trim().parse().map_err(|_| {
            Failure::failed(format!("`{key}` does not hold a witness's public key"))
                .hint("accepted: one line NAME+HASH+BASE64, as `countersign witness init` prints it")
        }),
    };
    keys.iter().map(read).collect()
}

/// Where a data folder keeps the log's public key.
fn own_key(data: &Path) -> PathBuf {
    data.join("keys/log.pub")
}

/// The log's folder: `folder` itself, or the `log` in a data folder.
fn log_folder(folder: &Path) -> PathBuf {
    let log = folder.join("log");
    if log.is_dir() { log } else { folder.to_owned() }
}
