//! The sealing key of a gateway: found at the start, and changed while the gateway is stopped.
//!
//! A change has three steps, and may be cut short after each: the new key is written to `PATH.next`; one transaction seals
//! every envelope anew, on record; `PATH.next` takes the place of `PATH`, and the key until then stays as `PATH.old-ID`, since it
//! opens the backups of its time. Which of the two keys is right is what the envelopes in the store say, so whoever comes next
//! (a start, or the same command) ends what was begun.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::recover::{by_operator, intent};
use super::{Built, FolderLock, LockError, build};
use crate::config::{self, Config};
use crate::delegate::is_sealed_with;
use crate::id::{Ids, RequestId};
use crate::record::{Change, ChangeEvent, Ending, Event, Outcome};
use crate::store::Db;
use crate::tool::unfit_reason;
use crate::trust::seal::{SealError, SealingKey};
use crate::vo::Directory;

/// What [`change_sealing_key`] did.
#[derive(Clone, Debug, Serialize)]
pub struct SealChanged {
    /// Where the new key lies.
    pub key_file: PathBuf,
    /// Where the key until now lies.
    pub old_key_file: PathBuf,
    /// Names the new key.
    pub key: String,
    /// Names the key until now.
    pub old_key: String,
    /// Envelopes that were sealed anew.
    pub sealed: usize,
    /// Envelopes that the key until now did not open.
    pub left: usize,
    /// The request that the records name.
    pub request: String,
}

/// Gives the stopped gateway in `data` another sealing key, in the place of the one that lies where the settings say, or at
/// `sealing_key`.
///
/// # Errors
/// In words for the operator. Then either nothing has changed, or the next start ends what was begun.
pub async fn change_sealing_key(
    data: &Path,
    sealing_key: Option<&Path>,
    reason: &str,
    ids: Ids,
) -> anyhow::Result<SealChanged> {
    if let Some(flaw) = unfit_reason(reason) {
        anyhow::bail!("say why, with --reason: {flaw}");
    }
    let _lock = FolderLock::take(data).map_err(|error| match error {
        LockError::Held { .. } => anyhow::anyhow!("{error}; stop the gateway first"),
        error => error.into(),
    })?;
    let mut config = Config::load(data)?;
    if let Some(key) = sealing_key {
        key.clone_into(&mut config.sealing_key);
    }
    let base = config::origin(&config.gateway.name, config.gateway.listen.port());
    let built = build(&config, &base, ids).await?;
    let by = rustix::process::geteuid().as_raw();
    let done = changed(&built, &config.sealing_key, reason, by).await;
    built.audit.close("the sealing key was changed").await;
    built.db.close().await;
    done
}

async fn changed(built: &Built, path: &Path, reason: &str, by: u32) -> anyhow::Result<SealChanged> {
    let old = SealingKey::load(path).context("the key until now is needed, to open what it seals")?;
    let files = Files::of(path);
    let next = SealingKey::generate(&**built.ids.random())?;
    next.write(&files.next).with_context(|| {
        format!(
            "the account that owns the data folder must be able to write beside `{}`; where it is not, rotate a copy of the \
             key in a folder of that account (--sealing-key), and put it in place afterwards",
            path.display()
        )
    })?;
    let request: RequestId = built.ids.next()?;
    let mut tx = built.db.begin_write().await?;
    let resealed = match built.delegate.reseal(&mut tx, &next).await {
        Ok(resealed) => resealed,
        Err(error) => {
            fs::remove_file(&files.next)?;
            return Err(error.into());
        }
    };
    let (factors, unopened) = match built.authenticate.reseal_factors(&mut tx, &next).await {
        Ok(resealed) => resealed,
        Err(error) => {
            fs::remove_file(&files.next)?;
            return Err(error.into());
        }
    };
    let (sealed, left) = (resealed.sealed + factors, resealed.left + unopened);
    tx.applied(request, built.ids.clock().now()).await?;
    let change = Change {
        action: "seal.rotate".to_owned(),
        kind: "sealing_key".to_owned(),
        target: next.id(),
        vo: Directory::gateway(),
        person: None,
        before: Some(json!({ "key": old.id() })),
        after: Some(json!({ "key": next.id(), "sealed": sealed, "left": left })),
    };
    let event = ChangeEvent::of(request, by_operator(change, by)).because(Some(reason));
    // INVARIANT: on record before it takes effect.
    let entry = intent(request, "seal.rotate", by);
    let receipt = built
        .audit
        .intent(entry, vec![Event::Change(Box::new(event))])
        .await?;
    let committed = tx.commit().await;
    let ending = match committed {
        Ok(()) => Ending::Applied,
        Err(_) => Ending::NotApplied,
    };
    receipt.outcome(Outcome::ended(request, ending)).await?;
    committed?;
    // What the deleted rows of the store held is overwritten, envelopes of the old key among it.
    built.db.scrub().await?;
    let old_key_file = files.put_in_place(&old)?;
    Ok(SealChanged {
        key_file: path.to_owned(),
        old_key_file,
        key: next.id(),
        old_key: old.id(),
        sealed,
        left,
        request: request.to_string(),
    })
}

/// Whether a change of the key at `path` was begun and has not been ended.
pub(super) fn is_changing(path: &Path) -> bool {
    Files::of(path).next.exists()
}

/// The sealing key that lies at `path`, after a change that was cut short has been ended. `None` when there is none.
///
/// # Errors
/// When the store cannot be asked which of two keys is right.
pub(super) async fn at_hand(path: &Path, db: &Db) -> anyhow::Result<Option<SealingKey>> {
    let (files, present) = (Files::of(path), SealingKey::load(path).ok());
    match SealingKey::load(&files.next) {
        Ok(next) if is_sealed_with(db, &next).await? => {
            let placed = match &present {
                // It is in place already, if under two names.
                Some(present) if present.id() == next.id() => {
                    fs::remove_file(&files.next).map_err(Into::into)
                }
                Some(present) => files.put_in_place(present).map(drop),
                None => fs::rename(&files.next, path).map_err(Into::into),
            };
            if let Err(error) = placed {
                tracing::warn!(
                    "the sealing key was changed, and `{}` cannot be put in place: {error:#}",
                    files.next.display()
                );
            }
            Ok(Some(next))
        }
        // Nothing was sealed with it, or it is not even whole: the change did not come to pass.
        Ok(_) | Err(SealError::Form { .. }) => {
            // SECURITY: never deleted: another gateway that shares the key file may have sealed with it.
            let aside = files.aside();
            tracing::warn!(
                "a change of the sealing key was begun and did not come to pass; its key is kept as `{}`",
                aside.display()
            );
            if let Err(error) = fs::rename(&files.next, &aside) {
                tracing::warn!("`{}` cannot be put aside: {error}", files.next.display());
            }
            Ok(present)
        }
        Err(SealError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(present),
        Err(error) => {
            tracing::warn!("a change of the sealing key was begun: {error}");
            Ok(present)
        }
    }
}

/// Where the key lies, and the one that will.
struct Files<'a> {
    path: &'a Path,
    next: PathBuf,
}

impl<'a> Files<'a> {
    fn of(path: &'a Path) -> Self {
        let next = beside(path, ".next");
        Self { path, next }
    }

    /// A name that nothing has yet, for a key that is not used.
    fn aside(&self) -> PathBuf {
        let names = (1..).map(|number: u32| beside(self.path, &format!(".unused-{number}")));
        names
            .take(10_000)
            .find(|name| !name.exists())
            .unwrap_or_else(|| beside(self.path, ".unused"))
    }

    /// Puts the next key in the place of `present`, which stays under another name. Gives that name.
    fn put_in_place(&self, present: &SealingKey) -> anyhow::Result<PathBuf> {
        let old = beside(self.path, &format!(".old-{}", present.id()));
        // INVARIANT: at every moment there is a whole key under the first name.
        match fs::hard_link(self.path, &old) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        fs::rename(&self.next, self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(old)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::delegate::{self, Delegate, StaticCredential};
    use crate::id::SystemSource;
    use crate::secret::Secret;

    /// A store in which one thing is sealed with `old`, and the files of the keys.
    struct Vault {
        folder: tempfile::TempDir,
        db: Db,
        delegate: Delegate,
        old: String,
    }

    impl Vault {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
            let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
            let path = folder.path().join("sealing.key");
            SealingKey::generate(&SystemSource::new())
                .unwrap()
                .write(&path)
                .unwrap();
            let key = SealingKey::load(&path).unwrap();
            let old = key.id();
            let config = delegate::Config::default();
            let delegate = Delegate::new(
                config,
                db.clone(),
                Some(key),
                ids.clone(),
                "https://gw".to_owned(),
            );
            let mut tx = db.begin_write().await.unwrap();
            let secret = StaticCredential::Bearer(Secret::new("abc".to_owned()));
            delegate
                .set_static(&mut tx, ids.next().unwrap(), "jobs", &secret)
                .await
                .unwrap();
            delegate.new_assertion_key(&mut tx).await.unwrap();
            tx.commit().await.unwrap();
            Self {
                folder,
                db,
                delegate,
                old,
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("sealing.key")
        }

        /// Writes the next key, and seals everything with it if `commit`.
        async fn begin(&self, commit: bool) -> String {
            let next = SealingKey::generate(&SystemSource::new()).unwrap();
            next.write(&Files::of(&self.path()).next).unwrap();
            let mut tx = self.db.begin_write().await.unwrap();
            let done = self.delegate.reseal(&mut tx, &next).await.unwrap();
            assert_eq!((done.sealed, done.left), (2, 0));
            if commit {
                tx.commit().await.unwrap();
            }
            next.id()
        }

        /// What a start finds, and that it leaves one key in its place and nothing half-done.
        async fn start(&self) -> String {
            let found = at_hand(&self.path(), &self.db).await.unwrap().unwrap();
            assert!(is_sealed_with(&self.db, &found).await.unwrap());
            assert_eq!(SealingKey::load(&self.path()).unwrap().id(), found.id());
            assert!(!Files::of(&self.path()).next.exists());
            found.id()
        }
    }

    #[tokio::test]
    async fn a_change_that_was_cut_short_before_the_store_did_not_come_to_pass() {
        let vault = Vault::new().await;
        vault.begin(false).await;
        assert_eq!(vault.start().await, vault.old);
        fs::write(Files::of(&vault.path()).next, "half a k").unwrap();
        let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(Files::of(&vault.path()).next, mode).unwrap();
        assert_eq!(vault.start().await, vault.old);
    }

    #[tokio::test]
    async fn a_change_that_was_cut_short_after_the_store_is_ended_at_the_next_start() {
        let vault = Vault::new().await;
        let next = vault.begin(true).await;
        assert!(is_changing(&vault.path()));
        assert_eq!(vault.start().await, next);
        assert!(!is_changing(&vault.path()));
        let kept = beside(&vault.path(), &format!(".old-{}", vault.old));
        assert_eq!(SealingKey::load(&kept).unwrap().id(), vault.old);
        assert_eq!(vault.start().await, next);
    }

    #[tokio::test]
    async fn a_change_that_was_cut_short_between_the_files_is_ended_at_the_next_start() {
        let vault = Vault::new().await;
        let next = vault.begin(true).await;
        fs::hard_link(
            vault.path(),
            beside(&vault.path(), &format!(".old-{}", vault.old)),
        )
        .unwrap();
        assert_eq!(vault.start().await, next);
        // Whoever deleted the old key by hand has the new one all the same.
        let vault = Vault::new().await;
        let next = vault.begin(true).await;
        fs::remove_file(vault.path()).unwrap();
        assert_eq!(vault.start().await, next);
    }
}
