//! The two results of a decision.

use std::sync::Arc;

use crate::authenticate::Subject;
use crate::problem::Problem;
use crate::record::{DecisionEntry, ResourceEntry};
use crate::resource::Resource;
use crate::tool::{Found, Place};

/// Proof that a subject may do the task of a place. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    subject: Subject,
    place: Place,
    found: Found,
    chain: Arc<[Resource]>,
    decision: Arc<DecisionEntry>,
}

impl Permit {
    pub(super) const fn new(
        subject: Subject,
        place: Place,
        found: Found,
        chain: Arc<[Resource]>,
        decision: Arc<DecisionEntry>,
    ) -> Self {
        Self {
            subject,
            place,
            found,
            chain,
            decision,
        }
    }

    /// Who.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Where.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The task that was permitted, with its parameters.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// What it acts on, then its parents, nearest first; empty when the task acts on nothing.
    #[must_use]
    pub fn chain(&self) -> &[Resource] {
        &self.chain
    }

    /// Why, as the record shows it.
    #[must_use]
    pub const fn decision(&self) -> &Arc<DecisionEntry> {
        &self.decision
    }

    /// What it acts on, as the record shows it.
    #[must_use]
    pub fn resource_entry(&self) -> Option<ResourceEntry> {
        resource_entry(&self.chain)
    }
}

/// A decision that they may not. It is recorded before it is answered.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Who.
    pub subject: Subject,
    /// Where.
    pub place: Place,
    /// What it would have acted on, then its parents.
    pub chain: Arc<[Resource]>,
    /// The answer: which task, what would allow it, how to ask for it.
    pub problem: Problem,
    /// Why, as the record shows it.
    pub decision: Arc<DecisionEntry>,
}

impl Denial {
    /// What it would have acted on, as the record shows it.
    #[must_use]
    pub fn resource_entry(&self) -> Option<ResourceEntry> {
        resource_entry(&self.chain)
    }
}

fn resource_entry(chain: &[Resource]) -> Option<ResourceEntry> {
    let (first, parents) = chain.split_first()?;
    Some(ResourceEntry {
        kind: first.kind.clone(),
        id: first.id.clone(),
        generation: (first.generation > 0).then_some(first.generation),
        owner: first.owner,
        parents: parents
            .iter()
            .map(|parent| format!("{}/{}", parent.kind, parent.id))
            .collect(),
    })
}
