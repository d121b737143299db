//! The authorisation state: what decisions are made from, held against what the log says of it.
//!
//! The log leads, and SQL is its index; so what somebody writes into the store past the gateway must not become a right.
//! Of every level (each VO, and the gateway's own) there is a digest over everything that decides there: the VO itself with
//! its version, members and their standing, roles, assignments, grants with their conditions, upstreams, tools with their
//! manifests. Every `change` record holds the digests before and after, `state` records hold all of them, and at each load,
//! each change and every minute the store is held against them. Where it differs, that level is *in doubt*:
//!
//! - what was in force goes on; or, where nothing was (a start), nothing is allowed there;
//! - nothing can be changed there until the store is put back or a system administrator accepts what it holds;
//! - all other levels are served and changed as ever.
//!
//! Nothing of this is on the path of a request: decisions read the snapshot in memory.

mod flaw;
mod judge;
mod known;
mod level;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::id::{RequestId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Event, Hash, StateForeignChange, StateStep};
use crate::store::{Db, StoreError, Tx, run};
use crate::tool::{BrokenTool, ToolStore};
use crate::vo::{Vo, VoError, Vos};

pub use judge::Doubt;
pub use known::{Told, succeeded, told};

use level::{Level, Whole};

/// Most steps in the record of a change itself; it has other things to hold.
const PER_CHANGE: usize = 50;

/// How long a change waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a change of the authorisation state was refused.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The level is in doubt.
    #[error(
        "`{0}` was changed past the gateway, so nothing can be changed in it until the store is put back or a system \
         administrator accepts what it holds (`countersign vo state show`)"
    )]
    InDoubt(String),
    /// The store itself is not as the gateway made it.
    #[error(
        "nothing can be changed while {0}; put that right in the store first (`countersign vo state show`)"
    )]
    Flawed(String),
    /// What the store holds is not what was accepted.
    #[error("the store holds something else than what was accepted; look at it again")]
    Moved,
    /// There is nothing to accept.
    #[error("`{0}` is not in doubt")]
    Certain(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AsProblem for StateError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Store(error) => error.as_problem(),
            Self::InDoubt(_) | Self::Flawed(_) => Problem::new(Kind::StateInDoubt, self.to_string()),
            Self::Moved | Self::Certain(_) => Problem::new(Kind::Conflict, self.to_string()),
        }
    }
}

/// The authorisation state; shared by all clones.
#[derive(Clone)]
pub struct States(Arc<Inner>);

struct Inner {
    db: Db,
    vos: Vos,
    tools: ToolStore,
    /// Where the lines of each level are kept, to say at a start what differs. They are worth what their digest in the log is.
    folder: Option<PathBuf>,
    /// INVARIANT: held from the beginning of a change until what it left in the store is in force here, so that nobody
    /// takes half of a change for somebody else's.
    present: Arc<tokio::sync::Mutex<Present>>,
    doubts: Mutex<Doubts>,
}

#[derive(Default)]
struct Doubts {
    now: BTreeMap<VoId, Doubt>,
    /// What the log was told.
    told: BTreeMap<VoId, Doubt>,
}

#[derive(Default)]
struct Present {
    /// What the log says; `None` where it says nothing yet.
    known: Option<BTreeMap<VoId, Hash>>,
    /// Why the state was taken as it was found, until that is on record.
    adopted: Option<String>,
    /// What decisions are made from.
    good: Option<Whole>,
    /// A change whose commit was not heard of.
    pending: Option<(RequestId, Vec<StateStep>)>,
    /// Whether `known` has changed since all of it was written down.
    moved: bool,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("States(..)")
    }
}

impl States {
    /// The state that `vos` and `tools` hold in `db`. Until [`States::expect`], the first that is found is taken as it is.
    #[must_use]
    pub fn new(db: Db, vos: Vos, tools: ToolStore) -> Self {
        Self::with(db, vos, tools, None)
    }

    /// The same; lines are kept in `folder`.
    #[must_use]
    pub fn keeping(db: Db, vos: Vos, tools: ToolStore, folder: &Path) -> Self {
        Self::with(db, vos, tools, Some(folder.to_owned()))
    }

    fn with(db: Db, vos: Vos, tools: ToolStore, folder: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            db,
            vos,
            tools,
            folder,
            present: Arc::default(),
            doubts: Mutex::default(),
        }))
    }

    /// Takes what the log says at a start. Which of the last changes were applied, the store says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expect(&self, told: Told) -> Result<(), StoreError> {
        let mut present = self.0.present.lock().await;
        let mut known = told.levels;
        for (request, steps) in told.changes {
            // SECURITY: an older store that is put back has no such mark, so where the log says how the change ended, that
            // counts. Else whoever takes this mark away makes the level doubtful, and whoever adds one allows nothing that
            // was not permitted and on record.
            if told.applied.contains(&request) || self.0.db.was_applied(request).await? {
                step(&mut known, &steps);
            }
        }
        present.known = Some(known);
        Ok(())
    }

    /// Why the state is taken as it is found, where the log does not say what it must be.
    pub async fn adopt(&self, why: &str) {
        self.0.present.lock().await.adopted = Some(why.to_owned());
    }

    /// Reads the store, holds it against the log and puts in place what is to be in force. Gives the tools that are out of
    /// service because their manifest can no longer be read.
    ///
    /// # Errors
    /// [`StoreError`]; then what was in force stays.
    pub async fn load(&self) -> Result<Vec<BrokenTool>, StoreError> {
        let mut present = self.0.clone().lock().await;
        self.0.settle(&mut present).await?;
        let found = self.0.read().await?;
        Ok(self.0.take(&mut present, found))
    }

    /// Begins a change of state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self) -> Result<Begun, StoreError> {
        // Whoever is before may wait for a store that takes nothing; the line must not grow by that.
        let turn = tokio::time::timeout(PATIENCE, self.0.clone().lock()).await;
        let mut present = turn.map_err(|_| StoreError::Driver(sqlx::Error::PoolTimedOut))?;
        self.0.settle(&mut present).await?;
        let mut tx = self.0.db.begin_whole().await?;
        let found = self.0.read_in(&mut tx).await?;
        let (before, flaw) = (digests(&found), found.flaw.clone());
        if present.known.as_ref() != Some(&before) || !lock(&self.0.doubts).now.is_empty() || flaw.is_some() {
            self.0.take(&mut present, found);
        }
        Ok(Begun {
            tx,
            flaw,
            present,
            inner: self.0.clone(),
            before,
            accepted: None,
        })
    }

    /// What is in doubt now.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        lock(&self.0.doubts).now.values().cloned().collect()
    }

    /// How many levels are in doubt.
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        lock(&self.0.doubts).now.len()
    }

    /// What the log has not been told of doubts yet, and their records.
    #[must_use]
    pub fn untold(&self) -> Vec<(Doubt, StateForeignChange)> {
        let doubts = lock(&self.0.doubts);
        let new = doubts.now.iter().filter(|(vo, doubt)| {
            let told = doubts.told.get(vo).map(|told| (told.found, told.kept));
            told != Some((doubt.found, doubt.kept))
        });
        let over = doubts.told.iter().filter(|(vo, _)| !doubts.now.contains_key(vo));
        let back = |doubt: &Doubt| StateForeignChange {
            effect: "put_back".into(),
            found: doubt.known,
            difference: Vec::new(),
            count: 0,
            ..doubt.record()
        };
        new.map(|(_, doubt)| (doubt.clone(), doubt.record()))
            .chain(over.map(|(_, doubt)| (doubt.clone(), back(doubt))))
            .collect()
    }

    /// The log was told so.
    pub fn was_told(&self, doubt: &Doubt, said: &StateForeignChange) {
        let mut doubts = lock(&self.0.doubts);
        if said.effect == "put_back" {
            doubts.told.remove(&doubt.vo);
        } else {
            doubts.told.insert(doubt.vo, doubt.clone());
        }
    }

    /// Holds all changes back while the digests are written down: what stands in the log then is true at that place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold(&self) -> Result<Held, StoreError> {
        let mut present = self.0.clone().lock().await;
        self.0.settle(&mut present).await?;
        Ok(Held(present))
    }
}

/// The digests, while nobody changes anything.
pub struct Held(OwnedMutexGuard<Present>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(..)")
    }
}

impl Held {
    /// Whether they have changed since they were written down.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.0.moved
    }

    /// Their records.
    #[must_use]
    pub fn records(&self) -> Vec<Event> {
        let known = self.0.known.as_ref();
        known.map_or_else(Vec::new, |known| known::list(known, self.0.adopted.as_deref()))
    }

    /// They could not be written down.
    pub fn due(mut self) {
        self.0.moved = true;
    }

    /// They are written down.
    pub fn written(mut self) {
        self.0.moved = false;
        self.0.adopted = None;
    }
}

/// A change of state that goes on: the transaction it is made in.
pub struct Begun {
    tx: Tx,
    present: OwnedMutexGuard<Present>,
    inner: Arc<Inner>,
    before: BTreeMap<VoId, Hash>,
    /// What was wrong with the store.
    flaw: Option<String>,
    /// A level whose doubt ends with this change.
    accepted: Option<VoId>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun(..)")
    }
}

impl Deref for Begun {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Begun {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

/// A change that is ready to be written down and committed.
pub struct Ready {
    begun: Begun,
    after: Whole,
    steps: Vec<StateStep>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("steps", &self.steps).finish()
    }
}

impl Begun {
    /// Takes what the store holds of a level in doubt for what it must hold, if it is still what was looked at.
    ///
    /// # Errors
    /// [`StateError::Certain`], [`StateError::Moved`], [`StateError::Store`].
    pub async fn accept(&mut self, vo: VoId, seen: Option<Hash>) -> Result<Doubt, StateError> {
        let doubt = lock(&self.inner.doubts).now.get(&vo).cloned();
        let doubt = doubt.ok_or_else(|| StateError::Certain(vo.to_string()))?;
        if doubt.found != seen || self.before.get(&vo).copied() != seen {
            return Err(StateError::Moved);
        }
        // Whoever changed the rows may have left the versions, or put older ones back, by which everything that was prepared
        // from them is known: none that was in force may come again.
        let good = self.present.good.as_ref().map(|good| &good.rows);
        let vos = good.into_iter().flat_map(|rows| &rows.vos);
        let version = vos
            .filter(|known| known.id == vo)
            .map(|known| known.version.saturating_abs());
        let upstreams = good.into_iter().flat_map(|rows| &rows.upstreams);
        let upstreams = upstreams.map(|known| known.version);
        let (version, upstream) = (version.max().unwrap_or(0), upstreams.max().unwrap_or(0));
        run!(
            &mut self.tx,
            "UPDATE vo SET version = $2 WHERE id = $1 AND version < $2 AND ended_at IS NULL",
            vo.uuid(),
            version
        )?;
        run!(
            &mut self.tx,
            "UPDATE upstream SET version = 1 + (SELECT max(found.version) FROM upstream AS found WHERE found.vo_id = $1) \
             WHERE vo_id = $1 AND ended_at IS NULL",
            vo.uuid()
        )?;
        run!(
            &mut self.tx,
            "UPDATE upstream SET version = $2 WHERE vo_id = $1 AND version < $2 AND ended_at IS NULL",
            vo.uuid(),
            upstream.saturating_add(1)
        )?;
        match self.inner.vos.touch(&mut self.tx, vo).await {
            // One that the store no longer has.
            Ok(()) | Err(VoError::Unknown { .. }) => {}
            Err(VoError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(StateError::Moved),
        }
        self.accepted = Some(vo);
        Ok(doubt)
    }

    /// Looks what has been changed, and that it is what `changes` are of.
    ///
    /// # Errors
    /// [`StateError::InDoubt`] when a level is changed that the store and the log disagree on, [`StateError::Flawed`] when
    /// something is changed that no change names.
    pub async fn ready(mut self, changes: &[Change]) -> Result<Ready, StateError> {
        let after = self.inner.read_in(&mut self.tx).await?;
        // SECURITY: a trigger writes in the very transaction of a change that is permitted.
        if let Some(flaw) = self.flaw.take().or_else(|| after.flaw.clone()) {
            return Err(StateError::Flawed(flaw));
        }
        let levels = after.levels();
        let digests = digests(&after);
        let known = self.present.known.clone().unwrap_or_default();
        let all: BTreeSet<VoId> = self.before.keys().chain(digests.keys()).copied().collect();
        let named = Named {
            changes,
            before: self.present.good.as_ref(),
            after: &after,
        };
        let mut steps = Vec::new();
        for vo in all {
            let (before, now) = (self.before.get(&vo), digests.get(&vo));
            let accepted = self.accepted == Some(vo);
            if before == now && !accepted {
                continue;
            }
            // SECURITY: what somebody else wrote must not come into force with the next change that is permitted.
            let repeats = levels.get(&vo).is_some_and(Level::repeats);
            if (known.get(&vo) != before && !accepted) || repeats {
                let doubts = lock(&self.inner.doubts);
                let name = doubts
                    .now
                    .get(&vo)
                    .map_or_else(|| vo.to_string(), |doubt| doubt.name.clone());
                return Err(StateError::InDoubt(name));
            }
            // SECURITY: what writes in the store by itself, in whatever form, must not ride along.
            if !accepted && !named.covers(vo, levels.get(&vo)) {
                return Err(StateError::Flawed(format!(
                    "a change of something else also changes `{vo}`: the store does what the gateway did not ask for"
                )));
            }
            steps.push(StateStep {
                vo,
                before: known.get(&vo).copied(),
                after: now.copied(),
            });
        }
        if let Some(vo) = self
            .accepted
            .filter(|vo| !steps.iter().any(|step| step.vo == *vo))
        {
            // A VO that is in the log and no longer in the store.
            steps.push(StateStep {
                vo,
                before: known.get(&vo).copied(),
                after: None,
            });
        }
        Ok(Ready {
            begun: self,
            after,
            steps,
        })
    }
}

/// What changes are of.
struct Named<'a> {
    changes: &'a [Change],
    before: Option<&'a Whole>,
    after: &'a Whole,
}

impl Named<'_> {
    /// Whether they may change a level like this: it is theirs, or only the accounts that they are of differ in it, and its
    /// version.
    fn covers(&self, vo: VoId, after: Option<&Level>) -> bool {
        let is_of_vo = |change: &Change| {
            let is_it = |known: &Vo| known.id == vo && known.name == change.target;
            change.vo == vo
                || (change.kind == "vo"
                    && (change.target == vo.to_string() || self.after.rows.vos.iter().any(is_it)))
        };
        if self.changes.iter().any(is_of_vo) {
            return true;
        }
        let is_of_person = |id: &str| {
            self.changes.iter().any(|change| {
                let person = change.person.map(|person| person.to_string());
                person.as_deref() == Some(id) || (change.kind == "person" && change.target == id)
            })
        };
        let standing = |whole: &Whole| {
            let known = whole.rows.vos.iter().find(|known| known.id == vo);
            known.map(|known| (known.name.clone(), known.state))
        };
        let stands = self.before.and_then(standing) == standing(self.after);
        let none = Level::default();
        let before = self.before.map(Whole::levels).unwrap_or_default();
        let before = before.get(&vo).unwrap_or(&none);
        before
            .difference(after.unwrap_or(&none))
            .iter()
            .all(|(kind, id, _)| (*kind == "vo" && stands) || (*kind == "person" && is_of_person(id)))
    }
}

impl Ready {
    /// Whether the authorisation state is another one afterwards.
    #[must_use]
    pub fn moves(&self) -> bool {
        !self.steps.is_empty()
    }

    /// The steps for the record of the change, and the records of those that have no room there.
    #[must_use]
    pub fn records(&self, request: RequestId, beside_a_change: bool) -> (Vec<StateStep>, Vec<Event>) {
        let room = if beside_a_change { PER_CHANGE } else { 0 };
        let (first, rest) = self.steps.split_at(self.steps.len().min(room));
        (first.to_vec(), known::further(request, rest))
    }

    /// The transaction, for what must stand in it.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.begun.tx
    }

    /// Commits, and puts in force what was committed.
    ///
    /// # Errors
    /// [`StoreError`]: then `request` was not applied, or nobody knows, and it is looked up before anything else is changed.
    pub async fn commit(self, request: RequestId) -> Result<(), StoreError> {
        let Self { begun, after, steps } = self;
        let Begun {
            tx,
            mut present,
            inner,
            ..
        } = begun;
        // INVARIANT: from here on until it is known how the commit ended; also where this future is dropped.
        present.pending = Some((request, steps));
        if let Err(error) = tx.commit().await {
            // The answer to the commit may have been lost, not the commit.
            if !inner.db.was_applied(request).await? {
                present.pending = None;
                return Err(error);
            }
        }
        if let Some((_, steps)) = present.pending.take() {
            inner.keep_lines(&after, &steps);
            present.moved |= !steps.is_empty();
            step(present.known.get_or_insert_default(), &steps);
        }
        inner.take(&mut present, after);
        Ok(())
    }
}

impl Inner {
    async fn lock(self: Arc<Self>) -> OwnedMutexGuard<Present> {
        self.present.clone().lock_owned().await
    }

    /// Looks whether a change was applied whose end nobody has heard of.
    async fn settle(&self, present: &mut Present) -> Result<(), StoreError> {
        let Some((request, _)) = &present.pending else {
            return Ok(());
        };
        let applied = self.db.was_applied(*request).await?;
        if let Some((_, steps)) = present.pending.take().filter(|_| applied) {
            present.moved |= !steps.is_empty();
            step(present.known.get_or_insert_default(), &steps);
        }
        Ok(())
    }

    async fn read(&self) -> Result<Whole, StoreError> {
        let mut tx = self.db.begin_read().await?;
        self.read_in(&mut tx).await
    }

    async fn read_in(&self, tx: &mut Tx) -> Result<Whole, StoreError> {
        let mut whole = Whole {
            rows: self.vos.read(tx).await?,
            tools: self.tools.read(tx).await?,
            flaw: flaw::of(tx).await?,
        };
        if whole.flaw.is_none() && whole.twice_named() {
            whole.flaw = Some("two accounts of the store have the same user name".into());
        }
        Ok(whole)
    }

    /// Puts in force what may be.
    fn take(&self, present: &mut Present, found: Whole) -> Vec<BrokenTool> {
        let known = match &present.known {
            Some(known) => known,
            None => {
                let known = digests(&found);
                let steps = list(&known);
                self.keep_lines(&found, &steps);
                present.moved = true;
                present.known.insert(known)
            }
        };
        let (whole, doubts) = judge::judge(known, found, present.good.as_ref(), &|vo| {
            self.lines(vo, known.get(&vo).copied()?)
        });
        for (vo, doubt) in &doubts {
            if lock(&self.doubts).now.get(vo) != Some(doubt) {
                tracing::error!(
                    vo.id = %vo,
                    "the authorisation state of `{}` was changed past the gateway: {}",
                    doubt.name,
                    doubt.difference.join("; ")
                );
            }
        }
        lock(&self.doubts).now = doubts;
        self.vos.put(whole.rows.clone());
        let broken = self.tools.put(whole.tools.clone());
        present.good = Some(whole);
        broken
    }

    /// Keeps the lines of the levels that changed, for whoever asks one day what is different. Nothing depends on it.
    fn keep_lines(&self, whole: &Whole, steps: &[StateStep]) {
        let Some(folder) = self.folder.as_deref().filter(|_| !steps.is_empty()) else {
            return;
        };
        let levels = whole.levels();
        let kept = std::fs::create_dir_all(folder).and_then(|()| {
            for step in steps {
                let file = folder.join(step.vo.to_string());
                if let Some(level) = levels.get(&step.vo) {
                    let part = file.with_extension("part");
                    std::fs::write(&part, level.text())?;
                    std::fs::rename(part, file)?;
                }
            }
            Ok(())
        });
        if let Err(error) = kept {
            tracing::warn!("the lines of the authorisation state are not kept: {error}");
        }
    }

    /// The lines of a level as they were, if they are those that the log says.
    fn lines(&self, vo: VoId, known: Hash) -> Option<Level> {
        let text = std::fs::read_to_string(self.folder.as_ref()?.join(vo.to_string())).ok()?;
        // SECURITY: whoever can write this file can write the store too, so it is believed only as far as the log goes.
        (level::digest_of(vo, &text) == known)
            .then(|| Level::parse(&text))
            .flatten()
    }
}

fn digests(whole: &Whole) -> BTreeMap<VoId, Hash> {
    let levels = whole.levels().into_iter();
    levels.map(|(vo, level)| (vo, level.digest(vo))).collect()
}

fn list(known: &BTreeMap<VoId, Hash>) -> Vec<StateStep> {
    let step = |(vo, digest): (&VoId, &Hash)| StateStep {
        vo: *vo,
        before: None,
        after: Some(*digest),
    };
    known.iter().map(step).collect()
}

fn step(known: &mut BTreeMap<VoId, Hash>, steps: &[StateStep]) {
    for step in steps {
        match step.after {
            Some(digest) => known.insert(step.vo, digest),
            None => known.remove(&step.vo),
        };
    }
}

fn lock(doubts: &Mutex<Doubts>) -> MutexGuard<'_, Doubts> {
    doubts.lock().unwrap_or_else(PoisonError::into_inner)
}
