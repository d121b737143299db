//! Backup and restore of a data folder.
//!
//! A backup is a folder: the store, then the log up to a signed checkpoint (in this order, so that the log is at least as
//! new: it leads), the settings, the log's public key, and every other file of the data folder in an envelope under the
//! sealing key, which itself is **never** in it. The [`Manifest`] lists all of it with lengths and hashes, and is sealed
//! with the same key: whoever holds a backup and not the key can neither sign in this log's name nor pass off another store.
//!
//! A restored log ends its epoch: nobody can know who else went on with it (`docs/decisions/0009-...`).

mod file;
mod manifest;
mod restore;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::{FolderLock, LockError};
use super::{recover, seal};
use crate::audit;
use crate::config::{self, Config};
use crate::id::Ids;
use crate::store;
use crate::trust::seal::SealingKey;
use file::Written;
pub use manifest::Manifest;
use manifest::{LogState, OWN, Seal};
pub use restore::{Lost, Restore, Restored, restore};

/// How long a running gateway may take to sign what it has written.
const SIGNED: Duration = Duration::from_secs(15);
/// A file that is larger is no part of a gateway.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What is told while a long copy runs: what is copied, bytes done, bytes in all.
pub type Progress<'a> = &'a dyn Fn(&str, u64, u64);

/// A backup that was made.
#[derive(Debug, Serialize)]
pub struct BackedUp {
    /// Its folder.
    pub backup: PathBuf,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes of the store; 0 where PostgreSQL keeps it.
    pub store_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Whether a gateway was running.
    pub running: bool,
    /// The request under which the log names this backup; `None` when no gateway ran or it could not write it.
    pub request: Option<String>,
    /// Where the sealing key lies, which is not in the backup.
    pub sealing_key: PathBuf,
    /// Files that were left out because they are too large or no plain files.
    pub left_out: Vec<String>,
}

/// Backs the gateway in `data` up into the new folder `target`, whether it runs or not. The sealing key is read where the
/// settings say, or where `sealing_key` does.
///
/// # Errors
/// In words for the operator; then nothing is left behind.
pub async fn backup(
    data: &Path,
    target: &Path,
    sealing_key: Option<&Path>,
    ids: Ids,
    progress: Progress<'_>,
) -> anyhow::Result<BackedUp> {
    let mut config = Config::load(data)?;
    if let Some(key) = sealing_key {
        key.clone_into(&mut config.sealing_key);
    }
    let sealing = SealingKey::load(&config.sealing_key)
        .context("a backup locks the folder's keys with the sealing key, so it has to be there")?;
    anyhow::ensure!(
        !target.exists(),
        "`{}` is there already; a backup never overwrites, name another folder",
        target.display()
    );
    anyhow::ensure!(
        !target.starts_with(data),
        "a backup inside the data folder is lost with it; name a folder elsewhere"
    );
    // INVARIANT: as long as the lock is held nothing starts; a gateway that holds it runs to the end of this, or it fails.
    let lock = match FolderLock::take(data) {
        Ok(lock) => Some(lock),
        Err(LockError::Held { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let running = lock.is_none();
    anyhow::ensure!(
        audit::key_change::pending(&data.join("log"))?.is_none(),
        "the log's key was changed, and the log has not gone on with the new one yet: start the gateway once, then back up"
    );
    anyhow::ensure!(
        !seal::is_changing(&config.sealing_key),
        "the sealing key is being changed, or its change was cut short: start the gateway once, then back up"
    );
    let request = match running {
        true => recover::note_backup(data)
            .await
            .map(Some)
            .unwrap_or_else(|error| {
                tracing::warn!("the log does not name this backup: {error:#}");
                None
            }),
        false => None,
    };
    let parent = parent(target)?;
    let staging = tempfile::Builder::new()
        .prefix(".countersign-backup-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be made in `{}`", parent.display()))?;
    let copying = Copying {
        data,
        config: &config,
        sealing: &sealing,
        staging: staging.path(),
        ids: &ids,
        progress,
    };
    let mut made = copying.run(running).await?;
    file::sync_tree(staging.path())?;
    anyhow::ensure!(!target.exists(), "`{}` is there by now", target.display());
    fs::rename(staging.path(), target)?;
    let _ = staging.keep();
    fs::File::open(&parent)?.sync_all()?;
    drop(lock);
    target.clone_into(&mut made.backup);
    made.request = request;
    Ok(made)
}

fn parent(target: &Path) -> anyhow::Result<PathBuf> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).to_owned();
    fs::create_dir_all(&parent).with_context(|| format!("`{}` cannot be made", parent.display()))?;
    Ok(parent)
}

struct Copying<'a> {
    data: &'a Path,
    config: &'a Config,
    sealing: &'a SealingKey,
    staging: &'a Path,
    ids: &'a Ids,
    progress: Progress<'a>,
}

impl Copying<'_> {
    async fn run(&self, running: bool) -> anyhow::Result<BackedUp> {
        let log = self.data.join("log");
        // What comes after this in the log may be missing in the store.
        let from = audit::copy::position(&log).context("the log cannot be read")?;
        let mut files = Vec::new();
        let embedded = self.config.store.url_file.is_none();
        if embedded {
            (self.progress)("store", 0, 0);
            store::copy(&self.data.join("store.db"), &self.staging.join("store.db")).await?;
            files.push(file::look(&self.staging.join("store.db"), "store.db")?);
        }
        let store_bytes = files.iter().map(|file| file.bytes).sum();
        if running {
            signed(&log).await?;
        }
        let plan = audit::copy::plan(&log, running).context("the log cannot be copied")?;
        let log_bytes = self.log(&plan, &mut files)?;
        let (name, keys) = (config::FILE, "keys/log.pub");
        for name in [name, keys] {
            files.push(file::copy(
                &self.data.join(name),
                self.staging,
                name,
                None,
                &|_| (),
            )?);
        }
        let id = self.ids.next::<crate::id::RequestId>()?.to_string();
        let left_out = self.sealed(&id, &mut files)?;
        let manifest = Manifest {
            format: manifest::FORMAT,
            id,
            program: env!("CARGO_PKG_VERSION").into(),
            made: self.ids.clock().now().to_string(),
            gateway: self.config.gateway.name.clone(),
            store: if embedded { "sqlite" } else { "postgres" }.into(),
            sealing_key: self.config.sealing_key.clone(),
            log: LogState {
                epoch: plan.epoch,
                records: plan.records,
                signed: plan.checkpoint.as_ref().map_or(0, |newest| newest.size),
                from,
            },
            files,
        };
        manifest.write(self.staging, self.sealing, &**self.ids.random())?;
        Ok(BackedUp {
            backup: PathBuf::new(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            store_bytes,
            log_bytes,
            manifest,
            running,
            request: None,
            sealing_key: self.config.sealing_key.clone(),
            left_out,
        })
    }

    fn log(&self, plan: &audit::copy::Plan, files: &mut Vec<Written>) -> anyhow::Result<u64> {
        let total = plan.files.iter().map(|part| part.bytes).sum();
        let mut done = 0;
        for part in &plan.files {
            let name = format!("log/{}", part.name);
            let written = match &part.content {
                Some(content) => file::write(content, self.staging, &name)?,
                None => file::copy(&part.path, self.staging, &name, Some(part.bytes), &|bytes| {
                    (self.progress)("log", done + bytes, total);
                })?,
            };
            done += written.bytes;
            files.push(written);
        }
        Ok(done)
    }

    /// Everything else in the data folder, each file in an envelope. Gives what was left out.
    fn sealed(&self, id: &str, files: &mut Vec<Written>) -> anyhow::Result<Vec<String>> {
        let mut left_out = Vec::new();
        for path in file::tree(self.data)? {
            let name = path.strip_prefix(self.data).unwrap_or(&path);
            let Some(name) = name.to_str() else {
                left_out.push(name.to_string_lossy().into_owned());
                continue;
            };
            if OWN.iter().any(|own| own.covers(name)) || self.is_sealing_key(&path) {
                continue;
            }
            let about = fs::metadata(&path)?;
            if !about.is_file() || about.len() > LARGEST {
                left_out.push(name.to_owned());
                continue;
            }
            let plain = crate::secret::Secret::new(fs::read(&path)?);
            let envelope = self.sealing.seal(
                &**self.ids.random(),
                &Seal::File { id, name }.label(),
                plain.expose(),
            )?;
            let inside = format!("sealed/{name}");
            files.push(file::write(&envelope, self.staging, &inside)?);
        }
        Ok(left_out)
    }

    /// SECURITY: neither the file that the settings name, nor the same key under another name.
    fn is_sealing_key(&self, path: &Path) -> bool {
        let same_file = match (path.canonicalize(), self.config.sealing_key.canonicalize()) {
            (Ok(path), Ok(key)) => path == key,
            _ => false,
        };
        let id = |key: &SealingKey| format!("{key:?}");
        same_file || SealingKey::load(path).is_ok_and(|found| id(&found) == id(self.sealing))
    }
}

/// Waits until the running gateway has signed all that is in its log by now.
async fn signed(log: &Path) -> anyhow::Result<()> {
    let written = audit::copy::position(log)?;
    let begun = tokio::time::Instant::now();
    loop {
        let newest = audit::read::newest_checkpoint(log).map_or(0, |newest| newest.size);
        if newest >= written {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < SIGNED,
            "the gateway has signed {newest} of {written} records and does not go on: see `countersign audit verify`, \
             or stop it and back it up at rest"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
