//! `countersign audit reindex`: the index over the log, made anew.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::Args;

use super::progress::Progress;
use crate::audit::index;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Drops the index over the log and makes it anew, while no gateway serves the folder. It is made from the log's files, up
/// to the newest checkpoint; these are only read. A running gateway needs none of this: it makes the index anew by itself
/// when its file is gone, of another version, damaged or not of this log, and goes on serving meanwhile; searches
/// then say how many records they may lack.
///
/// Examples:
///   countersign audit reindex --data /srv/countersign
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Reindex {
    /// The data folder.
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
}

/// Runs the command.
pub(super) async fn run(args: Reindex, out: Output) -> Result<(), Failure> {
    let folder = args.data.join("log");
    let lock = folder.join("lock");
    if !lock.is_file() {
        return Err(Failure::not_found(format!(
            "there is no log in `{}`",
            args.data.display()
        )));
    }
    // Held until the index is made, so that no gateway begins meanwhile.
    let lock = fs::File::open(lock)?;
    lock.try_lock().map_err(|_| {
        Failure::failed("a gateway serves this folder")
            .hint("stop it first; a running gateway keeps its index by itself")
    })?;
    let mut bar = Progress::new(0, out.is_json());
    let index = args.data.join("index.db");
    let made = index::rebuild(&folder, &index, |done| bar.set(done)).await;
    bar.end();
    if index.exists() {
        give(&index, &args.data)?;
    }
    let records = made.map_err(|error| {
        Failure::failed(error.to_string()).hint("countersign audit verify says whether the log is whole")
    })?;
    out.done(
        "audit.reindex",
        format!("The index is made anew over {records} records"),
    )?;
    Ok(())
}

/// Gives a file to the owner of the data folder, for whom alone it is: the gateway may run as another account than this command.
fn give(file: &Path, data: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    let (owner, now) = (fs::metadata(data)?, fs::metadata(file)?);
    if (owner.uid(), owner.gid()) != (now.uid(), now.gid()) {
        chown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}
