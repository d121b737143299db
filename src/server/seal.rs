//! The sealing key of a gateway: found at the start, and changed while the gateway is stopped.
//!
//! A change has three steps, and may be cut short after each: the new key is written to `PATH.next`; one transaction seals
//! every envelope anew, on record; `PATH.next` takes the place of `PATH`, and the key until then stays as `PATH.old-ID`, since it
//! opens the backups of its time. Which of the two keys is right is what the envelopes in the store say, so whoever comes next
//! (a start, or the same command) ends what was begun.
//!
//! Several gateways may share a key file, and one of them changes it: the others' envelopes are then sealed with a key that
//! lies beside it. So no key is ever deleted or overwritten here, a gateway whose key does not lie in its place finds it
//! beside it by its id, and `PATH.lock` is held by whoever changes or puts files in place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
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
    let files = Files::of(path);
    let lock = files.lock().with_context(|| unwritable(path))?;
    let lock = lock.with_context(|| {
        format!(
            "another gateway is changing the key in `{}`; try again when it has",
            path.display()
        )
    })?;
    // Looked for anew, now that nobody else changes it.
    let old = match at_hand_with(&files, &built.db, Some(&lock)).await? {
        Some(found) => found,
        None => SealingKey::load(path).context("the key until now is needed, to open what it seals")?,
    };
    let next = SealingKey::generate(&**built.ids.random())?;
    next.write(&files.next).with_context(|| unwritable(path))?;
    let request: RequestId = built.ids.next()?;
    let mut tx = built.db.begin_write().await?;
    let resealed = match built.delegate.reseal(&mut tx, &next).await {
        Ok(resealed) => resealed,
        Err(error) => {
            files.put_aside(&lock);
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
    let (secrets, unread) = match built.authenticate.reseal_idps(&mut tx, &next).await {
        Ok(resealed) => resealed,
        Err(error) => {
            fs::remove_file(&files.next)?;
            return Err(error.into());
        }
    };
    let sealed = resealed.sealed + factors + secrets;
    let left = resealed.left + unopened + unread;
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
    files.put_in_place(&next, &lock)?;
    Ok(SealChanged {
        key_file: path.to_owned(),
        old_key_file: files.of_key(&old).unwrap_or_else(|| path.to_owned()),
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

fn unwritable(path: &Path) -> String {
    format!(
        "the account that owns the data folder must be able to write beside `{}`; where it is not, rotate a copy of the \
         key in a folder of that account (--sealing-key), and put it in place afterwards",
        path.display()
    )
}

/// The sealing key of this gateway: what lies at `path`, after a change that was cut short has been ended; where nothing in
/// the store is sealed with that, one beside it that something is sealed with. `None` when there is none.
///
/// # Errors
/// When the store cannot be asked which of several keys is right.
pub(super) async fn at_hand(path: &Path, db: &Db) -> anyhow::Result<Option<SealingKey>> {
    let files = Files::of(path);
    // Where nothing can be written, or another gateway is at it, nothing is put in place.
    let lock = match files.next.exists() {
        true => files.lock().ok().flatten(),
        false => None,
    };
    at_hand_with(&files, db, lock.as_ref()).await
}

async fn at_hand_with(
    files: &Files<'_>,
    db: &Db,
    lock: Option<&KeyLock>,
) -> anyhow::Result<Option<SealingKey>> {
    match SealingKey::load(&files.next) {
        Ok(next) if is_sealed_with(db, &next).await? => {
            let placed = match lock {
                Some(lock) => files.put_in_place(&next, lock),
                None => Err(anyhow::anyhow!("`{}.lock` cannot be taken", files.path.display())),
            };
            if let Err(error) = placed {
                tracing::warn!(
                    "the sealing key was changed, and `{}` cannot be put in place: {error:#}",
                    files.next.display()
                );
            }
            return Ok(Some(next));
        }
        // Nothing is sealed with it here, or it is not even whole: this gateway's change did not come to pass.
        Ok(_) | Err(SealError::Form { .. }) => match lock {
            Some(lock) => files.put_aside(lock),
            None => tracing::warn!("a change of the sealing key was begun, maybe by another gateway"),
        },
        Err(SealError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("a change of the sealing key was begun: {error}"),
    }
    files.fitting(db).await
}

/// Held while the files of a key are changed, by one process of all that share them.
struct KeyLock(#[expect(dead_code, reason = "the lock goes with the open file")] File);

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

    /// The lock of the files; `None` while another process holds it. Its file stays: one that is deleted locks nobody out.
    fn lock(&self) -> io::Result<Option<KeyLock>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(beside(self.path, ".lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(KeyLock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The key in its place, unless one beside it fits the store and that does not.
    async fn fitting(&self, db: &Db) -> anyhow::Result<Option<SealingKey>> {
        let present = SealingKey::load(self.path).ok();
        let fits = match &present {
            Some(present) => is_sealed_with(db, present).await?,
            None => false,
        };
        if fits {
            return Ok(present);
        }
        for path in self.others() {
            let Ok(other) = SealingKey::load(&path) else {
                continue;
            };
            if is_sealed_with(db, &other).await? {
                tracing::warn!(
                    "what this gateway holds is sealed with `{}` and not with `{}`, which another gateway may have changed; \
                     `countersign seal rotate` gives it a key in its place",
                    path.display(),
                    self.path.display()
                );
                return Ok(Some(other));
            }
        }
        Ok(present)
    }

    /// Keys that lie beside the one in its place, by the names that are given here.
    fn others(&self) -> Vec<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_other = |path: &PathBuf| {
            let other = path.file_name().unwrap_or_default().as_encoded_bytes();
            other
                .strip_prefix(name)
                .is_some_and(|ending| ENDINGS.iter().any(|known| ending.starts_with(known.as_bytes())))
        };
        let Ok(entries) = fs::read_dir(folder(self.path)) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut others: Vec<PathBuf> = paths.filter(is_other).collect();
        others.sort_unstable();
        others
    }

    /// Where this key lies, if not in its place.
    fn of_key(&self, key: &SealingKey) -> Option<PathBuf> {
        let is_it = |path: &PathBuf| SealingKey::load(path).is_ok_and(|other| other.id() == key.id());
        self.others().into_iter().find(is_it)
    }

    /// Keeps the next key under another name.
    ///
    /// SECURITY: never deleted: another gateway that shares the key file may have sealed with it.
    fn put_aside(&self, _held: &KeyLock) {
        let kept = self.keep(&self.next, ".unused").and_then(|aside| {
            fs::remove_file(&self.next)?;
            Ok(aside)
        });
        match kept {
            Ok(aside) => tracing::warn!(
                "a change of the sealing key was begun and did not come to pass; its key is kept as `{}`",
                aside.display()
            ),
            Err(error) => tracing::warn!("`{}` cannot be put aside: {error}", self.next.display()),
        }
    }

    /// Puts the next key in its place. What lay there stays under another name, whatever it is.
    fn put_in_place(&self, next: &SealingKey, _held: &KeyLock) -> anyhow::Result<()> {
        // INVARIANT: at every moment there is a whole key under the first name, if there was one.
        match self.keep(self.path, ".old") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let named = |key: &Path| SealingKey::load(key).is_ok_and(|key| key.id() == next.id());
        if !named(&self.next) {
            // Gone, or another's: it is not only there that this one is.
            let own = beside(self.path, &format!(".next-{}", next.id()));
            if !named(&own) {
                next.write(&own)?;
            }
            fs::rename(&own, self.path)?;
        } else if let Err(error) = fs::rename(&self.next, self.path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error.into());
            }
            next.write(&self.next)?;
            fs::rename(&self.next, self.path)?;
        }
        File::open(folder(self.path))?.sync_all()?;
        anyhow::ensure!(
            named(self.path),
            "another key lies in `{}` now; the right one is looked for beside it",
            self.path.display()
        );
        Ok(())
    }

    /// Gives what lies at `from` a second name, `PATH.WORD-ID`, or one with a number where it is no whole key or the name is
    /// that of something else. Gives that name.
    fn keep(&self, from: &Path, word: &str) -> io::Result<PathBuf> {
        let id = SealingKey::load(from).map(|key| key.id()).ok();
        let named = id.as_ref().map(|id| beside(self.path, &format!("{word}-{id}")));
        let numbered = (1..10_000).map(|number: u32| beside(self.path, &format!("{word}-{number}")));
        for name in named.into_iter().chain(numbered) {
            match fs::hard_link(from, &name) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let same = SealingKey::load(&name).map(|key| key.id()).ok();
                    if id.is_some() && same == id {
                        return Ok(name);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What the names of keys beside the one in its place go on with.
const ENDINGS: [&str; 3] = [".next", ".old-", ".unused-"];

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
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
    async fn a_change_that_was_cut_short_before_the_store_did_not_come_to_pass_and_its_key_is_kept() {
        let vault = Vault::new().await;
        let begun = vault.begin(false).await;
        assert_eq!(vault.start().await, vault.old);
        let kept = beside(&vault.path(), &format!(".unused-{begun}"));
        assert_eq!(SealingKey::load(&kept).unwrap().id(), begun);
        let half = |text: &str| {
            fs::write(Files::of(&vault.path()).next, text).unwrap();
            let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(Files::of(&vault.path()).next, mode).unwrap();
        };
        for (number, text) in [(1, "half a k"), (2, "another h")] {
            half(text);
            assert_eq!(vault.start().await, vault.old);
            let kept = beside(&vault.path(), &format!(".unused-{number}"));
            assert_eq!(fs::read_to_string(kept).unwrap(), text);
        }
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

    /// Gives a vault another key, in the files that it may share.
    async fn rotate(vault: &Vault, path: &Path) -> String {
        let found = at_hand(path, &vault.db).await.unwrap().unwrap();
        let delegate = Delegate::new(
            delegate::Config::default(),
            vault.db.clone(),
            Some(found),
            Ids::new(SystemClock::shared(), Arc::new(SystemSource::new())),
            "https://gw".to_owned(),
        );
        let files = Files::of(path);
        let lock = files.lock().unwrap().unwrap();
        let next = SealingKey::generate(&SystemSource::new()).unwrap();
        next.write(&files.next).unwrap();
        let mut tx = vault.db.begin_write().await.unwrap();
        delegate.reseal(&mut tx, &next).await.unwrap();
        tx.commit().await.unwrap();
        files.put_in_place(&next, &lock).unwrap();
        next.id()
    }

    async fn opens(vault: &Vault, path: &Path) -> String {
        let found = at_hand(path, &vault.db).await.unwrap().unwrap();
        assert!(is_sealed_with(&vault.db, &found).await.unwrap());
        found.id()
    }

    /// Two gateways with one key file, which is that of the first.
    async fn two_with_one_key() -> (Vault, Vault) {
        let (one, two) = (Vault::new().await, Vault::new().await);
        // What is in the second is sealed with the key of the first.
        let shared = SealingKey::load(&one.path()).unwrap();
        let mut tx = two.db.begin_write().await.unwrap();
        two.delegate.reseal(&mut tx, &shared).await.unwrap();
        tx.commit().await.unwrap();
        (one, two)
    }

    #[tokio::test]
    async fn gateways_that_share_a_key_file_each_find_their_key_whoever_changes_it() {
        let (one, two) = two_with_one_key().await;
        let path = one.path();
        let first = rotate(&one, &path).await;
        assert_eq!(opens(&two, &path).await, one.old, "beside the one in its place");
        assert_eq!(opens(&one, &path).await, first);
        let second = rotate(&two, &path).await;
        assert_eq!(SealingKey::load(&path).unwrap().id(), second);
        assert_eq!(
            opens(&one, &path).await,
            first,
            "kept, though it was not the second's"
        );
        assert_eq!(opens(&two, &path).await, second);
        let third = rotate(&one, &path).await;
        assert_eq!(opens(&one, &path).await, third);
        assert_eq!(opens(&two, &path).await, second);
    }

    #[tokio::test]
    async fn an_unfinished_key_that_another_gateway_put_aside_is_found() {
        let (one, two) = two_with_one_key().await;
        // The first is cut short after its store, and the second starts.
        let next = one.begin(true).await;
        assert_eq!(opens(&two, &one.path()).await, one.old);
        assert!(!is_changing(&one.path()));
        assert_eq!(opens(&one, &one.path()).await, next);
    }

    #[tokio::test]
    async fn while_another_gateway_changes_the_key_its_files_are_left_alone() {
        let (one, two) = two_with_one_key().await;
        let files_of_one = one.path();
        let files = Files::of(&files_of_one);
        let lock = files.lock().unwrap().unwrap();
        let next = one.begin(true).await;
        assert!(files.lock().unwrap().is_none(), "one at a time");
        assert_eq!(opens(&two, &one.path()).await, one.old);
        assert!(is_changing(&one.path()), "the next key lies where it lay");
        assert_eq!(opens(&one, &one.path()).await, next);
        assert!(is_changing(&one.path()));
        drop(lock);
        assert_eq!(opens(&one, &one.path()).await, next);
        assert!(!is_changing(&one.path()));
    }

    #[tokio::test]
    async fn a_next_key_that_is_gone_or_anothers_is_written_again_from_memory() {
        let vault = Vault::new().await;
        let path = vault.path();
        let files = Files::of(&path);
        let lock = files.lock().unwrap().unwrap();
        let next = SealingKey::generate(&SystemSource::new()).unwrap();
        files.put_in_place(&next, &lock).unwrap();
        assert_eq!(SealingKey::load(&path).unwrap().id(), next.id());
        let (after, foreign) = (
            SealingKey::generate(&SystemSource::new()).unwrap(),
            SealingKey::generate(&SystemSource::new()).unwrap(),
        );
        foreign.write(&files.next).unwrap();
        files.put_in_place(&after, &lock).unwrap();
        assert_eq!(SealingKey::load(&path).unwrap().id(), after.id());
        for key in [&next, &foreign] {
            assert!(files.of_key(key).is_some(), "no key is lost");
        }
        let old = SealingKey::load(&beside(&path, &format!(".old-{}", vault.old)));
        assert_eq!(old.unwrap().id(), vault.old);
    }

    #[tokio::test]
    async fn a_name_that_is_taken_by_something_else_hides_no_key() {
        let vault = Vault::new().await;
        let path = vault.path();
        let files = Files::of(&path);
        let taken = beside(&path, &format!(".old-{}", vault.old));
        fs::write(&taken, "something else").unwrap();
        let lock = files.lock().unwrap().unwrap();
        let next = SealingKey::generate(&SystemSource::new()).unwrap();
        files.put_in_place(&next, &lock).unwrap();
        assert_eq!(fs::read_to_string(&taken).unwrap(), "something else");
        let old = beside(&path, ".old-1");
        assert_eq!(SealingKey::load(&old).unwrap().id(), vault.old);
    }
}
