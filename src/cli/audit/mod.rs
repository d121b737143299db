//! `countersign audit`: reading and proving the audit log.

pub(super) mod search;
mod tail;
mod verify;

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::input::text_file;
use super::output::Output;
use crate::audit::VerifyingKey;

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Tail(tail::Tail),
    Verify(verify::Verify),
    Search(search::Search),
    Key(Key),
    RebuildIndex(RebuildIndex),
}

/// Prints the public key of the log, to be noted elsewhere: `audit verify --key` takes it.
///
/// Examples:
///   countersign audit key --data /srv/countersign
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Key {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
}

/// Drops the index over the log, while no gateway serves the folder; the gateway makes it anew from the log when it
/// starts. Nothing is lost: the log itself is not touched.
///
/// Examples:
///   countersign audit rebuild-index --data /srv/countersign
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RebuildIndex {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(command: Audit, out: Output) -> Result<(), Failure> {
    match command {
        Audit::Tail(args) => tail::run(args, out).await,
        Audit::Verify(args) => verify::run(&args, out),
        Audit::Search(args) => search::run(args, out).await,
        Audit::RebuildIndex(args) => rebuild_index(&args.data, out),
        Audit::Key(Key { data }) => {
            let key = load_key(&own_key(&data))?;
            let shown = serde_json::json!({ "key": key.to_string() });
            Ok(out.show(&shown, |out, _| out.line(key.to_string()))?)
        }
    }
}

fn rebuild_index(data: &Path, out: Output) -> Result<(), Failure> {
    let lock = data.join("log/lock");
    if !lock.is_file() {
        return Err(Failure::not_found(format!(
            "there is no log in `{}`",
            data.display()
        )));
    }
    // Held until the files are gone, so that no gateway begins meanwhile.
    let lock = fs::File::open(lock)?;
    lock.try_lock().map_err(|_| {
        Failure::failed("a gateway serves this folder")
            .hint("stop it first; a running gateway keeps its index by itself")
    })?;
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        match fs::remove_file(data.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    out.done(
        "audit.rebuild_index",
        "The index is dropped; the gateway makes it anew when it starts",
    )?;
    Ok(())
}

/// Reads a public key from a file; what else the file holds is not shown.
pub(super) fn load_key(path: &Path) -> Result<VerifyingKey, Failure> {
    let text = text_file(path)?;
    text.trim().parse().map_err(|_| {
        Failure::failed(format!("`{}` does not hold a log's public key", path.display()))
            .hint("accepted: one line NAME+HASH+BASE64, as `init` and `audit key` print it")
    })
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
