//! A backup becomes a data folder again.
//!
//! Everything is checked before anything is made, and made in a folder beside the final one, which gets its name at the very
//! end: a restore that fails leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::file;
use super::manifest::{Manifest, Seal};
use super::{Progress, parent};
use crate::audit::read::Reader;
use crate::audit::{self, Checkpoint, LogKey, VerifyingKey, copy};
use crate::authenticate::{AllEnded, end_all};
use crate::config::{self, Config};
use crate::delegate::Delegate;
use crate::id::Ids;
use crate::record::{Event, Record};
use crate::resource::Resources;
use crate::store::Db;
use crate::trust::seal::SealingKey;

/// What is to be restored.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup's folder.
    pub backup: PathBuf,
    /// The data folder to make.
    pub data: PathBuf,
    /// Where the sealing key lies.
    pub sealing_key: PathBuf,
    /// The log's public key as somebody noted it.
    pub key: Option<VerifyingKey>,
    /// The log folder that survived, with newer records than the backup's.
    pub log: Option<PathBuf>,
}

/// What was restored.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// The data folder.
    pub data: PathBuf,
    /// When the backup was made.
    pub made: String,
    /// Records of the log.
    pub records: u64,
    /// Records that came from a log that survived.
    pub newer_records: u64,
    /// The epoch that ended.
    pub ended_epoch: u64,
    /// The epoch that the next start begins.
    pub epoch: u64,
    /// What lets nobody in any more.
    pub ended: AllEnded,
    /// Changes of state in the log that the store does not have; they are to be made again.
    pub lost: Vec<Lost>,
    /// Where the gateway will look for the sealing key.
    pub sealing_key: PathBuf,
    /// Whether it is there.
    pub sealing_key_there: bool,
}

/// A change of state that is on record and not in the restored store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// When it was made.
    pub time: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// The request that did it.
    pub request: String,
}

/// Restores a backup into a folder that is empty or not there.
///
/// # Errors
/// In words for the operator; then there is no data folder.
pub async fn restore(asked: &Restore, ids: Ids, progress: Progress<'_>) -> anyhow::Result<Restored> {
    let (backup, data) = (&asked.backup, &asked.data);
    let free = !data.exists() || (data.is_dir() && fs::read_dir(data)?.next().is_none());
    anyhow::ensure!(
        free,
        "`{}` is there already; a restore never overwrites: move it away (its `log` may have newer records, for --log)",
        data.display()
    );
    let sealing = SealingKey::load(&asked.sealing_key)
        .context("a backup opens with the sealing key only, which is never in it")?;
    let manifest = Manifest::read(backup, &sealing)?;
    manifest.check(backup, progress)?;
    let key = match &asked.key {
        Some(key) => key.clone(),
        None => VerifyingKey::load(&backup.join("keys/log.pub"))?,
    };
    audit::verify::verify(&backup.join("log"), &key, None, |records| {
        progress("verifying", records, manifest.log.records);
    })
    .context("the log in the backup does not verify")?;

    let parent = parent(data)?;
    let staging = tempfile::Builder::new()
        .prefix(".countersign-restore-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be made in `{}`", parent.display()))?;
    let making = Making {
        asked,
        manifest: &manifest,
        folder: staging.path(),
        key: &key,
        ids: &ids,
        progress,
    };
    let made = making.run(&sealing).await?;
    file::sync_tree(staging.path())?;
    if data.exists() {
        fs::remove_dir(data)?; // it is empty, and `remove_dir` takes nothing else
    }
    fs::rename(staging.path(), data)?;
    let _ = staging.keep();
    fs::File::open(&parent)?.sync_all()?;
    Ok(made)
}

struct Making<'a> {
    asked: &'a Restore,
    manifest: &'a Manifest,
    folder: &'a Path,
    key: &'a VerifyingKey,
    ids: &'a Ids,
    progress: Progress<'a>,
}

impl Making<'_> {
    async fn run(&self, sealing: &SealingKey) -> anyhow::Result<Restored> {
        for name in ["tls", "keys", "log", "outbox"] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        self.files(sealing)?;
        let log = self.folder.join("log");
        let own = LogKey::load(&self.folder.join("keys/log.key"))?;
        anyhow::ensure!(
            own.public(self.key.name()).to_string() == self.key.to_string(),
            "the log key in the backup is not the one whose public half was given"
        );
        let backed_up = copy::position(&log)?;
        let records = match &self.asked.log {
            Some(survived) => self.newer(survived, &log, backed_up)?,
            None => backed_up,
        };
        let config = Config::load(self.folder)?;
        let db = config
            .store
            .open(self.folder)
            .await
            .context("the store cannot be opened; PostgreSQL is restored first, from its own dump")?;
        let lost = self.catch_up(&log, &config, &db, records).await?;
        let now = self.ids.clock().now();
        let ended = end_all(&db, now).await?;
        db.close().await;
        let epoch = self.mark(&log, &own, &ended, lost.len())?;
        let sealing_key = match config.sealing_key.strip_prefix(self.folder) {
            Ok(inside) => self.asked.data.join(inside),
            Err(_) => config.sealing_key.clone(),
        };
        Ok(Restored {
            data: self.asked.data.clone(),
            made: self.manifest.made.clone(),
            records,
            newer_records: records.saturating_sub(backed_up),
            ended_epoch: self.manifest.log.epoch,
            epoch,
            ended,
            lost,
            sealing_key_there: sealing_key.is_file(),
            sealing_key,
        })
    }

    /// Puts every file in its place; what was locked is opened.
    fn files(&self, sealing: &SealingKey) -> anyhow::Result<()> {
        let total = self.manifest.files.iter().map(|file| file.bytes).sum();
        let mut done = 0;
        for listed in &self.manifest.files {
            let from = file::below(&self.asked.backup, &listed.name)?;
            if let Some(name) = listed.name.strip_prefix("sealed/") {
                let id = &self.manifest.id;
                let plain = sealing
                    .open(&Seal::File { id, name }.label(), &fs::read(&from)?)
                    .with_context(|| format!("`{name}` does not open"))?;
                file::write(plain.expose(), self.folder, name)?;
            } else {
                let copied = file::copy(&from, self.folder, &listed.name, Some(listed.bytes), &|_| ())?;
                anyhow::ensure!(copied == *listed, "`{}` changed meanwhile", listed.name);
            }
            done += listed.bytes;
            (self.progress)("restoring", done, total);
        }
        Ok(())
    }

    /// Takes newer segments from a log that survived. Gives the number of records then.
    fn newer(&self, survived: &Path, log: &Path, backed_up: u64) -> anyhow::Result<u64> {
        let plan = copy::plan(survived, false)
            .with_context(|| format!("the log in `{}` cannot be read", survived.display()))?;
        anyhow::ensure!(
            plan.epoch == self.manifest.log.epoch,
            "the log in `{}` is of epoch {}, the backup's of epoch {}: they do not continue each other",
            survived.display(),
            plan.epoch,
            self.manifest.log.epoch
        );
        anyhow::ensure!(
            plan.records >= backed_up,
            "the log in `{}` has {} records, the backup {backed_up}: it is the older one, leave --log out",
            survived.display(),
            plan.records
        );
        let newest = fs::read_to_string(log.join("checkpoint"));
        let newest = newest.ok().and_then(|note| Checkpoint::parse(&note).ok());
        for part in plan.files.iter().filter(|part| !part.name.contains('/')) {
            let there = log.join(&part.name);
            // What was compressed since is whole, whatever the backup has of it.
            if let Some(plain) = part.name.strip_suffix(".zst") {
                match fs::remove_file(log.join(plain)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            let segment = part.name.ends_with(".log");
            if segment && there.exists() && fs::metadata(&there)?.len() >= part.bytes {
                continue;
            }
            match fs::remove_file(&there) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            match &part.content {
                Some(content) => file::write(content, log, &part.name)?,
                None => file::copy(&part.path, log, &part.name, Some(part.bytes), &|_| ())?,
            };
        }
        // SECURITY: what was backed up is what the newer records continue, by the backup's own checkpoint.
        audit::verify::verify(log, self.key, newest.as_ref(), |records| {
            (self.progress)("verifying", records, plan.records);
        })
        .with_context(|| {
            format!(
                "the backup and the log in `{}` do not make one log that verifies; without --log the backup alone is restored",
                survived.display()
            )
        })?;
        Ok(copy::position(log)?)
    }

    /// Enters into the store what stands in the log since the store was copied: ownership and proxies, as every start does. Gives
    /// the changes of state that cannot be made again from their records, which name no one.
    async fn catch_up(
        &self,
        log: &Path,
        config: &Config,
        db: &Db,
        records: u64,
    ) -> anyhow::Result<Vec<Lost>> {
        let resources = Resources::new(db.clone(), self.ids.clock().clone());
        let base = config::origin(&config.gateway.name, config.gateway.listen.port());
        let delegate = Delegate::new(config.delegate.clone(), db.clone(), None, self.ids.clone(), base);
        let mut reader = Reader::to(log, self.manifest.log.from, records)?;
        let mut lost = Vec::new();
        while let Some(found) = reader.read()? {
            let Record { event, time, .. } = found.record;
            match &event {
                Event::Outcome(outcome) => {
                    resources.deleted(outcome.request, &outcome.deleted).await?;
                    resources.created(outcome.request, &outcome.created).await?;
                }
                Event::Change(change) if !db.was_applied(change.request).await? => lost.push(Lost {
                    time: time.to_string(),
                    action: change.change.action.clone(),
                    target: format!("{}/{}", change.change.kind, change.change.target),
                    request: change.request.to_string(),
                }),
                _ => {}
            }
            delegate.index([&event]).await?;
        }
        Ok(lost)
    }

    /// Ends the log's epoch. The next one has a number that nobody else who holds this backup, or the folder it was made of, gives.
    fn mark(&self, log: &Path, own: &LogKey, ended: &AllEnded, lost: usize) -> anyhow::Result<u64> {
        let now = self.ids.clock().now();
        let millisecond = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        let epoch = millisecond.max(self.manifest.log.epoch + 1);
        let reason = format!(
            "restored: backup {} of {}, on {now}; sessions ended: {}, one-time passwords ended: {}, changes that the \
             store does not have: {lost}",
            self.manifest.id, self.manifest.made, ended.sessions, ended.one_time_passwords
        );
        audit::Restored {
            epoch,
            reason,
            key: None,
        }
        .mark(log, own, self.key.name())?;
        Ok(epoch)
    }
}
