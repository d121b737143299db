//! Who made what: owners, parents and generations of the things that tasks make.
//!
//! A tool's own id names one thing at a time. The first owner stays: whoever claims a live id that belongs to somebody
//! else gets an [`OwnershipConflict`] instead. A deletion retires the id, and only after that a new use of it starts,
//! under the next *generation*. A parent is only referred to by what it holds; it gets no owner and no attributes
//! through a child.
//!
//! [`Resources`] answers from a bounded cache, at most one second old: that is how soon a change made by another node of
//! the gateway is seen; changes of this node are seen at once.

mod import;
mod store;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::id::{PersonId, RequestId, VoId};
use crate::record::{CreatedEntry, DeletedEntry, OwnershipConflict};
use crate::store::{Db, StoreError, Tx};
use crate::tool::ResourceRef;

pub use import::{Import, ImportError, RowError};

/// How many parents of a resource a decision looks at.
pub const MAX_PARENTS: usize = 8;
/// How long a cached owner is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long a parent that was looked up is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many of them are kept at most.
const LEARNED: u64 = 20_000;
/// How many resources are cached at most.
const CACHED: u64 = 100_000;

/// Something that tasks act on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// VO.
    pub vo: VoId,
    /// Tool.
    pub tool: String,
    /// Type, as the manifest names it.
    pub kind: String,
    /// The tool's own id.
    pub id: String,
    /// Which use of that id; 0 when nothing is known of it.
    pub generation: i64,
    /// Owner; `None` when unknown (made before wrapping) or nobody's.
    pub owner: Option<PersonId>,
    /// Nearest parent as (type, id).
    pub parent: Option<(String, String)>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Resource {
    /// Something of which nothing is known.
    #[must_use]
    pub fn unknown(vo: VoId, tool: &str, kind: &str, id: &str) -> Self {
        Self {
            vo,
            tool: tool.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            generation: 0,
            owner: None,
            parent: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// Type and id.
type Name = (String, String);
type Key = (u64, VoId, String, Name);
type Known = HashMap<Name, Arc<Resource>>;

/// The resources of all VOs and tools.
#[derive(Clone, Debug)]
pub struct Resources {
    db: Db,
    clock: Arc<dyn Clock>,
    cache: moka::sync::Cache<Key, Arc<Resource>>,
    unknown: moka::sync::Cache<Key, ()>,
    /// Parents that a service was told by the tool.
    learned: moka::sync::Cache<Key, Name>,
    // INVARIANT: raised after every commit that can make a cached entry wrong. It is part of the cache's keys, and a reader
    // takes it before it asks the store, so an answer from before the commit is never found after it.
    epoch: Arc<AtomicU64>,
    // The same for what was not known: raised also after every commit that makes something.
    made: Arc<AtomicU64>,
}

impl Resources {
    /// The resources in `db`.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self {
            db,
            clock,
            cache: moka::sync::Cache::builder()
                .max_capacity(CACHED)
                .time_to_live(FRESH)
                .build(),
            unknown: moka::sync::Cache::builder()
                .max_capacity(CACHED)
                .time_to_live(FRESH)
                .build(),
            learned: moka::sync::Cache::builder()
                .max_capacity(LEARNED)
                .time_to_live(BELIEVED)
                .build(),
            epoch: Arc::default(),
            made: Arc::default(),
        }
    }

    /// A resource, then its parents, nearest first, at most [`MAX_PARENTS`]. What is not known has generation 0 and no
    /// owner, and ends the chain; the parent of a first one that has none in the store may have been learned
    /// ([`Resources::learn`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn chain(
        &self,
        vo: VoId,
        tool: &str,
        resource: &ResourceRef,
    ) -> Result<Vec<Resource>, StoreError> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let mut chain = self.stored_chain(vo, tool, resource).await?;
        let Some(first) = chain.first_mut().filter(|first| first.parent.is_none()) else {
            return Ok(chain);
        };
        if let Some((kind, id)) = self.learned.get(&(epoch, vo, tool.to_owned(), this_use(first))) {
            first.parent = Some((kind.clone(), id.clone()));
            let above = self.stored_chain(vo, tool, &ResourceRef { kind, id }).await?;
            chain.extend(above.into_iter().take(MAX_PARENTS));
        }
        Ok(chain)
    }

    /// What is to be learned of `resource`, as it is before anybody is asked: what is deleted or made meanwhile is
    /// something else.
    #[must_use]
    pub fn question(&self, resource: &Resource) -> Question {
        let epoch = self.epoch.load(Ordering::SeqCst);
        Question {
            key: (epoch, resource.vo, resource.tool.clone(), this_use(resource)),
            name: (resource.kind.clone(), resource.id.clone()),
        }
    }

    /// Believes for a minute, in memory only, that a resource has this parent (type and id). It gives no owner and no
    /// attribute to either, and a parent in the store goes before it.
    pub fn learn(&self, question: Question, parent: (String, String)) {
        // What is its own parent would be a cycle.
        if question.name != parent {
            self.learned.insert(question.key, parent);
        }
    }

    async fn stored_chain(
        &self,
        vo: VoId,
        tool: &str,
        resource: &ResourceRef,
    ) -> Result<Vec<Resource>, StoreError> {
        let scope = self.scope(vo, tool);
        let start = (resource.kind.clone(), resource.id.clone());
        let mut known = Known::new();
        let (chain, missing) = walk(&start, |name| scope.cached_into(name, &mut known));
        let Some(missing) = missing else {
            return Ok(chain);
        };
        if !scope.is_unknown(&missing) {
            known.extend(scope.keep(store::chain(&self.db, vo, tool, &missing).await?));
            scope.keep_unknown(&start, &known);
        }
        Ok(scope.walk_to_end(&start, &known))
    }

    /// The chains of many resources of one type, by id, with one query for each level of parents.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn chains(
        &self,
        vo: VoId,
        tool: &str,
        kind: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Vec<Resource>>, StoreError> {
        let scope = self.scope(vo, tool);
        let mut known = Known::new();
        let mut asked: HashSet<Name> = HashSet::new();
        let mut level: HashSet<Name> = ids.iter().map(|id| (kind.to_owned(), id.clone())).collect();
        for _ in 0..=MAX_PARENTS {
            let mut found = Known::new();
            let mut missing = Vec::new();
            for name in level {
                if scope.cached_into(&name, &mut found).is_none() {
                    missing.push(name.clone());
                }
                asked.insert(name);
            }
            if !missing.is_empty() {
                found.extend(scope.keep(store::named(&self.db, vo, tool, &missing).await?));
            }
            level = found
                .values()
                .filter_map(|resource| resource.parent.clone())
                .filter(|parent| !asked.contains(parent))
                .collect();
            known.extend(found);
            if level.is_empty() {
                break;
            }
        }
        Ok(ids
            .iter()
            .map(|id| {
                (
                    id.clone(),
                    scope.walk_to_end(&(kind.to_owned(), id.clone()), &known),
                )
            })
            .collect())
    }

    /// The things of one type that a person owns, the newest first, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owned(
        &self,
        (vo, tool, kind): (VoId, &str, &str),
        owner: PersonId,
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        store::owned(&self.db, (vo, tool, kind), owner, most).await
    }

    /// Writes down what `request` made. Doing it again for the same request changes nothing.
    ///
    /// Gives the claims that met a live id of somebody else; there the first owner stays, and the caller records the
    /// conflict (and withholds the answer where the type is unique).
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written down.
    pub async fn created(
        &self,
        request: RequestId,
        entries: &[CreatedEntry],
    ) -> Result<Vec<OwnershipConflict>, StoreError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.db.begin_write().await?;
        let conflicts = self.created_in(&mut tx, request, entries).await?;
        let committed = tx.commit().await;
        // Also when the answer to the commit was lost: it may have happened.
        self.made.fetch_add(1, Ordering::SeqCst);
        committed.map(|()| conflicts)
    }

    /// [`Resources::created`] within the caller's transaction (settling a request whose outcome was unknown).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn created_in(
        &self,
        tx: &mut Tx,
        request: RequestId,
        entries: &[CreatedEntry],
    ) -> Result<Vec<OwnershipConflict>, StoreError> {
        let mut conflicts = Vec::new();
        for entry in entries {
            if let store::Claim::Conflict(owner) = store::claim(tx, request, entry, self.clock.now()).await? {
                conflicts.push(OwnershipConflict {
                    request,
                    claimed: entry.clone(),
                    owner,
                });
            }
        }
        Ok(conflicts)
    }

    /// Retires what `request` removed, with everything that has it as a parent. Doing it again for the same request changes
    /// nothing, also when an id is in use again.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was retired.
    pub async fn deleted(&self, request: RequestId, entries: &[DeletedEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_write().await?;
        for entry in entries {
            store::retire(&mut tx, request, entry, self.clock.now()).await?;
        }
        let committed = tx.commit().await;
        // Also when the answer to the commit was lost: it may have happened.
        self.forget();
        committed
    }

    /// Forgets everything that is cached; for changes that were made past this service (a tool was removed).
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.made.fetch_add(1, Ordering::SeqCst);
    }

    fn scope<'a>(&'a self, vo: VoId, tool: &'a str) -> Scope<'a> {
        Scope {
            cache: &self.cache,
            unknown: &self.unknown,
            epoch: self.epoch.load(Ordering::SeqCst),
            made: self.made.load(Ordering::SeqCst),
            vo,
            tool,
        }
    }
}

/// A parent that is asked for; see [`Resources::question`].
#[derive(Debug)]
pub struct Question {
    key: Key,
    name: Name,
}

/// A resource by name, and which use of its id.
fn this_use(resource: &Resource) -> Name {
    (
        resource.kind.clone(),
        format!("{} {}", resource.generation, resource.id),
    )
}

/// The cached resources of one tool, at one epoch.
struct Scope<'a> {
    cache: &'a moka::sync::Cache<Key, Arc<Resource>>,
    unknown: &'a moka::sync::Cache<Key, ()>,
    epoch: u64,
    made: u64,
    vo: VoId,
    tool: &'a str,
}

impl Scope<'_> {
    fn key(&self, name: &Name) -> Key {
        (self.epoch, self.vo, self.tool.to_owned(), name.clone())
    }

    /// Looks into the cache, and keeps what is found in `known`, so that it cannot expire half-way.
    fn cached_into(&self, name: &Name, known: &mut Known) -> Option<Arc<Resource>> {
        let resource = self.cache.get(&self.key(name))?;
        known.insert(name.clone(), Arc::clone(&resource));
        Some(resource)
    }

    fn unknown_key(&self, name: &Name) -> Key {
        (self.made, self.vo, self.tool.to_owned(), name.clone())
    }

    /// Whether the store said lately that it does not know this, and nothing was made since.
    fn is_unknown(&self, name: &Name) -> bool {
        self.unknown.contains_key(&self.unknown_key(name))
    }

    /// Remembers where the chain from `start` ends in something unknown.
    fn keep_unknown(&self, start: &Name, known: &Known) {
        if let (_, Some(missing)) = walk(start, |name| known.get(name).cloned()) {
            self.unknown.insert(self.unknown_key(&missing), ());
        }
    }

    /// Puts rows into the cache.
    fn keep(&self, rows: Vec<Resource>) -> Known {
        rows.into_iter()
            .map(|resource| {
                let name = (resource.kind.clone(), resource.id.clone());
                let resource = Arc::new(resource);
                self.cache.insert(self.key(&name), Arc::clone(&resource));
                (name, resource)
            })
            .collect()
    }

    /// The chain from `start`; what is not in `known` is unknown.
    fn walk_to_end(&self, start: &Name, known: &Known) -> Vec<Resource> {
        let (mut chain, missing) = walk(start, |name| known.get(name).cloned());
        if let Some((kind, id)) = missing {
            chain.push(Resource::unknown(self.vo, self.tool, &kind, &id));
        }
        chain
    }
}

/// Follows parents from `start`. Ends at the bound, and where a parent comes round to something that it is in already.
fn walk(start: &Name, mut look: impl FnMut(&Name) -> Option<Arc<Resource>>) -> (Vec<Resource>, Option<Name>) {
    let mut chain: Vec<Resource> = Vec::new();
    let mut next = Some(start.clone());
    while let Some(name) = next {
        let comes_round = chain.iter().any(|seen| seen.kind == name.0 && seen.id == name.1);
        if comes_round || chain.len() > MAX_PARENTS {
            break;
        }
        let Some(resource) = look(&name) else {
            return (chain, Some(name));
        };
        next = resource.parent.clone();
        chain.push((*resource).clone());
    }
    (chain, None)
}

#[cfg(test)]
mod tests;
