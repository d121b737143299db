//! The wrapped tools of all VOs, as one immutable snapshot in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Tool, VoRef};
use crate::id::VoId;

/// All tools, by VO and name and by host name.
#[derive(Clone, Debug)]
pub struct Tools {
    own: Arc<Tool>,
    by_vo: HashMap<VoId, BTreeMap<String, Arc<Tool>>>,
    by_host: HashMap<String, (VoRef, Arc<Tool>)>,
}

impl Tools {
    /// No wrapped tools, only the gateway's own.
    #[must_use]
    pub fn new(own: Arc<Tool>) -> Self {
        Self {
            own,
            by_vo: HashMap::new(),
            by_host: HashMap::new(),
        }
    }

    /// Puts a tool of `vo` in. A host that is taken already stays with whom it has.
    pub fn insert(&mut self, vo: &VoRef, tool: Arc<Tool>) {
        for host in &tool.hosts {
            self.by_host
                .entry(host.clone())
                .or_insert_with(|| (vo.clone(), Arc::clone(&tool)));
        }
        self.by_vo
            .entry(vo.id)
            .or_default()
            .insert(tool.name.clone(), tool);
    }

    /// A tool of a VO by name; never the gateway's own.
    #[must_use]
    pub fn get(&self, vo: VoId, name: &str) -> Option<&Arc<Tool>> {
        self.by_vo.get(&vo).and_then(|tools| tools.get(name))
    }

    /// The tool that has this host name (lower case, without port), and its VO.
    #[must_use]
    pub fn by_host(&self, host: &str) -> Option<&(VoRef, Arc<Tool>)> {
        self.by_host.get(host)
    }

    /// All tools of a VO, by name.
    pub fn all(&self, vo: VoId) -> impl Iterator<Item = &Arc<Tool>> {
        self.by_vo.get(&vo).into_iter().flat_map(BTreeMap::values)
    }

    /// The tools of all VOs.
    pub fn of_all_vos(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.by_vo.values().flat_map(BTreeMap::values)
    }

    /// All host names of tools.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.by_host.keys().map(String::as_str)
    }

    /// The gateway's own tool.
    #[must_use]
    pub const fn own(&self) -> &Arc<Tool> {
        &self.own
    }
}

/// The current [`Tools`], shared by everyone and swapped by whoever changes them.
#[derive(Clone, Debug)]
pub struct ToolsHandle(Arc<ArcSwap<Tools>>);

impl ToolsHandle {
    /// A handle on `tools`.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(tools)))
    }

    /// The snapshot of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<Tools> {
        self.0.load_full()
    }

    /// Puts a newer snapshot in place.
    pub fn swap(&self, tools: Tools) {
        self.0.store(Arc::new(tools));
    }
}
