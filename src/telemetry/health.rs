//! Which parts of the gateway are up.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Readiness by named part; shared by all clones. A part is down until it says that it is up.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<RwLock<BTreeMap<&'static str, Result<(), String>>>>,
    /// What somebody should look at although every part works.
    notes: Arc<RwLock<BTreeMap<&'static str, String>>>,
}

impl Health {
    /// Health of these parts, all of them down ("starting").
    #[must_use]
    pub fn new(parts: &[&'static str]) -> Self {
        let starting = parts.iter().map(|part| (*part, Err("starting".to_owned())));
        Self {
            parts: Arc::new(RwLock::new(starting.collect())),
            notes: Arc::default(),
        }
    }

    /// Something that somebody should look at, although the node serves; `None` when it is over. A short phrase without
    /// names of people or things.
    pub fn note(&self, about: &'static str, what: Option<String>) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => notes.insert(about, what),
            None => notes.remove(about),
        };
    }

    /// What somebody should look at.
    #[must_use]
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        notes.iter().map(|(about, what)| (*about, what.clone())).collect()
    }

    /// The part works.
    pub fn up(&self, part: &'static str) {
        self.set(part, Ok(()));
    }

    /// The part does not work; `why` is a short phrase without names of people or things.
    pub fn down(&self, part: &'static str, why: impl Into<String>) {
        self.set(part, Err(why.into()));
    }

    /// All parts, each with whether it is up.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, bool)> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(part, state)| (*part, state.is_ok())).collect()
    }

    /// Whether every part is up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.down_parts().is_empty()
    }

    /// The parts that are down, by name, each with the reason.
    #[must_use]
    pub fn down_parts(&self) -> Vec<(&'static str, String)> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .filter_map(|(part, state)| state.as_ref().err().map(|why| (*part, why.clone())))
            .collect()
    }

    fn set(&self, part: &'static str, state: Result<(), String>) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, state);
    }
}
